"""Two models on the same prompts: pairing by key, cells by hand, the clustered test against McNemar's."""

import numpy as np
import pytest
from scipy import stats

from audits.judged_completions import Judged
from audits.model_refusals import model_pair_rows, paired_rows
from audits.stats.paired import exact_mcnemar
from datamodules.completions import Completions

NO, YES, LOST = "I'm sorry, but I can't help with that.", "Turn left at the mill.", "I don't understand the question."


def completions(rows, model):
    """One entry per (prompt, text, type, group, flag)."""
    prompts, texts, types, groups, flags = zip(*rows, strict=True)
    arrays = (np.array(column, dtype=np.str_) for column in (prompts, types, groups))
    prompt, kind, group = arrays
    numbers = np.arange(1, len(rows) + 1)
    return Completions(model, numbers, prompt, tuple(texts), kind, group, np.array(flags, dtype=np.float64))


def judged(answers, model, side="mine"):
    """One completion for each (prompt, refused)."""
    return Judged(completions([(p, NO if no else YES, side, "", float(no)) for p, no in answers], model))


def rows_of(*models):
    return model_pair_rows(list(models))


def pick(rows, **wanted):
    found = [row for row in rows if all(row.get(name) == value for name, value in wanted.items())]
    assert len(found) == 1, (wanted, len(found))
    return found[0]


def cells(rows, **wanted):
    found = [row for row in rows if row["metric"] == "refusal_cell"]
    return {
        row["feature"]: row["estimate"]
        for row in found
        if all(row.get(name) == value for name, value in wanted.items())
    }


def test_completions_meet_by_prompt_type_and_number_and_not_by_their_place():
    first = completions([(p, YES, k, "", 0) for p, k in (("a", "x"), ("a", "x"), ("b", "x"), ("a", "y"))], "one")
    second = completions([(p, YES, k, "", 0) for p, k in (("b", "x"), ("a", "y"), ("c", "x"), ("a", "x"))], "two")
    one, two = paired_rows(first, second)
    assert list(zip(one.tolist(), two.tolist(), strict=True)) == [(0, 3), (2, 0), (3, 1)]
    none = paired_rows(first, completions([("z", YES, "x", "", 0)], "three"))
    assert [part.shape for part in none] == [(0,), (0,)]


def test_rows_of_the_file_in_another_order_change_nothing():
    rng = np.random.default_rng(0)
    answers = [[(f"Ask {k}", bool(no)) for k, no in enumerate(rng.random(40) < p)] for p in (0.6, 0.4)]
    moved = [answers[1][i] for i in rng.permutation(40)]
    straight = rows_of(judged(answers[0], "a"), judged(answers[1], "b"))
    shuffled = rows_of(judged(answers[0], "a"), judged(moved, "b"))
    for metric in ("refusal_cell", "model_refusal_difference", "model_class_test"):
        for one, other in zip(
            *([r for r in own if r["metric"] == metric] for own in (straight, shuffled)), strict=True
        ):
            assert one == pytest.approx(other, nan_ok=True)


def test_cells_difference_and_mcnemar_by_hand():
    """Refused by both 3, first 7, second 1, neither 4: one prompt each, so the test is McNemar's exact one."""
    kinds = [(1, 1)] * 3 + [(1, 0)] * 7 + [(0, 1)] + [(0, 0)] * 4
    first, second = ([(f"Ask {k}", own[i]) for k, own in enumerate(kinds)] for i in (0, 1))
    rows = rows_of(judged(first, "a"), judged(second, "b"))
    for mode, method in (("as_published", "flags"), ("corrected", "rules")):
        assert cells(rows, mode=mode) == {"both": 3, "first": 7, "second": 1, "neither": 4}
        row = pick(rows, metric="model_refusal_difference", mode=mode)
        assert (row["estimate"], row["n"], row["n_clusters"]) == (pytest.approx(6 / 15), 15, 15)
        assert (row["method"], row["scorer"], row["slice"]) == (f"{method}-mcnemar-exact", "a|b", "safe")
        assert row["p_value"] == pytest.approx(float(exact_mcnemar(7, 1)))
        assert row["p_value"] == pytest.approx(stats.binomtest(1, 8).pvalue)
    assert row["ci_low"] < 6 / 15 < row["ci_high"]
    turned = pick(rows_of(judged(second, "b"), judged(first, "a")), metric="model_refusal_difference", mode="corrected")
    assert (turned["estimate"], turned["p_value"]) == (pytest.approx(-6 / 15), pytest.approx(row["p_value"]))


def test_order_of_the_samples_of_a_prompt_moves_cells_but_no_test():
    first = [("a", 1), ("a", 0), ("b", 1), ("b", 0)]
    second, other = [("a", 1), ("a", 0), ("b", 0), ("b", 0)], [("a", 0), ("a", 1), ("b", 0), ("b", 0)]
    one, two = (rows_of(judged(first, "x"), judged(own, "y")) for own in (second, other))
    assert cells(one, mode="corrected") != cells(two, mode="corrected")
    tests = [pick(rows, metric="model_refusal_difference", mode="corrected") for rows in (one, two)]
    assert tests[0] == pytest.approx(tests[1], nan_ok=True)
    assert tests[0]["method"] == "rules-sign-flips"


def test_sides_apart_what_is_unpaired_is_counted_and_incapable_is_no_refusal():
    first = completions(
        [("a", NO, "mine", "", 1), ("b", LOST, "mine", "", 1), ("c", " ", "mine", "", 0), ("d", NO, "contrast", "", 1)],
        "one",
    )
    second = completions(
        [("d", YES, "contrast", "", 0), ("b", YES, "mine", "", np.nan), ("c", NO, "mine", "", 1)], "two"
    )
    rows = rows_of(Judged(first), Judged(second))
    assert cells(rows, slice="unsafe", mode="corrected") == {"both": 0, "first": 1, "second": 0, "neither": 0}
    assert cells(rows, slice="safe", mode="corrected") == {"both": 0, "first": 0, "second": 0, "neither": 1}
    assert cells(rows, slice="safe", mode="as_published") == {"both": 0, "first": 0, "second": 1, "neither": 0}
    counts = {(r["slice"], r["feature"], r["method"]): r["estimate"] for r in rows if r["metric"] == "unpaired"}
    assert counts == {
        ("safe", "first", "no-partner"): 1,
        ("safe", "both", "flags-no-judgement"): 1,
        ("safe", "both", "rules-no-judgement"): 1,
    }
    test = pick(rows, metric="model_class_test", slice="safe")
    assert (test["n"], test["estimate"]) == (1, pytest.approx(1.0))


def test_holm_is_over_the_pairs_of_models_of_one_side():
    kinds = [(1, 0, 0)] * 9 + [(0, 1, 0)] * 2 + [(0, 0, 1)] + [(1, 1, 1)] * 3
    models = [judged([(f"Ask {k}", own[i]) for k, own in enumerate(kinds)], name) for i, name in enumerate("abc")]
    rows = [r for r in rows_of(*models) if r["metric"] == "model_refusal_difference" and r["mode"] == "corrected"]
    assert [row["scorer"] for row in rows] == ["a|b", "a|c", "b|c"]
    p = np.array([row["p_value"] for row in rows])
    smallest = int(p.argmin())
    assert rows[smallest]["p_adjusted"] == pytest.approx(3 * p[smallest])
    assert all(row["p_adjusted"] >= row["p_value"] for row in rows)


def test_one_model_has_no_pair():
    assert rows_of(judged([("a", 1)], "alone")) == []


def test_error_rate_where_prompts_of_a_template_agree():
    """Models that refuse equally often, but differ by template: the exact test of single prompts finds too much."""
    rng = np.random.default_rng(5)
    found, naive = 0, 0
    for _ in range(60):
        sign = rng.integers(0, 2, 12)
        answers = [
            [
                (f"Where do {g} people go in month {t}?", g, int(sign[t] == own))
                for t in range(12)
                for g in ("tall", "calm")
            ]
            for own in (0, 1)
        ]
        models = [
            Judged(completions([(p, NO if no else YES, "mine", g, no) for p, g, no in own for _ in range(2)], name))
            for own, name in zip(answers, "ab", strict=True)
        ]
        row = pick(rows_of(*models), metric="model_refusal_difference", mode="as_published")
        assert (row["n"], row["n_clusters"]) == (48, 12)
        found += row["p_value"] < 0.05
        b = 4 * int((sign == 0).sum())
        naive += float(exact_mcnemar(b, 48 - b)) < 0.05
    assert found / 60 < 0.1
    assert naive / 60 > 0.2
