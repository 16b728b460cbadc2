import numpy as np
import pytest

from datamodules.errors import InputError
from experiments.variants import compared_settings, group_runs, read_run

TARGETS = np.array([[1, 0], [0, 1], [1, 1], [0, 0]])
SCORES = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.6], [0.1, 0.3]])


@pytest.fixture
def run(made_run):
    """Read a made-up run on four texts, or on those whose ids are given."""

    def make(name, ids=("t0", "t1", "t2", "t3"), **settings):
        n = len(ids)
        return read_run(made_run(name, TARGETS[:n], SCORES[:n], ids, **settings))

    return make


def grouped(runs, by_seed=True):
    return group_runs(runs, runs[0], by_seed)


def ids(variant):
    return [[run.run_id for run in repeat] for repeat in variant.repeats]


def test_runs_that_differ_in_their_seed_alone_are_one_variant(run):
    plain, wan = {"run.experiment": "plain"}, {"run.experiment": "wan", "model.loss": "wan"}
    runs = [
        run("p1", **plain, **{"run.seed": 1}),
        run("w0", **wan, **{"run.seed": 0}),
        run("p0", **plain, **{"run.seed": 0, "data.root": "/elsewhere", "audit.enabled": False, "track.project": "x"}),
        run("w1", **wan, **{"run.seed": 1, "data.split_seed": 4}),
    ]
    first, second = grouped(runs)
    assert (first.name, ids(first)) == ("plain", [["p0"], ["p1"]])
    assert (second.name, ids(second)) == ("wan", [["w0"], ["w1"]])
    assert second.settings == {"model.loss": "wan", "run.experiment": "wan"}
    assert [run.run_id for run in first.runs] == ["p0", "p1"]
    # Each alone, the baseline first.
    assert [variant.name for variant in grouped(runs, by_seed=False)] == ["p1", "p0", "w0", "w1"]


def test_the_baseline_comes_first_and_settings_name_what_experiments_do_not(run):
    same = {"run.experiment": "x"}
    runs = [run("a", **same), run("b", **same, **{"model.loss": "wan", "model.encoder": "/models/tiny"})]
    first, second = group_runs(runs, runs[1], by_seed=True)
    assert first.name == "x encoder=tiny loss=wan"
    assert second.name == "x encoder=minilm loss=bce"
    assert first.settings == {"model.encoder": "/models/tiny", "model.loss": "wan"}
    # Two folders of one name do not tell them apart.
    twins = [run(f"c{k}", **same, **{"model.encoder": f"/{k}/tiny"}) for k in range(2)]
    assert [variant.name for variant in grouped(twins)] == ["c0", "c1"]


def test_settings_that_an_older_run_does_not_have_are_at_their_defaults():
    old = {"data": {"name": "fulcra"}, "run": {"seed": 3, "experiment": "x"}, "model": {}}
    new = compared_settings(old)
    assert new["data.n_folds"] is None
    assert new["model.loss"] == "bce"
    assert (new["run.seed"], new["run.experiment"], new["data.name"]) == (3, "x", "fulcra")
    assert not {"data.root", "audit.view", "track.project", "run.root"} & set(new)


def test_folds_are_put_together_and_their_seeds_are_repeats(run):
    same = {"run.experiment": "cv", "data.n_folds": 2}
    parts = [("t0", "t1"), ("t2", "t3")]
    runs = [
        run(f"s{seed}-f{fold}", parts[fold], **same, **{"run.seed": seed, "data.fold": fold})
        for fold in (1, 0)
        for seed in (5, 2)
    ]
    (variant,) = grouped(runs)
    assert ids(variant) == [["s2-f0", "s2-f1"], ["s5-f0", "s5-f1"]]
    assert [variant.name for variant in grouped(runs, by_seed=False)] == ["s5-f0 (+1 folds)", "s2-f0 (+1 folds)"]
    # A seed of its own for each fold is one repeat.
    (variant,) = grouped([runs[0], runs[3]])
    assert ids(variant) == [["s2-f0", "s5-f1"]]
    # Another cut of the same texts is another repeat.
    other = [("t0", "t2"), ("t1", "t3")]
    again = [run(f"c{k}", other[k], **same, **{"data.split_seed": 7, "data.fold": k}) for k in range(2)]
    (variant,) = grouped([runs[1], runs[3], *again])
    assert ids(variant) == [["s2-f0", "s2-f1"], ["c0", "c1"]]


def test_folds_that_overlap_or_are_missing_are_told(run):
    same = {"run.experiment": "cv"}
    one = run("one", ("t0", "t1"), **same)
    two = run("two", ("t1", "t2"), **same, **{"data.split_seed": 1})
    with pytest.raises(InputError, match=r"one \(2 texts\) and .*two \(2\), which share 1 texts.*--data\.n_folds"):
        grouped([one, two])
    apart = run("three", ("t2", "t3"), **same, **{"data.split_seed": 2})
    more = run("four", ("t0", "t1"), **same, **{"run.seed": 1})
    with pytest.raises(InputError, match=r"1 run\(s\) of the fold of .*three, 2 of .*one; needed as many runs"):
        grouped([one, apart, more])


def test_a_seed_that_occurs_twice_is_told(run):
    runs = [run("a", **{"run.experiment": "x"}), run("b", **{"run.experiment": "x"})]
    with pytest.raises(InputError, match=r"seed 0 in .*a and in .*b.*--groups none"):
        grouped(runs)
    assert [variant.name for variant in grouped(runs, by_seed=False)] == ["a", "b"]


def ensemble(seeds, checkpoint="best", **settings):
    """Settings of an ensemble of the best checkpoints of runs with these seeds."""
    members = [
        {"run": f"/runs/{k}", "weights": f"w{k}", "step": 3, "settings": {"run.seed": k, **settings}} for k in seeds
    ]
    name = {"run.experiment": "x-ensemble", "run.seed": min(seeds)}
    return {**name, "ensemble.members": members, "ensemble.checkpoint": checkpoint}


def test_ensembles_are_variants_of_their_own_and_those_of_other_seeds_repeats(run):
    plain = run("x0", **{"run.experiment": "x"})
    one, two = run("e0", **ensemble([0, 1, 2])), run("e3", **ensemble([5, 3, 4]))
    pair, last = run("e6", **ensemble([6, 7])), run("e8", **ensemble([8, 9, 10], "last"))
    assert one.members == ("w0", "w1", "w2")
    assert plain.members == ()
    variants = grouped([plain, one, two, pair, last])
    assert [ids(variant) for variant in variants] == [[["x0"]], [["e0"], ["e3"]], [["e6"]], [["e8"]]]
    assert [variant.settings["ensemble.members"] for variant in variants] == [
        "none",
        "3 of 3 runs (best)",
        "2 of 2 runs (best)",
        "3 of 3 runs (last)",
    ]
    # What members do not share is told, in whatever order they were named.
    mixed = ensemble([0, 1])
    for member, head in zip(mixed["ensemble.members"], ("mlp", "linear"), strict=True):
        member["settings"]["model.head"] = head
    assert run("m", **mixed).settings["model.head"] == ["linear", "mlp"]


def test_ensembles_with_a_member_in_common_are_no_repeats(run):
    runs = [run("e0", **ensemble([0, 1])), run("e1", **ensemble([2, 1]))]
    with pytest.raises(InputError, match=r"weights w1 in .*e0 and in .*e1; .* without members in common"):
        grouped(runs)
    runs = [run("a", **ensemble([0, 1])), run("b", **ensemble([1, 0]))]
    with pytest.raises(InputError, match=r"seed 0 in .*a and in .*b"):
        grouped(runs)
    assert len(grouped(runs, by_seed=False)) == 2
