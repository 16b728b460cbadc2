"""How is a model rebuilt from its checkpoint?"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers.initialization import no_init_weights

from datamodules.errors import InputError
from models.checkpoint_file import AVERAGING, check_progress, check_weights, read_checkpoint_file
from models.fine_tuning import FineTunedEncoder
from models.optimisation import Optimisation, parameter_groups

Model = TypeVar("Model", bound=FineTunedEncoder)


def load_model(kind: type[Model], path: Path, fix: str) -> Model:
    """Load the model of a checkpoint, in eval mode, on the CPU.

    Args:
        kind: Class of the model.
        path: The file.
        fix: The setting that names the file; becomes the `fix` of the error.

    Raises:
        InputError: As `read_checkpoint_file`, arguments of another version, or weights that do not fit them or are not
            finite.
    """
    checkpoint = read_checkpoint_file(path, fix, kind.KIND)
    model = built_model(kind, checkpoint["hyper_parameters"], path, fix)
    check_weights(checkpoint["state_dict"], model.state_dict(), path, fix, kind.KIND)
    model.load_state_dict(checkpoint["state_dict"])
    return model.eval()


def read_resumable(kind: type[Model], path: Path, fix: str) -> dict[str, Any]:
    """Read a checkpoint that training is to go on from, on the CPU, and check all of it without building its weights.

    Args:
        kind: Class of the model.
        path: The file.
        fix: The setting that names the file; becomes the `fix` of the error.

    Raises:
        InputError: As `load_model`, or no optimiser state that fits the weights.
    """
    checkpoint = read_checkpoint_file(path, fix, kind.KIND)
    with torch.device("meta"):
        model = built_model(kind, checkpoint["hyper_parameters"], path, fix)
    check_weights(checkpoint["state_dict"], model.state_dict(), path, fix, kind.KIND)
    if AVERAGING in checkpoint:
        averaging = checkpoint[AVERAGING]
        if not isinstance(averaging, Mapping) or averaging.keys() != {"trained", "n_updates", "last_step"}:
            raise InputError(f"{path}, whose averaging of weights is of another version", kind.KIND.needed, fix)
        trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        check_weights(averaging["trained"], trained, path, fix, kind.KIND)
    any_rates = Optimisation(0.0, 0.0, 0.0, 0.0, "constant", 1, 0)
    groups = parameter_groups(model, any_rates)
    check_progress(checkpoint, [parameter for group in groups for parameter in group["params"]], path, fix)
    return checkpoint


def built_model(kind: type[Model], arguments: Any, path: Path, fix: str) -> Model:
    """Build the model of a checkpoint from its hyper-parameters, for its weights; arguments as `load_model`.

    Raises:
        InputError: Arguments of another version.
    """
    try:
        # To draw weights that are then read takes as long as to read them.
        with no_init_weights():
            return kind(**arguments)
    except Exception as error:  # transformers and tokenizers raise many kinds for arguments they do not know
        said = error.found if isinstance(error, InputError) else " ".join(str(error).split())
        found = f"{path}, a checkpoint of another version or an edited one ({said[:160]})"
        raise InputError(found, kind.KIND.needed, fix) from error
