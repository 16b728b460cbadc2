"""What did the audit of a checkpoint see? Its scored pairs, put together again from the run directory's files alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from audits.base import Reward, ScoredPairs, ScoredView, TextFeatures
from datamodules.errors import InputError
from datamodules.files import read_json, require_file
from train.corpus_files import read_measured
from train.ledger import Ledger
from train.run_directory import RunDirectory

TIE_SIDE = "a"


@dataclass(frozen=True, slots=True, eq=False)
class StoredAudit:
    """The newest audit of one checkpoint.

    Attributes:
        run: The run directory.
        folder: The audit's folder in it.
        weights: Digest of the state dict.
        audit_key: Digest of the audit set-up.
        step: Training step; None when unknown.
        epoch: Epochs done; None when unknown.
        precision: Number format that it was scored in.
        meta: Its meta.json.
    """

    run: RunDirectory
    folder: Path
    weights: str
    audit_key: str
    step: int | None
    epoch: float | None
    precision: str
    meta: dict[str, Any]

    @property
    def datasets(self) -> dict[str, dict[str, Any]]:
        """Provenance of each data set, by name."""
        return {data["name"]: data for data in self.meta["datasets"]}

    @property
    def labels(self) -> tuple[str, ...]:
        """Score columns."""
        return tuple(self.meta["labels"])

    def corpus_file(self, dataset: str) -> Path:
        """The file that tells which pair reads which text."""
        return self.run.corpora / f"{dataset}-{self.datasets[dataset]['corpus'][:8]}.parquet"

    def measured_file(self, dataset: str) -> Path | None:
        """The file of rewards, text features and marks of training; None where nothing was measured."""
        name = self.datasets[dataset].get("measured")
        return None if name is None else self.run.corpora / name


def stored_audits(run: RunDirectory) -> list[StoredAudit]:
    """Return the newest finished audit of every checkpoint, by step.

    Raises:
        InputError: A ledger or an audit that cannot be read.
    """
    audits = [open_audit(run, run.path / path) for path in Ledger(run.ledger_file).newest_audits]
    return sorted(audits, key=lambda audit: -1 if audit.step is None else audit.step)


def open_audit(run: RunDirectory, folder: Path) -> StoredAudit:
    """Open one audit of a run.

    Raises:
        InputError: Its meta data cannot be read.
    """
    fix = _again(run, folder)
    path = folder / "meta.json"
    meta = read_json(path, fix)
    try:
        fields = {name: meta[name] for name in ("weights", "audit_key", "step", "epoch", "precision")}
        for name in ("datasets", "labels", "calibration", "taxonomy"):
            meta[name]
    except (KeyError, TypeError) as error:
        found = f"{path}, which is not the meta data of an audit ({error})"
        raise InputError(found, "a file as an audit writes it", fix) from error
    return StoredAudit(run, folder, meta=meta, **fields)


def views_of(audit: StoredAudit, dataset: str) -> list[str]:
    """Return the slugs of the views that were scored, the audits' own view before the published one.

    Raises:
        InputError: The corpus file is gone or damaged.
    """
    path = audit.corpus_file(dataset)
    slugs = _read(path, _made_again(path, audit.run), ["view"])["view"]
    return [str(slug) for slug in slugs.unique().to_pylist()]


def scored_pairs(audits: Sequence[StoredAudit], dataset: str, views: Sequence[str] | None = None) -> list[ScoredPairs]:
    """Rebuild what audits of a data set were given, without gold labels, held-out scores and rewritings.

    Probabilities are those of the audit to float16.

    Args:
        audits: Audits that hold the data set.
        dataset: Its name.
        views: Slugs of the views to read; all when left out.

    Raises:
        InputError: A file is gone or damaged, or a view was not scored.
    """
    corpora: dict[tuple[Path, tuple[str, ...]], _StoredCorpus] = {}
    measured: dict[Path, _Measured] = {}
    found = []
    for audit in audits:
        wanted = tuple(views if views is not None else views_of(audit, dataset))
        path = audit.corpus_file(dataset)
        if (path, wanted) not in corpora:
            corpora[path, wanted] = _corpus(audit, path, wanted)
        own = audit.measured_file(dataset)
        if own is not None and own not in measured:
            measured[own] = _measured(audit, own)
        found.append(_scored(audit, dataset, corpora[path, wanted], measured[own] if own is not None else NOT_MEASURED))
    return found


_Measured = tuple[tuple[Reward, ...], TextFeatures | None, np.ndarray | None]
NOT_MEASURED: _Measured = ((), None, None)


@dataclass(frozen=True, slots=True, eq=False)
class _StoredCorpus:
    """Pairs, and per view the text ids (one per pair and side, in turn) and cuts, bool [n_pairs, 2]."""

    pair_ids: np.ndarray
    subsets: np.ndarray
    clusters: np.ndarray
    is_tie: np.ndarray
    views: dict[str, tuple[pa.ChunkedArray, np.ndarray]]


def _corpus(audit: StoredAudit, path: Path, views: tuple[str, ...]) -> _StoredCorpus:
    table = _read(path, _made_again(path, audit.run), None)
    scored = table["view"].unique().to_pylist()
    if missing := [view for view in views if view not in scored]:
        fix = "--view, or --audit.view of the run and imprint audit RUN_DIR"
        raise InputError(f"no scores of view {missing[0]} in {audit.folder}", f"one of {', '.join(scored)}", fix)
    by_view = {view: table.filter(pc.equal(table["view"], view)) for view in views}
    pairs = by_view[views[0]]
    first = {name: _strings(pairs[name])[::2] for name in ("pair_id", "subset", "cluster_id", "side")}
    _, clusters = np.unique(first["cluster_id"], return_inverse=True)
    return _StoredCorpus(
        pair_ids=first["pair_id"],
        subsets=first["subset"],
        clusters=clusters.astype(np.int64),
        is_tie=first["side"] == TIE_SIDE,
        views={
            view: (own["text_id"], own["truncated"].to_numpy().reshape(len(pairs) // 2, 2))
            for view, own in by_view.items()
        },
    )


def _scored(audit: StoredAudit, dataset: str, corpus: _StoredCorpus, measured: _Measured) -> ScoredPairs:
    text_ids, probabilities, decisions = _scores(audit, dataset)
    rewards, features, trained_on = measured
    n_pairs = len(corpus.pair_ids)
    views = {}
    for view, (ids, truncated) in corpus.views.items():
        places = pc.index_in(ids, value_set=text_ids)
        if places.null_count:
            found = f"{audit.folder / 'decisions.parquet'} without {places.null_count:,} texts of {dataset}"
            raise InputError(found, "the scores of all texts of the data set", _again(audit.run, audit.folder))
        rows = places.to_numpy().astype(np.int64).reshape(n_pairs, 2)
        views[view] = ScoredView(view, probabilities[rows], decisions[rows], rows, truncated)
    calibration, labels = audit.meta["calibration"], audit.labels
    slugs = tuple(dict.fromkeys(label.rsplit("-", 1)[0] for label in labels))
    return ScoredPairs(
        dataset=dataset,
        taxonomy=audit.meta["taxonomy"]["name"],
        slugs=slugs if calibration["signed"] else labels,
        labels=labels,
        signed=calibration["signed"],
        calibrated=calibration["calibrated"],
        pair_ids=corpus.pair_ids,
        subsets=corpus.subsets,
        clusters=corpus.clusters,
        is_tie=corpus.is_tie,
        views=views,
        rewards=rewards,
        text_features=features,
        trained_on=trained_on,
    )


def read_decisions(audit: StoredAudit, dataset: str) -> tuple[pa.ChunkedArray, np.ndarray, np.ndarray]:
    """Read the distinct texts of an audited data set.

    Returns:
        Text ids [n], probabilities (float16) [n, n_labels] and decisions, bool [n, n_labels].

    Raises:
        InputError: The file is gone or damaged.
    """
    path, n_labels = audit.folder / "decisions.parquet", len(audit.labels)
    table = _read(path, _again(audit.run, audit.folder), None)
    own = table.filter(pc.equal(table["dataset"], dataset)).combine_chunks()
    try:
        probabilities = own["probabilities"].combine_chunks().flatten().to_numpy().reshape(len(own), n_labels)
        packed = np.frombuffer(b"".join(own["decisions"].to_pylist()), dtype=np.uint8).reshape(len(own), -1)
        decisions = np.unpackbits(packed, axis=1, count=n_labels).astype(np.bool_)
    except (ValueError, KeyError) as error:
        found = f"{path}, which does not hold the scores of {n_labels} labels ({error})"
        raise InputError(found, "the file as the audit wrote it", _again(audit.run, audit.folder)) from error
    return own["text_id"], probabilities, decisions


def _scores(audit: StoredAudit, dataset: str) -> tuple[pa.ChunkedArray, np.ndarray, np.ndarray]:
    text_ids, probabilities, decisions = read_decisions(audit, dataset)
    return text_ids, probabilities.astype(np.float64), decisions


def _measured(audit: StoredAudit, path: Path) -> _Measured:
    fix = f"imprint audit {audit.run.path}"
    require_file(path, fix)
    try:
        return read_measured(path)
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        found = f"{path}, which does not hold what was measured ({error})"
        raise InputError(found, "the file as the audit wrote it", f"delete it, then {fix}") from error


def _read(path: Path, fix: str, columns: list[str] | None) -> pa.Table:
    """Read a Parquet file of a run directory; `fix` says how to have it made again."""
    require_file(path, fix)
    try:
        # Not read_table: it would read `name=value` folders above the file as columns.
        with pq.ParquetFile(path) as file:
            return file.read(columns)
    except (pa.ArrowException, OSError) as error:
        found = f"{path}, which does not read as Parquet ({error})"
        raise InputError(found, "the file as the audit wrote it", fix) from error


def _again(run: RunDirectory, folder: Path) -> str:
    return f"restore it, or delete {folder} and run imprint audit {run.path}"


def _made_again(path: Path, run: RunDirectory) -> str:
    """How a file beside the audits is made again: one that is there is never replaced."""
    return f"{'delete it, then ' if path.exists() else ''}imprint audit {run.path}"


def _strings(column: pa.ChunkedArray) -> np.ndarray:
    return np.array(column.to_pylist(), dtype=np.str_)
