"""Which responses are rewritten, and do the losses add up to what was asked for?"""

import json

import numpy as np
import pytest

from datamodules.errors import InputError
from datamodules.preferences import read_preferences
from train import rewriting
from train.audit_config import RewriteConfig
from train.progress import Progress
from train.rewriting import rewrite_pairs

FIX = "--audit.rewrite"


@pytest.fixture
def data():
    return read_preferences("sample-hh-rlhf", None)


@pytest.fixture(autouse=True)
def alike(monkeypatch):
    """Every rewrite is as similar as its text says: 0.1 with the word "else", else 0.9."""
    monkeypatch.setattr(rewriting, "load_pretrained", lambda name: None)
    monkeypatch.setattr(
        rewriting,
        "similarities",
        lambda old, new, encoder, **rest: np.array([0.1 if "else" in t else 0.9 for t in new]),
    )


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rows_of(data, numbers, text="Put another way."):
    """Rewrites of both sides of some pairs."""
    return [
        {"pair_id": str(data.index.pair_ids[i]), "side": str(side), "text": text}
        for i in numbers
        for side in data.index.sides[i]
    ]


def rewrite(config, data, tmp_path):
    return rewrite_pairs(config, data, tmp_path, FIX, Progress("off"))


def adds_up(made):
    return made.similarity.size + sum(made.left_out.values()) == made.n_requested


def test_a_file_says_itself_which_pairs_are_rewritten(data, tmp_path):
    """A draw from all pairs would hit few of those that somebody rewrote."""
    path = write(tmp_path / "r.jsonl", [*rows_of(data, [3, 7, 20]), {"pair_id": "gone", "side": "a", "text": "x"}])
    made = rewrite(RewriteConfig("file", pairs=3, path=path), data, tmp_path)
    assert made.data.index.pair_ids.tolist() == data.index.pair_ids[[3, 7, 20]].tolist()
    assert (made.n_requested, made.left_out) == (6, {})
    fewer = rewrite(RewriteConfig("file", pairs=2, path=path), data, tmp_path)
    assert set(fewer.data.index.pair_ids) < set(made.data.index.pair_ids)
    assert fewer.n_requested == 4


def test_every_loss_is_a_share_of_what_was_asked_for(data, tmp_path):
    rows = rows_of(data, range(6))
    rows[0]["text"] = ""
    rows[3]["text"] = "Something else."
    rows += [dict(rows[4])] * 2
    del rows[9]
    made = rewrite(RewriteConfig("file", path=write(tmp_path / "r.jsonl", rows)), data, tmp_path)
    assert made.n_requested == 12
    assert adds_up(made)
    assert made.left_out == {
        "duplicate-key": 1,
        "empty": 1,
        "not-in-file": 1,
        "other-side-lost": 4,
        "too-dissimilar": 1,
    }


def test_further_variants_are_counted(data, tmp_path):
    rows = [row | {"variant": variant} for row in rows_of(data, range(4)) for variant in ("x", "y")]
    made = rewrite(RewriteConfig("file", path=write(tmp_path / "r.jsonl", rows[:-1])), data, tmp_path)
    assert made.n_requested == 16
    assert made.left_out == {"further-variant": 7, "not-in-file": 1}
    assert adds_up(made)


def test_no_usable_rewrite_is_said_and_stops_nothing(data, tmp_path, capsys):
    path = write(tmp_path / "r.jsonl", rows_of(data, range(5), text="Something else."))
    made = rewrite_pairs(RewriteConfig("file", path=path), data, tmp_path, FIX, Progress("off"))
    assert (len(made.data.index), made.similarity.shape, made.left_out) == (0, (0, 2), {"too-dissimilar": 10})
    said = capsys.readouterr()
    assert "0 of 5 pairs have both sides rewritten; responses left out: too-dissimilar 10" in said.out + said.err
    assert "warning: without rewrites there is no robustness of sample-hh-rlhf" in said.out + said.err


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"pairs": 0}, r"rewrites of 0 pairs; needed at least 1; fix: --audit\.rewrite\.pairs"),
        ({"min_similarity": 80}, r"threshold of 80; .*; fix: --audit\.rewrite\.min_similarity"),
        ({"source": "file"}, r"without a file; .*fix: --audit\.rewrite\.path"),
    ],
)
def test_settings_are_checked_first(data, tmp_path, settings, text):
    with pytest.raises(InputError, match=text):
        rewrite(RewriteConfig(**settings), data, tmp_path)


def test_a_file_of_other_pairs_is_told(data, tmp_path):
    path = write(tmp_path / "r.jsonl", [{"pair_id": "gone", "side": "a", "text": "x"}])
    with pytest.raises(
        InputError, match=r"names none of the 46 pairs of sample-hh-rlhf; needed their pair_id, such as"
    ):
        rewrite(RewriteConfig("file", path=path), data, tmp_path)
