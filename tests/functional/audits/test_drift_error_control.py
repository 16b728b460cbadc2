"""Over many looks, does drift raise false alarms no more often than promised, cover the truth, and see what is there?

Prompts have four responses that mostly flip together, as responses to one prompt do, and looks share much of what
flips, as checkpoints of one run do. The naive ways run on the same data: McNemar's test at 5% at every look, and the
same paired difference with every response taken for a prompt of its own.
"""

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportions_ztest

from audits.base import Reward, ScoredPairs, ScoredView, TextFeatures, ViewRequest
from audits.drift import Look, drift_rows, influence_on_mean
from audits.imprint_drift import imprint_drift_rows
from audits.stats.max_t import effective_clusters, max_t, spending
from audits.stats.paired import exact_mcnemar

ALPHA = 0.05
N_PROMPTS, SIZE, N_LOOKS, N_VALUES = 100, 4, 20, 5
CLUSTERS = np.repeat(np.arange(N_PROMPTS), SIZE)
LOOK_OF = np.repeat(np.arange(N_LOOKS), N_VALUES)
M = N_LOOKS * N_VALUES
N_DRAWS = 999
REPETITIONS = 240
KEPT = 0.8  # of a prompt's responses flip with it


def flips(rng: np.random.Generator, drift: float = 0.0) -> np.ndarray:
    """Changes from the baseline, float64 [responses, looks x values]: 1, 0 or -1; they are KEPT * drift on average."""
    shape = (N_PROMPTS, M)
    own, shared = rng.random(shape), np.tile(rng.random((N_PROMPTS, N_VALUES)), N_LOOKS)
    chance = np.where(rng.random(shape) < 0.5, own, shared)
    prompt = np.where(chance < 0.1, -1.0, np.where(chance > 0.9 - drift, 1.0, 0.0))
    return prompt[CLUSTERS] * (rng.random((len(CLUSTERS), M)) < KEPT)


def three_errors(share: float) -> float:
    """Three standard errors of a simulated share."""
    return 3 * math.sqrt(share * (1 - share) / REPETITIONS)


def first_alarm(means: np.ndarray, influence: np.ndarray, seed: int) -> int | None:
    """Look by look, as a run goes on, until the first alarm."""
    for look in range(N_LOOKS):
        so_far = look >= LOOK_OF
        found = spending(means[so_far], influence[:, so_far], LOOK_OF[so_far], N_LOOKS, n_draws=N_DRAWS, seed=seed)
        if (found.p_adjusted[LOOK_OF[so_far] == look] <= ALPHA).any():
            return look
    return None


def test_false_alarms_over_twenty_looks_without_drift_where_naive_looks_always_raise_one():
    rng = np.random.default_rng(1)
    alarms = dict.fromkeys(("max-t", "spending", "mcnemar", "unclustered"), 0)
    for k in range(REPETITIONS):
        moved = flips(rng)
        means, influence = influence_on_mean(moved, CLUSTERS)
        found = max_t(means, influence, n_draws=N_DRAWS, seed=k)
        spent = spending(means, influence, LOOK_OF, N_LOOKS, n_draws=N_DRAWS, seed=k)
        p_mcnemar = exact_mcnemar((moved > 0).sum(axis=0), (moved < 0).sum(axis=0))
        # With Bonferroni over all looks and values, but every response for itself.
        p_apart = M * stats.ttest_1samp(moved, 0).pvalue
        alarms["max-t"] += bool((found.p_adjusted <= ALPHA).any())
        alarms["spending"] += bool((spent.p_adjusted <= ALPHA).any())
        alarms["mcnemar"] += bool((p_mcnemar <= ALPHA).any())
        alarms["unclustered"] += bool((p_apart <= ALPHA).any())
    share = {name: count / REPETITIONS for name, count in alarms.items()}
    assert abs(share["max-t"] - ALPHA) <= three_errors(ALPHA), share
    assert share["spending"] <= ALPHA + three_errors(ALPHA), share
    assert share["mcnemar"] > 0.95, share
    assert share["unclustered"] > 0.95, share


def test_false_alarms_where_few_prompts_hold_most_of_the_pairs():
    """Twelve prompts of 20 pairs beside 60 of two, and three of 40 beside 30: 72 and 33 prompts, by far fewer told."""
    rng = np.random.default_rng(5)
    for sizes in ([20] * 12 + [2] * 60, [40] * 3 + [2] * 30):
        clusters = np.repeat(np.arange(len(sizes)), sizes)
        shares = np.array(sizes)[:, None] / len(clusters)
        alarms = dict.fromkeys(("effective", "all prompts"), 0)
        for k in range(REPETITIONS):
            prompt = rng.choice([-1.0, 0.0, 1.0], size=(len(sizes), 20), p=[0.15, 0.7, 0.15])[clusters]
            own = rng.choice([-1.0, 0.0, 1.0], size=prompt.shape, p=[0.15, 0.7, 0.15])
            means, influence = influence_on_mean(np.where(rng.random(prompt.shape) < KEPT, prompt, own), clusters)
            effective = effective_clusters(influence, shares)
            found = max_t(means, influence, effective=effective, n_draws=N_DRAWS, seed=k)
            alarms["effective"] += bool((found.p_adjusted <= ALPHA).any())
            naive = max_t(means, influence, n_draws=N_DRAWS, seed=k)
            alarms["all prompts"] += bool((naive.p_adjusted <= ALPHA).any())
        share = {name: count / REPETITIONS for name, count in alarms.items()}
        assert share["effective"] <= ALPHA + three_errors(ALPHA), share
        assert share["all prompts"] > ALPHA + three_errors(ALPHA), share


def test_false_alarms_of_slopes_of_rare_values():
    """Rewards of 1,000 pairs, and two readings of nine values that each a few pairs carry, both equally wrong."""
    rng = np.random.default_rng(6)
    n, slugs, view = 1000, tuple(f"v{k}" for k in range(9)), ViewRequest("exchange", "head", 256)
    ids, no_subset, no_ties = np.array([f"p{i}" for i in range(n)]), np.array([""] * n), np.zeros(n, dtype=bool)
    rows, cut = np.arange(2 * n).reshape(n, 2), np.zeros((n, 2), dtype=bool)
    alarms, raw, naive, repetitions = 0, [], [], 60
    for k in range(repetitions):
        true = rng.random((n, 2, len(slugs))) < 0.002
        rewards = (Reward("r", "none", rng.normal(size=(n, 2)) + 0.5 * true.sum(axis=2)),)
        texts = TextFeatures(("words",), rng.normal(size=(n, 2, 1)), "words")
        looks = []
        for step in range(2):
            carries = (true & (rng.random(true.shape) < 0.7)) | (rng.random(true.shape) < 0.0006)
            scored = ScoredView(view.slug, np.where(carries, 0.8, 0.2), carries, rows, cut)
            same = ("d", "t", slugs, slugs, False, True, ids, no_subset, np.arange(n), no_ties, {view.slug: scored})
            looks.append(Look(step, None, f"l{step}", ScoredPairs(*same, rewards=rewards, text_features=texts)))
        found = imprint_drift_rows(looks[0], looks[1:], view, n_draws=N_DRAWS, seed=k).to_pylist()
        rows_of = [row for row in found if row["metric"] == "beta_change" and row["spec"] == "within-from-l0"]
        known = [row for row in rows_of if np.isfinite(row["p_value"])]
        alarms += any(row["p_adjusted"] <= ALPHA for row in known)
        raw += [row["p_value"] <= ALPHA for row in known]
        naive += [2 * stats.t.sf(abs(row["estimate"] / row["std_error"]), n - 1) <= ALPHA for row in known]
    assert len(raw) > 6 * repetitions
    # Three standard errors of 60; with t and signs of all prompts it was 15 of them.
    assert alarms / repetitions <= ALPHA + 0.085, alarms
    assert np.mean(raw) <= ALPHA, np.mean(raw)
    assert np.mean(naive) > ALPHA + 0.02, np.mean(naive)


def test_stopping_at_the_first_alarm_alarms_exactly_when_the_finished_run_does():
    """So the share of false alarms of spending, above, is that of runs that are stopped at the first."""
    rng = np.random.default_rng(2)
    stopped = []
    for k in range(24):
        # Half without drift, half with much.
        means, influence = influence_on_mean(flips(rng, 0.0 if k % 2 else 0.12), CLUSTERS)
        finished = spending(means, influence, LOOK_OF, N_LOOKS, n_draws=N_DRAWS, seed=k)
        alarms = LOOK_OF[finished.p_adjusted <= ALPHA]
        stopped.append(first_alarm(means, influence, seed=k))
        assert stopped[-1] == (alarms.min() if len(alarms) else None)
    assert sum(look is not None for look in stopped[::2]) > 6
    assert sum(look is not None for look in stopped[1::2]) <= 3


def test_coverage_of_one_change_of_all_changes_and_what_ignoring_prompts_costs():
    rng = np.random.default_rng(3)
    drift = 0.05
    truth = KEPT * drift
    covered = dict.fromkeys(("one", "all", "unclustered"), 0)
    for k in range(REPETITIONS):
        moved = flips(rng, drift)
        means, influence = influence_on_mean(moved, CLUSTERS)
        found = max_t(means, influence, n_draws=N_DRAWS, seed=k)
        half = stats.t.ppf(0.975, N_PROMPTS - 1) * found.std_error[0]
        covered["one"] += bool(abs(means[0] - truth) <= half)
        covered["all"] += bool(((found.ci_low <= truth) & (truth <= found.ci_high)).all())
        low, high = stats.ttest_1samp(moved[:, 0], 0).confidence_interval(0.95)
        covered["unclustered"] += bool(low <= truth <= high)
    share = {name: count / REPETITIONS for name, count in covered.items()}
    nominal = 1 - ALPHA
    assert abs(share["one"] - nominal) <= three_errors(nominal), share
    assert abs(share["all"] - nominal) <= three_errors(nominal), share
    assert share["unclustered"] < nominal - 2 * three_errors(nominal), share


@pytest.fixture
def planted() -> list[Look]:
    """A baseline and six looks at 3,000 pairs; from the fourth on 2.4 points more chosen responses carry value x.

    Many more decisions change both ways at every look.
    """
    rng = np.random.default_rng(4)
    n, slugs = 3000, ("x", "y", "z")
    clusters = np.arange(n) // 2
    first = rng.random((n, 2, 3)) < 0.4
    looks = []
    for k in range(7):
        carries = first.copy()
        if k:
            carries ^= (rng.random((n // 2, 2, 3)) < 0.015)[clusters]
        if k >= 4:
            wanted = round((first[:, 0, 0].mean() + 0.024 - carries[:, 0, 0].mean()) * n)
            carries[rng.choice(np.flatnonzero(~carries[:, 0, 0]), wanted, replace=False), 0, 0] = True
        p = np.where(carries, 0.8, 0.2)
        view = ScoredView("v", p, carries, np.arange(2 * n).reshape(n, 2), np.zeros((n, 2), dtype=bool))
        ids, no_subset = np.array([f"p{i}" for i in range(n)]), np.array([""] * n)
        no_ties = np.zeros(n, dtype=bool)
        scored = ScoredPairs("d", "t", slugs, slugs, False, True, ids, no_subset, clusters, no_ties, {"v": view})
        looks.append(Look(k, None, f"l{k}", scored))
    return looks


@pytest.mark.parametrize("planned", [None, 6])
def test_a_move_of_2_4_points_is_found_when_and_where_it_happens(planned, planted):
    rows = drift_rows(planted[0], planted[1:], "v", planned, n_draws=N_DRAWS).to_pylist()
    changes = [row for row in rows if row["metric"] == "prevalence_change"]
    found = {(row["step"], row["slice"], row["feature"]) for row in changes if row["p_adjusted"] <= ALPHA}
    assert found == {(step, "chosen", "x") for step in (4, 5, 6)}
    for row in changes:
        if (row["step"], row["slice"], row["feature"]) in found:
            assert row["estimate"] == pytest.approx(0.024, abs=1e-3)
            assert row["ci_low"] > 0
    # Two shares side by side, as if other pairs had been looked at, show nothing.
    counts = [look.scored.views["v"].decisions[:, 0, 0].sum() for look in (planted[0], planted[4])]
    assert proportions_ztest(counts, [3000, 3000])[1] > ALPHA
