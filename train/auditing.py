"""How is one checkpoint calibrated and audited?"""

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from audits.base import HeldOut, Rewrites, ScoredPairs, ScoredView
from audits.table import concat, stamp, write_table
from datamodules.annotation_datamodule import TokenisedSplit
from datamodules.corpus import AuditCorpus
from datamodules.files import write_json
from models.calibration import Calibration, fit_calibration
from models.classifier import ValueClassifier
from models.features import encoder_digest, score_pooled
from models.inference import score_tokens
from train.audit_setup import AuditSetup
from train.audited_data import AuditedData
from train.corpus_files import measured_file_name
from train.feature_cache import corpus_features
from train.held_out import held_out_digest
from train.progress import Progress

# Scores that are calibrated together.
TEXTS_AT_ONCE = 20_000


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


def score_split(model: ValueClassifier, split: TokenisedSplit, precision: str, token_budget: int) -> np.ndarray:
    """Score the texts of a split: float32 logits [n, n_labels]; by the head alone where its encoder made features."""
    if split.features is not None and split.features.encoder == encoder_digest(model):
        return score_pooled(model, split.features.vectors, split.features.rows)
    return score_tokens(model, split.tokens.ids, split.lengths, model.tokeniser.pad_id, precision, token_budget)


def calibrate(model: ValueClassifier, logits: np.ndarray, split: TokenisedSplit) -> Calibration:
    """Fit temperatures and thresholds of a checkpoint on the logits of the validation split."""
    return fit_calibration(
        logits,
        split.targets,
        model.labels,
        model.taxonomy.signed,
        model.softmax,
        model.chance_thresholds,
        split.groups,
        model.max_false_negative_rate,
    )


def score_audited(
    model: ValueClassifier,
    audited: AuditedData,
    calibration: Calibration,
    setup: AuditSetup,
    held_out: HeldOut | None,
    progress: Progress,
) -> tuple[ScoredPairs, list[pa.Table]]:
    """Score a data set, and its rewritings where it has any.

    Returns:
        The scored pairs with everything that audits ask for, and the item-level tables of `score_corpus`.
    """
    scored, items = score_corpus(model, audited.corpus, calibration, setup, progress)
    scored = replace(
        scored,
        rewards=tuple(own.reward for own in audited.rewards),
        text_features=audited.text_features,
        trained_on=audited.trained_on,
        gold=audited.gold,
        held_out=held_out,
    )
    made = audited.rewritten
    if made is None:
        return scored, [items]
    own: ScoredPairs | None = None
    own_items: list[pa.Table] = []
    if audited.rewritten_data is not None:
        own, own_items = score_audited(model, audited.rewritten_data, calibration, setup, held_out, progress)
    rewrites = Rewrites(made.source, own, made.similarity, made.n_requested, made.left_out)
    renamed = [
        table.set_column(0, "dataset", pa.repeat(f"{scored.dataset}|rewritten", len(table))) for table in own_items
    ]
    return replace(scored, rewrites=rewrites), [items, *renamed]


def score_corpus(
    model: ValueClassifier, corpus: AuditCorpus, calibration: Calibration, setup: AuditSetup, progress: Progress
) -> tuple[ScoredPairs, pa.Table]:
    """Score the distinct texts of a corpus once and align the scores to its pairs.

    Returns:
        The scored pairs, and the item-level table: dataset, text_id, decisions (bits packed in label order, big
        endian), probabilities (float16).
    """
    logits = _logits(model, corpus, setup, progress)
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


def _logits(model: ValueClassifier, corpus: AuditCorpus, setup: AuditSetup, progress: Progress) -> np.ndarray:
    """Score the distinct texts of a corpus, by the head alone where a frozen encoder's vectors are kept."""
    if setup.features is not None:
        return score_pooled(model, corpus_features(model, corpus, setup.features, progress))
    pad_id = model.tokeniser.pad_id
    with progress.bar(f"scoring {corpus.data.name}", len(corpus.lengths), "texts") as advance:
        return score_tokens(
            model, corpus.input_ids, corpus.lengths, pad_id, setup.precision, setup.token_budget, advance
        )


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
    held_out: HeldOut | None = None,
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
        held_out: How the classifier does on texts that it was not fitted on; None where that is unknown.

    Returns:
        The rows.
    """
    key = setup.key(calibration, held_out_digest(held_out))
    tables, items = [], []
    for audited in setup.audited:
        scored, audited_items = score_audited(model, audited, calibration, setup, held_out, progress)
        tables += [audit.rows(scored) for audit in setup.audits]
        items += audited_items
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
        write_json(part / "meta.json", _meta(model, calibration, setup, record, run_id, key, held_out))
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
    held_out: HeldOut | None,
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
        "held_out": None
        if held_out is None
        else {"n_texts": len(held_out.groups), "digest": held_out_digest(held_out)},
        "audits": [repr(audit) for audit in setup.audits],
        "precision": setup.precision,
        "datasets": [_data_meta(audited) for audited in setup.audited],
    }


def _data_meta(audited: AuditedData) -> dict[str, Any]:
    data, made = audited.corpus.data, audited.rewritten
    rewrites = None
    if made is not None:
        rewrites = {"source": made.source, "n_requested": made.n_requested, "left_out": made.left_out}
        rewrites |= {"n_pairs": len(made.data.index), "digest": made.data.digest}
        if audited.rewritten_data is not None:
            rewrites["corpus"] = audited.rewritten_data.corpus.digest
    return {
        "name": data.name,
        "is_sample": data.is_sample,
        "digest": data.digest,
        "corpus": audited.corpus.digest,
        "measured": measured_file_name(audited),
        "gold": audited.gold_provenance,
        "n_pairs": len(data.index),
        "n_distinct_texts": len(audited.corpus.lengths),
        "report": data.report.to_dict(),
        "rewards": [reward.provenance for reward in audited.rewards],
        "rewrites": rewrites,
    }
