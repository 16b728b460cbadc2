"""Rows of the audit against plain counts of the same arrays, and the list of examples."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from audits.dataset_quality import DatasetQuality, finding_examples
from audits.stats.multiplicity import holm
from audits.table import SCHEMA
from datamodules.identity_terms import identity_terms
from datamodules.pair_quality import PAIR_FINDINGS, PROMPT_FINDINGS, RESPONSE_FINDINGS, PairQuality
from datamodules.refusals import CLASSES, EMPTY

N = 120
REFUSE = CLASSES.index("refuse")


@pytest.fixture(scope="module")
def quality():
    """Made-up measures of 120 pairs in two subsets, 20 of them ties; each its own cluster."""
    rng = np.random.default_rng(3)
    terms = identity_terms()
    classes = rng.integers(0, len(CLASSES), size=(N, 2)).astype(np.int8)
    classes[:60, 0], classes[:30, 1] = REFUSE, CLASSES.index("comply")
    responses = {name: rng.random((N, 2)) < 0.1 for name in RESPONSE_FINDINGS}
    classes[responses["empty"]] = EMPTY
    is_tie = np.arange(N) >= 100
    return PairQuality(
        dataset="toy",
        pair_ids=np.array([f"p{i}" for i in range(N)]),
        subsets=np.where(np.arange(N) % 3 == 0, "x", "y"),
        clusters=np.arange(N),
        is_tie=is_tie,
        n_read=N + 5,
        left_out={"empty-text": 2, "no-role-marker": 3},
        pairs={name: rng.random(N) < 0.2 for name in PAIR_FINDINGS} | {"tie": is_tie},
        responses=responses,
        prompts={name: rng.random(N) < 0.2 for name in PROMPT_FINDINGS},
        n_words=rng.integers(1, 50, size=(N, 2)),
        n_characters=rng.integers(1, 250, size=(N, 2)),
        classes=classes,
        languages=rng.choice(["en", "de", "undetermined"], size=(N, 3)),
        terms=rng.random((N, 3, len(terms.terms))) < 0.05,
        term_list=terms,
    )


@pytest.fixture(scope="module")
def frame(quality):
    return DatasetQuality().rows(quality).to_pandas()


def one(frame, **key):
    for column, value in key.items():
        frame = frame[frame[column] == value]
    assert len(frame) == 1, key
    return frame.iloc[0]


def test_schema_and_scopes(quality, frame):
    table = DatasetQuality().rows(quality)
    assert table.schema.equals(SCHEMA)
    assert table["step"].null_count == len(table)
    assert set(frame["subset"]) == {"", "x", "y"}
    assert set(frame["audit"]) == {"dataset-quality"}
    assert not DatasetQuality.per_checkpoint
    alone = replace(quality, subsets=np.full(N, "x"))
    assert set(DatasetQuality().rows(alone).to_pandas()["subset"]) == {""}


@pytest.mark.parametrize("subset", ["", "x", "y"])
def test_counts_carry_their_denominators(quality, frame, subset):
    inside = (quality.subsets == subset) | (subset == "")
    for name, marks in quality.pairs.items():
        found = one(frame, metric="count", subset=subset, slice="", feature=name)
        assert (found["estimate"], found["n"], found["n_clusters"]) == ((marks & inside).sum(), *[inside.sum()] * 2)
    for name, marks in quality.prompts.items():
        found = one(frame, metric="count", subset=subset, slice="prompt", feature=name)
        assert (found["estimate"], found["n"]) == ((marks & inside).sum(), inside.sum())
    for name, marks in quality.responses.items():
        for side, slices in enumerate((("chosen", "a"), ("rejected", "b"))):
            for slice_name, tie in zip(slices, (False, True), strict=True):
                among = inside & (quality.is_tie == tie)
                found = one(frame, metric="count", subset=subset, slice=slice_name, feature=name)
                assert (found["estimate"], found["n"]) == ((marks[:, side] & among).sum(), among.sum())


def test_languages_add_up(quality, frame):
    rows = frame[(frame["metric"] == "language_count") & (frame["subset"] == "")]
    for slice_name, n in (("prompt", N), ("chosen", 100), ("rejected", 100), ("a", 20), ("b", 20)):
        own = rows[rows["slice"] == slice_name]
        assert own["estimate"].sum() == n
        assert (own["n"] == n).all()
        assert list(own["feature"]) == ["de", "en", "undetermined"]


def test_rows_left_out(frame):
    rows = frame[frame["metric"] == "rows_left_out"]
    assert dict(zip(rows["feature"], rows["estimate"], strict=True)) == {"": 5, "empty-text": 2, "no-role-marker": 3}
    assert (rows["n"] == N + 5).all()


def test_classes_are_compared_where_both_sides_have_one(quality, frame):
    decided = ~quality.is_tie
    chosen, rejected = (quality.classes[decided, side] for side in (0, 1))
    row = one(frame, metric="response_class_rate", subset="", slice="chosen", feature="refuse")
    assert row["n"] == (chosen != EMPTY).sum() < 100
    assert row["estimate"] == pytest.approx((chosen == REFUSE).sum() / (chosen != EMPTY).sum())
    assert row["ci_low"] < row["estimate"] < row["ci_high"]
    both = (chosen != EMPTY) & (rejected != EMPTY)
    only = [
        ((first == REFUSE) & (second != REFUSE) & both).sum()
        for first, second in ((chosen, rejected), (rejected, chosen))
    ]
    row = one(frame, metric="response_class_rate_difference", subset="", feature="refuse")
    assert row["n"] == both.sum()
    assert row["estimate"] == pytest.approx((only[0] - only[1]) / both.sum())
    assert row["p_value"] == pytest.approx(stats.binomtest(int(only[0]), int(sum(only))).pvalue)


@pytest.mark.parametrize("metric", ["finding_rate", "response_class_rate", "identity_term_rate", "identity_group_rate"])
def test_one_family_of_holm_per_metric_and_subset(frame, metric):
    rows = frame[frame["metric"] == f"{metric}_difference"]
    for _, own in rows.groupby("subset"):
        assert np.allclose(own["p_adjusted"], holm(own["p_value"]), equal_nan=True)
        assert set(own["slice"]) == {"chosen-rejected"}


def test_identity_groups_hold_where_any_term_does(quality, frame):
    of = np.array(quality.term_list.group_of)
    religion = quality.terms[:, 0][:, of == quality.term_list.groups.index("religion")].any(axis=1)
    row = one(frame, metric="identity_group_rate", subset="", slice="prompt", feature="religion")
    assert (row["estimate"], row["n"]) == (pytest.approx(religion.mean()), N)
    row = one(frame, metric="identity_term_rate", subset="", slice="a", feature="muslim")
    k = quality.term_list.terms.index("muslim")
    assert (row["estimate"], row["n"]) == (pytest.approx(quality.terms[quality.is_tie, 1, k].mean()), 20)


def test_ties_are_in_no_difference(quality, frame):
    assert (frame[frame["slice"] == "chosen-rejected"]["n"] <= 100).all()
    only_ties = replace(quality, is_tie=np.ones(N, dtype=bool))
    assert "chosen-rejected" not in set(DatasetQuality().rows(only_ties).to_pandas()["slice"])


def test_wide_clusters_widen_intervals(quality, frame):
    shared = replace(quality, clusters=np.arange(N) // 30, n_words=np.repeat(quality.n_words[::30], 30, axis=0))
    rows = DatasetQuality().rows(shared).to_pandas()
    row = one(rows, metric="log_length_ratio", subset="", feature="n_words")
    apart = DatasetQuality().rows(replace(shared, clusters=np.arange(N))).to_pandas()
    narrow = one(apart, metric="log_length_ratio", subset="", feature="n_words")
    assert row["estimate"] == narrow["estimate"]
    assert row["n_clusters"] == 4
    assert row["ci_high"] - row["ci_low"] > 3 * (narrow["ci_high"] - narrow["ci_low"])


def test_examples_list_every_finding_once(quality):
    table = finding_examples(quality).to_pandas()
    assert not table.duplicated().any()
    assert "tie" not in set(table["finding"])
    pairs = sum(int(marks.sum()) for name, marks in quality.pairs.items() if name != "tie")
    prompts = sum(int(marks.sum()) for marks in quality.prompts.values())
    sides = sum(int(marks.sum()) for marks in quality.responses.values())
    classed = int(((quality.classes != EMPTY) & (quality.classes != CLASSES.index("comply"))).sum())
    assert len(table) == pairs + prompts + sides + classed
    order = [int(pair_id[1:]) for pair_id in table["pair_id"]]
    assert order == sorted(order)
    tied = table[[int(pair_id[1:]) >= 100 for pair_id in table["pair_id"]]]
    assert set(tied["side"]) == {"", "prompt", "a", "b"}
    empty = table[(table["finding"] == "empty") & (table["side"] == "chosen")]
    assert list(empty["pair_id"]) == [f"p{i}" for i in np.flatnonzero(quality.responses["empty"][:100, 0])]
