"""`imprint data list | fetch | check | describe`: what data are there, can they be read, what is in them?"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Column, Table
from sklearn.metrics import cohen_kappa_score

from datamodules.annotated_text import AnnotatedData
from datamodules.annotation_datamodule import text_parts
from datamodules.annotation_layouts import SAMPLE_AGREEMENT
from datamodules.annotations import (
    FULCRA_FILE,
    HH_QUALITY_FILE,
    VALUE_IMPRINT_FILE,
    VALUEEVAL_FOLDER,
    read_annotations,
)
from datamodules.errors import InputError
from datamodules.hh_quality import COLUMNS as HH_QUALITY_COLUMNS
from datamodules.json_rows import iter_json_array, read_json_lines
from datamodules.preferences import ALL_LAYOUTS, PreferenceData, read_preferences
from datamodules.sources import SOURCES
from datamodules.splits import label_counts
from datamodules.tabular import read_table_file
from datamodules.taxonomy import load_taxonomy
from datamodules.views import ViewRequest
from experiments.circle_report import circle_lines
from experiments.fetch_command import origin_of, run_fetch
from experiments.label_check import (
    check_labels,
    print_label_check,
    require_suspects_file,
    suspect_rows,
    write_suspects,
)
from experiments.parsing import command_parser
from models.encoder import BUNDLED, load_pretrained
from train.config import DataConfig
from train.inputs import OWN_TAXONOMY, Annotations, data_root, read_annotations_and_split
from train.prepare import report_lines, split_lines
from train.progress import Progress

ANNOTATED = {
    "sample": ("embedded", "Value Imprint's 7 values, several a text"),
    "value-imprint": (str(VALUE_IMPRINT_FILE), "Value Imprint, one value a text"),
    "fulcra": (str(FULCRA_FILE), "FULCRA, Schwartz's 10 signed values"),
    "valueeval": (f"{VALUEEVAL_FOLDER}/*.tsv", "ValueEval 2023, 20 values"),
    "hh-quality": (str(HH_QUALITY_FILE), "Audit of hh-rlhf, 3 verdicts on chosen responses"),
}
PREFERENCES = {
    "sample-hh-rlhf": ("embedded", "hh-rlhf layout"),
    "sample-webgpt": ("embedded", "WebGPT comparisons layout"),
    "sample-alpaca-gpt4": ("embedded", "GPT-4-LLM comparisons layout"),
    "hh-rlhf": ("hh-rlhf/*/test.jsonl*", "Anthropic hh-rlhf, every subset that is there"),
    "webgpt": ("webgpt/*.json*", "WebGPT comparisons"),
    "alpaca-gpt4": ("alpaca-gpt4/*.json", "GPT-4-LLM comparisons"),
}
PROMPTS = {"xstest": ("xstest/xstest_prompts.csv", "XSTest, safe and unsafe prompts with completions")}
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


def run_data(arguments: Sequence[str]) -> int:
    """Run `imprint data`; see `imprint data --help`."""
    console = Console(width=100, highlight=False)
    match list(arguments[:1]):
        case ["list"]:
            return _list(arguments[1:], console)
        case ["fetch"]:
            return run_fetch(arguments[1:], console)
        case ["check"]:
            return _check(arguments[1:], console)
        case ["describe"]:
            return _describe(arguments[1:], console)
        case ["-h" | "--help"]:
            console.print(
                "usage: imprint data list | fetch [NAME] | check FILE [--labels] | describe NAME", markup=False
            )
            return 0
        case other:
            raise InputError(
                f"imprint data {' '.join(other)}".strip(), "fetch, list, check or describe", "imprint data --help"
            )


def _list(arguments: Sequence[str], console: Console) -> int:
    parser = command_parser("data list", "List the data sets and whether they are there.")
    parser.add_argument("--root", type=Path | None, default=None, help="Data root; IMPRINT_DATA when left out")
    root = data_root(DataConfig(root=parser.parse_args(list(arguments)).root))
    absent: list[str] = []
    for title, known in (
        ("Annotated texts (--data.name)", ANNOTATED),
        ("Preference data (--audit.datasets)", PREFERENCES),
        ("Prompts", PROMPTS),
    ):
        table = Table("name", "what", Column("where", overflow="fold"), "there", title=title, title_justify="left")
        for name, (where, what) in known.items():
            table.add_row(name, what, where, "yes" if _is_there(where, root) else "no")
            if name in SOURCES and not _is_there(where, root):
                absent.append(f"  imprint data fetch {name:<13}  from {origin_of(SOURCES[name])}")
        console.print(table)
    place = f"The data root is {root}." if root is not None else "No data root: set --data.root or IMPRINT_DATA."
    console.print(place, soft_wrap=True)
    for line in ["What is not there can be fetched:", *absent] if absent else []:
        console.print(line, markup=False, soft_wrap=True)
    return 0


def _is_there(where: str, root: Path | None) -> bool:
    if where == "embedded":
        return True
    # What a fetch has not finished yet is not there.
    found = [] if root is None else [path for path in root.glob(where) if ".part" not in path.suffixes]
    return bool(found)


def _check(arguments: Sequence[str], console: Console) -> int:
    parser = command_parser("data check", "Read a file strictly and report what is in it.")
    what = f"csv, jsonl or parquet of annotated texts, jsonl of preference pairs, or one of {', '.join(ANNOTATED)}"
    parser.add_argument("file", type=Path, help=what)
    parser.add_argument("--root", type=Path | None, default=None, help="Data root; IMPRINT_DATA when left out")
    parser.add_argument("--taxonomy", type=str | None, default=None, help="Taxonomy of a table's labels")
    parser.add_argument("--text_column", type=str, default="text", help="Column with the text of a table")
    parser.add_argument("--label_column", type=str | None, default=None, help="Column with the labels of a table")
    parser.add_argument("--id_column", type=str | None, default=None, help="Column with the ids of a table")
    parser.add_argument("--group_column", type=str | None, default=None, help="Column with the groups of a table")
    parser.add_argument("--labels", action="store_true", help="Look for labels that deserve a second look (minutes)")
    parser.add_argument("--top", type=int, default=20, help="Suspects to print (with --labels)")
    parser.add_argument("--folds", type=int, default=5, help="Folds of the models that judge (with --labels)")
    parser.add_argument("--seed", type=int, default=0, help="Seed of the folds (with --labels)")
    parser.add_argument(
        "--output", type=Path | None, default=None, help=".csv or .jsonl file for all suspects (with --labels)"
    )
    settings = parser.parse_args(list(arguments))
    _require_label_flags(settings)
    data = _checked(settings, console)
    if settings.labels:
        _check_labels(data, settings, console)
    return 0


def _require_label_flags(settings: Any) -> None:
    """Raise InputError for flags of --labels that cannot be meant, before anything is read."""
    for flag, value in (("--top", settings.top), ("--seed", settings.seed)):
        if value < 0:
            raise InputError(f"{flag} {value}", "0 or more", flag)
    if settings.output is not None and not settings.labels:
        raise InputError("--output without --labels", "both or neither", "add --labels, or leave --output out")
    if settings.output is not None:
        require_suspects_file(settings.output, settings.file)


def _checked(settings: Any, console: Console) -> AnnotatedData | None:
    """Read and report what is to be checked; None where it is preference pairs."""
    name = str(settings.file)
    if is_named := name in ANNOTATED and not settings.file.exists():
        layout = name
    else:
        layout = layout_of(settings.file)
        console.print(f"{settings.file}: {layout} layout", soft_wrap=True)
    if layout == "preference pairs":
        for line in read_preferences(name, None).report.lines():
            console.print(line, markup=False)
        return None
    taxonomy = settings.taxonomy or OWN_TAXONOMY.get(layout)
    if taxonomy is None:
        raise InputError("a table without a taxonomy", "the taxonomy that its labels belong to", "--taxonomy")
    data = read_annotations(
        layout,
        None if is_named else settings.file,
        data_root(DataConfig(root=settings.root)),
        load_taxonomy(taxonomy),
        text_column=settings.text_column,
        label_column=settings.label_column,
        id_column=settings.id_column,
        group_column=settings.group_column,
    )
    for line in [*report_lines(data), *circle_lines(data)]:
        console.print(line, markup=False)
    return data


def _check_labels(data: AnnotatedData | None, settings: Any, console: Console) -> None:
    if data is None:
        raise InputError("preference pairs, which carry no labels", "annotated texts", "leave --labels out")
    found = check_labels(data, settings.folds, settings.seed, Progress())
    rows = suspect_rows(found)
    print_label_check(found, rows, settings.top, console)
    if settings.output is not None:
        write_suspects(rows, settings.output)
        console.print(f"{len(rows):,} suspects written to {settings.output}", markup=False, soft_wrap=True)


def layout_of(path: Path) -> str:
    """Tell the layout of a file from its columns: value-imprint, fulcra, hh-quality, preference pairs or table.

    Raises:
        InputError: A file that cannot be read.
    """
    if path.name.endswith(".json"):
        columns = {key for row in iter_json_array(path, "name another file") for key in row}
    else:
        columns = set(read_table_file(path, "name another file").columns)
    if {"Text", "Label"} <= columns:
        return "value-imprint"
    if {"dialogue", "value_types"} <= columns:
        return "fulcra"
    if set(HH_QUALITY_COLUMNS) <= columns:
        return "hh-quality"
    if any(set(layout.needed) <= columns for layout in ALL_LAYOUTS):
        return "preference pairs"
    return "table"


def _describe(arguments: Sequence[str], console: Console) -> int:
    parser = command_parser("data describe", "Describe a data set: labels per split, co-occurrence, lengths.")
    parser.add_argument(
        "name", type=str, help=f"One of {', '.join([*ANNOTATED, 'table', *PREFERENCES])}, or a .jsonl file"
    )
    parser.add_argument("--data", type=DataConfig, default=DataConfig(), help="As for imprint fit")
    namespace = parser.parse_args(list(arguments))
    config: DataConfig = parser.instantiate(namespace).data
    if namespace.name in ANNOTATED or namespace.name == "table":
        config.name = namespace.name
        config.allow_empty_values = True
        annotations = read_annotations_and_split(config)
        _describe_annotations(annotations, config, console)
    else:
        _describe_pairs(read_preferences(namespace.name, data_root(config)), console)
    return 0


def _describe_annotations(annotations: Annotations, config: DataConfig, console: Console) -> None:
    data, splits, taxonomy = annotations.data, annotations.splits, annotations.taxonomy
    for line in [*report_lines(data), *split_lines(splits)]:
        console.print(line, markup=False)
    parts = splits.by_name
    counts = {name: label_counts(texts, taxonomy.labels) for name, texts in parts.items()}
    table = Table(
        "label", *(f"{name} n+/n" for name in parts), title="Texts that carry each label, of those where it is known"
    )
    for label in taxonomy.labels:
        table.add_row(label, *("{:,}/{:,}".format(*counts[name][label]) for name in parts))
    table.add_row("texts", *(f"{len(texts):,}" for texts in parts.values()))
    table.add_row("groups", *(f"{splits.n_groups[name]:,}" for name in parts))
    console.print(table)
    texts = [*splits.train, *splits.val, *splits.test]
    _print_cooccurrence(np.array([text.labels for text in texts]) == 1, taxonomy.labels, console)
    view = ViewRequest(config.view, config.truncation, config.max_length)
    _print_lengths({"all": [text_parts(text.text, view) for text in texts]}, console)
    if data.is_sample:
        _print_agreement(console)
        console.print("This is the embedded sample: made to learn the tool with.")


def _print_agreement(console: Console) -> None:
    """Print how well the two annotators of the embedded sample agreed before their labels were resolved."""
    rows = read_json_lines(SAMPLE_AGREEMENT, "install the project again")
    title = f"Agreement of two annotators on {len(rows)} texts, before it was resolved (see DATASHEET.md)"
    table = Table("label", "first", "second", "both", "Cohen's kappa", title=title, title_justify="left")
    for label in load_taxonomy(OWN_TAXONOMY["sample"]).labels:
        first, second = (np.array([label in row[annotator] for row in rows]) for annotator in ("first", "second"))
        kappa = f"{cohen_kappa_score(first, second):.2f}"
        table.add_row(label, *(f"{n}" for n in (first.sum(), second.sum(), (first & second).sum())), kappa)
    console.print(table)


def _print_cooccurrence(positive: np.ndarray, labels: tuple[str, ...], console: Console) -> None:
    """Print how many values a text carries and the pairs of values that meet most often."""
    per_text = np.bincount(positive.sum(axis=1))
    shown = ", ".join(f"{k}: {n:,}" for k, n in enumerate(per_text) if n)
    console.print(f"values per text (number of values: texts): {shown}")
    together = positive.T.astype(int) @ positive.astype(int)
    pairs = [(together[i, j], labels[i], labels[j]) for i in range(len(labels)) for j in range(i)]
    for n, first, second in sorted(pairs, key=lambda pair: (-pair[0], pair[1:]))[:8]:
        if n:
            console.print(f"  {second} and {first}: {n:,} texts")


def _print_lengths(parts: dict[str, list[tuple[str, str]]], console: Console) -> None:
    """Print quantiles of the uncut lengths in tokens of the bundled encoder."""
    tokeniser = load_pretrained(BUNDLED).tokeniser()
    table = Table(
        "texts", *(f"{q:.0%}" for q in QUANTILES), "> 128", "> 256", "> 512", title="Length in MiniLM tokens, uncut"
    )
    for name, texts in parts.items():
        lengths = tokeniser.lengths([a + b for a, b in texts])
        shares = [f"{(lengths > limit).mean():.1%}" for limit in (128, 256, 512)]
        table.add_row(name, *(f"{q:,.0f}" for q in np.quantile(lengths, QUANTILES)), *shares)
    console.print(table)


def _describe_pairs(data: PreferenceData, console: Console) -> None:
    for line in data.report.lines():
        console.print(line, markup=False)
    sides: dict[str, list[tuple[str, str]]] = {}
    for pair in data.read():
        for side, dialogue in zip(pair.sides, (pair.first, pair.second), strict=True):
            sides.setdefault(f"{side}, dialogue", []).append(("", dialogue.render()))
            sides.setdefault(f"{side}, response", []).append(("", dialogue.response))
    _print_lengths(dict(sorted(sides.items())), console)
