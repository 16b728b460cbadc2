import json

import pytest

from datamodules.corpus import build_corpus
from datamodules.preferences import read_preferences
from datamodules.views import ViewRequest
from models.encoder import load_pretrained

EXCHANGE = ViewRequest("exchange", "head", 40)
DIALOGUE = ViewRequest("dialogue", "head", 12)


@pytest.fixture(scope="module")
def tokeniser(tiny_encoder):
    return load_pretrained(str(tiny_encoder)).tokeniser()


@pytest.fixture
def pairs(tmp_path):
    prompt = "\n\nHuman: why " + "the rain " * 9 + "?\n\nAssistant:"
    rows = [
        {"chosen": f"{prompt} learn", "rejected": f"{prompt} know"},
        {"chosen": f"{prompt} learn", "rejected": f"{prompt} no"},
        {"chosen": "\n\nHuman: a\n\nAssistant: yes", "rejected": "\n\nHuman: a\n\nAssistant: yes"},
    ]
    path = tmp_path / "three.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return read_preferences(str(path), None)


def test_every_distinct_sequence_is_there_once(pairs, tokeniser, tmp_path):
    corpus = build_corpus(pairs, [EXCHANGE, DIALOGUE], tokeniser, tmp_path / "cache")
    sequences = [tuple(ids.as_py()) for ids in corpus.input_ids]
    assert len(set(sequences)) == len(sequences) == len(set(corpus.text_ids))
    # exchange: learn, know, no, yes; dialogue cut to 12 tokens: one for the long pairs, "a / yes" is in both views
    assert len(sequences) == 5
    rows = corpus.rows[EXCHANGE.slug]
    assert rows[0, 0] == rows[1, 0]
    assert rows[0, 0] != rows[0, 1]
    assert rows[2, 0] == rows[2, 1] == corpus.rows[DIALOGUE.slug][2, 0]
    cut = corpus.rows[DIALOGUE.slug]
    assert cut[0, 0] == cut[0, 1] == cut[1, 0]
    assert corpus.truncated[DIALOGUE.slug].tolist() == [[True, True], [True, True], [False, False]]


def test_the_index_has_a_row_per_pair_side_and_view(pairs, tokeniser, tmp_path):
    index = build_corpus(pairs, [EXCHANGE, DIALOGUE], tokeniser, tmp_path / "cache").index()
    assert index.num_rows == 3 * 2 * 2
    assert index["side"].to_pylist()[:4] == ["chosen", "rejected", "chosen", "rejected"]
    assert set(index["view"].to_pylist()) == {EXCHANGE.slug, DIALOGUE.slug}
    assert "text" not in index.column_names


def test_the_second_time_it_comes_from_the_cache(pairs, tokeniser, tmp_path):
    first = build_corpus(pairs, [EXCHANGE], tokeniser, tmp_path / "cache")
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()}
    second = build_corpus(pairs, [EXCHANGE], tokeniser, tmp_path / "cache")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()} == files
    assert second.text_ids.tolist() == first.text_ids.tolist()
    build_corpus(pairs, [DIALOGUE], tokeniser, tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 2 * len(files)
