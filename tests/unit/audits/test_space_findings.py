"""Is it told where in value space the sides differ, and how well the values lie on the circle?"""

import numpy as np
import pytest

from audits.base import HeldOut
from audits.findings import p_text
from audits.space_findings import space_findings
from audits.stats import circumplex
from audits.value_space import ValueSpace
from datamodules.target_vectors import read_targets
from datamodules.taxonomy import load_taxonomy

SLUGS = load_taxonomy("schwartz").slugs
N = 60


@pytest.fixture(autouse=True)
def few_orders(monkeypatch):
    """All 181,440 orders of a circle are tried in the tests of circles."""
    monkeypatch.setattr(circumplex, "MOST_ORDERS", 100)
    monkeypatch.setattr(circumplex, "RANDOM_ORDERS", 200)
    circumplex.circle_orders.cache_clear()
    yield
    circumplex.circle_orders.cache_clear()


@pytest.fixture
def audited(make_scored):
    """60 pairs in 30 prompts; chosen sides speak for benevolence by `more`."""

    def audit(more=0.2, held_out=True, vouched=True, labelled=True, **changes):
        rng = np.random.default_rng(0)
        p = rng.uniform(0.2, 0.6, size=(N, 2, 20))
        p[:, 0, 2 * SLUGS.index("benevolence")] += more
        targets = (rng.random((40, 20)) < 0.3).astype(np.int64)
        targets[:, 1::2] = 0
        scores = rng.random((40, 20)) * 0.5 + 0.5 * vouched * targets
        if not labelled:
            targets[:, 2 * SLUGS.index("benevolence")] = 0
        own = HeldOut(scores, targets == 1, targets, np.array([f"g{i}" for i in range(40)]))
        names = {"signed": True, "slugs": SLUGS, "dataset": "hh", "clusters": np.arange(N) // 2}
        scored = make_scored(p, **(names | changes), held_out=own if held_out else None)
        return ValueSpace(targets=read_targets()[:1]).rows(scored)

    return audit


def row_of(table, **columns):
    (row,) = [r for r in table.to_pylist() if all(r[name] == value for name, value in columns.items())]
    return row


def test_the_largest_difference_is_told_with_its_numbers(audited):
    table = audited()
    first, circle = space_findings(table)
    row = row_of(table, metric="mean_value_difference", feature="benevolence-net")
    group = row_of(table, metric="mean_group_value_difference", feature="self-transcendence")
    assert first.startswith(
        "hh: chosen minus rejected responses, mean for minus against in [-1, 1]: benevolence "
        f"{row['estimate']:+.3f} (95% CI {row['ci_low']:+.3f} to {row['ci_high']:+.3f}, "
        f"Holm p {p_text(row['p_adjusted'])})"
    )
    assert f"of the groups above the values self-transcendence {group['estimate']:+.3f}" in first
    assert first.endswith(
        "(1 of 10 values differ, 60 pairs in 30 prompts); means of the classifier's probabilities, not error-corrected"
    )
    labels = row_of(table, metric="correspondence_index", spec="wedges", slice="held-out-labels")
    assert f"annotators' labels of held-out texts {labels['estimate']:+.2f} (one-sided p" in circle
    assert circle.endswith("120 texts) in hh")


def test_values_that_no_held_out_label_vouches_for_are_marked(audited):
    (first, _) = space_findings(audited(vouched=False))
    assert "), which does not follow the held-out labels" in first
    (first, _) = space_findings(audited(labelled=False))
    assert "), of which 0 of 40 held-out texts tell anything" in first


def test_no_difference_is_said_plainly(audited):
    (finding,) = space_findings(audited(more=0.0, held_out=False, calibrated=False))
    assert finding.startswith("hh: chosen responses speak for (less against) no value more than rejected ones beyond")
    assert finding.endswith("not error-corrected; uncalibrated")


def test_only_rows_of_value_space_on_all_subsets_are_read(audited):
    table = audited(subsets=np.array(["x", "y"] * (N // 2)))
    assert len(space_findings(table)) == 2
    assert space_findings(table.slice(0, 0)) == []


def test_ties_alone_have_no_difference(audited):
    (circle,) = space_findings(audited(is_tie=np.ones(N, dtype=bool)))
    assert circle.startswith("fit of the values to Schwartz's circle")
