import math

import pytest

from audits.conclusions import Answer, Question, answers, compare_answers
from audits.table import make_table

NAN = math.nan


def row(feature, estimate, p, **columns):
    same = {"audit": "value-distribution", "metric": "prevalence_difference", "slice": "chosen-rejected"}
    same |= {"dataset": "hh", "mode": "corrected", "spec": "within", "method": "cc"}
    return same | {"feature": feature, "estimate": estimate, "p_adjusted": p} | columns


def found(*rows, dataset="hh"):
    own = answers(make_table(rows), dataset)
    return {(question.metric, question.feature): answer.conclusion for question, answer in own.items()}


def test_conclusions_have_a_sign_where_they_are_significant():
    same = {"audit": "value-contrast", "metric": "preference_kappa", "slice": ""}
    assert found(
        row("duty", 0.1, 0.049),
        row("wisdom", -0.1, 0.001),
        row("justice", -0.1, 0.05),
        row("empathy", NAN, NAN),
        row("duty", -0.2, 0.01, **same),
    ) == {
        ("prevalence_difference", "duty"): "+",
        ("prevalence_difference", "wisdom"): "-",
        ("prevalence_difference", "justice"): "0",
        ("prevalence_difference", "empathy"): "",
        ("preference_kappa", "duty"): "-",
    }


def test_rows_that_ask_something_else_are_left_out():
    slopes = {"audit": "reward-imprint", "metric": "beta", "slice": "post", "scorer": "mine", "method": "ols"}
    kept = found(
        row("a", 0.1, 0.01, method="cc-uncalibrated"),
        row("b", 0.1, 0.01, subset="harmless"),
        row("c", 0.1, 0.01, method="acc"),
        row("d", 0.1, 0.01, spec="within-length"),
        row("e", 0.1, 0.01, metric="mean_probability_difference"),
        row("f", 0.1, 0.01, dataset="webgpt"),
        row("(intercept)", 0.1, 0.01, **slopes),
        row("g", 0.1, 0.01, **slopes),
        row("h", 0.1, 0.01, **slopes, spec="pooled"),
        row("i-for", 0.1, 0.01),
        row("i-net", 0.1, 0.01),
        row("on-the-net", 0.1, 0.01),
    )
    assert list(kept) == [
        ("prevalence_difference", "a"),
        ("beta", "g"),
        ("prevalence_difference", "i-for"),
        ("prevalence_difference", "on-the-net"),
    ]


def test_agreement_by_hand():
    def asked(feature, metric="beta"):
        return Question("hh", metric, "", "", "ols", feature)

    yes, no, untold, undefined = Answer(1.0, 0.01), Answer(-1.0, 0.01), Answer(1.0, 0.2), Answer(NAN, NAN)
    first = {asked("a"): yes, asked("b"): yes, asked("c"): untold, asked("d"): untold, asked("e"): yes, asked("x"): yes}
    first[asked("a", "preference_kappa")] = untold
    other = {asked("e"): undefined, asked("d"): no, asked("c"): Answer(-1.0, 0.9), asked("b"): no, asked("a"): yes}
    other[asked("a", "preference_kappa")] = untold
    compared = compare_answers(first, other)
    assert list(compared) == ["beta", "preference_kappa"]
    beta = compared["beta"]
    # a and c agree (both not told apart), b turned round, d became significant; x was asked of one alone.
    assert (beta.n_agree, beta.n_undefined) == (2, 1)
    assert beta.disagreements == ((asked("b"), yes, no), (asked("d"), untold, no))
    assert (compared["preference_kappa"].n_agree, compared["preference_kappa"].disagreements) == (1, ())


def test_a_checkpoint_agrees_with_itself():
    own = answers(make_table([row("a", 0.1, 0.01), row("b", -0.1, 0.6)]), "hh")
    assert compare_answers(own, own)["prevalence_difference"].n_agree == 2
    assert compare_answers(own, {}) == {}
    with pytest.raises(KeyError):
        compare_answers(own, own)["beta"]
