"""The published shares of quality labels, and which text they are about, from the file itself."""

import csv

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline

from datamodules.annotations import HH_QUALITY_FILE, read_annotations
from datamodules.encoding_repair import repaired
from datamodules.splits import split_texts
from datamodules.taxonomy import load_taxonomy

pytestmark = pytest.mark.data
FIELDS = ("prompt", "chosen_response", "rejected_response")


@pytest.fixture(scope="module")
def data(data_root):
    return read_annotations("hh-quality", None, data_root, load_taxonomy("hh-quality"))


@pytest.fixture(scope="module")
def rows(data_root):
    with (data_root / HH_QUALITY_FILE).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_published_shares_of_the_labelled_rows(data):
    report = data.report
    assert (report.n_read, report.n_kept) == (1000, 408)
    assert report.dropped == {"not labelled": 582, "unknown label": 10}
    assert report.unknown_labels == {"performance": 6, "harmless": 3, "irrelevant": 1}
    n_labelled = report.n_kept + report.dropped["unknown label"]
    shares = {label: round(100 * n / n_labelled, 1) for label, (n, _) in report.label_counts.items()}
    assert shares == {"acceptable": 14.6, "unhelpful": 44.3, "harmful": 38.8}


def test_no_response_was_labelled_twice(data):
    assert (report := data.report).n_duplicate_texts == report.n_conflicting_texts == 0
    assert report.notes["responses labelled a second time (so no agreement of annotators can be told)"] == 0


def test_the_repair_undoes_one_wrong_decoding_and_nothing_else(rows):
    fields = [(row[name], repaired(row[name])) for row in rows for name in FIELDS]
    changed = [(old, new) for old, new in fields if old != new]
    assert len(changed) == 375 + 450 + 438
    assert all(old == new.encode().decode("mac_roman") for old, new in changed)
    assert sum(any("‚Ä" in row[name] for name in FIELDS) for row in rows) == 668  # noqa: RUF001
    assert not any("‚Ä" in new for _, new in fields)  # noqa: RUF001


def test_rows_are_of_the_training_half_of_the_harmless_split(rows):
    """Of hh-rlhf's 160,800 training pairs, one subset after the other, the last 42,537 are harmless-base."""
    ids = [int(row["id"]) for row in rows]
    assert len(set(ids)) == 1000
    assert 160_800 - 42_537 <= min(ids) <= max(ids) < 160_800


def test_the_verdict_is_about_the_chosen_response(rows):
    labelled = [row for row in rows if row["lablej"] in ("acceptable", "unhelpful", "harmful")]
    labels = np.array([row["lablej"] for row in labelled])

    def macro_f1(field):
        words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), min_df=2)
        model = make_pipeline(words, LogisticRegression(C=10, class_weight="balanced", max_iter=1000))
        folds = StratifiedKFold(5, shuffle=True, random_state=0)
        found = cross_val_predict(model, [repaired(row[field]) for row in labelled], labels, cv=folds)
        return f1_score(labels, found, average="macro")

    chosen, rejected = macro_f1("chosen_response"), macro_f1("rejected_response")
    assert chosen > 0.48
    assert chosen - rejected > 0.1


def test_no_group_straddles_the_split(data):
    splits = split_texts(data.texts, None, 0.15, 0.2, 0)
    groups = [{text.group_id for text in part} for part in splits.by_name.values()]
    assert sum(map(len, groups)) == len(set().union(*groups)) == 400
