"""Are the strongest contrasts told, with their numbers, and is their absence?"""

import numpy as np
import pytest

from audits.base import TextFeatures
from audits.contrast_findings import contrast_findings
from audits.findings import p_text, percent
from audits.table import concat, make_table, stamp
from audits.value_contrast import ValueContrast

N = 600


@pytest.fixture
def audited(make_scored):
    """600 pairs in 300 prompts: chosen sides carry wisdom oftener by `contrast` and with length, duty less often."""

    def audit(dataset="hh", contrast=0.25, lean=0.0, duty=0.1, longer=0.0, constant=False, seed=0, **changes):
        rng = np.random.default_rng(seed)
        lengths = rng.normal(size=(N, 2)) + np.array([longer, 0.0])
        if constant:
            lengths[:] = 0.0
        rate = np.full((N, 2, 3), 0.4)
        rate[:, :, 0] += lean * lengths
        rate[:, 0, 0] += contrast
        rate[:, 0, 1] -= duty
        p = np.where(rng.random((N, 2, 3)) < rate, 0.9, 0.1)
        features = TextFeatures(("log_n_words",), lengths[:, :, None], "log_n_words")
        names = {"slugs": ("wisdom", "duty", "civility"), "dataset": dataset, "clusters": np.arange(N) // 2}
        return ValueContrast().rows(make_scored(p, text_features=features, **(names | changes)))

    return audit


def row_of(table, metric, feature, spec="within"):
    rows = [r for r in table.to_pylist() if (r["metric"], r["feature"], r["spec"]) == (metric, feature, spec)]
    assert len(rows) == 1
    return rows[0]


def test_the_strongest_contrasts_are_told_with_their_numbers(audited):
    table = audited()
    first, second = contrast_findings(table)
    relevance, kappa, strength = (row_of(table, m, "wisdom") for m in ("relevance", "preference_kappa", "strength"))
    assert first.startswith(
        f"hh: wisdom sides with chosen responses: one side only carries it in {percent(relevance['estimate'])} of 600 "
        f"pairs in 300 prompts (relevance), the chosen one in {percent((1 + kappa['estimate']) / 2)} of these: kappa "
        f"{kappa['estimate']:+.2f} (95% CI {kappa['ci_low']:+.2f} to {kappa['ci_high']:+.2f}), strength "
        f"{strength['estimate']:+.3f}, Holm p < 0.001; length explains "
    )
    duty = row_of(table, "preference_kappa", "duty")
    assert second.startswith("hh: duty sides with rejected responses: ")
    assert f"the rejected one in {percent((1 - duty['estimate']) / 2)} of these" in second
    assert duty["estimate"] < 0


def test_what_length_explains_is_told(audited):
    table = audited(contrast=0.03, lean=0.12, longer=1.0)
    first = contrast_findings(table)[0]
    share = row_of(table, "length_explained_share", "wisdom", "within-length")
    equal = row_of(table, "prevalence_difference", "wisdom", "within-length")
    similar = row_of(table, "stratum_share", "", "within-similar")
    assert 0.5 < share["estimate"] < 1.0
    assert first.endswith(
        f"length explains {100 * share['estimate']:.0f}% of it (95% CI {100 * share['ci_low']:.0f}% to "
        f"{100 * share['ci_high']:.0f}%), at equal length the difference is {100 * equal['estimate']:+.1f} points "
        f"(Holm p {p_text(equal['p_adjusted'])}; {percent(similar['estimate'])} of pairs are of similar length); "
        "not error-corrected"
    )


@pytest.mark.parametrize(("longer", "lean", "told"), [(-1.0, 0.1, "none of it"), (1.5, 0.2, "all of it")])
def test_shares_outside_0_and_1_are_worded(audited, longer, lean, told):
    table = audited(contrast=0.3 if longer < 0 else -0.05, lean=lean, longer=longer)
    share = row_of(table, "length_explained_share", "wisdom", "within-length")
    assert not 0 <= share["estimate"] <= 1
    assert f"length explains {told} (95% CI " in contrast_findings(table)[0]


def test_what_cannot_be_told_is_not(audited):
    first = contrast_findings(audited(constant=True))[0]
    assert first.endswith("Holm p < 0.001; how much of it is length cannot be told; not error-corrected")


def test_no_contrast_is_said_plainly(audited):
    table = audited(contrast=0.02, duty=0.0)
    (finding,) = contrast_findings(table)
    closest = min(("wisdom", "duty", "civility"), key=lambda f: row_of(table, "strength", f)["p_value"])
    kappa = row_of(table, "preference_kappa", closest)
    assert finding.startswith(
        f"hh: no value sets chosen responses apart from rejected ones beyond chance (closest: {closest}, carried by "
    )
    assert f"kappa with people's choice {kappa['estimate']:+.2f} (95% CI {kappa['ci_low']:+.2f} to" in finding
    assert finding.endswith(f"Holm p {p_text(kappa['p_adjusted'])}); not error-corrected")


def test_nothing_that_could_be_tested(audited, make_scored):
    nothing = ValueContrast().rows(
        make_scored(
            np.full((5, 2, 2), 0.1),
            text_features=TextFeatures(("n",), np.random.default_rng(0).normal(size=(5, 2, 1)), "n"),
        )
    )
    assert contrast_findings(nothing) == [
        "toy: no value sets the sides of any of 5 pairs in 5 prompts apart; not error-corrected"
    ]
    assert contrast_findings(make_table([])) == []


def test_data_sets_checkpoints_and_subsets_are_kept_apart(audited):
    subsets = np.where(np.arange(N) < 300, "s", "t")
    old, new = audited(seed=1, contrast=-0.3), concat([audited(subsets=subsets), audited("webgpt", seed=2)])
    stamped = [
        stamp(table, run_id="r", step=step, epoch=None, weights=f"w{step}", audit_key="k")
        for step, table in ((2, new), (1, old))
    ]
    findings = contrast_findings(concat(stamped), n=1)
    assert [finding.split(" sides")[0] for finding in findings] == ["hh: wisdom", "webgpt: wisdom"]
    assert all("sides with chosen" in finding and " of 600 pairs" in finding for finding in findings)


def test_uncalibrated_is_said(audited):
    assert contrast_findings(audited(calibrated=False))[0].endswith(
        "; not error-corrected; uncalibrated: a value counts where p is above 1/L"
    )
    assert contrast_findings(audited(calibrated=False, contrast=0.02, duty=0.0))[0].endswith("above 1/L")
