"""Are the findings on rewards the headlines, with their numbers and what they are of?"""

from dataclasses import replace

import numpy as np
import pytest

from audits.base import Reward, Rewrites, TextFeatures
from audits.resistance import Resistance
from audits.reward_findings import reward_findings
from audits.reward_imprint import RewardImprint
from audits.robustness import Robustness
from audits.table import concat, make_table, stamp

N = 400
AUDITS = (RewardImprint(), Resistance(targets=("wisdom", "duty")), Robustness())


@pytest.fixture
def scored(make_scored):
    """400 pairs in 200 prompts: the post reward follows wisdom, the pre reward nothing."""

    def make(seed=0, rewrite=True, rewards=None, effect=2.0, n=N, **changes):
        rng = np.random.default_rng(seed)
        p = np.where(rng.random((n, 2, 2)) < [[0.6, 0.5], [0.4, 0.5]], 0.9, 0.1)
        pre, post = rng.normal(size=(2, n, 2)), effect * (p[:, :, 0] > 0.5) + rng.normal(size=(n, 2))
        pre = pre[0]
        rewards = (Reward("old", "pre", pre), Reward("new", "post", post)) if rewards is None else rewards
        fields = {"slugs": ("wisdom", "duty"), "dataset": "hh", "clusters": np.arange(n) // 2} | changes
        features = TextFeatures(("length", "hedges"), rng.normal(size=(n, 2, 2)), "length")
        first = make_scored(p, rewards=rewards, text_features=features, **fields)
        if not rewrite:
            return first
        again = np.where(rng.random((n, 2, 2)) < [0.2, 0.02], 1 - p, p)
        shaken = tuple(Reward(r.name, r.role, r.values + 0.3 * rng.normal(size=(n, 2))) for r in rewards)
        second = make_scored(again, rewards=shaken, **fields)
        return replace(first, rewrites=Rewrites("perturb", second, np.ones((n, 2)), 2 * n, {}))

    return make


def table_of(scored, audits=AUDITS):
    return concat([audit.rows(scored) for audit in audits])


def one(findings, start):
    found = [finding for finding in findings if finding.startswith(start)]
    assert len(found) == 1, findings
    return found[0]


def row_of(table, **columns):
    rows = [r for r in table.to_pylist() if all(r[name] == value for name, value in columns.items())]
    assert len(rows) == 1, len(rows)
    return rows[0]


def test_agreement_is_told_with_its_pairs_ties_and_missing_rewards(scored):
    values = np.tile([2.0, 1.0], (N, 1))
    values[:100, 0], values[100:110, 0], values[110:117, 0] = 0.0, 1.0, np.nan
    findings = reward_findings(table_of(scored(rewrite=False, rewards=(Reward("rm", "none", values),)), AUDITS[:2]))
    finding = one(findings, "hh, rm: agrees")
    assert finding.startswith("hh, rm: agrees with people in 72.0% of 393 pairs in 197 prompts (95% CI 65.")
    assert finding.endswith("%), 10 ties counted as no agreement, 7 further pairs without both rewards")
    assert one(reward_findings(table_of(scored())), "hh, new: agrees").endswith("%)")


def test_resistance_is_told_by_what_the_classifier_says(scored):
    table = table_of(scored())
    finding = one(reward_findings(table), "hh, new: resists people")
    start = "hh, new: resists people, by what the classifier says of the pair: "
    parts = finding.removeprefix(start).split(", ")
    for part, (name, says) in zip(
        parts, {"c": "sides with people", "r": "sides against them", "i": "sees no difference"}.items(), strict=True
    ):
        columns = {"metric": "resistance_rate", "scorer": "new", "slice": f"gamma-{name}", "spec": "pooled-clustered"}
        row = row_of(table, **columns)
        assert part == f"{100 * row['estimate']:.1f}% of {row['n']} where it {says}"


def test_imprint_names_the_significant_slopes_and_what_the_change_is_of(scored):
    table = table_of(scored())
    findings = reward_findings(table)
    slope = row_of(table, metric="beta", spec="within", scorer="new", feature="wisdom")["estimate"]
    assert one(findings, "hh, new: 1 of 3 features") == (
        f"hh, new: 1 of 3 features move the reward within pairs (Holm p < 0.05, 800 responses in 200 prompts): "
        f"wisdom {slope:+.3f} reward points; 0 conclusions differ from the pooled regression as published"
    )
    assert one(findings, "hh, old: 0 of 3 features").startswith(
        "hh, old: 0 of 3 features move the reward within pairs (Holm p < 0.05, 800 responses in 200 prompts); "
    )
    assert "move the change of the reward within pairs" in one(findings, "hh, new-old: 1 of 3")


def test_conclusions_that_differ_from_the_pooled_ones_are_counted(scored):
    first = scored(effect=0.0, rewrite=False)
    wise = first.views["exchange-head-256"].decisions[:, :, 0]
    # A prompt with wisdom in both responses gets more reward whatever they say: no slope within pairs.
    first.rewards[1].values[:] += 4 * wise.sum(axis=1)[:, None]
    findings = reward_findings(table_of(first, AUDITS[:1]))
    assert one(findings, "hh, new:").endswith("; 1 conclusion differs from the pooled regression as published")


def test_largest_standardised_slopes_come_first_and_signs_are_compared():
    same = {"audit": "reward-imprint", "dataset": "hh", "scorer": "rm", "n": 800, "n_clusters": 200}
    rows = []
    for k, feature in enumerate("abcdefg"):
        one_spec = same | {"feature": feature, "spec": "within", "p_adjusted": 0.5 if feature == "g" else 0.01}
        rows.append(one_spec | {"metric": "beta", "estimate": 0.1 * (k + 1)})
        rows.append(one_spec | {"metric": "beta_standardised", "estimate": -1.0 / (k + 1)})
        # As published, a has the other sign, b is not significant, and of c nothing is known.
        estimate, p = {"a": (-0.1, 0.01), "b": (0.2, 0.3), "c": (np.nan, np.nan)}.get(feature, (0.1 * (k + 1), 0.01))
        rows.append(
            same | {"feature": feature, "spec": "pooled", "metric": "beta", "estimate": estimate, "p_adjusted": p}
        )
    assert reward_findings(make_table(rows)) == [
        "hh, rm: 6 of 7 features move the reward within pairs (Holm p < 0.05, 800 responses in 200 prompts): "
        "a +0.100, b +0.200, c +0.300, d +0.400, e +0.500 reward points (largest 5 of 6); "
        "4 conclusions differ from the pooled regression as published"
    ]


def test_no_tested_slope_is_said_with_the_reason(scored):
    findings = reward_findings(table_of(scored(n=4, clusters=np.zeros(4, dtype=int), rewrite=False), AUDITS[:1]))
    assert one(findings, "hh, new:") == (
        "hh, new: no slope within pairs could be tested: 1 clusters are fewer than 3, which 3 terms need"
    )
    row = {
        "audit": "reward-imprint",
        "dataset": "hh",
        "scorer": "rm",
        "metric": "beta",
        "spec": "within",
        "estimate": 1,
    }
    told = reward_findings(make_table([row | {"feature": "x"}]))
    assert told == ["hh, rm: no slope within pairs could be tested: they rest on too few prompts"]


def test_regimes_are_told_with_the_change(scored):
    table = table_of(scored())
    finding = one(reward_findings(table), "hh, new-old: from pre to post of 400 pairs in 200 prompts agreement")
    change = row_of(table, metric="agreement_difference", slice="post-pre")
    assert f"changes by {100 * change['estimate']:+.1f} points (95% CI {100 * change['ci_low']:.1f} to " in finding
    parts = finding.rpartition(": ")[2].split(", ")
    assert [part.split()[0] for part in parts] == ["stayed", "became", "resisted", "reversed"]
    assert sum(float(part.split()[1].rstrip("%")) for part in parts) == pytest.approx(100, abs=0.2)


def test_rewriting_tells_the_most_flipped_value_and_what_agreement_lost(scored):
    table = table_of(scored())
    findings = reward_findings(table)
    assert findings[0].startswith("hh: rewriting flips wisdom most: lost in ")
    assert findings[0].endswith(" responses of 400 pairs in 200 prompts")
    lost, gained = (
        row_of(table, metric="agreement_flips", scorer="new", slice=s)["estimate"] for s in ("lost", "gained")
    )
    finding = one(findings, "hh, new: rewriting moves agreement by")
    assert f": {lost:.0f} pairs lost, {gained:.0f} gained of 400 pairs in 200 prompts (exact McNemar p " in finding
    assert f"{100 * (gained - lost) / 400:+.1f} points" in finding


def test_no_flip_is_said_plainly(scored):
    first = scored()
    same = replace(first, rewrites=replace(first.rewrites, scored=replace(first, rewrites=None)))
    findings = reward_findings(table_of(same, AUDITS[2:]))
    assert findings[0] == "hh: rewriting flips no decision in 400 pairs in 200 prompts"


def test_nothing_undefined_is_told(scored):
    empty = (Reward("rm", "none", np.full((N, 2), np.nan)),)
    findings = reward_findings(table_of(scored(rewards=empty)))
    assert len(findings) == 2
    assert findings[1] == "hh, rm: no slope within pairs could be tested: no group with two usable items"
    both = (Reward("old", "pre", empty[0].values), Reward("new", "post", empty[0].values))
    assert len(reward_findings(table_of(scored(rewards=both)))) == 4
    assert not any("nan" in finding for finding in findings)
    assert reward_findings(make_table([])) == []


def test_uncalibrated_is_said_where_decisions_count(scored):
    caveat = "; uncalibrated: a value counts where p is above 1/L"
    marked = [f for f in reward_findings(table_of(scored(calibrated=False))) if f.endswith(caveat)]
    assert [f.split(" ")[1 if f.startswith("hh:") else 2] for f in marked] == ["rewriting", "resists"] + [
        word for f in marked[2:] for word in [f.split(" ")[2]]
    ]
    assert len(marked) == 6  # flips, gamma of both rewards, slopes of both and of their difference
    assert not any(f.endswith(caveat) for f in reward_findings(table_of(scored())))


def test_rows_of_subsets_and_of_earlier_checkpoints_are_not_told(scored):
    def at(step, **changes):
        table = table_of(scored(**changes))
        return stamp(table, run_id="r", step=step, epoch=1.0, weights=f"w{step}", audit_key="k")

    both = concat([at(10, seed=5), at(20)])
    assert reward_findings(both) == reward_findings(at(20))
    split = table_of(scored(subsets=np.where(np.arange(N) < 50, "s", "t")))
    assert reward_findings(split) == reward_findings(table_of(scored()))


def test_each_data_set_and_reward_in_turn(scored):
    table = concat([table_of(scored()), table_of(scored(dataset="webgpt"))])
    starts = [finding.split(":")[0] for finding in reward_findings(table)]
    assert list(dict.fromkeys(starts)) == [
        "hh",
        "hh, old",
        "hh, new",
        "hh, new-old",
        "webgpt",
        "webgpt, old",
        "webgpt, new",
        "webgpt, new-old",
    ]
