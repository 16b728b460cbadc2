"""`imprint audit --datasets NAME .. --audits dataset-quality refusals --output DIR`: what do data say without a model?

Every audit of every data set has a folder of its own, `DIR/<data set>/<audit>/`, however many are named.
"""

from collections.abc import Sequence
from typing import Any

from audits.dataset_quality import NAME as QUALITY
from audits.refusals import AUDIT as REFUSALS
from datamodules.errors import InputError
from datamodules.files import require_output
from datamodules.storage import writing
from experiments.completions_report import pair_refusals_text
from experiments.quality_report import quality_report
from experiments.root_flag import naming_root_flag
from experiments.summary import SAMPLE_NOTE
from train.audit_config import AuditConfig
from train.config import DataConfig
from train.data_audits import DATA_AUDITS, FILES, audit_data, data_audits_of, whole_folder
from train.inputs import data_root, read_audited_data
from train.progress import Progress

REPORTS = {QUALITY: quality_report, REFUSALS: pair_refusals_text}
# Flags of `imprint audit` that say something about a model.
OF_A_MODEL = ("thresholds", "gold", "max_length", "pending", "target_vectors")


def audit_files(settings: Any) -> int:
    """Audit the data sets that the flags of `imprint audit` name, each into a folder of its own under --output.

    Raises:
        InputError: An audit that needs a checkpoint, flags that are missing or about a model, an output that is there,
            data that cannot be read.
    """
    _require_usable(settings)
    config = AuditConfig(datasets=list(settings.datasets), audits=list(settings.audits))
    with naming_root_flag():
        preferences = read_audited_data(config, data_root(DataConfig(root=settings.root)))
    progress = Progress()
    names = data_audits_of(config)
    with writing(settings.output, "start the command again"), whole_folder(settings.output) as part:
        tables = [
            {name: audit_data(name, data, part / data.name / name, "", progress) for name in names}
            for data in preferences
        ]
    for data, own in zip(preferences, tables, strict=True):
        for name, table in own.items():
            print(REPORTS[name](table), end="")
            print(f"{', '.join(FILES[name])}: {settings.output / data.name / name}\n")
        if data.is_sample:
            print(f"{SAMPLE_NOTE}\n")
    return 0


def require_checkpoint_audits(names: Sequence[str] | None) -> None:
    """Raise InputError where an audit that needs no checkpoint is asked for with one."""
    if own := [name for name in names or () if name in DATA_AUDITS]:
        found = f"audit {own[0]} with --checkpoint, which it does not need"
        raise InputError(found, "audits of a checkpoint", f"leave --checkpoint out, or {own[0]} out of --audits")


def _require_usable(settings: Any) -> None:
    """Raise InputError for flags that cannot be meant, before anything is read."""
    if other := [name for name in settings.audits if name not in DATA_AUDITS]:
        found = f"audit {other[0]!r} without a run directory and without --checkpoint"
        needed = f"one of them, or audits that need neither: {', '.join(DATA_AUDITS)}"
        raise InputError(found, needed, "name a run directory or --checkpoint FILE, or change --audits")
    if given := [name for name in OF_A_MODEL if getattr(settings, name)]:
        found = f"--{given[0]} with audits that need no model"
        raise InputError(found, "--datasets, --root and --output alone", "leave it out")
    if missing := [name for name in ("datasets", "output") if getattr(settings, name) is None]:
        found = f"no --{missing[0]} for {', '.join(settings.audits)}"
        raise InputError(found, "--datasets and --output", f"add --{missing[0]}")
    if settings.output.exists():
        raise InputError(f"something at {settings.output} already", "a new folder", "--output")
    require_output(settings.output, "--output")
