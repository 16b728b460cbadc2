"""Preference data as published: the counts of their data card, and the truncation bound on harmless-base."""

from itertools import pairwise
from pathlib import Path

import pytest

from datamodules.dialogue import parse_canonical, view_parts
from datamodules.json_rows import read_json_lines
from datamodules.preferences import PreferenceData, cluster_of, read_preferences
from datamodules.truncation import TruncationBound, truncation_bound

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def hh(data_root: Path) -> PreferenceData:
    return read_preferences("hh-rlhf", data_root)


def test_hh_harmless_base_counts(hh):
    counts = hh.report.subsets["harmless-base"]
    assert (counts.n_pairs, counts.n_ties, counts.n_identical_pairs, counts.n_prompts_differ) == (2312, 0, 0, 5)
    assert counts.n_empty_responses == {"chosen": 4, "rejected": 0}


def test_hh_helpful_rejection_sampled_counts(hh):
    counts = hh.report.subsets["helpful-rejection-sampled"]
    assert (counts.n_pairs, counts.n_identical_pairs, counts.n_prompts_differ) == (2749, 32, 3)


def test_hh_loses_no_row(hh):
    assert hh.report.unparsable == {}
    assert hh.report.n_read == hh.report.n_pairs == len(hh.index) == 2312 + 2749
    assert hh.index.pair_ids[0] == "harmless-base-0"
    assert hh.index.pair_ids[-1] == "helpful-rejection-sampled-2748"
    assert not hh.is_sample


def test_hh_prompts_differ_only_where_a_model_wrote_a_role_marker(hh):
    differing = [p for p in hh.read() if view_parts(p.first, "prompt") != view_parts(p.second, "prompt")]
    assert len(differing) == 8
    for pair in differing:
        roles = [[turn.role for turn in side.turns] for side in (pair.first, pair.second)]
        assert any(a == b == "assistant" for side in roles for a, b in pairwise(side))


def test_hh_clusters_by_opening_are_wider_than_exact_prompts(hh):
    pairs = [pair for pair in hh.read() if pair.subset == "harmless-base"]
    prompts = {view_parts(pair.first, "prompt") for pair in pairs}
    assert (len(prompts), hh.report.subsets["harmless-base"].n_clusters) == (2310, 2177)
    assert all(cluster_of(pair.first) == cluster_of(pair.second) for pair in pairs)


@pytest.mark.parametrize(
    ("name", "n_pairs", "n_ties"), [("hh-rlhf", 5061, 0), ("webgpt", 901, 245), ("alpaca-gpt4", 1095, 0)]
)
def test_every_rendering_parses_back(data_root, name, n_pairs, n_ties):
    data = read_preferences(name, data_root)
    assert (data.report.n_read, data.report.n_pairs, data.report.n_ties) == (n_pairs, n_pairs, n_ties)
    assert all(parse_canonical(side.render()) == side for pair in data.read() for side in (pair.first, pair.second))


@pytest.mark.parametrize(("n", "n_identical", "n_answer_lost"), [(126, 857, 823), (128, 837, 805)])
def test_truncation_bound_on_harmless_base(data_root, n, n_identical, n_answer_lost):
    """Texts as published, leading blank line included; the prompt is the chosen side's before its last role marker."""
    rows = read_json_lines(data_root / "hh-rlhf/harmless-base/test.jsonl.gz", "IMPRINT_DATA")
    chosen, rejected = ([row[side] for row in rows] for side in ("chosen", "rejected"))
    prompts = [text[: text.rindex("\n\nAssistant:")] for text in chosen]
    assert truncation_bound(chosen, rejected, prompts, n) == TruncationBound(2312, n_identical, n_answer_lost)


def test_canonical_text_is_two_pre_tokens_shorter(hh):
    """So 126 tokens of canonical text show what 128 tokens of the published text show."""
    pairs = [pair for pair in hh.read() if pair.subset == "harmless-base"]
    bound = truncation_bound(
        [pair.first.render() for pair in pairs],
        [pair.second.render() for pair in pairs],
        [view_parts(pair.first, "prompt")[1] for pair in pairs],
        126,
    )
    assert bound == TruncationBound(2312, 837, 805)
