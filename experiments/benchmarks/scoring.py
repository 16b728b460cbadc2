"""How much faster than the seed notebooks do we score, and do the decisions stay the same?

`python -m experiments.benchmarks.scoring` scores the same dialogues with the same weights three ways and prints ratios.

* seed notebooks: all texts padded to the full length, 64 a batch, float32, in file order, duplicates scored again;
* ours, float32: each distinct token sequence once, in length order, under a token budget;
* ours, as it runs: the same in the precision that `auto` chooses here (bf16 where the hardware has it).

The classifier is the pretrained encoder, mean pooling and a seeded random head: speed does not depend on what the head
learnt. Every way starts from texts, so tokenising is in all times. The work is cut into slices; the ways take turns
slice by slice, several times over, and the fastest time of each slice counts, so that a busy machine disturbs all ways
alike and little.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import compress
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from rich.console import Console
from rich.table import Table

from datamodules.corpus import AuditCorpus, build_corpus
from datamodules.errors import InputError
from datamodules.preference_data import ContentDigest, PairIndex, PreferenceData
from datamodules.preferences import read_preferences
from datamodules.taxonomy import load_taxonomy
from datamodules.views import ViewRequest
from models.classifier import ValueClassifier
from models.encoder import load_pretrained
from models.inference import evaluation_mode, score_tokens
from models.precision import default_device, resolve_precision
from train.audit_config import AuditConfig
from train.config import TrainerConfig
from train.progress import Progress

SEED = 0
SEED_BATCH = 64  # texts a batch in the seed notebooks; also the texts of one slice
TAXONOMY = "value-imprint"


@dataclass(frozen=True, slots=True)
class Timed:
    """What one way of scoring gave.

    Attributes:
        name: The way.
        seconds: Time of each slice in each repeat, float [repeats, n_slices].
        once: Time of what is done once for all slices (our tokenising).
        logits: float32 [n_texts, n_labels].
    """

    name: str
    seconds: np.ndarray
    once: float
    logits: np.ndarray

    @property
    def total(self) -> float:
        """Seconds for all texts, the fastest repeat of each slice."""
        return float(self.seconds.min(axis=0).sum()) + self.once


@dataclass(frozen=True, slots=True)
class Comparison:
    """All ways at one length, the seed notebooks' way first.

    Attributes:
        max_length: Tokens read, special tokens included.
        ways: The ways.
        n_texts: Texts scored.
        n_distinct: Distinct token sequences among them after the cut.
    """

    max_length: int
    ways: tuple[Timed, ...]
    n_texts: int
    n_distinct: int


def flips(logits: np.ndarray, reference: np.ndarray) -> tuple[int, int]:
    """Count decisions (probability at least .5, so logit at least 0) that differ from the reference, and all of them.

    Args:
        logits: [n, n_labels].
        reference: [n, n_labels].
    """
    return int(((logits >= 0) != (reference >= 0)).sum()), reference.size


def sampled_pairs(data: PreferenceData, n_texts: int, seed: int) -> PreferenceData:
    """Draw pairs, in file order, until `n_texts` texts are there.

    Whole pairs, because most duplicates after a cut are the two sides of one pair; all pairs where too few are there.
    """
    index = data.index
    n_pairs = min(n_texts // 2, len(index))
    chosen = np.sort(np.random.default_rng(seed).choice(len(index), n_pairs, replace=False))
    wanted = np.isin(np.arange(len(index)), chosen)
    pairs = list(compress(data.read(), wanted))
    digest = ContentDigest()
    for pair in pairs:
        digest.add(pair)
    drawn = PairIndex(*(getattr(index, field.name)[chosen] for field in fields(index)))
    return replace(data, index=drawn, digest=digest.hexdigest(), read=lambda: iter(pairs))


def read_dialogues(root: Path | None) -> PreferenceData:
    """Read hh-rlhf from the given root, or from IMPRINT_DATA where it is there, else the embedded sample.

    Raises:
        InputError: A root was named and holds no hh-rlhf.
    """
    if root is not None:
        return read_preferences("hh-rlhf", root)
    named = os.environ.get("IMPRINT_DATA")
    if named and (Path(named) / "hh-rlhf").is_dir():
        return read_preferences("hh-rlhf", Path(named))
    return read_preferences("sample-hh-rlhf", None)


def build_model(encoder: str, max_length: int) -> ValueClassifier:
    """Build a classifier with a seeded random head, in eval mode on the default device."""
    torch.manual_seed(SEED)
    view = ViewRequest("dialogue", "head", max_length)
    model = ValueClassifier.from_pretrained(load_pretrained(encoder), load_taxonomy(TAXONOMY), view)
    return model.to(default_device()).eval()


def score_as_seed(model: ValueClassifier, texts: Sequence[str]) -> np.ndarray:
    """Score texts as the seed notebooks do: as they come, 64 a batch, each padded to the full length, float32."""
    device, length, logits = default_device(), model.view.max_length, []
    with evaluation_mode(model):
        for start in range(0, len(texts), SEED_BATCH):
            batch = texts[start : start + SEED_BATCH]
            rows = model.tokeniser.encode([("", text) for text in batch], length).ids
            input_ids = torch.tensor([row + [model.tokeniser.pad_id] * (length - len(row)) for row in rows])
            mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows])
            logits.append(model(input_ids.to(device), mask.to(device)).cpu().numpy())
    return np.concatenate(logits)


def compare(
    model: ValueClassifier, data: PreferenceData, token_budget: int, repeats: int, progress: Progress
) -> Comparison:
    """Score all texts of `data` every way, in turns, and keep times and logits."""
    texts = [side.render() for pair in data.read() for side in (pair.first, pair.second)]
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        corpus = build_corpus(data, [model.view], model.tokeniser, Path(folder))
    tokenising = time.perf_counter() - start
    n_slices = -(-len(texts) // SEED_BATCH)
    by_length = np.array_split(np.argsort(-corpus.lengths, kind="stable"), n_slices)
    by_file = [np.arange(i, min(i + SEED_BATCH, len(texts))) for i in range(0, len(texts), SEED_BATCH)]
    auto = resolve_precision("auto", default_device())

    def as_seed(rows: np.ndarray) -> np.ndarray:
        torch.set_float32_matmul_precision("highest")
        return score_as_seed(model, [texts[i] for i in rows])

    def ours_float32(rows: np.ndarray) -> np.ndarray:
        torch.set_float32_matmul_precision("highest")
        return _score_rows(model, corpus, rows, "float32", token_budget)

    def ours_as_it_runs(rows: np.ndarray) -> np.ndarray:
        torch.set_float32_matmul_precision(TrainerConfig().matmul_precision)
        return _score_rows(model, corpus, rows, auto, token_budget)

    with progress.bar(f"{model.view.max_length} tokens", 3 * repeats * n_slices, "slices") as advance:
        seconds, logits = take_turns(
            ((as_seed, by_file), (ours_float32, by_length), (ours_as_it_runs, by_length)), repeats, advance
        )
    index = corpus.rows[model.view.slug].ravel()
    ways = (
        Timed("seed notebooks, float32", seconds[0], 0.0, logits[0]),
        Timed("ours, float32", seconds[1], tokenising, logits[1][index]),
        Timed(f"ours, as it runs ({auto})", seconds[2], tokenising, logits[2][index]),
    )
    return Comparison(model.view.max_length, ways, len(texts), len(corpus.lengths))


def _score_rows(
    model: ValueClassifier, corpus: AuditCorpus, rows: np.ndarray, precision: str, token_budget: int
) -> np.ndarray:
    """Score some sequences of a corpus; a run of the length order makes the same batches as the whole corpus."""
    input_ids = corpus.input_ids.take(pa.array(rows))
    return score_tokens(model, input_ids, corpus.lengths[rows], model.tokeniser.pad_id, precision, token_budget)


def take_turns(
    ways: Sequence[tuple[Callable[[np.ndarray], np.ndarray], list[np.ndarray]]],
    repeats: int,
    advance: Callable[[int], None],
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Run every way on its slice k, all repeats, before slice k + 1.

    Args:
        ways: A function from row numbers to logits, and the slices of its row numbers, equally many for each way.
        repeats: How often each slice is run.
        advance: Called with 1 after each run.

    Returns:
        Seconds [n_ways, repeats, n_slices], and the logits of each way in the order of its row numbers.
    """
    n_slices = len(ways[0][1])
    seconds = np.empty((len(ways), repeats, n_slices))
    parts: list[list[np.ndarray]] = [[] for _ in ways]
    for k in range(n_slices):
        for repeat in range(repeats):
            for w, (score, slices) in enumerate(ways):
                start = time.perf_counter()
                scored = score(slices[k])
                seconds[w, repeat, k] = time.perf_counter() - start
                if repeat == 0:
                    parts[w].append(scored)
                advance(1)
    logits = []
    for part, (_, slices) in zip(parts, ways, strict=True):
        order = np.concatenate(slices)
        together = np.concatenate(part)
        logits.append(np.empty_like(together))
        logits[-1][order] = together
    return seconds, logits


def results_table(comparisons: Sequence[Comparison]) -> Table:
    """One row per length and way."""
    table = Table(title="Scoring the same dialogues with the same weights")
    for heading in ("tokens", "way", "texts/s", "ratio", "largest |Δlogit|", "decisions flipped"):
        table.add_column(heading, justify="left" if heading == "way" else "right", no_wrap=True)
    for comparison in comparisons:
        seed = comparison.ways[0]
        for way in comparison.ways:
            cells = ["", ""]
            if way is not seed:
                n_flipped, n = flips(way.logits, seed.logits)
                cells = [f"{np.abs(way.logits - seed.logits).max():.1e}", f"{n_flipped} of {n:,}, {n_flipped / n:.2%}"]
            rate = f"{comparison.n_texts / way.total:,.1f}"
            table.add_row(str(comparison.max_length), way.name, rate, f"{seed.total / way.total:.2f}x", *cells)
        table.add_section()
    return table


def notes(comparison: Comparison) -> list[str]:
    """What else there is to know of one length: duplicates, the spread of the logits, how noisy the machine was."""
    n, repeated = comparison.n_texts, comparison.n_texts - comparison.n_distinct
    spread = comparison.ways[0].logits.std(axis=0).mean()
    lines = [
        f"{comparison.max_length} tokens: {repeated} of {n} texts, {repeated / n:.1%}, are exact duplicates after the "
        f"cut; the logits' standard deviation is {spread:.3f}"
    ]
    seconds = np.concatenate([way.seconds for way in comparison.ways], axis=1)
    if len(seconds) > 1:
        slower = seconds.max(axis=0) / seconds.min(axis=0) - 1
        lines.append(f"  a slice's slowest repeat took {np.median(slower):.0%} longer than its fastest (median)")
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns 0, or 2 on bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.benchmarks.scoring", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--data_root", type=Path, help="folder that holds hh-rlhf/; else IMPRINT_DATA, else the sample")
    parser.add_argument("--texts", type=int, default=384, help="how many texts are drawn (default %(default)s)")
    parser.add_argument("--lengths", type=int, nargs="+", default=[128, 512], help="tokens read (default 128 512)")
    parser.add_argument("--encoder", default="minilm", help="minilm, a hub id or a folder (default %(default)s)")
    parser.add_argument("--token_budget", type=int, default=AuditConfig().token_budget, help="padded tokens per batch")
    parser.add_argument("--repeats", type=int, default=2, help="runs of each slice, the fastest counts (default 2)")
    settings = parser.parse_args(argv)
    try:
        for name, least in (("texts", 2), ("token_budget", 1), ("repeats", 1)):
            if getattr(settings, name) < least:
                raise InputError(f"--{name} {getattr(settings, name)}", f"at least {least}", f"--{name}")
        data = sampled_pairs(read_dialogues(settings.data_root), settings.texts, SEED)
        progress = Progress()
        comparisons = []
        for max_length in settings.lengths:
            model = build_model(settings.encoder, max_length)
            comparisons.append(compare(model, data, settings.token_budget, settings.repeats, progress))
    except InputError as error:
        print(f"scoring: error: {error}", file=sys.stderr)
        return 2
    console = Console(width=100)
    console.print(results_table(comparisons))
    source = f"{data.name}, {2 * len(data.index)} texts, drawn with seed {SEED}"
    made = f"{settings.encoder}, token budget {settings.token_budget}, {torch.get_num_threads()} threads"
    device = f"{default_device().type} {torch.backends.cpu.get_cpu_capability()}"
    for line in (f"{source}; {made}, {device}", *(line for c in comparisons for line in notes(c))):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if data.is_sample:
        console.print("These dialogues are the embedded sample; set IMPRINT_DATA or --data_root for hh-rlhf itself.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
