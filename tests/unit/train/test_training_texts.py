import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datamodules.annotated_text import AnnotatedText
from datamodules.errors import InputError
from datamodules.overlap import text_digests
from datamodules.splits import Splits
from datamodules.views import ViewRequest
from train.training_texts import (
    FILE,
    read_training_texts,
    training_digests,
    training_texts_beside,
    write_training_texts,
)

WHOLE = ViewRequest("dialogue", "head", 64)
TALK = "Human: one\n\nAssistant: two\n\nHuman: three\n\nAssistant: four"


def split(*texts):
    return tuple(AnnotatedText(f"id {text}", text, (1,), text, "own") for text in texts)


def test_train_and_validation_count_and_test_does_not():
    splits = Splits(split("a", "b"), split("c"), split("d"), {}, 0, 0)
    assert training_digests([splits], WHOLE).tolist() == text_digests(["c", "b", "a"]).tolist()


def test_the_part_that_is_read_counts_too():
    splits = Splits(split(TALK), (), (), {}, 0, 0)
    assert training_digests([splits], WHOLE).tolist() == text_digests([TALK]).tolist()
    read = "Human: three\n\nAssistant: four"
    digests = training_digests([splits], ViewRequest("exchange", "head", 64))
    assert digests.tolist() == text_digests([TALK, read]).tolist()


def test_digests_come_back_and_no_text_is_written(tmp_path):
    digests = text_digests(["a secret text", "another secret text"])
    write_training_texts(tmp_path, digests)
    assert (read_training_texts(tmp_path) == digests).all()
    assert b"secret" not in (tmp_path / FILE).read_bytes()
    write_training_texts(tmp_path, text_digests([]))
    empty = read_training_texts(tmp_path)
    assert (empty.dtype, empty.tolist()) == (np.uint64, [])


def test_a_checkpoint_finds_those_of_its_run(tmp_path):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"
    assert training_texts_beside(checkpoint) is None
    write_training_texts(tmp_path / "run", text_digests(["a"]))
    assert training_texts_beside(checkpoint).tolist() == text_digests(["a"]).tolist()
    assert training_texts_beside(tmp_path / "elsewhere" / "last.ckpt") is None


def test_what_is_not_recorded_is_unknown_and_what_is_damaged_is_told(tmp_path):
    assert read_training_texts(tmp_path) is None
    path = tmp_path / FILE
    pq.write_table(pa.table({"digest": text_digests(["a"])}), path)
    assert read_training_texts(tmp_path) is None, "of another layout"
    pq.write_table(pa.table({"other": ["a"]}).replace_schema_metadata({b"layout": b"1"}), path)
    with pytest.raises(InputError, match="which is damaged"):
        read_training_texts(tmp_path)
    path.write_bytes(b"PAR1 torn")
    with pytest.raises(InputError, match=r"which is damaged.*fix: restore it, or delete it"):
        read_training_texts(tmp_path)
