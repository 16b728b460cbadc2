"""How often does a comparison find a difference that is not there, and do its intervals hold the true one?"""

import numpy as np
import pytest
from scipy import stats

from audits.comparison import Measured, Predictions, differences, measure
from audits.stats.paired_bootstrap import group_weights

N_WORLDS, N_REDRAWS, N_GROUPS, GROUP_SIZE = 250, 120, 40, 8
# 250 worlds at 5%: 12.5 expected, standard deviation 3.4.
MOST_FALSE_ALARMS = 0.09


def variant(rng, targets, item_noise, n_seeds, margin, seed_noise):
    """Runs of one variant: what it finds hard is shared by its runs, and each run has its luck."""
    own = 0.7 * _noise(rng, *targets.shape)
    runs = []
    for _ in range(n_seeds):
        luck = margin + seed_noise * rng.normal()
        p = stats.norm.cdf((2 * targets - 1) * luck + item_noise + own + 0.2 * rng.normal(size=targets.shape))
        runs.append(Predictions(p, p > 0.5))
    return runs


def _noise(rng, n, n_labels):
    """Most of it shared by a group."""
    return np.repeat(rng.normal(size=(n // GROUP_SIZE, n_labels)), GROUP_SIZE, axis=0) + 0.3 * rng.normal(
        size=(n, n_labels)
    )


def worlds(n_seeds, margins=(0.8, 0.8), seed_noise=0.0, n_worlds=N_WORLDS, n_labels=2):
    """Give targets, groups and the runs of both sides of each world; the first side is the baseline."""
    rng = np.random.default_rng(11)
    n = N_GROUPS * GROUP_SIZE
    for _ in range(n_worlds):
        topic = np.repeat(rng.normal(size=(N_GROUPS, n_labels)), GROUP_SIZE, axis=0)
        targets = (rng.normal(size=(n, n_labels)) + topic > 0.7).astype(int)
        hard = _noise(rng, n, n_labels)
        sides = [variant(rng, targets, hard, s, m, seed_noise) for s, m in zip(n_seeds, margins, strict=True)]
        yield targets, np.repeat(np.arange(N_GROUPS), GROUP_SIZE), sides


def compared(targets, groups, sides, seed, metric="f1_macro"):
    weights = group_weights(groups, N_REDRAWS, seed)
    base, other = (measure(side, targets, weights, (metric,))[metric] for side in sides)
    n_groups = len(np.unique(groups))
    if metric == "f1":
        n_groups = [len(np.unique(groups[column == 1])) for column in targets.T]
    return differences(base, [other], n_groups)[0]


def _estimate(targets, groups, sides):
    base, other = (measure(side, targets, group_weights(groups, 1, 0), ("f1_macro",))["f1_macro"] for side in sides)
    return other.mean[0] - base.mean[0]


def rate(found):
    return float(np.mean([each.p_value[0] < 0.05 for each in found]))


def test_with_one_run_a_side_false_alarms_are_held_and_ungrouped_texts_raise_them():
    ours, ungrouped = [], []
    for i, (targets, groups, sides) in enumerate(worlds((1, 1))):
        ours.append(compared(targets, groups, sides, i))
        ungrouped.append(compared(targets, np.arange(len(targets)), sides, i))
    assert rate(ours) <= MOST_FALSE_ALARMS
    assert rate(ungrouped) > 2 * MOST_FALSE_ALARMS


def test_with_seeds_false_alarms_are_held_and_neglected_or_redrawn_seeds_raise_them():
    ours, neglected, redrawn = [], [], []
    for i, (targets, groups, sides) in enumerate(worlds((3, 3), seed_noise=0.25)):
        weights = group_weights(groups, N_REDRAWS, i)
        base, other = (measure(side, targets, weights, ("f1_macro",))["f1_macro"] for side in sides)
        ours.append(differences(base, [other], N_GROUPS)[0])
        # Texts alone, with the mean of the runs as if it were one run.
        means = [
            Measured(m.observed.mean(axis=0, keepdims=True), m.redrawn.mean(axis=0, keepdims=True))
            for m in (base, other)
        ]
        neglected.append(differences(means[0], [means[1]], N_GROUPS)[0])
        # The percentile bootstrap that redraws seeds as well.
        rng = np.random.default_rng(i)
        picked = [
            m.redrawn[rng.integers(0, 3, (3, N_REDRAWS)), np.arange(N_REDRAWS), 0].mean(axis=0) for m in (base, other)
        ]
        low, high = np.percentile(picked[1] - picked[0], [2.5, 97.5])
        redrawn.append(low > 0 or high < 0)
    assert rate(ours) <= MOST_FALSE_ALARMS
    assert rate(neglected) > 3 * MOST_FALSE_ALARMS
    assert np.mean(redrawn) > MOST_FALSE_ALARMS


def test_one_seed_beside_three_borrows_their_noise():
    found = [compared(*world, i) for i, world in enumerate(worlds((1, 3), seed_noise=0.25))]
    assert rate(found) <= MOST_FALSE_ALARMS + 0.03


def test_intervals_hold_a_true_difference_and_pairing_finds_it():
    margins = (0.7, 1.0)
    true = float(np.mean([_estimate(*world) for world in worlds((1, 1), margins, n_worlds=800)]))
    assert true > 0.04
    ours, unpaired = [], []
    for i, (targets, groups, (base, other)) in enumerate(worlds((1, 1), margins, n_worlds=200)):
        found = compared(targets, groups, (base, other), i)
        ours.append((found.ci_low[0] <= true <= found.ci_high[0], found.p_value[0] < 0.05))
        # Each side on texts of its own.
        apart = [
            measure(side, targets, group_weights(groups, N_REDRAWS, 2 * i + k), ("f1_macro",))["f1_macro"]
            for k, side in enumerate((base, other))
        ]
        unpaired.append(differences(apart[0], [apart[1]], N_GROUPS)[0].p_value[0] < 0.05)
    coverage, power = np.mean(ours, axis=0)
    assert coverage >= 0.9
    assert power > 1.5 * np.mean(unpaired)


@pytest.mark.parametrize("n_labels", [8])
def test_over_many_values_the_chance_of_any_false_alarm_is_held(n_labels):
    alarms, naive = [], []
    for i, world in enumerate(worlds((1, 1), n_worlds=150, n_labels=n_labels)):
        found = compared(*world, i, metric="f1")
        alarms.append((found.p_adjusted < 0.05).any())
        naive.append((found.p_value < 0.05).any())
    assert np.mean(alarms) <= MOST_FALSE_ALARMS
    assert np.mean(naive) > 2 * MOST_FALSE_ALARMS
