"""Rows of the refusal audits: own denominators, published beside ours, groups, lint, and pairs."""

import numpy as np
import pytest

from audits.pair_refusals import pair_refusal_rows, pair_refusal_table
from audits.refusals import refusal_table
from datamodules.completions import Completions
from datamodules.preferences import read_preferences
from datamodules.refusals import CLASSES, EMPTY

NO, YES, LOST = "I'm sorry, but I can't help with that.", "Turn left at the mill.", "I don't understand the question."
TEMPLATES = [f"Where do [group] people go in month {k}?" for k in range(6)]


def completions(rows, model="small"):
    """One entry per (prompt, text, type, group, flag)."""
    prompts, texts, types, groups, flags = zip(*rows, strict=True)
    numbers = np.arange(1, len(rows) + 1)
    arrays = (np.array(column, dtype=np.str_) for column in (prompts, types, groups))
    prompt, kind, group = arrays
    return Completions(model, numbers, prompt, tuple(texts), kind, group, np.array(flags, dtype=np.float64))


def rows_of(*models, n_draws=200):
    return refusal_table("made-up", models, n_draws=n_draws).to_pylist()


def pick(rows, **wanted):
    found = [row for row in rows if all(row[name] == value for name, value in wanted.items())]
    assert len(found) == 1, (wanted, len(found))
    return found[0]


@pytest.fixture
def unequal():
    """Four safe and two unsafe completions; flags call not understanding a refusal."""
    return completions(
        [
            ("a", YES, "homonyms", "", 0),
            ("b", LOST, "homonyms", "", 1),
            ("c", NO, "definitions", "", 1),
            ("d", YES, "definitions", "", 0),
            ("e", NO, "contrast_homonyms", "", 1),
            ("f", YES, "contrast_homonyms", "", 0),
        ]
    )


def test_rates_have_their_own_denominators(unequal):
    rows = rows_of(unequal)
    same = {"feature": "", "subset": "", "spec": "by-prompt"}
    for side, mode, metric, estimate, n in (
        ("safe", "as_published", "refusal_rate", 2 / 4, 4),
        ("unsafe", "as_published", "refusal_rate", 1 / 2, 2),
        ("safe", "corrected", "refusal_rate", 1 / 4, 4),
        ("safe", "corrected", "incapable_rate", 1 / 4, 4),
        ("unsafe", "corrected", "incapable_rate", 0.0, 2),
    ):
        row = pick(rows, slice=side, mode=mode, metric=metric, **same)
        assert (row["estimate"], row["n"], row["scorer"]) == (estimate, n, "small")
    over_safe = pick(rows, metric="refusal_rate_over_n_safe")
    assert (over_safe["estimate"], over_safe["n"], over_safe["mode"]) == (1 / 4, 4, "as_published")
    assert pick(rows, feature="type:definitions", metric="partial_rate", spec="by-template")["n"] == 2
    assert {row["subset"] for row in rows} == {""}


def test_without_flags_the_published_matcher_judges(unequal):
    plain = completions(
        [(p, t, k, "", np.nan) for p, t, k in zip(unequal.prompts, unequal.texts, unequal.types, strict=True)]
    )
    row = pick(rows_of(plain), slice="safe", feature="", metric="refusal_rate", mode="as_published", spec="by-prompt")
    assert (row["method"], row["estimate"]) == ("hh-audit-match", 0.5)


def test_what_is_left_out_is_counted(unequal):
    odd = completions(
        [
            ("a", YES, "homonyms", "", 0),
            ("b", " ", "homonyms", "", 0),
            ("", YES, "homonyms", "", 0),
            ("d", YES, "", "", 0),
            ("e", NO, "mine", "", np.nan),
        ]
    )
    rows = rows_of(odd)
    counts = {row["method"]: (row["estimate"], row["n"]) for row in rows if row["metric"] == "left_out"}
    assert counts == {"no-prompt": (1, 5), "no-type": (1, 5), "empty-completion": (1, 5), "no-flag": (1, 5)}
    same = {"slice": "safe", "feature": "", "metric": "refusal_rate", "spec": "by-prompt"}
    assert pick(rows, mode="as_published", subset="", **same)["n"] == 2
    assert pick(rows, mode="corrected", subset="", **same)["n"] == 2
    assert pick(rows, mode="corrected", subset="xstest", **same)["n"] == 1
    assert pick(rows, metric="flag_agreement")["n"] == 3


def group_rows(refused_of, samples=2):
    """Each group's prompts are refused as often as `refused_of` says, of the six templates."""
    rows = []
    for template in TEMPLATES:
        for group, n_refused in refused_of.items():
            text = NO if TEMPLATES.index(template) < n_refused else YES
            rows += [(template.replace("[group]", group), text, "mine", group, float(text == NO))] * samples
    return rows


def test_groups_are_compared_within_templates():
    rows = rows_of(completions(group_rows({"tall": 6, "short": 1, "loud": 0, "calm": 1})), n_draws=999)
    spread = pick(rows, slice="safe", metric="disparity_max_min", mode="corrected", spec="within-template")
    assert (spread["estimate"], spread["n"], spread["n_clusters"]) == (1.0, 48, 6)
    assert spread["p_value"] < 0.01
    tested = [r for r in rows if r["metric"] == "refusal_rate_difference" and r["mode"] == "corrected"]
    tested = [r for r in tested if r["spec"] == "within-template"]
    assert [r["feature"] for r in tested] == ["group:calm", "group:loud", "group:short", "group:tall"]
    assert tested[3]["estimate"] == pytest.approx(1 - 2 / 18)
    assert all(row["p_adjusted"] >= row["p_value"] for row in tested)
    assert tested[3]["p_adjusted"] < 0.05 < tested[2]["p_adjusted"]
    rate = pick(rows, slice="safe", feature="group:tall", metric="refusal_rate", mode="corrected", spec="by-template")
    assert (rate["estimate"], rate["n"], rate["n_clusters"]) == (1.0, 12, 6)


def test_prompts_that_read_wrong_are_left_out_of_the_second_test():
    rows = rows_of(completions(group_rows({"tall": 3, "short": 3, "giants": 6})))
    same = {"slice": "safe", "metric": "disparity_max_min", "mode": "corrected"}
    assert pick(rows, spec="within-template", **same)["estimate"] == 0.5
    clean = pick(rows, spec="within-template-well-formed", **same)
    assert (clean["estimate"], clean["n"]) == (0.0, 24)
    assert pick(rows, metric="flawed_prompts", feature="plural-before-noun")["estimate"] == 6


def test_several_models_stand_side_by_side(unequal):
    rows = rows_of(unequal, completions([("a", NO, "homonyms", "", 1.0)], model="large"))
    assert {row["scorer"] for row in rows} == {"small", "large", "small|large"}


def test_pairs_by_hand():
    refuse, comply, partial = (CLASSES.index(name) for name in ("refuse", "comply", "partial"))
    classes = np.array(
        [[refuse, comply], [comply, comply], [partial, comply], [EMPTY, refuse], [refuse, refuse]], dtype=np.int8
    )
    is_tie = np.array([False] * 4 + [True])
    rows = pair_refusal_rows(classes, np.arange(5), is_tie, np.array([""] * 5))
    chosen = pick(rows, slice="chosen", metric="refusal_rate")
    assert (chosen["estimate"], chosen["n"]) == (pytest.approx(2 / 3), 3)
    assert pick(rows, slice="rejected", metric="refusal_rate")["estimate"] == 1 / 4
    assert pick(rows, slice="a", metric="refusal_rate")["n"] == 1
    both = pick(rows, slice="chosen-rejected", metric="refusal_rate_difference")
    assert (both["estimate"], both["n"]) == (pytest.approx(2 / 3), 3)
    assert both["p_adjusted"] == both["p_value"] == pytest.approx(2 / 2**2)
    assert pick(rows, slice="chosen-rejected", metric="partial_rate_difference")["p_value"] == 1
    assert pick(rows, slice="chosen-rejected", metric="incapable_rate_difference")["p_value"] == 1
    assert pick(rows, metric="left_out")["slice"] == "chosen"


def test_pairs_of_a_data_set_have_subsets():
    table = pair_refusal_table(read_preferences("sample-hh-rlhf", None))
    assert set(table["audit"].to_pylist()) == {"refusals"}
    rows = [row for row in table.to_pylist() if row["metric"] == "refusal_rate" and row["slice"] == "chosen"]
    assert rows[0]["subset"] == ""
    assert sum(row["n"] for row in rows[1:]) in (0, rows[0]["n"])


def test_inability_stands_beside_refusals():
    """Empty and repetitive completions are in the denominator; a model that never refuses shows what it cannot."""
    loop = "They are there. " * 8
    rows = rows_of(
        completions([(f"Ask {k}", text, "mine", "", 0) for k, text in enumerate((YES, " ", loop, LOST, NO))])
    )
    same = {"slice": "safe", "feature": "", "spec": "by-prompt", "mode": "corrected"}
    for metric, estimate, n in (
        ("unable_rate", 3 / 5, 5),
        ("empty_rate", 1 / 5, 5),
        ("repetitive_rate", 1 / 5, 5),
        ("incapable_rate", 1 / 4, 4),
        ("refusal_rate", 1 / 4, 4),
    ):
        row = pick(rows, metric=metric, **same)
        assert (row["estimate"], row["n"]) == (pytest.approx(estimate), n), metric
    assert not [row for row in rows if row["metric"] == "unable_rate" and row["feature"]]


def test_completions_of_other_groups_than_their_prompts_are_told():
    rows = group_rows({"tall": 3, "short": 3, "loud": 0, "calm": 1})
    speaking = [(p, f"Those {g} people go home.", k, g, f) for p, _, k, g, f in rows]
    found = {r["metric"]: r for r in rows_of(completions(speaking))}
    assert (found["own_group_named"]["estimate"], found["own_group_named"]["n"]) == (1.0, 48)
    assert found["own_group_named_by_chance"]["estimate"] == pytest.approx(0.25)
    moved = [(p, speaking[i - 2][1], k, g, f) for i, (p, _, k, g, f) in enumerate(speaking)]
    assert pick(rows_of(completions(moved)), metric="own_group_named")["estimate"] == 0
    assert not [r for r in rows_of(completions(rows[:2])) if r["metric"] == "own_group_named"]


def test_models_of_one_file_are_compared(unequal):
    other = completions(
        [(p, NO, k, "", 1.0) for p, k in zip(unequal.prompts, unequal.types, strict=True)], model="large"
    )
    rows = rows_of(unequal, other)
    row = pick(rows, metric="model_refusal_difference", slice="safe", mode="corrected")
    assert (row["scorer"], row["audit"], row["dataset"]) == ("small|large", "refusals", "made-up")
    assert (row["estimate"], row["n"]) == (1 / 4 - 1, 4)
