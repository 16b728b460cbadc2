"""Large inputs stream: the memory of an audit and of scoring does not grow with the texts."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import experiments
from audits.table import read_table

ROOT = Path(experiments.__path__[0]).parent
# Numbers in memory per pair at the peak: scores of four sequences by seven values, their views, the statistics' sums.
BYTES_A_PAIR = 2_000
WORDS = ("rule", "kind", "why", "fair", "safe", "learn", "respect", "think", "the", "to", "and", "of", "that", "yes")


def peak_anonymous_bytes(arguments: list[str], home: Path) -> int:
    """Run `imprint` in a process of its own and return the peak of its memory that no file backs.

    Memory-mapped tokens are left out: the system may drop those pages whenever it needs room.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HOME": str(home)}
    command = [sys.executable, "-m", "experiments.cli", *arguments]
    peak = 0
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL) as process:
        status = Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            lines = status.read_text().splitlines()
            peak = max([peak, *(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))])
            time.sleep(0.02)
    assert process.returncode == 0
    return peak


def write_pairs(path: Path, n_pairs: int, words: int) -> int:
    """Write distinct pairs of two exchanges in the hh-rlhf layout, and return the bytes of a pair."""
    generator = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for i in range(n_pairs):
            opening, answer, question = (" ".join(generator.choices(WORDS, k=k)) for k in (8, 25, 8))
            prompt = f"\n\nHuman: {opening}\n\nAssistant: {answer}\n\nHuman: {question}\n\nAssistant:"
            sides = (f"{prompt} {i} {' '.join(generator.choices(WORDS, k=words))}" for _ in range(2))
            file.write(json.dumps(dict(zip(("chosen", "rejected"), sides, strict=True))) + "\n")
    return path.stat().st_size // n_pairs


@pytest.fixture
def checkpoint(tiny_run, only_run):
    flags = ("--trainer.max_epochs=1", "--trainer.limit_train_batches=2", "--track.wandb=disabled")
    assert tiny_run("--data.name=sample", "--audit.enabled=false", *flags) == 0
    return only_run() / "checkpoints" / "last.ckpt"


@pytest.fixture
def audit_peak(checkpoint, tmp_path):
    """Peak memory of an audit of `n_pairs` pairs whose last answers have `words` words, and the bytes of a pair."""

    def peak(n_pairs: int, words: int) -> tuple[int, int]:
        path, output = tmp_path / f"n{n_pairs}-{words}.jsonl", tmp_path / f"out{n_pairs}-{words}"
        pair_bytes = write_pairs(path, n_pairs, words)
        command = ["audit", "--checkpoint", str(checkpoint), "--datasets", str(path), "--output", str(output)]
        bytes_used = peak_anonymous_bytes([*command, "--max_length", "64"], tmp_path)
        assert set(read_table(output / "table.parquet")["n"].to_pylist()) >= {n_pairs}
        n_texts = pq.ParquetFile(output / "decisions.parquet").metadata.num_rows
        assert n_texts > 3.9 * n_pairs, "texts that are alike are scored once: the test has lost its subject"
        return bytes_used, pair_bytes

    return peak


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/status").is_file(), reason="memory is read from /proc, which only Linux has"
)


@pytest.mark.slow
@needs_proc
def test_memory_does_not_grow_with_the_length_of_the_texts(audit_peak, record_property):
    short, few = audit_peak(10_000, 40)
    long, many = audit_peak(10_000, 1_200)
    record_property("MB", {few: short / 1e6, many: long / 1e6})
    # What is tokenised together may be larger; all texts would be 120 MB on disk and several times that in memory.
    assert long - short < 60e6, f"{short / 1e6:.0f} MB with {few} bytes a pair, {long / 1e6:.0f} MB with {many}"


@pytest.mark.slow
@pytest.mark.timeout(900)
@needs_proc
def test_an_audit_of_200_000_pairs_holds_numbers_but_no_texts(audit_peak, record_property):
    few, _ = audit_peak(20_000, 35)
    many, pair_bytes = audit_peak(200_000, 35)
    growth = (many - few) / 180_000
    record_property("MB", {"20,000 pairs": few / 1e6, "200,000 pairs": many / 1e6, "bytes of a pair": pair_bytes})
    assert growth < BYTES_A_PAIR, f"{few / 1e6:.0f} MB with 20,000 pairs, {many / 1e6:.0f} MB with 200,000"


@pytest.mark.slow
@needs_proc
def test_scoring_texts_of_ones_own_holds_neither_texts_nor_scores(checkpoint, tmp_path, record_property):
    peaks = []
    for n_texts in (20_000, 100_000):
        path, output = tmp_path / f"n{n_texts}.jsonl", tmp_path / f"n{n_texts}.parquet"
        with path.open("w", encoding="utf-8") as file:
            generator = random.Random(0)
            for _ in range(n_texts):
                file.write(json.dumps({"text": " ".join(generator.choices(WORDS, k=250))}) + "\n")
        command = ["score", "--checkpoint", str(checkpoint), "--input", str(path), "--output", str(output)]
        peaks.append(peak_anonymous_bytes(command, tmp_path))
        assert pq.ParquetFile(output).metadata.num_rows == n_texts
    record_property("MB", [peak / 1e6 for peak in peaks])
    # The key of a text, and what the allocator keeps; the text alone is 1,250 bytes.
    assert (peaks[1] - peaks[0]) / 80_000 < 250
