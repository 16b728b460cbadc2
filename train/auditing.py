"""How is one checkpoint calibrated and audited?"""

import os
import shutil
from collections.abc import Callable, Mapping
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
from models.ensemble import Scorer
from models.features import encoder_digest, score_pooled
from models.inference import score_tokens
from models.tasks import Task
from train.audit_setup import AuditSetup, audits_of
from train.audited_data import AuditedData
from train.corpus_files import measured_file_name
from train.feature_cache import corpus_features
from train.feature_classifiers import require_other_classifiers
from train.held_out import held_out_digest, joint_digest
from train.progress import Progress
from train.value_scorer import require_other_weights

# Scores that are calibrated together.
TEXTS_AT_ONCE = 20_000

LogitsOf = Callable[[AuditCorpus], np.ndarray]


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


def score_split(model: Scorer, split: TokenisedSplit, precision: str, token_budget: int) -> np.ndarray:
    """Score the texts of a split: float32 logits [n, n_labels]; by the head alone where its encoder made features."""
    made = split.features
    if made is not None and isinstance(model, ValueClassifier) and made.encoder == encoder_digest(model):
        return score_pooled(model, made.vectors, made.rows)
    return score_tokens(model, split.tokens.ids, split.lengths, model.tokeniser.pad_id, precision, token_budget)


def calibrate(model: Scorer | Task, logits: np.ndarray, split: TokenisedSplit) -> Calibration:
    """Fit temperatures and thresholds of one taxonomy of a checkpoint on the logits of its validation texts."""
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
    model: Scorer | Task,
    audited: AuditedData,
    calibration: Calibration,
    held_out: HeldOut | None,
    logits_of: LogitsOf,
) -> tuple[ScoredPairs, list[pa.Table]]:
    """Give audits the scores of a data set, and of its rewritings where it has any.

    Args:
        model: The classifier, or one of its further taxonomies.
        audited: The data set.
        calibration: Temperatures and thresholds of that taxonomy.
        held_out: How it does on texts that it was not fitted on.
        logits_of: Scores the distinct texts of a corpus.

    Returns:
        The scored pairs with everything that audits ask for, and the item-level tables of `score_corpus`.
    """
    scored, items = score_corpus(model, audited.corpus, calibration, logits_of(audited.corpus))
    scored = replace(
        scored,
        rewards=tuple(own.reward for own in audited.rewards),
        text_features=audited.text_features,
        trained_on=audited.trained_on,
        # People label by the values of the main taxonomy.
        gold=None if isinstance(model, Task) else audited.gold,
        held_out=held_out,
        prompt_groups=audited.prompt_groups,
    )
    made = audited.rewritten
    if made is None:
        return scored, [items]
    own: ScoredPairs | None = None
    own_items: list[pa.Table] = []
    if audited.rewritten_data is not None:
        own, own_items = score_audited(model, audited.rewritten_data, calibration, held_out, logits_of)
    rewrites = Rewrites(made.source, own, made.similarity, made.n_requested, made.left_out)
    renamed = [
        table.set_column(0, "dataset", pa.repeat(f"{scored.dataset}|rewritten", len(table))) for table in own_items
    ]
    return replace(scored, rewrites=rewrites), [items, *renamed]


def score_corpus(
    model: Scorer | Task, corpus: AuditCorpus, calibration: Calibration, logits: np.ndarray
) -> tuple[ScoredPairs, pa.Table]:
    """Align the scores of the distinct texts of a corpus, float [n, n_outputs], to its pairs.

    Returns:
        The scored pairs, and the item-level table: dataset, text_id, decisions (bits packed in label order, big
        endian), probabilities (float16).
    """
    columns = model.columns if isinstance(model, Task) else slice(len(model.labels))
    probabilities, decisions = _calibrated(logits[:, columns], calibration)
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


def _scored_once(model: Scorer, setup: AuditSetup, progress: Progress) -> LogitsOf:
    """Return what scores a corpus and remembers its scores, for all taxonomies to read."""
    known: dict[str, np.ndarray] = {}

    def logits_of(corpus: AuditCorpus) -> np.ndarray:
        if corpus.digest not in known:
            known[corpus.digest] = _logits(model, corpus, setup, progress)
        return known[corpus.digest]

    return logits_of


def _logits(model: Scorer, corpus: AuditCorpus, setup: AuditSetup, progress: Progress) -> np.ndarray:
    """Score the distinct texts of a corpus, by the head alone where a frozen encoder's vectors are kept."""
    if setup.features is not None and isinstance(model, ValueClassifier):
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
    model: Scorer,
    calibration: Calibration,
    setup: AuditSetup,
    record: CheckpointRecord,
    run_id: str,
    output: Path,
    progress: Progress,
    held_out: Mapping[str, HeldOut | None],
) -> pa.Table:
    """Audit one checkpoint on all corpora and write table, item-level decisions and meta data, all or nothing.

    Those of further taxonomies lie in folders of their own inside, by name; the encoder reads every text once for all.

    Args:
        model: The classifier with the checkpoint's weights.
        calibration: Its temperatures and thresholds.
        setup: What to audit.
        record: Which checkpoint it is.
        run_id: Goes into the table.
        output: Folder to write; it appears when everything is in it.
        progress: Shows the scoring.
        held_out: How it does on texts that it was not fitted on, as `held_out_by_taxonomy` tells.

    Returns:
        The rows of the main taxonomy.

    Raises:
        InputError: A reward, or a feature, that rests on the very values that are audited.
    """
    rewards = (reward.provenance for audited in setup.audited for reward in audited.rewards)
    require_other_weights(record.weights, rewards)
    require_other_classifiers(record.weights, (made for audited in setup.audited for made in audited.feature_records))
    key = setup.key(calibration, joint_digest(held_out))
    readings: dict[str, tuple[Scorer | Task, Calibration]] = {"": (model, calibration)}
    readings |= {task.name: (task, calibration.further[task.name]) for task in model.further}
    tables: dict[str, list[pa.Table]] = {name: [] for name in readings}
    items: dict[str, list[pa.Table]] = {name: [] for name in readings}
    for audited in setup.audited:
        logits_of = _scored_once(model, setup, progress)
        for name, (own, own_calibration) in readings.items():
            scored, audited_items = score_audited(own, audited, own_calibration, held_out[name], logits_of)
            tables[name] += [audit.rows(scored) for audit in audits_of(own.labels, setup.audits)]
            items[name] += audited_items
    stamped = {
        name: stamp(
            concat(own),
            run_id=run_id,
            step=record.step,
            epoch=record.epoch,
            weights=record.weights,
            audit_key=key,
        )
        for name, own in tables.items()
    }
    if output.exists():
        raise FileExistsError(f"{output} is there already")
    part = output.with_name(f".{output.name}.part{os.getpid()}")
    shutil.rmtree(part, ignore_errors=True)
    try:
        for name, (own, own_calibration) in readings.items():
            (part / name).mkdir(parents=True)
            write_table(stamped[name], part / name / "table.parquet")
            pq.write_table(pa.concat_tables(items[name]), part / name / "decisions.parquet", compression="zstd")
            meta = _meta(own, own_calibration, setup, record, run_id, key, held_out[name])
            write_json(part / name / "meta.json", meta)
        part.rename(output)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return stamped[""]


def _meta(
    model: Scorer | Task,
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
        "feature_classifiers": list(audited.feature_records),
        "rewrites": rewrites,
    }
