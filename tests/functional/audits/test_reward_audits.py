"""Do the audits of rewards find what was put in, agree with each other, and ignore what should not matter?"""

from dataclasses import replace

import numpy as np
import pytest

from audits.base import Reward, Rewrites, ScoredPairs, ScoredView, TextFeatures
from audits.resistance import Resistance
from audits.reward_imprint import RewardImprint
from audits.robustness import Robustness
from audits.table import concat, make_table
from audits.value_distribution import EXCHANGE

VIEW = EXCHANGE.slug
IMPRINT, RESISTANCE, ROBUSTNESS = RewardImprint(), Resistance(targets=("care", "truth")), Robustness()
LABELS = ("care", "truth", "fun")
N = 240


def pairs_of(decisions, rewards, clusters, rng, **changes):
    n = len(decisions)
    p = np.where(decisions, 0.5 + 0.5 * rng.random(decisions.shape), 0.5 * rng.random(decisions.shape))
    rows = np.arange(2 * n).reshape(n, 2)
    fields = {
        "dataset": "toy",
        "taxonomy": "toy-values",
        "slugs": LABELS,
        "labels": LABELS,
        "signed": False,
        "calibrated": True,
        "pair_ids": np.array([f"p{i:04}" for i in range(n)]),
        "subsets": np.full(n, "only"),
        "clusters": clusters,
        "is_tie": np.zeros(n, dtype=bool),
        "views": {VIEW: ScoredView(VIEW, p, decisions, rows, np.zeros((n, 2), dtype=bool))},
        "rewards": rewards,
        "text_features": TextFeatures(("length", "hedges"), rng.normal(size=(n, 2, 2)), "length"),
    }
    return ScoredPairs(**(fields | changes))


def simulated(seed, n=N):
    """Pairs in prompts of four with ties of both kinds, missing rewards and rewritings of most of them."""
    rng = np.random.default_rng(seed)
    clusters = rng.integers(0, n // 4, n)
    decisions = rng.random((n, 2, 3)) < [0.5, 0.4, 0.15]
    pre = np.round(rng.normal(size=(n, 2)), 1)
    post = np.round(pre + decisions[:, :, 0] - 0.5 * decisions[:, :, 2] + rng.normal(size=(n, 2)), 1)
    pre[3], post[7, 0], post[9] = np.nan, np.nan, np.inf
    rewards = (Reward("old", "pre", pre), Reward("new", "post", post))
    fields = {"subsets": np.where(rng.random(n) < 0.4, "s", "t"), "is_tie": rng.random(n) < 0.1}
    first = pairs_of(decisions, rewards, clusters, rng, **fields)
    kept = np.flatnonzero(rng.random(n) < 0.8)
    again = np.where(rng.random((n, 2, 3)) < 0.15, ~decisions, decisions)[kept]
    shaken = tuple(Reward(r.name, r.role, np.round(r.values + rng.normal(size=(n, 2)), 1)[kept]) for r in rewards)
    fields = {name: array[kept] for name, array in fields.items()} | {"pair_ids": first.pair_ids[kept]}
    second = pairs_of(again, shaken, clusters[kept], rng, **fields)
    return replace(first, rewrites=Rewrites("perturb", second, np.ones((len(kept), 2)), 2 * n, {"lost": 2}))


def audited(scored):
    return concat([audit.rows(scored) for audit in (IMPRINT, RESISTANCE, ROBUSTNESS)])


def values(table, **columns):
    """(scorer, slice, feature) -> (estimate, n) of the rows with these columns over all subsets together."""
    wanted = {"subset": ""} | columns
    rows = [row for row in table.to_pylist() if all(row[name] == value for name, value in wanted.items())]
    found = {(row["scorer"], row["slice"], row["feature"]): (row["estimate"], row["n"]) for row in rows}
    assert len(found) == len(rows)
    return found


NUMBERS = ("estimate", "std_error", "ci_low", "ci_high", "p_value", "p_adjusted", "n", "n_clusters")


def same_numbers(first, second):
    key = ("subset", "scorer", "audit", "metric", "slice", "feature", "spec", "method")
    tables = [{tuple(row[k] for k in key): row for row in table.to_pylist()} for table in (first, second)]
    assert tables[0].keys() == tables[1].keys()
    for name, row in tables[0].items():
        theirs = tables[1][name]
        for column in NUMBERS:
            pair = [np.nan if r[column] is None else r[column] for r in (row, theirs)]
            assert pair[0] == pytest.approx(pair[1], rel=1e-7, abs=1e-9, nan_ok=True), (name, column)


@pytest.mark.parametrize("seed", range(3))
def test_resistance_identities(seed):
    table = audited(simulated(seed))
    strict = {"audit": "resistance", "method": "strict", "spec": "pooled-clustered"}
    agree, resist = (values(table, metric=metric, **strict) for metric in ("agreement", "resistance_rate"))
    for scorer in ("old", "new"):
        overall, n = resist[scorer, "", ""]
        assert overall + agree[scorer, "", ""][0] == pytest.approx(1)
        by_gamma = [resist[scorer, f"gamma-{g}", ""] for g in "icr"]
        assert sum(count for _, count in by_gamma) == n
        assert sum(share * count for share, count in by_gamma) == pytest.approx(overall * n)
        ties, total = values(table, metric="reward_tie_count", audit="resistance")[scorer, "", ""]
        missing, _ = values(table, metric="reward_missing_count", audit="resistance")[scorer, "", ""]
        assert missing + n == total
        dropped, n_dropped = values(table, metric="agreement", method="drop", spec="pooled")[scorer, "", ""]
        assert n_dropped == n - ties
        assert dropped * n_dropped == pytest.approx(agree[scorer, "", ""][0] * n)
    regimes = values(table, metric="regime_share", spec="pooled")
    shares = {name: share for (_, name, _), (share, _) in regimes.items()}
    (n,) = {count for _, count in regimes.values()}
    assert sum(shares.values()) == pytest.approx(1)
    change = values(table, metric="agreement_difference", audit="resistance")["new-old", "post-pre", ""]
    assert change == (pytest.approx(shares["became"] - shares["reversed"]), n)
    flips = values(table, metric="agreement_flips", audit="resistance")
    lost, gained = (flips["new-old", name, ""][0] for name in ("lost", "gained"))
    assert change[0] == pytest.approx((gained - lost) / n)
    counts = values(table, metric="pair_count")
    assert sum(count for count, _ in counts.values()) == n
    for name, share in shares.items():
        own = sum(count for (_, cell, _), (count, _) in counts.items() if cell.startswith(f"{name}|"))
        assert own == pytest.approx(share * n)
        opinionated = own - counts["new-old", f"{name}|gamma-i", ""][0]
        assert values(table, metric="classifier_agreement", spec="pooled")["new-old", name, ""][1] == opinionated
    assert sum(share for share, _ in values(table, metric="gamma_share", spec="pooled").values()) == pytest.approx(1)
    for when in ("pre", "post"):
        quadrants = values(table, metric="quadrant_share")
        assert sum(v for (_, name, _), (v, _) in quadrants.items() if name.startswith(when)) == pytest.approx(1)


@pytest.mark.parametrize("seed", range(3))
def test_robustness_identities(seed):
    scored = simulated(seed)
    table = audited(scored)
    again = scored.rewrites.scored
    before = np.isin(scored.pair_ids, again.pair_ids)
    for side, name in enumerate(("chosen", "rejected")):
        old = scored.views[VIEW].decisions[before & ~scored.is_tie, side]
        new = again.views[VIEW].decisions[~again.is_tie, side]
        for k, label in enumerate(LABELS):
            lost, gained = (values(table, metric=f"flip_{f}", method="cc")["", name, label] for f in ("lost", "gained"))
            assert gained[0] - lost[0] == pytest.approx(new[:, k].mean() - old[:, k].mean())
            assert lost[1] == len(old)
            loss, n = values(table, metric="loss_rate")["", name, label]
            assert n == old[:, k].sum()
            assert loss * n == pytest.approx(lost[0] * len(old))
            gain, n = values(table, metric="gain_rate")["", name, label]
            assert n == (~old[:, k]).sum()
            assert gain * n == pytest.approx(gained[0] * len(old))
    for scorer in ("old", "new"):
        agree = values(table, audit="robustness", metric="agreement", spec="pooled")
        (was, n), (now, _) = agree[scorer, "original", ""], agree[scorer, "rewritten", ""]
        difference = values(table, audit="robustness", metric="agreement_difference")[scorer, "rewritten-original", ""]
        flips = values(table, audit="robustness", metric="agreement_flips")
        lost, gained = (flips[scorer, name, ""][0] for name in ("lost", "gained"))
        assert difference == (pytest.approx(now - was), n)
        assert difference[0] == pytest.approx((gained - lost) / n)
        missing, total = values(table, audit="robustness", metric="reward_missing_count")[scorer, "", ""]
        assert n == total - missing
        scores = values(table, metric="robustness_score")
        assert {count for (of, _, _), (_, count) in scores.items() if of == scorer} == {round(was * n)}


def test_subsets_make_up_the_whole():
    table = audited(simulated(0))
    for audit, metric, spec in (
        ("resistance", "agreement", "pooled"),
        ("resistance", "regime_share", "pooled"),
        ("robustness", "flip_lost", "pooled-clustered"),
        ("robustness", "agreement", "pooled"),
    ):
        columns = {"audit": audit, "metric": metric, "spec": spec}
        if metric == "agreement":
            columns["method"] = "strict"
        parts = [values(table, subset=subset, **columns) for subset in ("s", "t")]
        for key, (estimate, n) in values(table, **columns).items():
            own = [part[key] for part in parts]
            assert sum(count for _, count in own) == n
            assert sum(share * count for share, count in own if count) == pytest.approx(estimate * n)


def test_the_order_of_pairs_and_the_names_of_prompts_do_not_matter():
    scored = simulated(1)
    order = np.random.default_rng(0).permutation(N)
    view = scored.views[VIEW]
    moved = ScoredView(
        VIEW, view.probabilities[order], view.decisions[order], view.text_rows[order], view.truncated[order]
    )
    texts = scored.text_features
    names = np.random.default_rng(1).permutation(N)
    rewrites = scored.rewrites
    other = replace(
        scored,
        **{name: getattr(scored, name)[order] for name in ("pair_ids", "subsets", "is_tie")},
        clusters=names[scored.clusters[order]],
        views={VIEW: moved},
        rewards=tuple(Reward(r.name, r.role, r.values[order]) for r in scored.rewards),
        text_features=TextFeatures(texts.names, texts.values[order], texts.length_name),
        rewrites=replace(rewrites, scored=replace(rewrites.scored, clusters=names[rewrites.scored.clusters])),
    )
    same_numbers(audited(scored), audited(other))


def test_only_the_order_of_rewards_within_a_pair_counts_for_agreement():
    scored = simulated(2)
    shift = np.random.default_rng(0).normal(size=(N, 1))
    moved = tuple(Reward(r.name, r.role, 3 * r.values + shift.round(1)) for r in scored.rewards)
    rows = [
        make_table([r for r in RESISTANCE.rows(one).to_pylist() if r["metric"][:5] not in ("shift", "quadr")])
        for one in (scored, replace(scored, rewards=moved))
    ]
    same_numbers(*rows)


def test_what_a_pair_shares_moves_no_slope_within():
    scored = simulated(2)
    shift = np.random.default_rng(0).normal(size=(N, 1)) * 50
    moved = tuple(Reward(r.name, r.role, r.values + shift) for r in scored.rewards)
    rows = [
        [r for r in IMPRINT.rows(one).to_pylist() if r["spec"].startswith("within") and r["metric"] == "beta"]
        for one in (scored, replace(scored, rewards=moved))
    ]
    same_numbers(make_table(rows[0]), make_table(rows[1]))
    pooled = [
        values(IMPRINT.rows(one), metric="beta", spec="pooled") for one in (scored, replace(scored, rewards=moved))
    ]
    assert pooled[0]["new", "post", "care"] != pytest.approx(pooled[1]["new", "post", "care"], rel=0.1)


def test_within_finds_the_true_slope_where_the_prompt_confounds_the_pooled_one():
    rng = np.random.default_rng(0)
    n = 3000
    prompt = rng.normal(size=n // 3)
    clusters = np.repeat(np.arange(n // 3), 3)
    likely = 1 / (1 + np.exp(-2 * prompt[clusters]))[:, None, None]
    decisions = rng.random((n, 2, 3)) < likely
    noise = rng.normal(size=(n, 2))
    reward = decisions @ [1.0, -0.5, 0.0] + 3 * prompt[clusters][:, None] + noise
    table = IMPRINT.rows(pairs_of(decisions, (Reward("rm", "none", reward),), clusters, rng))
    rows = {(r["spec"], r["feature"]): r for r in table.to_pylist() if r["metric"] == "beta"}
    for feature, truth in zip(LABELS, (1.0, -0.5, 0.0), strict=True):
        within, pooled = rows["within", feature], rows["pooled", feature]
        assert abs(within["estimate"] - truth) < 4 * within["std_error"] < 0.25
        assert pooled["ci_low"] > truth + 0.5
    assert rows["within", "care"]["p_adjusted"] < 0.001
    assert rows["within", "fun"]["p_adjusted"] > 0.05


def test_within_slopes_keep_their_level_where_published_errors_do_not():
    """What a prompt's pairs share in their difference makes classical errors too small; clustered ones hold 5%."""
    hits, false = {"within": 0, "pooled": 0}, 150
    for seed in range(false):
        rng = np.random.default_rng(seed)
        n, per = 320, 8
        clusters = np.repeat(np.arange(n // per), per)
        likely = np.clip(0.5 + 0.45 * rng.choice([-1, 1], size=(n // per, 2, 3)), 0, 1)[clusters]
        decisions = rng.random((n, 2, 3)) < likely
        reward = 0.7 * rng.normal(size=(n // per, 2))[clusters] + rng.normal(size=(n, 2))
        table = IMPRINT.rows(pairs_of(decisions, (Reward("rm", "none", reward),), clusters, rng))
        for row in table.to_pylist():
            if row["metric"] == "beta" and row["feature"] == "care" and row["spec"] in hits:
                hits[row["spec"]] += row["p_value"] < 0.05
    assert hits["within"] / false < 0.1
    assert hits["pooled"] / false > 0.15


def test_the_published_counts_go_through_the_audit():
    """SEAL's 160,800 pairs by agreement before, gamma and agreement after (SPEC 2.3), as decisions and rewards."""
    triples = {
        "c0c": 58350, "r0c": 29154, "r0r": 22907, "ccc": 16531, "c0r": 11106, "rcc": 9065, "rrc": 3226, "rrr": 3114,
        "crc": 2765, "rcr": 1623, "crr": 1549, "ccr": 1410,
    }  # fmt: skip
    kinds = np.repeat(list(triples), list(triples.values()))
    n = len(kinds)
    before, gamma, after = (np.array([kind[k] for kind in triples]) for k in range(3))
    before, gamma, after = (np.repeat(x, list(triples.values())) for x in (before, gamma, after))
    decisions = np.zeros((n, 2, 3), dtype=bool)
    decisions[:, 0, 0], decisions[:, 1, 0] = gamma == "c", gamma == "r"
    rewards = tuple(
        Reward(name, role, np.where((agrees == "c")[:, None], [1.0, 0.0], [0.0, 1.0]))
        for name, role, agrees in (("v1", "pre", before), ("v2", "post", after))
    )
    scored = pairs_of(decisions, rewards, np.arange(n), np.random.default_rng(0))
    table = RESISTANCE.rows(scored)
    shares = {name: share for (_, name, _), (share, _) in values(table, metric="regime_share", spec="pooled").items()}
    assert {name: round(share * n) for name, share in shares.items()} == {
        "stayed": 77_646, "became": 41_445, "resisted": 27_644, "reversed": 14_065,
    }  # fmt: skip
    resist = values(table, metric="resistance_rate", spec="pooled")
    assert [round(resist["v2", slice_name, ""][0], 4) for slice_name in ("gamma-i", "gamma-c", "gamma-r")] == [
        0.2799, 0.1059, 0.4377,
    ]  # fmt: skip
    assert round(resist["v2", "", ""][0], 6) == 0.259384
    by_regime = values(table, metric="classifier_agreement", spec="pooled")
    assert {name: (round(share, 4), count) for (_, name, _), (share, count) in by_regime.items() if name} == {
        "stayed": (0.8567, 19_296), "became": (0.7375, 12_291),
        "resisted": (0.3426, 4_737), "reversed": (0.4765, 2_959),
    }  # fmt: skip
