"""What does chance decide about one item, the same on every machine and in every order?"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

Option = TypeVar("Option")


@dataclass(frozen=True, slots=True)
class Draw:
    """Draws that are a pure function of (seed, key, purpose, site).

    Attributes:
        seed: Seed of all draws.
        key: The item, such as a pair and side.
        purpose: What is drawn for; draws for different purposes are independent.
    """

    seed: int
    key: str
    purpose: str

    def fraction(self, site: str = "") -> float:
        """Return a number that is uniform in [0, 1)."""
        asked = json.dumps([self.seed, self.key, self.purpose, site]).encode("utf-8")
        return int.from_bytes(hashlib.sha256(asked).digest()[:6], "big") / 2**48

    def choice(self, options: Sequence[Option], site: str = "") -> Option:
        """Return one of the options, each as likely as the others."""
        return options[int(self.fraction(site) * len(options))]
