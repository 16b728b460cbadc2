"""What does one training run of a reward model do, from settings to a checkpoint that audits can name?"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytorch_lightning as pl
import torch

from datamodules.files import require_output, whole_file, write_json
from datamodules.pair_datamodule import PairDataModule
from datamodules.storage import writing
from datamodules.views import ViewRequest
from models.checkpoint_file import REWARD_MODEL, read_checkpoint_file
from models.digest import weights_digest
from models.encoder import load_pretrained
from models.reward_model import RewardModel, load_reward_model
from train.callbacks.console import EpochLines
from train.callbacks.recording_checkpoint_io import RecordingCheckpointIO
from train.pair_accuracy import PairAccuracy, accuracies_of, accuracy_metrics, score_pairs
from train.prepare import accelerator_device, optimisation_of
from train.progress import Progress
from train.reward_config import RewardConfig, check_reward_config, reward_config_to_dict
from train.reward_data import RewardData, read_reward_data, trained_on
from train.run_directory import RunDirectory
from train.tracking import Tracker, open_trackers, wandb_mode
from train.trainer import best_weights, lightning_trainer, quiet_lightning

START_AGAIN = "start the run again"
SHOWN = ("val/loss", "val/accuracy", "val/margin")


@dataclass(frozen=True, slots=True)
class RewardFitResult:
    """What a finished run gives back.

    Attributes:
        run: The run directory.
        best_path: File of the chosen checkpoint.
        weights: Its weights digest.
        output: The copy of it, if one was asked for.
        is_replaced: Whether an older reward model was replaced there.
        test: Accuracy on the other part, over all data sets and, where there are several, in each; empty where there is
            no other part.
        part: Name of that part.
    """

    run: RunDirectory
    best_path: Path
    weights: str
    output: Path | None
    is_replaced: bool
    test: tuple[PairAccuracy, ...]
    part: str


def reward_fit(config: RewardConfig) -> RewardFitResult:
    """Train a reward model and test the best checkpoint on the part of the data that training did not see.

    Raises:
        InputError: A user's mistake, and nothing was written; or a disk that could not be written to.
    """
    check_reward_config(config)
    replaces = _check_output(config.output)
    progress = Progress(config.run.progress)
    pl.seed_everything(config.run.seed, verbose=False)
    device = accelerator_device(config.trainer.accelerator)
    encoder = load_pretrained(config.model.encoder, config.model.revision)
    root = config.data.root or (Path(os.environ["IMPRINT_DATA"]) if os.environ.get("IMPRINT_DATA") else None)
    data = read_reward_data(config.data, root, encoder.tokeniser(), config.run.seed, progress)
    model = RewardModel.from_pretrained(
        encoder,
        ViewRequest(config.data.view, config.data.truncation, config.data.max_length),
        trained_on(config.data, data.read),
        pooling=config.model.pooling,
        dropout=config.model.dropout,
        encoder_dropout=config.model.encoder_dropout,
    )
    datamodule = PairDataModule(
        data.split, encoder.pad_id, config.trainer.batch_size, config.trainer.token_budget, config.run.seed
    )
    model.optimisation = optimisation_of(config.optim, config.trainer, datamodule.batches_per_epoch, config.run.seed)
    track = replace(config.track, wandb=wandb_mode(config.track.wandb))  # type: ignore[arg-type]
    run = _new_run(config, data, device)
    plain = reward_config_to_dict(config)
    tracker = open_trackers(track, run.run_id, run.path, plain, config.run.experiment, job_type="reward-fit")
    exit_code = 1
    try:
        with _told(progress):
            best_path, step = _train(config, run, model, datamodule, tracker, device, progress)
        result = _finish(config, run, best_path, step, data, tracker, device, progress, replaces)
        exit_code = 0
        return result
    finally:
        tracker.finish(exit_code)


def _check_output(output: Path | None) -> bool:
    """Return whether a reward model lies at the output already; anything else there is not replaced."""
    if output is None:
        return False
    require_output(output, "--output")
    if not output.exists():
        return False
    read_checkpoint_file(output, "--output: a new name, or a reward model to replace", REWARD_MODEL)
    return True


def _new_run(config: RewardConfig, data: RewardData, device: torch.device) -> RunDirectory:
    """Make a run directory with everything in it that training starts from, or none."""
    run = RunDirectory.create(config.run.root, config.run.experiment, config.run.seed)
    try:
        with writing(run.path, START_AGAIN):
            preferences = {d.name: {"digest": d.digest, **d.report.to_dict()} for d in data.read}
            run.write_environment(device, {"preferences": preferences}, None)
            write_json(run.path / "splits.json", data.split.ids())
            run.write_config(reward_config_to_dict(config))
    except BaseException:
        shutil.rmtree(run.path, ignore_errors=True)
        raise
    return run


@contextmanager
def _told(progress: Progress) -> Iterator[None]:
    """Say how to go on after a run that was stopped."""
    try:
        yield
    except SystemExit as error:
        # Lightning turns an interrupt into an exit of its own.
        progress.say(f"interrupted; {START_AGAIN}")
        raise KeyboardInterrupt from error


def _train(
    config: RewardConfig,
    run: RunDirectory,
    model: RewardModel,
    datamodule: PairDataModule,
    tracker: Tracker,
    device: torch.device,
    progress: Progress,
) -> tuple[Path, int]:
    """Train and return the file and the step of the best checkpoint."""
    steps: dict[str, int] = {}

    def on_written(weights: str, step: int, path: Path) -> None:
        steps[path.name] = step

    best = best_weights(run, config.trainer.monitor, config.trainer.save_top_k)
    callbacks: list[pl.Callback] = [EpochLines(progress, SHOWN), best]
    checkpoint_io = RecordingCheckpointIO(on_written, lambda: START_AGAIN)
    with quiet_lightning():
        trainer = lightning_trainer(
            config.trainer, device, datamodule.batches_per_epoch, run, callbacks, checkpoint_io, tracker
        )
        trainer.fit(model, datamodule=datamodule)
    path = Path(best.best_model_path)
    return run.checkpoints / path.name, steps[path.name]


def _finish(
    config: RewardConfig,
    run: RunDirectory,
    best_path: Path,
    step: int,
    data: RewardData,
    tracker: Tracker,
    device: torch.device,
    progress: Progress,
    replaces: bool,
) -> RewardFitResult:
    """Test the best checkpoint once and put it where audits find it."""
    model = load_reward_model(best_path, "restore that file").to(device)
    weights = weights_digest(model.state_dict())
    accuracies: tuple[PairAccuracy, ...] = ()
    if data.test is not None:
        with progress.bar("testing", 2 * len(data.test), "texts") as advance:
            rewards = score_pairs(model, data.test, config.trainer.token_budget, advance)
        accuracies = accuracies_of(rewards, data.test, data.test_tallies)
        tracker.log(accuracy_metrics(accuracies), step)
    if config.output is not None:
        with writing(config.output, f"copy {best_path}"), whole_file(config.output) as part:
            shutil.copyfile(best_path, part)
    if config.track.upload != "none":
        metadata = {"weights": weights, "step": step, "trained_on": model.trained_on}
        tracker.log_artifact(f"ckpt-{run.run_id}", "model", [best_path], metadata, ["best"])
    other = "held-out" if config.data.part == "train" else "train"
    return RewardFitResult(run, best_path, weights, config.output, replaces, accuracies, other)
