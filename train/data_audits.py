"""Which audits need no checkpoint, and how are they run? Once per data revision, on the texts alone."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from audits.dataset_quality import NAME as QUALITY
from audits.dataset_quality import DatasetQuality, finding_examples
from audits.pair_refusals import pair_refusal_table
from audits.refusals import AUDIT as REFUSALS
from audits.table import read_table, stamp, write_table
from datamodules.errors import InputError
from datamodules.files import digest_of, file_digest, write_json
from datamodules.identity_terms import TERMS_FILE, identity_terms
from datamodules.pair_quality import PAIR_FINDINGS, PROMPT_FINDINGS, RESPONSE_FINDINGS, PairQuality, measure_pairs
from datamodules.preference_data import PreferenceData
from datamodules.refusals import CLASS_MEANINGS
from datamodules.storage import writing
from train.audit_config import AuditConfig
from train.progress import Progress
from train.run_directory import RunDirectory

DATA_AUDITS = (QUALITY, REFUSALS)
# What they measure with, besides this project's own code.
LIBRARIES = {QUALITY: ("ftfy", "py3langid"), REFUSALS: ()}
# What each writes into a folder of its own.
FILES = {
    QUALITY: ("table.parquet", "examples.parquet", "meta.json"),
    REFUSALS: ("table.parquet", "meta.json"),
}


@dataclass(frozen=True, slots=True)
class DataAudit:
    """One audit of one data set in a run.

    Attributes:
        audit: One of `DATA_AUDITS`.
        dataset: Name of the data set.
        folder: Where it lies.
        table: Its rows.
        is_new: Whether it was made now, and not there before.
    """

    audit: str
    dataset: str
    folder: Path
    table: pa.Table
    is_new: bool


def needs_checkpoint(config: AuditConfig) -> bool:
    """Tell whether any of the configured audits is of a checkpoint; an unknown name is taken for one."""
    return not config.audits or any(name not in DATA_AUDITS for name in config.audits)


def data_audits_of(config: AuditConfig) -> tuple[str, ...]:
    """Return the configured audits that need no checkpoint, each once, in the order of the setting."""
    return tuple(name for name in dict.fromkeys(config.audits) if name in DATA_AUDITS)


def data_audit_key(name: str, data: PreferenceData) -> str:
    """Digest of the data and of everything that an audit measures with, as hex."""
    folders = [Path(__file__).parent.parent / folder for folder in ("audits", "datamodules")]
    code = [file_digest(path) for folder in folders for path in sorted(folder.rglob("*.py"))]
    return digest_of([name, data.digest, file_digest(TERMS_FILE), code, _versions(name)])


def measured(data: PreferenceData, progress: Progress) -> PairQuality:
    """Measure the pairs of a data set, and show it."""
    with progress.bar(f"looking at {data.name}", len(data.index), "pairs") as advance:
        return measure_pairs(data, advance)


def audit_data(name: str, data: PreferenceData, folder: Path, run_id: str, progress: Progress) -> pa.Table:
    """Run one audit of one data set, and write `FILES` of it into a folder.

    Args:
        name: One of `DATA_AUDITS`.
        data: The data set.
        folder: Where to write; it appears when everything is in it.
        run_id: Goes into the table; empty outside a run.
        progress: Shows the work.

    Returns:
        The rows.
    """
    examples = None
    if name == QUALITY:
        quality = measured(data, progress)
        rows, examples = DatasetQuality().rows(quality), finding_examples(quality)
    else:
        rows = pair_refusal_table(data)
    key = data_audit_key(name, data)
    table = stamp(rows, run_id=run_id, step=None, epoch=None, weights="", audit_key=key)
    with whole_folder(folder) as part:
        write_table(table, part / "table.parquet")
        if examples is not None:
            pq.write_table(examples, part / "examples.parquet", compression="zstd")
        write_json(part / "meta.json", _meta(name, data, key, run_id))
    return table


def audit_data_of_run(
    run: RunDirectory, config: AuditConfig, preferences: Sequence[PreferenceData], progress: Progress
) -> tuple[DataAudit, ...]:
    """Run the configured audits that need no checkpoint, unless the run holds them for these very data.

    Returns:
        All of them, those that were there before too.

    Raises:
        InputError: The run directory cannot be written to.
    """
    found: list[DataAudit] = []
    for name in data_audits_of(config):
        for data in preferences:
            folder = run.path / "audits" / f"{name}-{data.name}-{data_audit_key(name, data)[:8]}"
            table = _whole_table(folder)
            is_new = table is None
            if table is None:
                with writing(folder, "start the command again"):
                    shutil.rmtree(folder, ignore_errors=True)
                    table = audit_data(name, data, folder, run.run_id, progress)
                progress.say(f"  {name} of {data.name}: {', '.join(FILES[name])} in {folder}")
            found.append(DataAudit(name, data.name, folder, table, is_new))
    return tuple(found)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path` that is renamed to it on success and removed on failure."""
    part = path.with_name(f".{path.name}.part{os.getpid()}")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        yield part
        part.rename(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _whole_table(folder: Path) -> pa.Table | None:
    """Return the rows of an audit that is there already; None where there is none, or a damaged one."""
    try:
        return read_table(folder / "table.parquet")
    except InputError:
        return None


def _meta(name: str, data: PreferenceData, key: str, run_id: str) -> dict[str, Any]:
    """Provenance of an audit: of which data, with what, and what its findings mean."""
    meta = {
        "audit": name,
        "run_id": run_id,
        "audit_key": key,
        "dataset": {"name": data.name, "digest": data.digest, "is_sample": data.is_sample},
        "report": data.report.to_dict(),
        "response_classes": CLASS_MEANINGS,
        "versions": _versions(name),
    }
    if name == QUALITY:
        terms = identity_terms()
        meta["findings"] = {"pairs": PAIR_FINDINGS, "responses": RESPONSE_FINDINGS, "prompts": PROMPT_FINDINGS}
        meta["identity_terms"] = {"name": terms.name, "source": terms.source, "licence": terms.licence}
    return meta


def _versions(name: str) -> dict[str, str]:
    return {library: version(library) for library in LIBRARIES[name]}
