import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from audits.comparison import AVERAGES, METRICS, Measured, Predictions, differences, measure
from audits.stats.paired_bootstrap import Scored, group_weights, paired_bootstrap
from models.metrics import multilabel_metrics


def world(seed=0, n=120, n_sides=2):
    """Targets, groups of three texts, and sides of which each further one is better."""
    rng = np.random.default_rng(seed)
    targets = (rng.random((n, 3)) < 0.4).astype(int)
    sides = []
    for k in range(n_sides):
        p = np.clip(0.5 + (2 * targets - 1) * (0.05 + 0.1 * k) + rng.normal(0, 0.2, (n, 3)), 0, 1)
        sides.append(Predictions(p, p > 0.5))
    return targets, np.arange(n) // 3, sides


def measured(observed, redrawn):
    return Measured(np.array(observed, dtype=float), np.array(redrawn, dtype=float))


def test_values_on_the_texts_as_they_are_are_the_projects_metrics():
    targets, groups, sides = world()
    names = ("f1_macro", "f1_micro", "f1_weighted", "ap_macro", "auroc_macro", "brier_macro", "f1", "ap")
    found = measure(sides, targets, group_weights(groups, 5, 0), names)
    for s, side in enumerate(sides):
        own = multilabel_metrics(side.probabilities, side.decisions, targets, "abc")
        for name in names[:6]:
            assert found[name].observed[s] == pytest.approx([own[name]])
            assert found[name].redrawn.shape == (2, 5, 1)
        assert found["f1"].observed[s] == pytest.approx([own[f"f1/{label}"] for label in "abc"])
    assert set(AVERAGES) < set(METRICS)


def test_one_run_a_side_is_the_paired_bootstrap():
    targets, groups, (one, other) = world()
    oracle = paired_bootstrap(
        *(Scored(side.probabilities, side.decisions) for side in (other, one)), targets, groups, 4000
    )
    found = measure([one], targets, group_weights(groups, 4000, 0), ("f1_macro", "ap_macro"))
    more = measure([other], targets, group_weights(groups, 4000, 0), ("f1_macro", "ap_macro"))
    for name, interval in oracle.items():
        (own,) = differences(found[name], [more[name]], len(np.unique(groups)))
        assert own.estimate == pytest.approx([interval.estimate])
        width = interval.high - interval.low
        assert [own.ci_low[0], own.ci_high[0]] == pytest.approx([interval.low, interval.high], abs=0.12 * width)
        assert not own.has_seed_noise
        assert own.p_adjusted == pytest.approx(own.p_value)


def test_texts_and_seeds_by_hand():
    # Two redraws that differ by .2 in the difference: variance .02; 11 groups.
    base = measured([[0.5], [0.6]], [[[0.5], [0.5]], [[0.6], [0.6]]])
    other = measured([[0.7], [0.7], [0.85]], [[[0.6], [0.8]], [[0.6], [0.8]], [[0.75], [0.95]]])
    (found,) = differences(base, [other], 11)
    of_seeds = [0.005 / 2, 0.0075 / 3]
    variance = 0.02 + sum(of_seeds)
    df = variance**2 / (0.02**2 / 10 + of_seeds[0] ** 2 / 1 + of_seeds[1] ** 2 / 2)
    assert found.estimate == pytest.approx([0.2])
    assert found.std_error == pytest.approx([variance**0.5])
    assert found.df == pytest.approx([df])
    assert found.ci_high - found.ci_low == pytest.approx([2 * stats.t.ppf(0.975, df) * variance**0.5])
    assert found.p_value == pytest.approx([2 * stats.t.sf(0.2 / variance**0.5, df)])
    assert found.has_seed_noise
    assert base.seed_sd == pytest.approx([0.005**0.5])
    assert other.mean == pytest.approx([0.75])


def test_a_side_with_one_run_borrows_the_seeds_of_the_other():
    base = measured([[0.5]], [[[0.5], [0.5]]])
    other = measured([[0.7], [0.7], [0.85]], [[[0.6], [0.8]], [[0.6], [0.8]], [[0.75], [0.95]]])
    for one, two in ((base, other), (other, base)):
        (found,) = differences(one, [two], 11)
        assert found.std_error**2 == pytest.approx([0.02 + 0.0075 * (1 + 1 / 3)])
        assert found.has_seed_noise
    assert np.isnan(base.seed_sd).all()
    (found,) = differences(base, [base], 11)
    assert not found.has_seed_noise


def test_holm_is_over_all_variants_and_values():
    targets, groups, sides = world(n_sides=4)
    found = [measure([side], targets, group_weights(groups, 300, 0), ("f1",))["f1"] for side in sides]
    compared = differences(found[0], found[1:], [40, 40, 40])
    p = np.concatenate([each.p_value for each in compared])
    assert np.concatenate([each.p_adjusted for each in compared]) == pytest.approx(multipletests(p, method="holm")[1])
    assert (compared[0].p_adjusted > compared[0].p_value).any()
    assert differences(found[0], [], 40) == []


def test_what_is_undefined_is_nan_and_in_no_family():
    base = measured([[0.5, np.nan, 0.2]], [[[0.5, np.nan, 0.2], [0.4, np.nan, 0.2], [0.5, 0.0, np.nan]]])
    other = measured([[0.6, np.nan, 0.3]], [[[0.7, np.nan, 0.3], [0.4, np.nan, 0.4], [0.6, 0.0, np.nan]]])
    # The last value has one group with a positive: nothing tells its error.
    (found,) = differences(base, [other], [20, 0, 1])
    for name in ("std_error", "p_value", "p_adjusted", "ci_low", "ci_high"):
        assert np.isnan(getattr(found, name)).tolist() == [False, True, True]
    assert found.estimate == pytest.approx([0.1, np.nan, 0.1], nan_ok=True)
    assert found.p_adjusted[0] == found.p_value[0]
    # Redraws without the value are left out of its variance.
    (found,) = differences(base, [other], [20, 0, 3])
    assert found.std_error[2] ** 2 == pytest.approx(np.var([0.1, 0.2], ddof=1))


def test_the_same_predictions_do_not_differ_and_have_no_error():
    targets, groups, (one, _) = world()
    found = measure([one], targets, group_weights(groups, 50, 0), ("brier_macro",))["brier_macro"]
    (own,) = differences(found, [found], 40)
    assert (own.estimate[0], own.p_value[0]) == (0.0, 1.0)
    assert np.isnan([own.std_error[0], own.ci_low[0], own.ci_high[0]]).all()


def test_an_unknown_metric_is_an_error():
    targets, groups, sides = world()
    with pytest.raises(ValueError, match="no metric f2"):
        measure(sides, targets, group_weights(groups, 2, 0), ("f2",))
