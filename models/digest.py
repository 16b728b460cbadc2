"""Which weights are these?"""

import hashlib
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

State = Mapping[str, torch.Tensor]
ENCODER = "encoder."


def weights_digest(state: State) -> str:
    """Return the sha256 over names, types, shapes and bytes of a state dict, in name order, as hex.

    It identifies a checkpoint whatever its path, step or file layout.
    """
    digest = hashlib.sha256()
    _update(digest, state, sorted(state))
    return digest.hexdigest()


class FrozenDigest:
    """`weights_digest` of the states of one model with a frozen encoder, which is read again only when it has changed.

    A tensor counts as unchanged where it lies in the same place and torch has counted no write to it since. (Writes
    through `.data` or in inference mode are not counted: nothing here does that to a frozen encoder.)
    """

    def __init__(self) -> None:
        self._marks: list[tuple[Any, ...]] = []
        # Held, so that no other tensor can come to lie in their place.
        self._held: list[torch.Tensor] = []
        self._digest = hashlib.sha256()

    def __call__(self, state: State) -> str:
        """Return what `weights_digest` does."""
        names = sorted(state)
        frozen = list(takewhile(lambda name: name.startswith(ENCODER), names))
        digest = self._read(state, frozen)
        _update(digest, state, names[len(frozen) :])
        return str(digest.hexdigest())

    def of_encoder(self, state: State) -> str:
        """Return `weights_digest` of the encoder alone, its names as in the state of the model."""
        return str(self._read(state, sorted(name for name in state if name.startswith(ENCODER))).hexdigest())

    def _read(self, state: State, names: Sequence[str]) -> Any:
        """Return a sha256 of these tensors that can be gone on with."""
        tensors = [state[name].detach() for name in names]
        marks = [(name, *_mark(tensor)) for name, tensor in zip(names, tensors, strict=True)]
        if marks != self._marks:
            self._digest = hashlib.sha256()
            _update(self._digest, state, names)
            self._marks, self._held = marks, tensors
        return self._digest.copy()


# One for each model, for all that save or score it.
_known: WeakKeyDictionary[nn.Module, FrozenDigest] = WeakKeyDictionary()


def frozen_digest(model: nn.Module) -> FrozenDigest:
    """Return the `FrozenDigest` of a model with a frozen encoder."""
    return _known.setdefault(model, FrozenDigest())


def _update(digest: Any, state: State, names: Sequence[str]) -> None:
    for name in names:
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)


def _mark(tensor: torch.Tensor) -> tuple[Any, ...]:
    """Return what stays the same of a tensor that is held as long as no write to it is counted."""
    # Inference tensors count none: they are never the same.
    writes = object() if tensor.is_inference() else tensor._version
    return tensor.data_ptr(), writes, tensor.dtype, tensor.shape, tensor.stride()
