"""Do the scores of signed values stand beside their baselines, with honest counts and intervals?"""

import math

import numpy as np
import pytest
from sklearn.metrics import f1_score

from audits.signed_evaluation import headline, shares_of_rows, signed_rows
from audits.stats.chance_outcomes import outcome_shares, random_scores
from audits.stats.signed_outcomes import AVERAGES, signed_outcomes

LABELS = ("power-for", "power-against", "duty-for", "duty-against", "rest-for", "rest-against")
N = 120


@pytest.fixture
def world():
    """Decisions on 120 texts in 40 groups, and their truth; one text is for rest, none against it."""
    rng = np.random.default_rng(2)
    truth = rng.choice(3, size=(N, 3), p=(0.15, 0.5, 0.35))
    decided = np.where(rng.random(truth.shape) < 0.6, truth, rng.choice(3, size=truth.shape))
    truth[:, 2] = 1
    truth[0, 2] = 2
    decided[0, 2] = 1
    targets, decisions = (np.stack([t == 2, t == 0], axis=2).reshape(N, 6) for t in (truth, decided))
    targets = targets.astype(np.int64)
    targets[5, :2] = -1
    return decisions, targets, np.arange(N) // 3


def found(world, shares=None, **changes):
    decisions, targets, groups = world
    shares = outcome_shares(signed_outcomes(targets, LABELS)) if shares is None else shares
    rows = signed_rows(decisions, targets, LABELS, groups, shares, **changes)
    return {(row.metric, row.value): row for row in rows}


def test_scores_and_counts(world):
    decisions, targets, _ = world
    rows = found(world)
    known = targets[:, 0] >= 0
    row = rows["f1_against", "power"]
    assert row.estimate == pytest.approx(f1_score(targets[known, 1], decisions[known, 1]))
    assert (row.n, row.n_groups, row.n_positives, row.n_values) == (N - 1, 40, (targets[:, 1] == 1).sum(), 1)
    assert row.train_share == pytest.approx((targets[known, 1] == 1).mean())
    assert row.ci_low < row.estimate < row.ci_high
    none = rows["f1_against", "rest"]
    assert math.isnan(none.estimate)
    assert math.isnan(none.ci_low)
    assert (none.n_positives, none.n_values) == (0, 0)
    macro = rows["f1_against_macro", ""]
    own = [rows["f1_against", slug] for slug in ("power", "duty")]
    assert macro.n_values == 2
    for name in ("estimate", "random", "majority", "always"):
        assert getattr(macro, name) == pytest.approx(np.mean([getattr(row, name) for row in own]))
    assert rows["f1_for_macro", ""].n_values == 3
    assert math.isnan(rows["kappa_macro", ""].always)


def test_baselines_are_those_of_training_and_not_of_test(world):
    shares = np.array([[0.0, 0.2, 0.8], [0.1, 0.9, 0.0], [0.0, 0.5, 0.5]])
    rows = found(world, shares)
    truth = signed_outcomes(world[1], LABELS)
    expected = random_scores(truth, shares)
    for k, slug in enumerate(("power", "duty", "rest")):
        assert rows["f1_for", slug].random == pytest.approx(expected.f1_for[0, k])
        assert rows["f1_for", slug].train_share == shares[k, 2]
    # Power is held by most training texts: saying so always is what the majority does.
    assert rows["f1_for", "power"].majority == pytest.approx(rows["f1_for", "power"].always)
    assert rows["f1_for", "duty"].majority == 0.0
    np.testing.assert_allclose(shares_of_rows(list(rows.values()), ("power", "duty", "rest")), shares)


def test_an_interval_of_a_macro_is_over_the_same_values(world):
    """The one text for rest, which is missed, is out of a third of the redraws: they would lift the macro."""
    row = found(world)["f1_for_macro", ""]
    assert 1000 < row.n_redraws < 1600
    decisions, targets, groups = world
    without = [k for k in range(6) if k < 4]
    shares = outcome_shares(signed_outcomes(targets[:, :4], LABELS[:4]))
    two = signed_rows(decisions[:, without], targets[:, without], LABELS[:4], groups, shares)
    two = next(each for each in two if each.metric == "f1_for_macro")
    assert two.n_redraws == 2000
    assert row.estimate == pytest.approx(two.estimate * 2 / 3)
    assert row.ci_high == pytest.approx(two.ci_high * 2 / 3, abs=0.02)
    few = found(world, n_redraws=50)["f1_for_macro", ""]
    assert math.isnan(few.ci_low)


def test_groups_widen_intervals(world):
    decisions, targets, _ = world
    # Every text thrice, as one group: three times the texts, not three times the knowledge.
    tripled = (np.repeat(decisions, 3, axis=0), np.repeat(targets, 3, axis=0))
    grouped, alone = (
        found((*tripled, own))["accuracy_macro", ""] for own in (np.repeat(np.arange(N), 3), np.arange(3 * N))
    )
    width = grouped.ci_high - grouped.ci_low
    assert width / (alone.ci_high - alone.ci_low) == pytest.approx(math.sqrt(3), rel=0.15)


def test_headline_for_a_tracker(world):
    names = headline(list(found(world).values()))
    assert set(AVERAGES) <= set(names)
    assert {name for name in names if name not in AVERAGES} == {
        f"{metric}_{baseline}"
        for metric in ("f1_for_macro", "f1_against_macro", "accuracy_macro")
        for baseline in ("random", "majority")
    }
