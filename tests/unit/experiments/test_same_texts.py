import numpy as np
import pytest

from datamodules.errors import InputError
from experiments.same_texts import joined_groups, same_texts
from experiments.variants import group_runs, read_run

TARGETS = np.array([[1, 0], [0, -1], [1, 1], [0, 0]])
SCORES = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.6], [0.1, 0.3]])
IDS = np.array(["t3", "t0", "t2", "t1"])


@pytest.fixture
def aligned(made_run):
    """Align made-up runs, given as (name, rows of the four texts, settings); `change` may edit the arguments."""

    def align(*given, **change):
        runs = []
        for name, rows, settings in given:
            own = {"targets": TARGETS[rows], "probabilities": SCORES[rows], "text_ids": IDS[rows]}
            runs.append(read_run(made_run(name, **own | (change if name == "other" else {}), **settings)))
        return same_texts(group_runs(runs, runs[0], by_seed=True))

    return align


def test_texts_are_put_in_one_order(aligned):
    found = aligned(("a", [0, 1, 2, 3], {}), ("b", [2, 0, 3, 1], {}))
    assert found.labels == ("a", "b")
    assert (found.targets == TARGETS).all()
    for ((run,),) in [found.predictions[0:1], found.predictions[1:2]]:
        assert (run.probabilities == SCORES).all()
        assert (run.decisions == (SCORES >= 0.5)).all()
    assert found.n_groups == 4
    assert found.n_positive_groups.tolist() == [2, 1]


def test_folds_are_one_set_of_predictions(aligned):
    folds = {"run.experiment": "cv", "data.n_folds": 2}
    found = aligned(
        ("whole", [0, 1, 2, 3], {}),
        ("f1", [3, 1], folds | {"data.fold": 1}),
        ("f0", [2, 0], folds | {"data.fold": 0}),
    )
    assert [len(each) for each in found.predictions] == [1, 1]
    assert (found.predictions[1][0].probabilities == SCORES).all()
    # Both folds number their groups from 0.
    assert found.n_groups == 4


def test_groups_of_any_run_hold_texts_together(aligned):
    assert joined_groups([np.array([0, 0, 1, 2]), np.array([5, 6, 7, 7])]).tolist() == [0, 0, 1, 1]
    assert joined_groups([np.array([0, 0, 1, 2]), np.array([5, 6, 6, 7])]).tolist() == [0, 0, 0, 1]
    found = aligned(("a", [0, 1, 2, 3], {}), ("other", [0, 1, 2, 3], {}), groups=[4, 4, 5, 6])
    assert found.groups.tolist() == [0, 0, 1, 2]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"text_ids": ["t3", "t0", "t2", "u1"]},
            r"test split of .*other \(4 texts\), which is not that of .*made/a \(4",
        ),
        ({"text_ids": ["t3", "t0", "t2", "u1"]}, r"texts; 3 in both\).*--data\.split_seed"),
        ({"targets": 1 - np.abs(TARGETS)}, r"4 test texts whose labels in .*other are not those in .*made/a"),
        ({"labels": "xy"}, r"labels x, y of .*other, and a, b of .*made/a"),
        ({"text_ids": ["t3", "t0", "t2", "t2"]}, r"1 texts that are tested twice, such as t2, in .*other"),
    ],
)
def test_other_texts_and_labels_are_told_with_both_runs(aligned, change, told):
    rows = [0, 1, 2, 3]
    with pytest.raises(InputError, match=told):
        aligned(("a", rows, {}), ("other", rows, {}), **change)
