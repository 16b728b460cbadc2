"""What is read, checked and built before an ensemble is written?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from datamodules.annotation_datamodule import AnnotationDataModule
from datamodules.preferences import PreferenceData
from models.ensemble import ValueEnsemble
from train.audit_setup import AuditSetup, build_setup
from train.check_config import check_config
from train.config import Config
from train.data_audits import needs_checkpoint
from train.ensemble_members import Member, require_same_texts, require_texts_of
from train.inputs import Annotations, data_root, read_annotations_and_split, read_audited_data
from train.prepare import accelerator_device, checked_monitor, report_lines, split_lines, tokenise_annotations
from train.progress import Progress
from train.training_texts import training_digests


@dataclass(frozen=True, slots=True)
class PreparedEnsemble:
    """A checked ensemble that has not written anything yet; attributes as `prepare.Prepared`."""

    annotations: Annotations
    model: ValueEnsemble
    datamodule: AnnotationDataModule
    setup: AuditSetup | None
    training_texts: np.ndarray
    device: torch.device
    monitor: str
    preferences: tuple[PreferenceData, ...]


def prepare_ensemble(members: Sequence[Member], config: Config, progress: Progress) -> PreparedEnsemble:
    """Read texts and audited data, check them against what the members learnt; writes nothing but caches.

    Args:
        members: The members.
        config: Settings of the ensemble.
        progress: Shows the work.

    Raises:
        InputError: Members that learnt other texts, texts that have changed since, or data that cannot be read.
    """
    check_config(config)
    torch.set_float32_matmul_precision(config.trainer.matmul_precision)
    runs = list({member.run.path: member.run for member in members}.values())
    require_same_texts(runs)
    annotations = read_annotations_and_split(config.data)
    for own in annotations.all:
        for line in [*report_lines(own.data), *split_lines(own.splits)]:
            progress.say(line)
    model = ValueEnsemble.of([member.model for member in members])
    seen_texts = training_digests([own.splits for own in annotations.all], model.view)
    require_texts_of(runs[0], annotations, seen_texts)
    device = accelerator_device(config.trainer.accelerator)
    tokens = tokenise_annotations(annotations, model.tokeniser, model.view)
    setup = None
    audited: tuple[PreferenceData, ...] = ()
    if config.audit.enabled:
        audited = read_audited_data(config.audit, data_root(config.data))
    if audited and needs_checkpoint(config.audit):
        cache_dir = config.run.cache_dir
        setup = build_setup(config.audit, audited, model, cache_dir, device, progress, seen_texts)
    sizes = config.trainer.batch_size, config.audit.token_budget, config.run.seed
    return PreparedEnsemble(
        annotations=annotations,
        model=model.to(device),
        datamodule=AnnotationDataModule(tokens, model.tokeniser.pad_id, *sizes),
        setup=setup,
        training_texts=seen_texts,
        device=device,
        monitor=checked_monitor(config.trainer.monitor, tokens.val, model),
        preferences=audited,
    )
