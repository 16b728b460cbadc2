"""`imprint reward score`: the rewards of preference data, one row per pair and side."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from audits.reward_agreement import agreement, rate
from datamodules.errors import InputError
from datamodules.files import require_output, whole_file
from datamodules.parts import Part
from datamodules.preference_data import PreferenceData
from datamodules.preferences import read_preferences
from datamodules.target_vectors import find_target
from experiments.parsing import command_parser
from experiments.root_flag import naming_root_flag
from experiments.summary import number
from models.precision import default_device
from models.reward_scorers import KINDS, Kind, RewardScorer, ScorerSpec, open_scorer
from train.config import DataConfig
from train.inputs import data_root
from train.progress import Progress
from train.reward_scores import PairRewards, reward_scores, warning_lines
from train.value_scorer import DISTANCES, open_value_scorer
from train.value_scorer import KIND as VALUE_DISTANCE

ALL_KINDS = (*KINDS, VALUE_DISTANCE)
TARGET, DISTANCE = "ideal", "smooth"
# Flags of one kind, which say nothing of another.
OF_VALUE_DISTANCE = ("target", "distance", "target_vectors")
ENDINGS = (".parquet", ".csv", ".jsonl")


def run_reward_score(arguments: Sequence[str]) -> int:
    """Run `imprint reward score`; see `imprint reward score --help`."""
    parser = command_parser("reward score", "Score both sides of preference pairs with a reward model.")
    parser.add_argument(
        "--scorer", type=str, required=True, help="length, a checkpoint file, a hub id or a folder with a reward model"
    )
    parser.add_argument("--datasets", type=str, nargs="+", required=True, help="Preference data sets")
    parser.add_argument("--output", type=Path, required=True, help=f"File to write, one of {', '.join(ENDINGS)}")
    parser.add_argument(
        "--kind", type=str | None, default=None, help=f"One of {', '.join(ALL_KINDS)}; told by the name"
    )
    parser.add_argument("--revision", type=str | None, default=None, help="Branch, tag or commit of a hub model")
    parser.add_argument("--style", type=str, default="auto", help="auto, pair or chat, for a hub model")
    parser.add_argument("--column", type=str | None, default=None, help="Output that is the reward, where several are")
    parser.add_argument("--dtype", type=str, default="float32", help="float32 or bf16, for a hub model")
    parser.add_argument("--max_length", type=int, default=512, help="Tokens that a hub model or value classifier reads")
    parser.add_argument("--truncation", type=str, default="head", help="head or tail, for a hub model")
    target = f"Target vector (value-distance); {TARGET} when left out"
    parser.add_argument("--target", type=str | None, default=None, help=target)
    distance = f"One of {', '.join(DISTANCES)} (value-distance); {DISTANCE} when left out"
    parser.add_argument("--distance", type=str | None, default=None, help=distance)
    parser.add_argument("--target_vectors", type=Path | None, default=None, help="YAML file of targets of your own")
    parser.add_argument("--token_budget", type=int, default=4096, help="Padded tokens per batch")
    parser.add_argument("--part", type=str, default="all", help="all, train or held-out: part of the prompts")
    parser.add_argument("--held_out_fraction", type=float, default=0.5, help="Share of the held-out part")
    parser.add_argument("--part_seed", type=int, default=0, help="Seed of the parts")
    parser.add_argument("--split", type=str, default="test", help="File of hh-rlhf: test or train")
    parser.add_argument("--root", type=Path | None, default=None, help="Data root; IMPRINT_DATA when left out")
    parser.add_argument("--cache_dir", type=Path, default=Path(".cache/imprint"), help="Folder of cached scores")
    settings = parser.parse_args(list(arguments))
    _require_choices(settings)
    spec = _spec(settings) if settings.kind != VALUE_DISTANCE else None
    if settings.output.suffix not in ENDINGS:
        raise InputError(f"--output {settings.output}", f"a name that ends in {' or '.join(ENDINGS)}", "--output")
    inputs = [Path(name).resolve() for name in (*settings.datasets, settings.scorer)]
    if settings.output.resolve() in inputs:
        raise InputError(f"{settings.output} as input and as output", "another file", "--output")
    require_output(settings.output, "--output")
    replaced = " (replaced)" * settings.output.exists()
    part = Part(settings.part, settings.held_out_fraction, settings.part_seed)
    root = data_root(DataConfig(root=settings.root))
    names = dict.fromkeys(settings.datasets)
    with naming_root_flag():
        read = [read_preferences(name, root, split=settings.split, part=part) for name in names]
    if len({data.name for data in read}) < len(read):
        found = f"two data sets of one name among {', '.join(data.name for data in read)}"
        raise InputError(found, "distinct file names", "--datasets")
    scorer = _value_scorer(settings) if spec is None else _scorer(spec)
    progress = Progress()
    scored = [reward_scores(data, scorer, settings.cache_dir, progress) for data in read]
    _write(settings.output, read, scored)
    console = Console(width=100, highlight=False)
    for data, given in zip(read, scored, strict=True):
        for line in _lines(data, given):
            console.print(line, markup=False)
    console.print(
        f"{sum(2 * len(d.index) for d in read):,} rows written to {settings.output}{replaced}",
        markup=False,
        soft_wrap=True,
    )
    return 0


def _require_choices(settings: Any) -> None:
    """Raise InputError for a flag with none of its values, or one about another kind of scorer."""
    choices: dict[str, tuple[str, ...]] = {
        "kind": ALL_KINDS,
        "style": ("auto", "pair", "chat"),
        "dtype": ("float32", "bf16"),
        "truncation": ("head", "tail"),
        "split": ("test", "train"),
        "distance": DISTANCES,
    }
    for flag, known in choices.items():
        if (value := getattr(settings, flag)) is not None and value not in known:
            raise InputError(f"--{flag} {value}", f"one of {', '.join(known)}", f"--{flag}")
    if settings.token_budget < 1:
        raise InputError(f"--token_budget {settings.token_budget}", "a whole number from 1", "--token_budget")
    given = [name for name in OF_VALUE_DISTANCE if getattr(settings, name) is not None]
    if given and settings.kind != VALUE_DISTANCE:
        found = f"--{given[0]} without --kind {VALUE_DISTANCE}, the kind that has one"
        raise InputError(found, f"--kind {VALUE_DISTANCE}", f"add it, or leave --{given[0]} out")


def _spec(settings: Any) -> ScorerSpec:
    """Turn flags into a scorer; a name tells its kind where none is given."""
    kind: Kind = settings.kind or _kind_of(settings.scorer)
    return ScorerSpec(
        name=settings.scorer if kind != "checkpoint" else Path(settings.scorer).stem,
        kind=kind,
        path=settings.scorer,
        revision=settings.revision,
        style=settings.style,
        column=settings.column,
        dtype=settings.dtype,
        max_length=settings.max_length,
        truncation=settings.truncation,
        token_budget=settings.token_budget,
    )


def _value_scorer(settings: Any) -> RewardScorer:
    """Open a value classifier as a reward; its name tells target and distance."""
    path = Path(settings.scorer)
    target = find_target(settings.target or TARGET, settings.target_vectors, "--target")
    distance = settings.distance or DISTANCE
    name, device = f"{path.stem}-{target.name}-{distance}", default_device()
    budget = settings.token_budget
    return open_value_scorer(name, path, target, distance, settings.max_length, device, "--scorer", budget)


def _scorer(spec: ScorerSpec) -> RewardScorer:
    """Open a scorer; of a checkpoint that is no reward model, say as what else it may be read."""
    try:
        return open_scorer(spec, default_device())
    except InputError as error:
        if spec.kind != "checkpoint" or not Path(spec.path).is_file():
            raise
        fix = f"{error.fix}; of a value classifier: --kind {VALUE_DISTANCE} --target NAME"
        raise InputError(error.found, error.needed, fix) from error


def _kind_of(scorer: str) -> Kind:
    if scorer == "length":
        return "length"
    return "checkpoint" if scorer.endswith(".ckpt") or Path(scorer).is_file() else "hub"


def _write(path: Path, read: Sequence[PreferenceData], scored: Sequence[PairRewards]) -> None:
    """Write dataset, pair_id, side and reward; an undefined reward is empty (csv) or null."""
    table = pa.table(
        {
            "dataset": [data.name for data in read for _ in range(2 * len(data.index))],
            "pair_id": np.concatenate([np.repeat(data.index.pair_ids, 2) for data in read]),
            "side": np.concatenate([data.index.sides.ravel() for data in read]),
            "reward": pa.array(np.concatenate([found.rewards.ravel() for found in scored]), from_pandas=True),
        }
    )
    with whole_file(path) as part:
        match path.suffix:
            case ".parquet":
                record = json.dumps([found.provenance for found in scored])
                pq.write_table(table.replace_schema_metadata({"provenance": record}), part)
            case ".jsonl":
                part.write_text("".join(f"{json.dumps(row)}\n" for row in table.to_pylist()), encoding="utf-8")
            case _:
                with part.open("w", encoding="utf-8", newline="") as file:
                    writer = csv.DictWriter(file, table.column_names)
                    writer.writeheader()
                    writer.writerows(table.to_pylist())


def _lines(data: PreferenceData, found: PairRewards) -> list[str]:
    """Say what was scored, and how often the preferred side has the higher reward."""
    record, rewards = found.provenance, found.rewards
    lines = [
        f"{data.name}: {record['n_scored']:,} of {record['n_total']:,} texts scored by {record['scorer']['name']}; "
        f"{record['n_truncated']:,} cut"
    ]
    stated = ~data.index.is_tie
    agreed = agreement(rewards[stated, 0], rewards[stated, 1])
    share = rate(agreed.values, data.index.cluster_ids[stated])
    lines.append(
        f"  pair accuracy {number(share.rate)} ({number(share.ci_low)} to {number(share.ci_high)}) "
        f"on {share.n:,} pairs in {share.n_clusters:,} clusters; {agreed.n_ties:,} equal rewards count as wrong; "
        f"{len(stated) - int(stated.sum()):,} ties left out"
    )
    return [*lines, *(f"  {line}" for line in warning_lines(found))]
