"""Are the findings the notable ones, and do they carry their numbers?"""

import numpy as np
import pytest

from audits.base import GoldLabels, HeldOut
from audits.findings import gold_findings, notable_findings
from audits.table import concat, make_table, stamp
from audits.value_distribution import PUBLISHED, ValueDistribution

AUDIT = ValueDistribution()


@pytest.fixture
def audited(make_scored):
    """Audit one data set in which chosen responses carry wisdom in `chosen` of 200 pairs, rejected in `rejected`."""

    def audit(dataset="hh", chosen=120, rejected=60, duty=0, **changes):
        p = np.full((200, 2, 2), 0.1)
        p[:chosen, 0, 0] = 0.9
        p[200 - rejected :, 1, 0] = 0.9
        p[:duty, :, 1] = 0.8
        return AUDIT.rows(
            make_scored(p, slugs=("wisdom", "duty"), dataset=dataset, clusters=np.arange(200) // 2, **changes)
        )

    return audit


def test_largest_difference_is_told_with_its_numbers(audited):
    first = notable_findings(audited())[0]
    assert first.startswith(
        "hh: chosen responses carry wisdom more often than rejected ones: "
        "60.0% vs 30.0%, difference +30.0 points (95% CI +"
    )
    assert first.endswith("Holm p 0.004, 200 pairs in 100 prompts); not error-corrected")


def test_the_larger_of_two_data_sets_comes_first_and_direction_is_worded(audited):
    table = concat([audited("small", 120, 60), audited("large", 20, 150)])
    first, *rest = notable_findings(table, 9)
    assert first.startswith("large: chosen responses carry wisdom less often than rejected ones: 10.0% vs 75.0%")
    assert rest[-1].startswith("small: chosen responses carry wisdom more often")


def test_nothing_significant_is_said_plainly(audited):
    findings = notable_findings(audited(chosen=100, rejected=98))
    assert findings[0].startswith(
        "No value differs significantly between chosen and rejected responses in hh (closest: wis"
    )
    assert "+1.0 points" in findings[0]
    assert "+0.0 points, Holm p 1.000" in notable_findings(audited(chosen=0, rejected=0))[0]


def test_dominant_value_within_and_across_data_sets(audited):
    one = "Most frequent value of chosen responses: wisdom in hh (60.0% of 200); not error-corrected"
    assert one in notable_findings(audited())
    same = concat([audited("hh"), audited("webgpt", 140)])
    everywhere = "wisdom is the most frequent value of chosen responses everywhere: 60.0% in hh, 70.0% in webgpt"
    assert f"{everywhere}; not error-corrected" in notable_findings(same)
    mixed = concat([audited("hh"), audited("webgpt", duty=180)])
    assert "wisdom in hh (60.0% of 200), duty in webgpt (90.0% of 200)" in notable_findings(mixed)[1]


def test_a_data_set_without_any_value_has_no_dominant_one(audited):
    assert not any("most frequent" in f.lower() for f in notable_findings(audited(chosen=0, rejected=0)))


def test_indistinguishable_pairs_are_those_of_the_published_view(audited):
    rows = np.arange(400).reshape(200, 2)
    rows[:74, 1] = rows[:74, 0]
    finding = notable_findings(audited(text_rows={PUBLISHED.slug: rows}))[2]
    assert finding.startswith("hh: in the as-published view both sides of 37.0% of 200 pairs are the same input")
    assert finding.endswith("0.0% in the corrected view")


def test_uncalibrated_is_said(audited):
    assert notable_findings(audited(calibrated=False))[0].endswith("uncalibrated: a value counts where p is above 1/L")


def test_only_the_last_checkpoint_is_told(audited):
    def at(step, **changes):
        return stamp(audited(**changes), run_id="r", step=step, epoch=1.0, weights=f"w{step}", audit_key="k")

    table = concat([at(10, chosen=20, rejected=190), at(20)])
    assert notable_findings(table) == notable_findings(at(20))


def test_n_limits_and_an_empty_table_has_nothing_to_say(audited):
    assert len(notable_findings(audited(), 1)) == 1
    assert len(notable_findings(audited())) == 3
    assert notable_findings(make_table([])) == []


def test_findings_wrap_to_a_hundred_columns(audited):
    for finding in notable_findings(audited(), 9):
        assert "\n" not in finding
        assert max(len(word) for word in finding.split()) < 40


def test_a_value_that_ends_like_a_net_row_is_a_value(make_scored):
    probabilities = np.full((40, 2, 2), 0.2)
    probabilities[:, :, 1] = 0.9
    table = ValueDistribution().rows(make_scored(probabilities, slugs=("care", "safety-net")))
    assert any("safety-net" in finding for finding in notable_findings(table))


@pytest.fixture
def held_out():
    """200 held-out texts: TPR .9, FPR .1 of wisdom; no known negatives of duty."""
    targets = np.column_stack([np.arange(200) < 100, np.ones(200)]).astype(np.int64)
    wisdom = np.where(np.arange(200) % 10 == 0, 1 - targets[:, 0], targets[:, 0]).astype(bool)
    decisions = np.column_stack([wisdom, np.ones(200, dtype=bool)])
    return HeldOut(decisions * 0.8 + 0.1, decisions, targets, np.arange(200).astype(str))


def gold_labels():
    """Gold labels of pairs drawn with probability .5: wisdom in every chosen response but a tenth, in few rejected."""
    labels = np.full((200, 2, 2), np.nan)
    drawn = np.arange(200) % 2 == 0
    labels[drawn] = 0.0
    labels[drawn, 0, 0] = np.arange(100) % 10 != 0
    labels[drawn, 1, 0] = np.arange(100) % 10 == 0
    return GoldLabels(labels, np.where(np.isnan(labels[:, :, 0]), np.nan, 0.5))


def test_counted_shares_show_their_band_and_that_they_are_not_corrected(audited, held_out):
    table = audited(held_out=held_out)
    difference, dominant, *_ = notable_findings(table)
    bands = {
        r["slice"]: f"[band {100 * r['ci_low']:.1f}-{100 * r['ci_high']:.1f}%]"
        for r in table.to_pylist()
        if r["method"] == "acc" and r["feature"] == "wisdom" and r["metric"] == "prevalence"
    }
    assert f"60.0% {bands['chosen']} vs 30.0% {bands['rejected']}, difference +30.0 points" in difference
    assert difference.endswith("prompts); band from held-out TPR/FPR, not error-corrected")
    assert dominant.endswith(
        f"wisdom in hh (60.0% of 200) {bands['chosen']}; band from held-out TPR/FPR, not error-corrected"
    )


def test_a_value_without_a_band_shows_none(audited, held_out):
    dominant = notable_findings(audited(held_out=held_out, duty=180))[1]
    assert dominant.endswith("duty in hh (90.0% of 200); not error-corrected")


def test_gold_labels_give_the_corrected_numbers(audited, held_out):
    table = audited(chosen=199, rejected=5, held_out=held_out, gold=gold_labels())
    rows = {(r["metric"], r["slice"], r["method"], r["feature"]): r for r in table.to_pylist()}
    share = rows["prevalence", "chosen", "ppi++", "wisdom"]["estimate"]
    difference, dominant, *_ = notable_findings(table)
    assert f"carry wisdom more often than rejected ones: {100 * share:.1f}% vs" in difference
    assert difference.endswith("100 labelled pairs in 100 prompts); error-corrected with gold labels (ppi++)")
    assert "band" not in difference + dominant
    assert dominant.endswith(
        f"wisdom in hh ({100 * share:.1f}% of 100 labelled); error-corrected with gold labels (ppi++)"
    )
    assert abs(share - 0.9) < 0.06


def test_a_dominant_value_that_could_not_be_corrected_is_counted(audited):
    dominant = notable_findings(audited(gold=gold_labels(), duty=190))[1]
    assert dominant.endswith("duty in hh (95.0% of 200); not error-corrected")  # gold labels of duty do not vary


def test_data_sets_with_and_without_gold_labels_are_told_apart(audited):
    table = concat([audited("hh", gold=gold_labels()), audited("webgpt", duty=180)])
    dominant = next(f for f in notable_findings(table, 9) if f.startswith("Most frequent"))
    assert dominant.endswith("; hh: error-corrected with gold labels (ppi++); webgpt: not error-corrected")


def test_that_nothing_is_significant_is_error_corrected_where_gold_labels_are_and_nowhere_else(audited):
    gold, coins = gold_labels(), np.random.default_rng(0).integers(2, size=(200, 2, 2))
    labels = np.where(np.isnan(gold.labels), np.nan, coins)
    table = concat([audited("hh", 100, 98, gold=GoldLabels(labels, gold.probability)), audited("webgpt", 100, 98)])
    first = notable_findings(table, 9)[0]
    assert first.startswith("No value differs significantly between chosen and rejected responses in hh, webgpt")
    assert first.endswith("; hh: error-corrected with gold labels (ppi++); webgpt: not error-corrected")


def test_what_gold_labels_could_not_correct_is_told(audited):
    (told,) = gold_findings(concat([audited("hh", gold=gold_labels()), audited("webgpt")]))
    assert told.startswith(
        "hh: gold labels correct 1 of 2 shares of chosen responses; the others stay the classifier's count (duty: gold"
    )
    assert gold_findings(audited("webgpt")) == []
