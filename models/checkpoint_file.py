"""Is a file a whole checkpoint of the model that is asked for?

Whatever it holds, nothing in it is run: it is read under `weights_only=True`, and only when it is a torch archive at
all. What a truncated copy, a foreign file or a diverged run looks like is told apart here.
"""

import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from datamodules.errors import InputError
from datamodules.files import first_line


@dataclass(frozen=True, slots=True)
class CheckpointKind:
    """What tells the checkpoints of one model.

    Attributes:
        name: What it is, for messages.
        needed: What is asked for, for messages.
        parameters: Names that its `hyper_parameters` have, the first of them no other model.
    """

    name: str
    needed: str
    parameters: tuple[str, ...]


CHECKPOINT_NEEDED = "a checkpoint written by `imprint fit`"
CLASSIFIER = CheckpointKind("a value classifier", CHECKPOINT_NEEDED, ("taxonomy", "encoder_config"))
ENSEMBLE = CheckpointKind(
    "an ensemble of value classifiers", "a checkpoint written by `imprint ensemble`", ("members", "taxonomy")
)
# A classifier or an ensemble of them.
SCORER = CheckpointKind("a value classifier", CHECKPOINT_NEEDED, ("taxonomy",))
REWARD_MODEL = CheckpointKind(
    "a reward model", "a checkpoint written by `imprint reward fit`", ("trained_on", "encoder_config")
)
# Where weights are averaged, `state_dict` has the average, and this what training goes on from: `trained` weights, the
# numbers `n_updates` of the average and `last_step` of the last one.
AVERAGING = "averaging"
# What Lightning goes on from, besides the weights.
_PROGRESS = ("epoch", "global_step", "loops", "optimizer_states", "lr_schedulers", "pytorch-lightning_version")
_MOST_NAMED = 3


def read_checkpoint_file(path: Path, fix: str, kind: CheckpointKind = CLASSIFIER) -> dict[str, Any]:
    """Read a checkpoint on the CPU and check that it is one of the model asked for; its weights are not checked yet.

    Args:
        path: The file.
        fix: The setting that names the file; becomes the `fix` of the error.
        kind: The model asked for.

    Raises:
        InputError: No such file, empty, cut off, not a torch archive, with objects that are no plain values, or a
            checkpoint of something else.
    """
    if not path.is_file():
        raise InputError(f"{'a folder' if path.is_dir() else 'no file'} at {path}", kind.needed, fix)
    checkpoint = _unpacked(path, fix, kind.needed)
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        found = f"{path}, a checkpoint of something else (it has no `state_dict`)"
        raise InputError(found, kind.needed, fix)
    parameters = checkpoint.get("hyper_parameters")
    if not _is_of(kind, parameters):
        other = next((other for other in (CLASSIFIER, ENSEMBLE, REWARD_MODEL) if _is_of(other, parameters)), None)
        lacking = " and no ".join(kind.parameters)
        what = other.name if other else f"something else (its `hyper_parameters` have no {lacking})"
        raise InputError(f"{path}, a checkpoint of {what}", kind.needed, fix)
    return dict(checkpoint)


def _is_of(kind: CheckpointKind, parameters: Any) -> bool:
    return isinstance(parameters, dict) and all(name in parameters for name in kind.parameters)


def check_progress(checkpoint: Mapping[str, Any], parameters: Sequence[torch.Tensor], path: Path, fix: str) -> None:
    """Check that training can go on from a checkpoint.

    Args:
        checkpoint: What was read.
        parameters: What the optimiser moves, in its order, perhaps on the meta device.
        path: The file, for messages.
        fix: The setting that names the file.

    Raises:
        InputError: No state of loops and optimiser, as in the files with weights only, or state of another model.
    """
    needed = "a checkpoint with the state of the optimiser, as `imprint fit` writes last.ckpt"
    if missing := [name for name in _PROGRESS if name not in checkpoint]:
        raise InputError(f"{path}, which training cannot go on from (it has no {', '.join(missing)})", needed, fix)
    try:
        states = checkpoint["optimizer_states"][0]["state"]
        fits = all(
            _is_dense(states[i][name]) and states[i][name].shape == parameter.shape
            for i, parameter in enumerate(parameters)
            for name in ("exp_avg", "exp_avg_sq")
        )
    except (KeyError, IndexError, TypeError, AttributeError):
        fits = False
    if not fits:
        # torch would not tell: the fused optimiser reads past the end of a state that is too short.
        raise InputError(f"{path}, whose optimiser state is not that of its own weights", needed, fix)


def check_weights(
    weights: Any, expected: Mapping[str, torch.Tensor], path: Path, fix: str, kind: CheckpointKind = CLASSIFIER
) -> None:
    """Check the weights of a checkpoint against those that its own architecture has.

    Args:
        weights: The `state_dict` that was read.
        expected: A state dict with the right names and shapes, perhaps on the meta device.
        path: The file, for messages.
        fix: The setting that names the file.
        kind: The model asked for.

    Raises:
        InputError: Tensors that are missing, too many, of another shape, or not finite; the first few are named.
    """
    if not isinstance(weights, Mapping):
        raise InputError(f"{path}, whose `state_dict` is a {type(weights).__name__}", kind.needed, fix)
    problems = [f"no {name}" for name in expected if name not in weights]
    problems += [f"{name} too many" for name in weights if name not in expected]
    for name in (name for name in expected if name in weights):
        tensor, shape = weights[name], tuple(expected[name].shape)
        if not isinstance(tensor, torch.Tensor):
            problems.append(f"{name} is a {type(tensor).__name__}")
        elif not _is_dense(tensor):
            problems.append(f"{name} is not a dense tensor")
        elif tuple(tensor.shape) != shape:
            problems.append(f"{name} is {list(tensor.shape)}, not {list(shape)}")
    if problems:
        found = f"{path}, whose weights are not those of its own architecture ({_listed(problems)})"
        raise InputError(found, kind.needed, fix)
    bad = [name for name, tensor in weights.items() if not bool(torch.isfinite(tensor).all())]
    if bad:
        found = f"{path}, with weights that are not finite ({_listed(bad)}): training had diverged"
        raise InputError(found, "finite weights", f"take an earlier checkpoint, or train with a lower rate; {fix}")


def _is_dense(tensor: torch.Tensor) -> bool:
    return tensor.layout == torch.strided and not tensor.is_nested and not tensor.is_quantized


def _unpacked(path: Path, fix: str, needed: str) -> Any:
    with path.open("rb") as file:
        start = file.read(4)
    if start != b"PK\x03\x04":
        found = f"{path}, which is {'empty' if not start else 'not a torch checkpoint'}"
        raise InputError(found, needed, fix)
    if not zipfile.is_zipfile(path):
        found = f"{path}, which is cut off: its end is missing ({path.stat().st_size:,} bytes are there)"
        raise InputError(found, "a whole checkpoint", f"copy the file again; {fix}")
    with zipfile.ZipFile(path) as archive:
        is_torch = any(name.endswith("data.pkl") for name in archive.namelist())
    if not is_torch:
        raise InputError(f"{path}, a zip archive that is not a torch checkpoint", needed, fix)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many kinds for a corrupt file
        raise InputError(f"{path}, {_reason(error)}", needed, fix) from error


def _reason(error: Exception) -> str:
    """Say in few words why torch did not load an archive; its own message tells how to run what is inside."""
    if named := re.search(r"GLOBAL (\S+)", str(error)):
        return f"which holds more than tensors and plain values ({named[1]}); not loaded, as that could run code"
    return f"which does not load as a torch checkpoint ({first_line(error) or type(error).__name__})"


def _listed(names: list[str]) -> str:
    rest = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {rest} more" if rest > 0 else "")
