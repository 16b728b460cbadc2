"""Are the findings the notable ones, and do they carry their numbers?"""

import numpy as np
import pytest

from audits.findings import notable_findings
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
    assert first.endswith("Holm p 0.003, 200 pairs in 100 prompts)")


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
    assert "Most frequent value of chosen responses: wisdom in hh (60.0% of 200)" in notable_findings(audited())
    same = concat([audited("hh"), audited("webgpt", 140)])
    assert "wisdom is the most frequent value of chosen responses everywhere: 60.0% in hh, 70.0% in webgpt" in (
        notable_findings(same)
    )
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
