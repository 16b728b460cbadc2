"""When is a frozen encoder run only once? Where pooled vectors are all that its head reads.

A head is then trained, validated and audited on vectors of the cache, with the same numbers as with the encoder in the
loop, and its checkpoints hold the encoder as any others do.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import torch

from datamodules.annotation_datamodule import TokenisedSplits
from datamodules.feature_batches import FeatureDataModule
from models.checkpoint_file import read_checkpoint_file
from models.classifier import ValueClassifier
from models.digest import ENCODER, State, frozen_digest, weights_digest
from models.ensemble import Scorer
from models.precision import resolve_precision
from train.audit_setup import AuditSetup
from train.audited_data import AuditedData
from train.config import Config
from train.feature_cache import FeatureCache, corpus_features, with_features
from train.prepare import Prepared
from train.progress import Progress


def uses_features(model: Scorer) -> bool:
    """Tell whether the encoder is a fixed function that gives the head one vector a text."""
    if not isinstance(model, ValueClassifier):
        # Each member of an ensemble has an encoder of its own.
        return False
    return model.encoder_training == "frozen" and model.has_vector_features


def run_digest(model: ValueClassifier) -> Callable[[State], str]:
    """Return `weights_digest` for a run that trains this model; a frozen encoder is read only once for it."""
    return frozen_digest(model) if model.encoder_training == "frozen" else weights_digest


def scoring_precision(requested: str, model: Scorer, device: torch.device) -> str:
    """Return the number format of scoring, `float32` or `bf16`.

    `auto` is float32 for a frozen encoder whose vectors are kept: it runs once, so that nothing is gained by rounding.
    """
    return "float32" if requested == "auto" and uses_features(model) else resolve_precision(requested, device)


def scoring_setup(setup: AuditSetup, model: Scorer, requested: str, folder: Path) -> AuditSetup:
    """Return an audit set-up that scores the corpora of a frozen encoder from the cache, any other as it is.

    Args:
        setup: What is audited.
        model: One of the checkpoints, all of one architecture.
        requested: Number format as it was asked for.
        folder: Folder of the cache.
    """
    if not uses_features(model):
        return setup
    precision = scoring_precision(requested, model, next(model.parameters()).device)
    return replace(setup, precision=precision, features=FeatureCache(folder, precision, setup.token_budget))


def with_cached_features(
    prepared: Prepared, config: Config, progress: Progress, checkpoint: Path | None = None
) -> Prepared:
    """Compute what a frozen encoder makes of all texts, or read it from the cache; other models stay as they are.

    Args:
        prepared: The run.
        config: Its settings.
        progress: Shows the work.
        checkpoint: Where training goes on from: its encoder counts, whatever the settings name.

    Raises:
        InputError: The cache cannot be written, or an encoder that gives no finite vectors.
    """
    model = prepared.model
    if model.encoder_training != "frozen":
        return prepared
    if not model.has_vector_features:
        progress.say("frozen encoder, but the head reads token states, which are not cached: it runs in every epoch")
        return prepared
    if checkpoint is not None:
        state = read_checkpoint_file(checkpoint, "--resume")["state_dict"]
        model.encoder.load_state_dict({n.removeprefix(ENCODER): state[n] for n in state if n.startswith(ENCODER)})
    model.to(prepared.device)
    folder, tokens = config.run.cache_dir, prepared.datamodule
    precision = scoring_precision(config.audit.precision, model, prepared.device)
    cache = FeatureCache(folder, precision, config.audit.token_budget)
    splits = TokenisedSplits(tokens.train, tokens.val, tokens.test)
    splits = with_features(model, splits, cache, config.data.name, progress)
    setup = prepared.setup
    if setup is not None:
        setup = scoring_setup(setup, model, config.audit.precision, folder)
        # Now: a full disk is told before there is a run that it could stop.
        for audited in _with_rewritten(setup.audited):
            corpus_features(model, audited.corpus, cache, progress)
    progress.say(f"frozen encoder: the head is trained on pooled features ({precision})")
    datamodule = FeatureDataModule(splits, config.trainer.batch_size, config.run.seed)
    return replace(prepared, datamodule=datamodule, setup=setup)


def _with_rewritten(audited: Iterable[AuditedData]) -> Iterable[AuditedData]:
    for data in audited:
        yield data
        if data.rewritten_data is not None:
            yield data.rewritten_data
