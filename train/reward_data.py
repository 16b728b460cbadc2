"""Which pairs does a reward model learn from, and which stay for its test?"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.errors import InputError
from datamodules.pair_datamodule import (
    PairSplit,
    PairTally,
    TokenisedPairs,
    join_pairs,
    shares_prompt,
    split_pairs,
    tokenise_pairs,
)
from datamodules.parts import Part, PartName
from datamodules.preference_data import PreferenceData
from datamodules.preferences import read_preferences
from datamodules.tokenise import Tokeniser
from datamodules.views import ViewRequest
from train.progress import Progress
from train.reward_config import RewardDataConfig

# What is tested is the part that training does not see.
OTHER: dict[str, PartName] = {"train": "held-out", "held-out": "train"}


@dataclass(frozen=True, slots=True, eq=False)
class RewardData:
    """The pairs of one reward model.

    Attributes:
        read: The data sets, as far as they are in the training part.
        split: Training and validation pairs.
        test: Pairs of the other part, none of a prompt in the training part; None where there is no other part.
        test_tallies: What became of the pairs of the other part, per data set.
        n_test_dropped: Test pairs left out because training has their prompt.
    """

    read: tuple[PreferenceData, ...]
    split: PairSplit
    test: TokenisedPairs | None
    test_tallies: tuple[PairTally, ...]
    n_test_dropped: int


def read_reward_data(
    config: RewardDataConfig, root: Path | None, tokeniser: Tokeniser, seed: int, progress: Progress
) -> RewardData:
    """Read, tokenise and split the pairs; the reports are printed.

    Args:
        config: The `data` section.
        root: The data root.
        tokeniser: Of the encoder.
        seed: Of the validation split.
        progress: Where to print.

    Raises:
        InputError: A data set that cannot be read, two of one name, or a split without pairs.
    """
    view = ViewRequest(config.view, config.truncation, config.max_length)
    tokeniser.require_length(view.max_length)
    read = tuple(read_part(config, name, root, config.part) for name in dict.fromkeys(config.datasets))
    _require_distinct([data.name for data in read])
    pairs, _ = _tokenised(read, tokeniser, view, progress, config.part)
    split = split_pairs(pairs, config.val_fraction, seed)
    progress.say(f"split: {len(split.train):,} training and {len(split.val):,} validation pairs")
    if split.n_dropped:
        progress.say(f"  {split.n_dropped:,} training pairs left out: a validation pair has their prompt")
    if config.part not in OTHER:
        return RewardData(read, split, None, (), 0)
    other = OTHER[config.part]
    others = tuple(read_part(config, name, root, other) for name in dict.fromkeys(config.datasets))
    test, tallies = _tokenised(others, tokeniser, view, progress, other)
    seen = shares_prompt(test, pairs)
    if seen.any():
        progress.say(f"  {int(seen.sum()):,} pairs for the test left out: the {config.part} part has their prompt")
    return RewardData(read, split, test.at(~seen), tallies, int(seen.sum()))


def read_part(config: RewardDataConfig, name: str, root: Path | None, part: PartName) -> PreferenceData:
    """Read one part of a data set."""
    chosen = Part(part, config.held_out_fraction, config.part_seed)
    return read_preferences(name, root, split=config.split, part=chosen)


def trained_on(config: RewardDataConfig, read: Sequence[PreferenceData]) -> list[dict[str, Any]]:
    """Say what a reward model was trained on, in plain values: its checkpoint carries it."""
    part = {"part": config.part, "held_out_fraction": config.held_out_fraction, "part_seed": config.part_seed}
    return [
        {"dataset": data.name, "digest": data.digest, "files": data.report.files, "n_pairs": len(data.index), **part}
        for data in read
    ]


def is_trained_on(data: PreferenceData, trained: Sequence[dict[str, Any]]) -> np.ndarray:
    """Tell which pairs a reward model may have seen in training or validation.

    Args:
        data: Pairs to be scored.
        trained: From `trained_on`.

    Returns:
        bool [n_pairs]: the pair is of a file that the model was trained on, and its cluster in the part it was
        trained on.
    """
    own_files = set(data.report.files.values())
    seen = np.zeros(len(data.index), dtype=np.bool_)
    for entry in trained:
        if own_files.isdisjoint(entry["files"].values()):
            continue
        part = Part(entry["part"], entry["held_out_fraction"], entry["part_seed"])
        seen |= np.array([part.holds(cluster) for cluster in data.index.cluster_ids], dtype=np.bool_)
    return seen


def _tokenised(
    read: Sequence[PreferenceData], tokeniser: Tokeniser, view: ViewRequest, progress: Progress, part: str
) -> tuple[TokenisedPairs, tuple[PairTally, ...]]:
    parts, tallies = [], []
    for data in read:
        with progress.bar(f"tokenising {data.name}", len(data.index), "pairs") as advance:
            tokens, tally = tokenise_pairs(data, tokeniser, view, advance)
        progress.say(f"part {part}, {tally.line()}")
        parts.append(tokens)
        tallies.append(tally)
    return join_pairs(parts), tuple(tallies)


def _require_distinct(names: list[str]) -> None:
    if len(set(names)) < len(names):
        found = f"two data sets of one name among {', '.join(names)}"
        raise InputError(found, "distinct file names", "--data.datasets")
