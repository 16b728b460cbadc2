"""What is read, checked and built before training starts?"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from datamodules.annotated_text import AnnotatedData
from datamodules.annotation_datamodule import AnnotationDataModule, TokenisedSplit, TokenisedSplits, tokenise_splits
from datamodules.errors import InputError
from datamodules.feature_batches import FeatureDataModule
from datamodules.joint_splits import joined_splits, part_of
from datamodules.preferences import PreferenceData
from datamodules.splits import Splits, one_class_lines, require_contrast
from datamodules.taxonomy import Taxonomy
from datamodules.tokenise import Tokeniser
from datamodules.views import ViewRequest
from models.calibration_file import FALSE_NEGATIVE_RATE
from models.classifier import Optimisation, ValueClassifier
from models.encoder import PretrainedEncoder, load_pretrained
from models.ensemble import Scorer
from models.evaluation import is_single_positive
from models.heads import MLP_WIDTH
from models.tasks import joint_metrics
from train.audit_setup import AuditSetup, build_setup
from train.check_config import check_config
from train.config import Config, ModelConfig, OptimConfig, TrainerConfig
from train.data_audits import needs_checkpoint
from train.inputs import (
    Annotations,
    data_root,
    labels_without_positives,
    read_annotated_data,
    read_audited_data,
    read_further_data,
    split_with_further,
)
from train.loss_arguments import further_loss_arguments, further_losses_of, loss_arguments
from train.progress import Progress
from train.reward_config import RewardTrainerConfig
from train.shared import Shared
from train.training_texts import training_digests


@dataclass(frozen=True, slots=True)
class Prepared:
    """A checked run that has not written anything yet.

    Attributes:
        annotations: The texts, split.
        model: The classifier with pretrained encoder weights.
        datamodule: The tokenised splits.
        setup: What to audit at every checkpoint; None when such audits are off.
        training_texts: Digests of the texts of training and validation, uint64 [n].
        optimisation: Learning rates and number of steps.
        device: Where to train and score.
        monitor: Validation metric that picks the best checkpoint.
        preferences: The preference data sets to audit; none when audits are off.
    """

    annotations: Annotations
    model: ValueClassifier
    datamodule: AnnotationDataModule | FeatureDataModule
    setup: AuditSetup | None
    training_texts: np.ndarray
    optimisation: Optimisation
    device: torch.device
    monitor: str
    preferences: tuple[PreferenceData, ...] = ()


def prepare(config: Config, progress: Progress, shared: Shared | None = None) -> Prepared:
    """Read and check everything, build the model; writes nothing but the token cache.

    Args:
        config: The settings.
        progress: Shows the work.
        shared: What earlier runs of a sweep have read and built; it grows. None begins anew.

    Raises:
        InputError: A user's mistake.
    """
    check_config(config)
    torch.set_float32_matmul_precision(config.trainer.matmul_precision)
    shared = Shared() if shared is None else shared
    texts_from = [config.data, data_root(config.data)]
    data = shared.once("texts", texts_from, lambda: read_annotated_data(config.data))
    # Before anything can be wrong with the labels: the report tells what was not read.
    for line in report_lines(data):
        progress.say(line)
    further = shared.once("further texts", texts_from, lambda: read_further_data(config.data))
    for line in (line for own in further for line in report_lines(own)):
        progress.say(line)
    annotations = shared.once("splits", texts_from, lambda: split_with_further(data, further, config.data))
    further_losses = further_losses_of(config.data.also, [own.splits.train for own in annotations.further])
    for own, loss in zip(annotations.all, (config.model.loss, *further_losses), strict=True):
        if annotations.further:
            progress.say(f"{own.data.name}: {len(own.taxonomy.labels)} labels of {own.taxonomy.name}, loss {loss}")
        _check_labels(own, loss, progress)
    audited = _audited_data(config, shared)
    name, revision = config.model.encoder, config.model.revision
    encoder = shared.once("encoder", [name, revision], lambda: load_pretrained(name, revision))
    view = ViewRequest(config.data.view, config.data.truncation, config.data.max_length)
    tokeniser = encoder.tokeniser(config.model.window)
    tokens_from = [*texts_from, name, revision, config.model.window]
    tokens = shared.once("tokens", tokens_from, lambda: tokenise_annotations(annotations, tokeniser, view))
    datamodule = AnnotationDataModule(
        tokens, tokeniser.pad_id, config.trainer.batch_size, config.audit.token_budget, config.run.seed
    )
    # Here, so that a head begins the same whatever was read before, or not read again.
    pl.seed_everything(config.run.seed, verbose=False)
    targets = [np.array([text.labels for text in own.splits.train], dtype=np.int64) for own in annotations.all]
    further_arguments = [
        {"taxonomy": own.taxonomy.to_dict(), **further_loss_arguments(config.model, each, loss, known)}
        for own, each, loss, known in zip(
            annotations.further, config.data.also, further_losses, targets[1:], strict=True
        )
    ]
    model = _classifier(config.model, encoder, annotations.taxonomy, view, targets[0], further_arguments or None)
    device = accelerator_device(config.trainer.accelerator)
    seen_texts = training_digests([own.splits for own in annotations.all], view)
    setup = None
    if audited and needs_checkpoint(config.audit):
        cache_dir = config.run.cache_dir
        setup = shared.once(
            "audits",
            [config.audit, *tokens_from, cache_dir, device],
            lambda: build_setup(config.audit, audited, model, cache_dir, device, progress, seen_texts),
        )
    return Prepared(
        annotations=annotations,
        model=model,
        datamodule=datamodule,
        setup=setup,
        training_texts=seen_texts,
        optimisation=optimisation_of(config.optim, config.trainer, datamodule.batches_per_epoch, config.run.seed),
        device=device,
        monitor=checked_monitor(config.trainer.monitor, datamodule.val, model),
        preferences=audited,
    )


def _check_labels(annotations: Annotations, loss: str, progress: Progress) -> None:
    """Tell how a data set was split, and check that a classifier can learn from it."""
    splits, taxonomy = annotations.splits, annotations.taxonomy
    for line in split_lines(splits):
        progress.say(line)
    if empty := labels_without_positives(taxonomy, splits):
        progress.say(f"warning: no training text carries {', '.join(empty)}; the classifier cannot learn them")
    require_contrast(splits.train, taxonomy.labels)
    for line in one_class_lines(splits, taxonomy.labels):
        progress.say(line)
    require_usable_loss(loss, splits)


def tokenise_annotations(annotations: Annotations, tokeniser: Tokeniser, view: ViewRequest) -> TokenisedSplits:
    """Tokenise all splits under a view, those of several data sets put together."""
    return joined_splits([tokenise_splits(own.splits, tokeniser, view) for own in annotations.all])


def _classifier(
    config: ModelConfig,
    encoder: PretrainedEncoder,
    taxonomy: Taxonomy,
    view: ViewRequest,
    targets: np.ndarray,
    further: list[dict[str, Any]] | None,
) -> ValueClassifier:
    """Build the classifier; `targets` are those of training, `further` further taxonomies."""
    return ValueClassifier.from_pretrained(
        encoder,
        taxonomy,
        view,
        **loss_arguments(config, targets),
        pooling=config.pooling,
        dropout=config.dropout,
        encoder_dropout=config.encoder_dropout,
        max_false_negative_rate=bound_of(config),
        head=config.head,
        head_width=(config.head_width or MLP_WIDTH) if config.head == "mlp" else None,
        encoder_training=config.encoder_training,
        lora=lora_of(config),
        window=config.window,
        further=further,
    )


def _audited_data(config: Config, shared: Shared) -> tuple[PreferenceData, ...]:
    if not config.audit.enabled:
        return ()
    root = data_root(config.data)
    return shared.once("preferences", [config.audit, root], lambda: read_audited_data(config.audit, root))


def bound_of(model: ModelConfig) -> float | None:
    """Return the bound on the false-negative rate that thresholds are to keep; None where they maximise F1."""
    return model.max_false_negative_rate if model.decision == FALSE_NEGATIVE_RATE else None


def lora_of(model: ModelConfig) -> dict[str, Any] | None:
    """Return the fields of `Lora` that are set, as the classifier takes them; None without adapters."""
    if model.encoder_training != "lora":
        return None
    fields = {name: getattr(model, f"lora_{name}") for name in ("rank", "alpha", "dropout", "targets")}
    return {name: value for name, value in fields.items() if value is not None}


def require_usable_loss(loss: str, splits: Splits) -> None:
    """Raise InputError for `bce` on texts without any known negative: masked so, every score would only rise."""
    if loss == "bce" and not any(0 in text.labels for text in splits.train):
        found = "loss bce, but every training text names values that hold and leaves the others unknown"
        raise InputError(found, "a loss for single positives", "--model.loss wan, or softmax as published")


def accelerator_device(accelerator: str) -> torch.device:
    """Return the device of an accelerator setting.

    Raises:
        InputError: `gpu` without one.
    """
    if accelerator == "gpu" and not torch.cuda.is_available():
        found = f"no GPU that torch {torch.__version__} can use"
        raise InputError(found, "a GPU and a CUDA build of torch", "--trainer.accelerator auto, or install one")
    return torch.device("cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu")


def optimisation_of(
    optim: OptimConfig, trainer: TrainerConfig | RewardTrainerConfig, batches_per_epoch: int, seed: int
) -> Optimisation:
    """Count the optimiser steps from data and settings: asking the trainer breaks exact resume (PL#20550)."""
    batches = min(batches_per_epoch, trainer.limit_train_batches or batches_per_epoch)
    steps = -(-batches // trainer.accumulate)
    return Optimisation(**asdict(optim), total_steps=steps * trainer.max_epochs, seed=seed)


def checked_monitor(requested: str, val: TokenisedSplit, model: Scorer) -> str:
    """Return the metric that picks the best checkpoint.

    Raises:
        InputError: A name that validation does not log, or one that the validation labels leave undefined.
    """
    # Which metrics are defined depends on the labels alone, so any scores tell.
    scores = np.random.default_rng(0).normal(size=val.targets.shape)
    metrics = joint_metrics(model.tasks, scores, val.targets, val.groups)
    losses = [f"val/{task.qualified('loss')}" for task in model.tasks]
    defined = [*losses, *(f"val/{name}" for name, value in metrics.items() if math.isfinite(value))]
    main = part_of(val, model.tasks[0].columns).targets
    automatic = "val/f1_top1_macro" if is_single_positive(main) else "val/ap_macro"
    monitor = automatic if requested == "auto" else requested
    if monitor not in defined:
        # Of a further taxonomy they are val/<taxonomy>/<name>; all others with so many parts are of one value.
        starts = tuple(f"val/{task.qualified('')}" for task in model.tasks)
        averages = [name for name in defined if any("/" not in name.removeprefix(start) for start in starts)]
        exists = f"val/{monitor.removeprefix('val/')}" in (*losses, *(f"val/{name}" for name in metrics))
        why = f"which {len(val.texts)} validation texts leave undefined" if exists else "which does not exist"
        found = f"metric {monitor}, {why}"
        raise InputError(found, f"one of {', '.join(averages)}", "--trainer.monitor, or a larger --data.val_fraction")
    return monitor


def report_lines(data: AnnotatedData) -> list[str]:
    """What was read, for the console."""
    return [*data.report.lines(), *(data.test_report.lines() if data.test_report is not None else [])]


def split_lines(splits: Splits) -> list[str]:
    """How it was split, for the console."""
    sizes = [f"{len(texts):,} {name}" for name, texts in splits.by_name.items()]
    lines = [f"split: {', '.join(sizes)} texts"]
    if splits.n_leaks_dropped or splits.n_test_groups_shared:
        lines.append(
            f"  {splits.n_leaks_dropped:,} training texts dropped that are in the test file too; "
            f"{splits.n_test_groups_shared:,} test texts share a group with training"
        )
    if n := splits.n_overlaps_dropped:
        lines.append(f"  {n:,} training texts dropped that another data set validates or tests on")
    return lines
