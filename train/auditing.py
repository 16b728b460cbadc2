"""How is one checkpoint calibrated and audited?"""

import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

import audits
from audits.base import Audit, ScoredPairs, ScoredView
from audits.table import concat, stamp, write_table
from audits.value_distribution import ValueDistribution
from datamodules.annotation_datamodule import TokenisedSplit
from datamodules.corpus import AuditCorpus, build_corpus
from datamodules.errors import InputError
from datamodules.files import digest_of, write_json
from datamodules.preferences import PreferenceData
from datamodules.tokenise import Tokeniser
from datamodules.views import ViewRequest
from models.calibration import Calibration, fit_calibration
from models.classifier import ValueClassifier
from models.inference import score_tokens
from models.precision import resolve_precision
from train.config import AuditConfig
from train.progress import Progress

AUDITS = ("value-distribution",)
# Scores that are calibrated together.
TEXTS_AT_ONCE = 20_000


@dataclass(frozen=True, slots=True)
class AuditSetup:
    """What is audited, and how it is scored.

    Attributes:
        audits: The audits.
        corpora: The tokenised preference data sets.
        precision: Number format of scoring, `float32` or `bf16`.
        token_budget: Padded tokens per scoring batch; does not change results beyond rounding.
        code: Digest of the code of `audits/` as it was when the set-up was built.
    """

    audits: tuple[Audit, ...]
    corpora: tuple[AuditCorpus, ...]
    precision: str
    token_budget: int
    code: str

    def key(self, calibration: Calibration) -> str:
        """Digest of thresholds, audit set-up, data revision and the code of `audits/`, as hex."""
        parts = [repr(audit) for audit in self.audits], [corpus.digest for corpus in self.corpora], self.precision
        return digest_of([calibration.to_json(), parts, self.code])


@dataclass(frozen=True, slots=True)
class CheckpointRecord:
    """Where in training a set of weights stood.

    Attributes:
        weights: Digest of the state dict.
        step: Optimiser step; None when unknown.
        epoch: Epochs done, a fraction inside an epoch; None when unknown.
    """

    weights: str
    step: int | None
    epoch: float | None


def code_version() -> str:
    """Return a digest of the source of `audits/`, as hex."""
    folder = Path(audits.__path__[0])
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def build_audits(config: AuditConfig) -> tuple[Audit, ...]:
    """Build the configured audits.

    Raises:
        InputError: An unknown audit, or none.
    """
    view = ViewRequest(config.view, config.truncation, config.max_length)
    chosen: list[Audit] = []
    for name in dict.fromkeys(config.audits):
        match name:
            case "value-distribution":
                chosen.append(ValueDistribution(view=view))
            case _:
                raise InputError(f"audit {name!r}", f"one of {', '.join(AUDITS)}", "--audit.audits")
    if not chosen:
        raise InputError("no audit", f"at least one of {', '.join(AUDITS)}", "--audit.audits, or --audit.enabled false")
    return tuple(chosen)


def build_setup(
    config: AuditConfig,
    preferences: Sequence[PreferenceData],
    tokeniser: Tokeniser,
    cache_dir: Path,
    device: torch.device,
    progress: Progress,
) -> AuditSetup:
    """Tokenise the preference data under every view that an audit asks for, for scoring on `device`."""
    chosen = build_audits(config)
    views = [view for audit in chosen for view in audit.requests()]
    corpora = []
    for data in preferences:
        with progress.bar(f"tokenising {data.name}", len(data.index), "pairs") as advance:
            corpora.append(build_corpus(data, views, tokeniser, cache_dir, advance))
    precision = resolve_precision(config.precision, device)
    return AuditSetup(chosen, tuple(corpora), precision, config.token_budget, code_version())


def score_split(model: ValueClassifier, split: TokenisedSplit, precision: str, token_budget: int) -> np.ndarray:
    """Score the texts of a split: float32 logits [n, n_labels]."""
    return score_tokens(model, split.tokens.ids, split.lengths, model.tokeniser.pad_id, precision, token_budget)


def calibrate(model: ValueClassifier, logits: np.ndarray, targets: np.ndarray) -> Calibration:
    """Fit temperatures and thresholds of a checkpoint on validation logits."""
    return fit_calibration(logits, targets, model.labels, model.taxonomy.signed, model.softmax, model.chance_thresholds)


def score_corpus(
    model: ValueClassifier, corpus: AuditCorpus, calibration: Calibration, setup: AuditSetup, progress: Progress
) -> tuple[ScoredPairs, pa.Table]:
    """Score the distinct texts of a corpus once and align the scores to its pairs.

    Returns:
        The scored pairs, and the item-level table: dataset, text_id, decisions (bits packed in label order, big
        endian), probabilities (float16).
    """
    with progress.bar(f"scoring {corpus.data.name}", len(corpus.lengths), "texts") as advance:
        logits = score_tokens(
            model,
            corpus.input_ids,
            corpus.lengths,
            model.tokeniser.pad_id,
            setup.precision,
            setup.token_budget,
            advance,
        )
    probabilities, decisions = _calibrated(logits, calibration)
    del logits
    index = corpus.data.index
    _, clusters = np.unique(index.cluster_ids, return_inverse=True)
    views = {
        slug: ScoredView(slug, probabilities[rows], decisions[rows], rows, corpus.truncated[slug])
        for slug, rows in corpus.rows.items()
    }
    scored = ScoredPairs(
        dataset=corpus.data.name,
        taxonomy=model.taxonomy.name,
        slugs=model.taxonomy.slugs,
        labels=model.labels,
        signed=model.taxonomy.signed,
        calibrated=calibration.calibrated,
        pair_ids=index.pair_ids,
        subsets=index.subsets,
        clusters=clusters.astype(np.int64),
        is_tie=index.is_tie,
        views=views,
    )
    n, n_labels = probabilities.shape
    half = pa.array(probabilities.astype(np.float16).ravel())
    packed = np.packbits(decisions, axis=1)
    items = pa.table(
        {
            "dataset": pa.repeat(corpus.data.name, n),
            "text_id": corpus.text_ids,
            "decisions": pa.FixedSizeBinaryArray.from_buffers(
                pa.binary(packed.shape[1]), n, [None, pa.py_buffer(packed.tobytes())]
            ),
            "probabilities": pa.FixedSizeListArray.from_arrays(half, n_labels),
        }
    )
    return scored, items


def _calibrated(logits: np.ndarray, calibration: Calibration) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities, float64 [n, n_labels], and decisions, bool [n, n_labels], without copies of the whole."""
    probabilities = np.empty(logits.shape, dtype=np.float64)
    decisions = np.empty(logits.shape, dtype=np.bool_)
    for start in range(0, len(logits), TEXTS_AT_ONCE):
        block = slice(start, start + TEXTS_AT_ONCE)
        probabilities[block] = calibration.probabilities(logits[block])
        decisions[block] = calibration.decide(probabilities[block])
    return probabilities, decisions


def audit_checkpoint(
    model: ValueClassifier,
    calibration: Calibration,
    setup: AuditSetup,
    record: CheckpointRecord,
    run_id: str,
    output: Path,
    progress: Progress,
) -> pa.Table:
    """Audit one checkpoint on all corpora and write table, item-level decisions and meta data, all or nothing.

    Args:
        model: The classifier with the checkpoint's weights.
        calibration: Its temperatures and thresholds.
        setup: What to audit.
        record: Which checkpoint it is.
        run_id: Goes into the table.
        output: Folder to write; it appears when everything is in it.
        progress: Shows the scoring.

    Returns:
        The rows.
    """
    key = setup.key(calibration)
    tables, items = [], []
    for corpus in setup.corpora:
        scored, corpus_items = score_corpus(model, corpus, calibration, setup, progress)
        tables += [audit.rows(scored) for audit in setup.audits]
        items.append(corpus_items)
    table = stamp(
        concat(tables),
        run_id=run_id,
        step=record.step,
        epoch=record.epoch,
        weights=record.weights,
        audit_key=key,
    )
    if output.exists():
        raise FileExistsError(f"{output} is there already")
    part = output.with_name(f".{output.name}.part{os.getpid()}")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        write_table(table, part / "table.parquet")
        pq.write_table(pa.concat_tables(items), part / "decisions.parquet", compression="zstd")
        write_json(part / "meta.json", _meta(model, calibration, setup, record, run_id, key))
        part.rename(output)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return table


def _meta(
    model: ValueClassifier,
    calibration: Calibration,
    setup: AuditSetup,
    record: CheckpointRecord,
    run_id: str,
    key: str,
) -> dict[str, Any]:
    """Provenance of an audit."""
    return {
        "run_id": run_id,
        "weights": record.weights,
        "step": record.step,
        "epoch": record.epoch,
        "audit_key": key,
        "code_version": setup.code,
        "taxonomy": {"name": model.taxonomy.name, "version": model.taxonomy.version, "digest": model.taxonomy.digest},
        "labels": list(model.labels),
        "calibration": calibration.to_json(),
        "audits": [repr(audit) for audit in setup.audits],
        "precision": setup.precision,
        "datasets": [_data_meta(corpus) for corpus in setup.corpora],
    }


def _data_meta(corpus: AuditCorpus) -> dict[str, Any]:
    return {
        "name": corpus.data.name,
        "is_sample": corpus.data.is_sample,
        "digest": corpus.data.digest,
        "n_pairs": len(corpus.data.index),
        "n_distinct_texts": len(corpus.lengths),
        "report": corpus.data.report.to_dict(),
    }
