import json

import pyarrow.parquet as pq
import pytest

import datamodules.corpus as corpus_module
from datamodules.corpus import build_corpus
from datamodules.errors import InputError
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
    assert len(set(sequences)) == len(sequences) == len(set(corpus.text_ids.to_pylist()))
    # exchange: learn, know, no, yes; dialogue cut to 12 tokens: one for the long pairs, "a / yes" is in both views
    assert len(sequences) == 5
    rows = corpus.rows[EXCHANGE.slug]
    assert rows[0, 0] == rows[1, 0]
    assert rows[0, 0] != rows[0, 1]
    assert rows[2, 0] == rows[2, 1] == corpus.rows[DIALOGUE.slug][2, 0]
    cut = corpus.rows[DIALOGUE.slug]
    assert cut[0, 0] == cut[0, 1] == cut[1, 0]
    assert corpus.truncated[DIALOGUE.slug].tolist() == [[True, True], [True, True], [False, False]]


def test_the_index_has_a_row_per_pair_side_and_view(pairs, tokeniser, tmp_path, monkeypatch):
    corpus = build_corpus(pairs, [EXCHANGE, DIALOGUE], tokeniser, tmp_path / "cache")
    monkeypatch.setattr(corpus_module, "PAIRS_AT_ONCE", 2)
    corpus.write_index(tmp_path / "index.parquet")
    index = pq.read_table(tmp_path / "index.parquet")
    assert index.num_rows == 3 * 2 * 2
    assert index["side"].to_pylist()[:4] == ["chosen", "rejected", "chosen", "rejected"]
    assert set(index["view"].to_pylist()) == {EXCHANGE.slug, DIALOGUE.slug}
    assert "text" not in index.column_names
    text_ids = corpus.text_ids.to_pylist()
    expected = [text_ids[row] for view in (EXCHANGE, DIALOGUE) for row in corpus.rows[view.slug].ravel()]
    assert index["text_id"].to_pylist() == expected


def test_the_corpus_does_not_depend_on_how_many_pairs_are_read_at_once(pairs, tokeniser, tmp_path, monkeypatch):
    whole = build_corpus(pairs, [EXCHANGE, DIALOGUE], tokeniser, tmp_path / "whole")
    monkeypatch.setattr("datamodules.portions.CHARACTERS_AT_ONCE", 1)
    told: list[int] = []
    single = build_corpus(pairs, [EXCHANGE, DIALOGUE], tokeniser, tmp_path / "single", told.append)
    assert told == [1, 1, 1]
    for view in (EXCHANGE, DIALOGUE):
        for one, other in ((single, whole), (whole, single)):
            texts = [one.text_ids.to_pylist()[row] for row in one.rows[view.slug].ravel()]
            assert texts == [other.text_ids.to_pylist()[row] for row in other.rows[view.slug].ravel()]
        assert (single.truncated[view.slug] == whole.truncated[view.slug]).all()
    assert sorted(single.text_ids.to_pylist()) == sorted(whole.text_ids.to_pylist())


def test_a_file_that_changes_between_reading_and_tokenising_is_told(pairs, tokeniser, tmp_path):
    path = tmp_path / "three.jsonl"
    path.write_text(path.read_text().replace("know", "knew"))
    with pytest.raises(InputError, match="other pairs in three than when it was first read"):
        build_corpus(pairs, [EXCHANGE], tokeniser, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_the_second_time_it_comes_from_the_cache(pairs, tokeniser, tmp_path):
    first = build_corpus(pairs, [EXCHANGE], tokeniser, tmp_path / "cache")
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()}
    second = build_corpus(pairs, [EXCHANGE], tokeniser, tmp_path / "cache")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()} == files
    assert second.text_ids.to_pylist() == first.text_ids.to_pylist()
    build_corpus(pairs, [DIALOGUE], tokeniser, tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 2 * len(files)


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "swapped", "index cut", "index gone"])
def test_a_damaged_cache_is_made_again(pairs, tokeniser, tmp_path, damage):
    cache = tmp_path / "cache"
    first = build_corpus(pairs, [EXCHANGE], tokeniser, cache)
    expected = [ids.as_py() for ids in first.input_ids]
    (tokens,), (index,) = cache.glob("*.tokens.arrow"), cache.glob("*.index.parquet")
    del first  # the file is memory-mapped
    content = bytearray(tokens.read_bytes())
    match damage:
        case "cut":
            tokens.write_bytes(content[: len(content) // 2])
        case "empty":
            tokens.write_bytes(b"")
        case "flipped":
            content[len(content) // 2] ^= 1
            tokens.write_bytes(content)
        case "swapped":
            other = build_corpus(pairs, [DIALOGUE], tokeniser, tmp_path / "other")
            del other
            (path,) = (tmp_path / "other").glob("*.tokens.arrow")
            tokens.write_bytes(path.read_bytes())
        case "index cut":
            index.write_bytes(index.read_bytes()[:-9])
        case "index gone":
            index.unlink()
    told: list[int] = []
    again = build_corpus(pairs, [EXCHANGE], tokeniser, cache, told.append)
    assert sum(told) == 3, "tokenised again"
    assert [ids.as_py() for ids in again.input_ids] == expected
    assert build_corpus(pairs, [EXCHANGE], tokeniser, cache, told.append).digest == again.digest
    assert sum(told) == 3, "and not a third time"


def test_a_cache_folder_that_is_a_file_is_told(pairs, tokeniser, tmp_path):
    (tmp_path / "cache").write_text("")
    with pytest.raises(InputError, match=r"cache.*where writing failed .*fix: .*--run\.cache_dir"):
        build_corpus(pairs, [EXCHANGE], tokeniser, tmp_path / "cache")
