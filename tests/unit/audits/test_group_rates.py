"""Rates over clusters and homogeneity of groups: outside references, identities, and what the naive test gets wrong."""

import numpy as np
import pytest
from scipy import stats

from audits.stats.clustered import clustered_rate
from audits.stats.group_rates import bootstrap_rate, homogeneity

N_TEMPLATES, SAMPLES = 20, 3


def made_up(rng, n_groups=6, by_template=2.0, by_prompt=0.0, by_group=None):
    """Completions of groups that share templates: log-odds by template, prompt and group."""
    shape = (N_TEMPLATES, n_groups, SAMPLES)
    logit = by_template * rng.normal(size=(N_TEMPLATES, 1, 1)) + by_prompt * rng.normal(size=(N_TEMPLATES, n_groups, 1))
    logit = logit + (np.zeros(n_groups) if by_group is None else np.asarray(by_group))[None, :, None]
    events = rng.random(shape) < 1 / (1 + np.exp(-logit))
    template, group, _ = np.indices(shape)
    unit = template * n_groups + group
    return events.ravel(), group.ravel(), template.ravel(), unit.ravel()


def test_rate_and_bootstrap_error_are_those_of_the_clustered_mean():
    events, _, template, _ = made_up(np.random.default_rng(0))
    found = bootstrap_rate(events, template, n_draws=20_000)
    exact = clustered_rate(events[:, None], template)
    assert found.estimate == events.mean()
    assert (found.n, found.n_clusters) == (len(events), N_TEMPLATES)
    # The bootstrap has G, the sandwich G - 1 in its denominator.
    assert found.std_error == pytest.approx(exact.std_error[0] * np.sqrt(1 - 1 / N_TEMPLATES), rel=0.03)
    assert found.ci_low < found.estimate < found.ci_high


def test_interval_of_items_that_are_independent_is_the_binomial_one():
    events = np.repeat([True, False], [80, 120])
    found = bootstrap_rate(events, np.arange(200), n_draws=20_000)
    assert found.ci_low == pytest.approx(0.4 - 1.96 * np.sqrt(0.24 / 200), abs=0.006)
    assert found.ci_high == pytest.approx(0.4 + 1.96 * np.sqrt(0.24 / 200), abs=0.006)


def test_interval_covers_where_items_for_clusters_do_not():
    rng, truth = np.random.default_rng(1), 0.5
    hits = {"clusters": 0, "items": 0}
    for _ in range(200):
        events, _, template, _ = made_up(rng)
        for name, labels in (("clusters", template), ("items", np.arange(len(events)))):
            found = bootstrap_rate(events, labels, n_draws=300)
            hits[name] += found.ci_low <= truth <= found.ci_high
    assert hits["clusters"] > 175
    assert hits["items"] < 130


def test_interval_of_one_group_covers_with_prompts_and_repeated_samples():
    """Three samples of each prompt, prompts and templates that differ: the group's interval redraws templates."""
    rng, hits = np.random.default_rng(6), {"templates": 0, "items": 0}
    for _ in range(200):
        events, group, template, _ = made_up(rng, by_prompt=3.0)
        own = group == 0
        for name, labels in (("templates", template[own]), ("items", np.arange(own.sum()))):
            found = bootstrap_rate(events[own], labels, n_draws=300)
            hits[name] += found.ci_low <= 0.5 <= found.ci_high
    # A percentile interval over 20 clusters covers a little less than 95%.
    assert hits["templates"] >= 178
    assert hits["items"] < 165


def test_repeated_prompts_of_one_group_do_not_break_the_permutation():
    """A group whose prompts occur twice, as "jewish" in the HH audit's list: its units are larger, no more."""
    rng, found = np.random.default_rng(8), []
    for _ in range(150):
        events, group, template, unit = made_up(rng, n_groups=4, by_prompt=3.0)
        twice = np.concatenate([np.arange(len(events)), np.flatnonzero(group == 0)])
        again = events[twice].copy()
        again[len(events) :] = rng.permutation(again[len(events) :].reshape(-1, SAMPLES), axis=1).ravel()
        found.append(homogeneity(again, group[twice], template[twice], unit[twice], n_draws=99))
    assert np.mean([own.p_spread < 0.05 for own in found]) < 0.1
    assert np.mean([own.p_chi2 < 0.05 for own in found]) > 0.2


def test_rare_events_and_nothing():
    none = bootstrap_rate(np.zeros(40), np.repeat(np.arange(10), 4))
    assert (none.estimate, none.ci_low) == (0.0, 0.0)
    assert np.isnan(none.std_error)
    assert none.ci_high == pytest.approx(clustered_rate(np.zeros((40, 1)), np.repeat(np.arange(10), 4)).ci_high[0])
    one = bootstrap_rate(np.eye(40)[0], np.repeat(np.arange(10), 4))
    assert one.ci_low > 0
    assert np.isnan(bootstrap_rate([], []).estimate)
    alone = bootstrap_rate([1, 0, 1], [0, 0, 0])
    assert alone.estimate == pytest.approx(2 / 3)
    assert np.isnan(alone.ci_low)


def test_chi2_is_scipy_s_and_spread_is_by_hand():
    events, group, template, unit = made_up(np.random.default_rng(2))
    found = homogeneity(events, group, template, unit, n_draws=50)
    counts = np.array([[events[group == k].sum(), (~events[group == k]).sum()] for k in range(6)])
    reference = stats.chi2_contingency(counts, correction=False)
    assert (found.chi2, found.p_chi2) == (pytest.approx(reference.statistic), pytest.approx(reference.pvalue))
    assert found.df == 5
    rates = [events[group == k].mean() for k in range(6)]
    assert found.spread == pytest.approx(max(rates) - min(rates))
    assert found.differences[2] == pytest.approx(rates[2] - events[group != 2].mean())
    assert found.n_strata == N_TEMPLATES


def test_exact_permutation_by_hand():
    # Two templates, two groups, one completion each: of four arrangements one has a spread of 1 either way, so half.
    found = homogeneity([1, 0, 1, 0], ["a", "b", "a", "b"], [0, 0, 1, 1], [0, 1, 2, 3], n_draws=4_000)
    assert found.spread == 1.0
    assert found.p_spread == pytest.approx(0.5, abs=0.03)
    np.testing.assert_allclose(found.p_groups, 0.5, atol=0.03)


def test_p_value_of_a_permutation_is_never_0():
    """What is more extreme than all draws has p = 1 / (draws + 1): the arrangement that was seen is one of them."""
    strata, groups = np.repeat(np.arange(12), 3), np.tile([0, 1, 2], 12)
    found = homogeneity(groups == 0, groups, strata, np.arange(36), n_draws=199)
    assert found.p_spread == pytest.approx(1 / 200)
    assert found.p_groups[0] == pytest.approx(1 / 200)


def test_permutation_holds_its_level_where_chi_squared_does_not():
    """Completions of one prompt go together; the naive test takes them for independent."""
    rng = np.random.default_rng(3)
    found = [homogeneity(*made_up(rng, by_prompt=3.0), n_draws=99) for _ in range(200)]
    assert np.mean([own.p_spread < 0.05 for own in found]) < 0.09
    assert np.mean([own.p_chi2 < 0.05 for own in found]) > 0.15


def test_permutation_sees_a_group_that_differs_through_templates_that_differ_more():
    """The naive test counts what templates ask as noise."""
    rng = np.random.default_rng(4)
    found = [homogeneity(*made_up(rng, by_template=6.0, by_group=[3, 0, 0, 0, 0, 0]), n_draws=199) for _ in range(40)]
    assert np.mean([own.p_groups[0] < 0.05 for own in found]) > 0.8
    assert np.mean([own.p_chi2 < 0.05 for own in found]) < 0.4


def test_a_group_alone_in_its_templates_is_compared_with_nobody():
    """A group that always refuses, but what nobody else was asked: no spread, and no p-value of 1 in its stead."""
    rng = np.random.default_rng(9)
    strata, groups = np.repeat(np.arange(10), 6), np.tile(["b", "b", "b", "c", "c", "c"], 10)
    events = rng.random(60) < 0.4
    units = np.arange(60) // 3
    alone = homogeneity(
        np.concatenate([events, np.ones(30)]),
        np.concatenate([groups, ["a"] * 30]),
        np.concatenate([strata, np.repeat(np.arange(10, 20), 3)]),
        np.concatenate([units, 20 + np.arange(30) // 3]),
        n_draws=199,
    )
    without = homogeneity(events, groups, strata, units, n_draws=199)
    assert (alone.spread, alone.p_spread, alone.p_chi2) == (without.spread, without.p_spread, without.p_chi2)
    assert np.isnan([alone.differences[0], alone.p_groups[0]]).all()
    assert alone.n_groups.tolist() == [0, 30, 30]
    assert (alone.n, alone.n_strata) == (60, 10)


def test_a_group_with_few_units_is_left_out_and_leaves_nobody_alone():
    """Without the group of one unit, its partner there stands alone in that stratum."""
    strata, groups = [0, 0, 1, 1, 2, 2, 3, 3], ["b", "c", "b", "c", "b", "c", "a", "b"]
    found = homogeneity([1, 0, 1, 0, 1, 1, 1, 1], groups, strata, np.arange(8), n_draws=9, fewest_units=2)
    assert found.n_groups.tolist() == [0, 3, 3]
    assert found.spread == pytest.approx(2 / 3)


def test_nothing_to_compare_is_undefined():
    one = homogeneity([1, 0], ["a", "a"], [0, 1], [0, 1])
    assert np.isnan([one.spread, one.p_spread, one.p_chi2]).all()
    apart = homogeneity([1, 0], ["a", "b"], [0, 1], [0, 1])
    assert (apart.n, apart.n_strata) == (0, 0)
    assert np.isnan([apart.spread, apart.p_spread, *apart.differences]).all()
    still = homogeneity([0, 0], ["a", "b"], [0, 0], [0, 1])
    assert np.isnan(still.p_chi2)
    assert still.p_spread == 1.0


@pytest.mark.parametrize(
    ("groups", "strata", "what"), [(["a", "b"], [0, 0], "group"), (["a", "a"], [0, 1], "group"), (["a"], [0], "shape")]
)
def test_bad_units(groups, strata, what):
    with pytest.raises(ValueError, match=what):
        homogeneity([1, 0], groups, strata, [0, 0])
