"""Are the scores of guessing from frequencies those that guessing gives?"""

import numpy as np
import pytest

from audits.stats.chance_outcomes import always_f1, majority_scores, outcome_shares, random_scores
from audits.stats.signed_outcomes import AGAINST, FOR, NEITHER, signed_scores

SHARES = np.array([[0.1, 0.6, 0.3], [0.0, 0.3, 0.7], [0.05, 0.9, 0.05]])


@pytest.fixture
def truth():
    rng = np.random.default_rng(5)
    found = np.stack([rng.choice(3, size=30, p=p) for p in ((0.2, 0.5, 0.3), (0.1, 0.2, 0.7), (0, 1, 0))], axis=1)
    found[:4, 0] = -1
    found[0, 2] = FOR
    return found


def test_random_scores_are_the_mean_of_draws(truth):
    rng = np.random.default_rng(0)
    ones = np.ones((1, len(truth)))
    n_draws = 2000
    cumulative = SHARES.cumsum(axis=1)
    sums = dict.fromkeys(("f1_for", "f1_against", "kappa", "kappa_linear", "accuracy"), 0.0)
    pooled = np.zeros(n_draws)
    for draw in range(n_draws):
        decided = (rng.random(truth.shape)[:, :, None] > cumulative).sum(axis=2)
        found = signed_scores(decided, truth, ones)
        sums = {name: total + getattr(found, name)[0] for name, total in sums.items()}
        pooled[draw] = found.kappa_pooled[0]
    expected = random_scores(truth, SHARES)
    for name, total in sums.items():
        assert getattr(expected, name)[0] == pytest.approx(total / n_draws, abs=0.012, nan_ok=True), name
    assert expected.kappa_pooled[0] == 0.0
    assert pooled.mean() == pytest.approx(0.0, abs=0.01)
    assert np.isnan(expected.f1_against[0, 2])
    # What one would write down without thinking, 2 p q / (p + q), is too much for a rare sign.
    p, q = 1 / 30, SHARES[2, FOR]
    assert expected.f1_for[0, 2] < 0.9 * 2 * p * q / (p + q)


def test_random_f1_of_one_text_by_hand():
    # One of two texts has it; drawn with 1/2: none 1/4, one 1/2 (a hit half of the time: 1 or 0), both 1/4 (2/3).
    truth = np.array([[FOR], [NEITHER]])
    expected = random_scores(truth, np.array([[0.0, 0.5, 0.5]]))
    assert expected.f1_for[0, 0] == pytest.approx(0.5 * 0.5 * 1 + 0.25 * 2 / 3)
    assert expected.accuracy[0, 0] == pytest.approx(0.5)


def test_the_majority_is_that_of_training(truth):
    found = majority_scores(truth, SHARES)
    n, positives = 30, (truth[:, 1] == FOR).sum()
    assert found.f1_for[0].tolist() == pytest.approx([0.0, 2 * positives / (n + positives), 0.0])
    assert found.f1_against[0, :2].tolist() == [0.0, 0.0]
    assert found.kappa[0].tolist() == pytest.approx([0.0, 0.0, 0.0])
    assert found.accuracy[0, 2] == pytest.approx(29 / 30)
    tie = majority_scores(truth[:, :1], np.array([[1 / 3, 1 / 3, 1 / 3]]))
    assert tie.accuracy[0, 0] == pytest.approx((truth[:, 0] == NEITHER).sum() / 26)


def test_saying_it_always(truth):
    assert always_f1(truth, FOR)[2] == pytest.approx(2 / 31)
    assert np.isnan(always_f1(truth, AGAINST)[2])
    # More often is better for one sign: no draw beats it.
    often = random_scores(truth, np.array([[0.0, 0.01, 0.99]] * 3))
    assert (often.f1_for[0] <= always_f1(truth, FOR)).all()


def test_shares_of_training():
    truth = np.array([[FOR, -1], [AGAINST, -1], [-1, -1], [NEITHER, -1], [NEITHER, -1]])
    shares = outcome_shares(truth)
    assert shares[0].tolist() == [0.25, 0.5, 0.25]
    assert np.isnan(shares[1]).all()


def test_a_value_that_training_says_nothing_of_has_no_baseline(truth):
    shares = np.vstack([SHARES[:2], [np.nan] * 3])
    for found in (majority_scores(truth, shares), random_scores(truth, shares)):
        assert np.isnan([found.f1_for[0, 2], found.kappa[0, 2], found.accuracy[0, 2]]).all()
        assert np.isfinite(found.accuracy[0, :2]).all()
