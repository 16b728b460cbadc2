"""Which pairs may a reward model learn from, and which are held out for audits?

A part is a pure function of a pair's cluster, so that two runs agree on it without sharing a file, and no prompt is in
both parts.
"""

import hashlib
from dataclasses import dataclass
from typing import Literal, get_args

from datamodules.errors import InputError

PartName = Literal["all", "train", "held-out"]


@dataclass(frozen=True, slots=True)
class Part:
    """One part of preference data.

    Attributes:
        name: `all`, `train` or `held-out`.
        held_out_fraction: Share of the clusters that is held out, in (0, 1).
        seed: Another seed draws other parts.

    Raises:
        InputError: Another name, or a fraction outside (0, 1).
    """

    name: PartName = "all"
    held_out_fraction: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.name not in get_args(PartName):
            raise InputError(f"part {self.name!r}", f"one of {', '.join(get_args(PartName))}", "the part setting")
        if not 0 < self.held_out_fraction < 1:
            found = f"held_out_fraction {self.held_out_fraction}"
            raise InputError(found, "a share between 0 and 1", "the held_out_fraction setting")

    def holds(self, cluster_id: str) -> bool:
        """Tell whether the pairs of a cluster are in this part."""
        if self.name == "all":
            return True
        digest = hashlib.sha256(f"{self.seed}\0{cluster_id}".encode()).digest()
        is_held_out = int.from_bytes(digest[:8], "big") < self.held_out_fraction * 2**64
        return is_held_out == (self.name == "held-out")


ALL = Part()
