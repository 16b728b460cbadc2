"""Which weights are these?"""

import hashlib
from collections.abc import Mapping
from typing import Any

import torch

State = Mapping[str, torch.Tensor]


def weights_digest(state: State) -> str:
    """Return the sha256 over names, types, shapes and bytes of a state dict, in name order, as hex.

    It identifies a checkpoint whatever its path, step or file layout.
    """
    digest = hashlib.sha256()
    _update(digest, state, sorted(state))
    return digest.hexdigest()


class FrozenDigest:
    """`weights_digest` of the states of one model in training, whose frozen tensors it reads only once.

    A tensor counts as unchanged where it lies in the same place and torch has counted no write to it since; a state
    in which the frozen ones are not the first by name, or not unchanged, is read whole.

    Args:
        frozen: The tensors that training does not move, by their names in the states.
    """

    def __init__(self, frozen: State) -> None:
        self._names = sorted(frozen)
        # Held, so that no other tensor can come to lie in their place.
        self._tensors = [frozen[name].detach() for name in self._names]
        self._marks = [mark(tensor) for tensor in self._tensors]
        self._digest = hashlib.sha256()
        _update(self._digest, frozen, self._names)

    def __call__(self, state: State) -> str:
        """Return what `weights_digest` does."""
        names, n = sorted(state), len(self._names)
        if names[:n] != self._names or [mark(state[name]) for name in self._names] != self._marks:
            return weights_digest(state)
        digest = self._digest.copy()
        _update(digest, state, names[n:])
        return digest.hexdigest()


def _update(digest: Any, state: State, names: list[str]) -> None:
    for name in names:
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)


def mark(tensor: torch.Tensor) -> tuple[Any, ...]:
    """Return what stays the same of a tensor that is held as long as nobody writes to it."""
    # Inference tensors count no writes: they are never the same.
    writes = object() if tensor.is_inference() else tensor._version
    return tensor.data_ptr(), writes, tensor.dtype, tensor.shape, tensor.stride()
