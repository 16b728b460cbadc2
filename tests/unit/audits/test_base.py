"""Are scores that do not line up refused?"""

import dataclasses

import numpy as np
import pytest

from audits.base import Audit, ScoredView
from audits.value_distribution import ValueDistribution


def view(**changes):
    fields = {
        "view": "v",
        "probabilities": np.full((3, 2, 2), 0.5),
        "decisions": np.zeros((3, 2, 2), dtype=bool),
        "text_rows": np.zeros((3, 2), dtype=np.int64),
        "truncated": np.zeros((3, 2), dtype=bool),
    }
    return ScoredView(**(fields | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decisions": np.zeros((3, 2, 1), dtype=bool)}, "n_labels"),
        ({"text_rows": np.zeros((2, 2), dtype=np.int64)}, "text_rows"),
        ({"probabilities": np.full((3, 2, 2), np.nan)}, "NaN or outside"),
        ({"probabilities": np.full((3, 2, 2), 1.5)}, "NaN or outside"),
        ({"decisions": np.zeros((3, 2, 2))}, "bool"),
    ],
)
def test_scored_view_checks_its_arrays(changes, message):
    with pytest.raises(ValueError, match=message):
        view(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pair_ids": ["a", "a", "b"]}, "not unique"),
        ({"clusters": [1, 2]}, "clusters must have shape"),
        ({"is_tie": [0, 1, 0]}, "is_tie must be bool"),
        ({"labels": ("x", "q")}, "do not fit"),
        ({"views": {"other": view()}}, "view other holds v"),
    ],
)
def test_scored_pairs_check_their_alignment(make_scored, changes, message):
    with pytest.raises(ValueError, match=message):
        make_scored(np.full((3, 2, 2), 0.5), **changes)


def test_signs_follow_the_slugs_not_the_column_order(make_scored):
    scored = make_scored(np.full((2, 2, 4), 0.5), signed=True)
    scored = dataclasses.replace(scored, labels=("y-against", "x-for", "x-against", "y-for"))
    plus, minus = scored.signs()
    assert (plus.tolist(), minus.tolist()) == ([1, 3], [2, 0])


def test_value_distribution_is_an_audit():
    audit: Audit = ValueDistribution()
    assert audit.name == "value-distribution"
    assert audit.per_checkpoint
    assert [r.slug for r in audit.requests()] == ["exchange-head-256", "dialogue-head-128"]
