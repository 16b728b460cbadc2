"""`imprint reward fit`: train a reward model, tell how often it agrees with people on prompts it has not seen."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from datamodules.preferences import SAMPLE_NAMES
from experiments.config_files import add_sections, config_files_first, config_of
from experiments.parsing import command_parser
from experiments.summary import SAMPLE_NOTE, number
from train.pair_accuracy import PairAccuracy
from train.reward_config import RewardConfig
from train.reward_fit import RewardFitResult, reward_fit

PLAIN_HELP = {"output": "File for a copy of the best checkpoint; a reward model that lies there is replaced"}


def run_reward_fit(arguments: Sequence[str]) -> int:
    """Run `imprint reward fit`; see `imprint reward fit --help`."""
    parser = command_parser(
        "reward fit",
        "Train a reward model on preference pairs (Bradley-Terry).",
        usage="imprint reward fit [--config FILE ...] [--SECTION.SETTING VALUE ...] [--output FILE]",
    )
    add_sections(parser, RewardConfig, PLAIN_HELP)
    arguments = config_files_first(arguments, RewardConfig)
    config = config_of(parser, parser.parse_args(arguments), RewardConfig)
    result = reward_fit(config)
    _print_summary(result, config, Console(width=100, highlight=False))
    return 0


def _print_summary(result: RewardFitResult, config: RewardConfig, console: Console) -> None:
    """Print accuracy and where the files are; at most 100 columns but for paths."""
    if result.test:
        console.print(f"Pair accuracy on the {result.part} part, 95% intervals clustered by prompt")
        console.print(_accuracy_table(result))
        left_out = f"{result.test[0].n_ties:,} ties and {result.test[0].n_identical:,} pairs with the same tokens"
        console.print(f"Left out: {left_out}; {result.test[0].n_equal:,} with equal rewards count as wrong.")
    else:
        console.print("No test: the model was trained on all pairs (--data.part all).")
    if set(config.data.datasets) & set(SAMPLE_NAMES):
        console.print(SAMPLE_NOTE)
    if result.output is not None:
        notice = " (replaced the reward model that was there)" if result.is_replaced else ""
        console.print(f"Reward model: {result.output}{notice}", soft_wrap=True, markup=False)
    console.print(f"Results are in {result.run.path}", soft_wrap=True, markup=False)
    console.print("Next:")
    checkpoint, data = result.output or result.best_path, config.data
    command = f"imprint reward score --scorer {checkpoint} --datasets {' '.join(data.datasets)}"
    if result.test:
        command += f" --part {result.part} --held_out_fraction {data.held_out_fraction} --part_seed {data.part_seed}"
    console.print(f"  {command} --output rewards.parquet", soft_wrap=True, markup=False)


def _accuracy_table(result: RewardFitResult) -> Table:
    shown = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("data set", "accuracy", "95% interval", "n", "clusters"):
        shown.add_column(name, justify="left" if name == "data set" else "right", overflow="fold")
    for found in result.test:
        shown.add_row(*_cells(found))
    return shown


def _cells(found: PairAccuracy) -> list[str]:
    interval = f"{number(found.ci_low)} to {number(found.ci_high)}"
    return [found.dataset or "all", number(found.accuracy), interval, f"{found.n:,}", f"{found.n_clusters:,}"]
