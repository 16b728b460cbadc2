"""Gaps of groups from items in no group: outside references, identities, and what naive versions get wrong."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.regression.linear_model import OLS

from audits.stats.group_gaps import group_gaps

PLAIN = ("estimate", "std_error", "ci_low", "ci_high", "p_value", "spread", "p_spread")


def made_up(rng, n_clusters=300, shared=1.5, gap=0.0, sizes=(2, 3, 4), odds=(0.06, 0.08, 0.1)):
    """Items of prompts that share a tendency; groups are named more in stratum 1, where the value is frequent too."""
    size = rng.choice(sizes, n_clusters)
    cluster = np.repeat(np.arange(n_clusters), size)
    stratum = rng.random(n_clusters) < 0.5
    member = rng.random((n_clusters, len(odds))) < np.where(stratum[:, None], 2.0, 0.6) * np.array(odds)
    logit = np.where(stratum, 0.8, -0.8) + shared * rng.normal(size=n_clusters) + gap * member[:, 0]
    y = (rng.random(len(cluster)) < 1 / (1 + np.exp(-logit))[cluster]).astype(float)
    return y[:, None], member[cluster], cluster, stratum[cluster]


def test_one_stratum_of_single_items_is_welch():
    rng = np.random.default_rng(0)
    y, member = rng.normal(size=(400, 3)), rng.random((400, 1)) < 0.2
    found = group_gaps(y, member, np.arange(400), np.zeros(400), n_draws=9)
    reference = stats.ttest_ind(y[member[:, 0]], y[~member[:, 0]], equal_var=False)
    np.testing.assert_allclose(found.p_value[0], reference.pvalue)
    interval = reference.confidence_interval()
    np.testing.assert_allclose([found.ci_low[0], found.ci_high[0]], [interval.low, interval.high])
    assert (found.n[0], found.n_clusters[0]) == (member.sum(), member.sum())


def test_gaps_by_hand_in_two_strata_and_two_groups():
    # Stratum 0: others 0.25, the group 0.5; stratum 1: others 0.75, the group 1. A quarter of the group in stratum 0.
    y = np.concatenate([np.tile([0, 0, 0, 1], 10), np.tile([0, 1], 5), np.tile([1, 1, 1, 0], 10), np.ones(30)])
    member = np.repeat([0, 1, 0, 1], [40, 10, 40, 30]).astype(bool)
    strata = np.repeat([0, 1], [50, 70])
    second = member.copy()
    second[50 - 10 : 50] = False
    found = group_gaps(y[:, None], np.column_stack([member, second]), np.arange(120), strata, n_draws=9)
    assert found.reference[:, 0] == pytest.approx([0.25 * 0.25 + 0.75 * 0.75, 0.75])
    assert found.estimate[:, 0] == pytest.approx([0.25, 0.25])
    assert found.spread[0] == pytest.approx(0.0)
    crude = y[member].mean() - y[~member].mean()
    assert crude == pytest.approx(0.875 - 0.5)


def test_error_of_a_gap_is_that_of_clustered_regression():
    rng = np.random.default_rng(1)
    y, member, cluster, _ = made_up(rng, odds=(0.3,))
    found = group_gaps(y, member, cluster, np.zeros(len(y)), n_draws=9)
    design = np.column_stack([np.ones(len(y)), member[:, 0]])
    fit = OLS(y[:, 0], design).fit(cov_type="cluster", cov_kwds={"groups": cluster})
    assert found.estimate[0, 0] == pytest.approx(fit.params[1])
    assert found.std_error[0, 0] == pytest.approx(fit.bse[1], rel=0.02)


def test_gap_at_equal_length_is_that_of_regression_on_both():
    rng = np.random.default_rng(2)
    member = rng.random((500, 1)) < 0.3
    x = rng.normal(size=500) + member[:, 0]
    y = 0.5 * x + rng.normal(size=500) + 0.2 * member[:, 0]
    found = group_gaps(y[:, None], member, np.arange(500), np.zeros(500), x)
    fit = OLS(y, np.column_stack([np.ones(500), member[:, 0], x])).fit(cov_type="HC1")
    assert found.estimate[0, 0] == pytest.approx(fit.params[1])
    assert found.std_error[0, 0] == pytest.approx(fit.bse[1], rel=0.01)
    assert group_gaps(y[:, None], member, np.arange(500), np.zeros(500)).estimate[0, 0] > fit.params[1] + 0.3
    flat = group_gaps(y[:, None], member, np.arange(500), np.zeros(500), np.ones(500))
    assert flat.reasons == ("covariate-constant",)
    assert np.isnan(flat.estimate).all()


@pytest.mark.parametrize("counts", [(4, 36, 6, 354), (12, 8, 3, 17)])
def test_permutation_of_a_rare_value_is_fishers_exact(counts):
    y, member = np.repeat([1.0, 0.0, 1.0, 0.0], counts), np.repeat([True, True, False, False], counts)
    n = np.arange(len(y))
    found = group_gaps(y[:, None], member[:, None], n, np.zeros(len(y)), n_draws=1_999)
    assert found.is_rare[0, 0]
    assert np.isnan([found.std_error[0, 0], found.ci_low[0, 0]]).all()
    exact = stats.fisher_exact(np.reshape(counts, (2, 2)), alternative="two-sided").pvalue
    assert found.p_value[0, 0] == pytest.approx(exact, abs=0.006)


def test_more_draws_for_rare_gaps_that_the_first_cannot_tell():
    y, member = np.zeros(400), np.arange(400) < 40
    y[:9] = 1
    data = (y[:, None], member[:, None], np.arange(400), np.zeros(400))
    assert group_gaps(*data, n_draws=99).p_value[0, 0] == 0.01
    assert group_gaps(*data, n_draws=99, n_fine=1_999).p_value[0, 0] == 1 / 2_000


def test_level_is_held_where_naive_tests_fail():
    """Items of a prompt go together, and groups are named where the value is frequent: both deceive the naive test."""
    rng = np.random.default_rng(3)
    spread, gaps, naive, unclustered = [], [], [], []
    for _ in range(40):
        y, member, cluster, stratum = made_up(rng, n_clusters=200, shared=3.0, sizes=(4, 8))
        found = group_gaps(y, member, cluster, stratum, n_draws=39)
        spread.append(found.p_spread[0])
        gaps += found.p_value[:, 0].tolist()
        others = ~member.any(axis=1)
        naive += [stats.ttest_ind(y[own, 0], y[others, 0]).pvalue for own in member.T]
        alone = group_gaps(y, member, np.arange(len(y)), stratum, n_draws=1)
        unclustered += alone.p_value[~alone.is_rare].tolist()
    assert np.mean(np.array(spread) < 0.05) < 0.13
    assert np.nanmean(np.array(gaps) < 0.05) < 0.09
    assert np.mean(np.array(naive) < 0.05) > 0.2
    assert np.mean(np.array(unclustered) < 0.05) > 0.11


def test_level_where_a_group_varies_more_but_has_the_same_mean():
    """A plain permutation of means takes the larger spread of a small group for a gap."""
    rng, p_values = np.random.default_rng(4), []
    for _ in range(50):
        member = rng.random((400, 2)) < [0.1, 0.2]
        y = rng.choice([-1.0, 1.0], 400) * (rng.random(400) < np.where(member[:, 0], 0.9, 0.2))
        p_values.append(group_gaps(y[:, None], member, np.arange(400), np.zeros(400), n_draws=39).p_spread[0])
    assert np.mean(np.array(p_values) < 0.05) < 0.15


def test_a_planted_gap_is_found_and_only_that():
    rng = np.random.default_rng(5)
    found = [group_gaps(*made_up(rng, n_clusters=600, gap=2.5), n_draws=99) for _ in range(15)]
    assert np.mean([own.p_value[0, 0] < 0.01 for own in found]) > 0.6
    assert np.mean([own.p_spread[0] < 0.05 for own in found]) > 0.6
    assert np.mean([own.p_value[1:, 0] < 0.05 for own in found]) < 0.2


def test_order_and_an_added_constant_change_nothing():
    rng = np.random.default_rng(6)
    y, member, cluster, stratum = made_up(rng)
    y = np.column_stack([y, rng.normal(size=len(y))])
    found = group_gaps(y, member, cluster, stratum, n_draws=49)
    for values, order in ((y + 3.0, np.arange(len(y))), (y, rng.permutation(len(y)))):
        again = group_gaps(values[order], member[order], cluster[order], stratum[order], n_draws=49)
        for name in PLAIN:
            np.testing.assert_allclose(getattr(again, name), getattr(found, name), rtol=1e-6, atol=1e-9)
        np.testing.assert_array_equal(again.n, found.n)
    assert not found.is_rare[:, 1].any()


def test_groups_always_named_together_do_not_differ():
    rng = np.random.default_rng(7)
    y, member, cluster, stratum = made_up(rng, odds=(0.2,))
    found = group_gaps(y, np.repeat(member, 2, axis=1), cluster, stratum, n_draws=19)
    assert (found.spread[0], found.p_spread[0]) == (0.0, 1.0)


def test_too_few_of_anything_has_no_numbers():
    y, cluster = np.tile([0.0, 1.0], 100)[:, None], np.arange(200)
    member = np.zeros((200, 3), dtype=bool)
    member[:19, 0], member[20:60, 1], member[60:100, 2] = True, True, True
    cluster[20:60] = 1_000 + np.arange(40) % 9
    found = group_gaps(y, member, cluster, np.zeros(200), n_draws=9)
    assert found.reasons == ("few-items", "few-clusters", "")
    assert np.isnan(found.estimate[:2]).all()
    assert np.isfinite(found.estimate[2]).all()
    assert found.n.tolist() == [19, 40, 40]
    assert np.isnan([found.p_spread[0], found.spread[0]]).all()
    crowded = group_gaps(y[:110], member[:110], cluster[:110], np.zeros(110), n_draws=9)
    assert set(crowded.reasons) == {"few-others"}
    # A stratum in which all name a group has nobody to compare with.
    apart = group_gaps(y, member, cluster, np.arange(200) >= 19, n_draws=9)
    assert apart.n.tolist() == [0, 40, 40]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bad_values(bad):
    with pytest.raises(ValueError, match="finite"):
        group_gaps([[bad], [1.0]], [[True], [False]], [0, 1], [0, 0])
    with pytest.raises(ValueError, match="needed"):
        group_gaps([[0.0], [1.0]], [[True]], [0, 1], [0, 0])
