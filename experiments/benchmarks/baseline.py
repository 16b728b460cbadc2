"""Is a run better than words counted and a straight line through them, by more than the luck of its test texts?

`python -m experiments.benchmarks.baseline RUN_DIR` (or the runs of all folds, whose test predictions are then put
together) gives TF-IDF with one-vs-rest logistic regression the same chances as the run: fitted on the run's train
split; regularisation and vocabulary chosen by the metric that chose the run's checkpoint, and temperatures and
thresholds fitted by the same code, on its validation split; test scored once. It reads the same view of each text, but
uncut, which can only help it. Unknown labels are left out, label by label, of fitting and scoring.

Differences come with a paired bootstrap interval: both sides are scored on the same redrawn test texts. Whole groups
are redrawn (texts that share a declared group, a dialogue opening or their text), which is the bootstrap over texts
where every text is a group of its own. A label without known positives (or, for AP, negatives) has no score. Which
labels have one depends on the redrawn labels alone, so within a replicate both sides' macros run over the same labels.
The models are not fitted again: the interval is about test texts, not about training luck.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from audits.stats.paired_bootstrap import Interval, Scored, paired_bootstrap
from datamodules.annotated_text import UNKNOWN, AnnotatedText
from datamodules.errors import InputError
from datamodules.files import write_json
from datamodules.splits import connected_groups
from experiments.benchmarks.tfidf import fit_baseline, label_matrix
from experiments.parsing import read_config
from models.evaluation import is_single_positive
from models.metrics import multilabel_metrics
from train.config import Config
from train.inputs import Annotations, read_annotations_and_split
from train.progress import Progress
from train.run_directory import RunDirectory

HEADINGS = {"f1_macro": "macro-F1", "f1_micro": "micro-F1", "ap_macro": "mAP"}


def read_run_texts(run: RunDirectory, config: Config) -> Annotations:
    """Read and split the texts of a run again.

    Raises:
        InputError: Single labels, where F1 and AP are not defined, or other splits than the run's own.
    """
    annotations = read_annotations_and_split(config.data)
    run.require_same_splits(annotations.splits.to_dict())
    if is_single_positive(label_matrix(annotations.splits.test)):
        raise InputError("texts without a known negative label", "known negatives: F1 needs them", "another run")
    return annotations


def read_predictions(
    run: RunDirectory, weights: str | None, labels: Sequence[str], test: Sequence[AnnotatedText]
) -> tuple[str, Scored]:
    """Read the run's predictions on test, and of which weights they are (8 digits).

    Raises:
        InputError: None, several and none named, or predictions on other texts.
    """
    files = sorted((run.path / "predictions").glob(f"{weights or '*'}-test.parquet"))
    if not files:
        found = f"no predictions/{weights or '*'}-test.parquet in {run.path}"
        raise InputError(found, "a finished run", f"imprint fit --resume {run.path}, or --weights")
    if len(files) > 1:
        found = f"test predictions of several checkpoints, {', '.join(file.name for file in files)}"
        raise InputError(found, "those of one checkpoint", "--weights, the first 8 digits of its digest")
    table = pq.read_table(files[0])
    needed = ["text_id", *(f"{label}{end}" for label in labels for end in ("", "_on", "_true"))]
    if missing := [name for name in needed if name not in table.column_names]:
        raise InputError(f"{files[0]} without column {missing[0]}", "predictions of this taxonomy", "another run")
    # Null is unknown.
    true = np.stack([table[f"{label}_true"].cast("int8").fill_null(UNKNOWN).to_numpy() for label in labels], axis=1)
    if table["text_id"].to_pylist() != [text.text_id for text in test] or (true != label_matrix(test)).any():
        found = f"{files[0]}, whose texts or labels are not those of the test split"
        raise InputError(found, "the data that the run was trained on", "IMPRINT_DATA, or a run on these data")
    scores = np.stack([table[label].to_numpy() for label in labels], axis=1)
    decisions = np.stack([table[f"{label}_on"].to_numpy() for label in labels], axis=1)
    return files[0].name.removesuffix("-test.parquet"), Scored(scores, decisions.astype(np.bool_))


def side_metrics(side: Scored, targets: NDArray[np.integer], labels: tuple[str, ...]) -> dict[str, float]:
    """F1 and AP of one side, averaged and per value, with the positives and the number of values scored."""
    # Probabilities only matter for calibration errors, which are not kept.
    metrics = multilabel_metrics(np.zeros(side.scores.shape), side.decisions, targets, labels, scores=side.scores)
    per_value = (f"{name}/{label}" for name in ("f1", "ap", "support") for label in labels)
    return {name: metrics[name] for name in (*HEADINGS, "n_values_scored", *per_value)}


def results_table(
    run: dict[str, float], baseline: dict[str, float], intervals: dict[str, Interval], name: str
) -> Table:
    """Both sides and their difference."""
    table = Table(title="Test scores of the run and of the baseline")
    table.add_column("", no_wrap=True)
    for heading in HEADINGS.values():
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_row(name, *(f"{run[metric]:.3f}" for metric in HEADINGS))
    table.add_row("TF-IDF + logistic regression", *(f"{baseline[metric]:.3f}" for metric in HEADINGS))
    table.add_row("difference", *(f"{run[metric] - baseline[metric]:+.3f}" for metric in HEADINGS))
    ends = {metric: f"{i.low:+.3f} to {i.high:+.3f}" for metric, i in intervals.items()}
    table.add_row("95% interval", *(ends.get(metric, "") for metric in HEADINGS))
    return table


@dataclass(frozen=True, slots=True, eq=False)
class BothSides:
    """Both sides' predictions of the test texts of one run, or of several folds.

    Attributes:
        runs: Run id and first 8 digits of the weights of each run.
        labels: Names of the labels [L].
        run: Predictions of the run.
        baseline: Predictions of the baseline.
        targets: 1, 0 or -1 (unknown), int64 [n, L].
        groups: Group number of each text, int64 [n].
        text_ids: [n].
        chosen: What the baseline chose, by run.
        is_sample: Whether the texts are the embedded sample.
    """

    runs: tuple[tuple[str, str], ...]
    labels: tuple[str, ...]
    run: Scored
    baseline: Scored
    targets: NDArray[np.int64]
    groups: NDArray[np.int64]
    text_ids: tuple[str, ...]
    chosen: tuple[dict[str, Any], ...]
    is_sample: bool


def predict_both(path: Path, weights: str | None, progress: Progress) -> BothSides:
    """Read what a run predicted on its test texts, and let the baseline predict them.

    Raises:
        InputError: Not a finished run, other data than its own, or labels that allow no F1.
    """
    run = RunDirectory.open(path)
    config = read_config(run.config_file)
    annotations = read_run_texts(run, config)
    test, labels = annotations.splits.test, annotations.taxonomy.labels
    weights, of_run = read_predictions(run, weights, labels, test)
    of_baseline, chosen = fit_baseline(annotations, config, progress)
    return BothSides(
        runs=((run.run_id, weights),),
        labels=labels,
        run=of_run,
        baseline=of_baseline,
        targets=label_matrix(test),
        groups=np.asarray(connected_groups(test)),
        text_ids=tuple(text.text_id for text in test),
        chosen=(chosen,),
        is_sample=annotations.data.is_sample,
    )


def put_together(folds: Sequence[BothSides]) -> BothSides:
    """Put the test texts of folds together.

    Raises:
        InputError: Other labels, or a text in two of them.
    """
    first = folds[0]
    text_ids = tuple(text_id for fold in folds for text_id in fold.text_ids)
    if any(fold.labels != first.labels for fold in folds) or len(set(text_ids)) < len(text_ids):
        found = "runs with other labels, or with a test text in common"
        raise InputError(found, "one run, or one of each fold (--data.fold)", "other run directories")
    starts = np.cumsum([0, *(int(fold.groups.max()) + 1 for fold in folds[:-1])])
    return BothSides(
        runs=tuple(run for fold in folds for run in fold.runs),
        labels=first.labels,
        run=_scored([fold.run for fold in folds]),
        baseline=_scored([fold.baseline for fold in folds]),
        targets=np.concatenate([fold.targets for fold in folds]),
        groups=np.concatenate([fold.groups + start for fold, start in zip(folds, starts, strict=True)]),
        text_ids=text_ids,
        chosen=tuple(chosen for fold in folds for chosen in fold.chosen),
        is_sample=first.is_sample,
    )


def _scored(parts: Sequence[Scored]) -> Scored:
    return Scored(np.concatenate([p.scores for p in parts]), np.concatenate([p.decisions for p in parts]))


def run_benchmark(
    paths: Sequence[Path], weights: str | None, n_replicates: int, output: Path | None, console: Console
) -> None:
    """Compare a run, or the runs of all folds, with the baseline, print the result and write it to `output`, if given.

    Raises:
        InputError: As `predict_both` and `put_together`.
    """
    progress = Progress()
    found = put_together([predict_both(path, weights, progress) for path in paths])
    intervals = paired_bootstrap(found.run, found.baseline, found.targets, found.groups, n_replicates)
    metrics = {
        "run": side_metrics(found.run, found.targets, found.labels),
        "baseline": side_metrics(found.baseline, found.targets, found.labels),
    }
    n_test, n_groups = len(found.targets), len(np.unique(found.groups))
    name = ", ".join(found.runs[0]) if len(found.runs) == 1 else f"{found.runs[0][0]} and {len(paths) - 1} other folds"
    console.print(results_table(metrics["run"], metrics["baseline"], intervals, name))
    n_scored = int(metrics["run"]["n_values_scored"])
    for line in (
        f"{n_scored} of {len(found.labels)} values scored; a value without a known positive in test is in no macro",
        f"{n_test:,} test texts in {n_groups:,} groups; {n_replicates:,} replicates redraw groups; the macros of a "
        "replicate run over the values that have a score in it, the same ones for both sides",
        *("baseline: min_df {min_df}, C {C:g} by validation {criterion} {value:.3f}".format(**c) for c in found.chosen),
    ):
        console.print(line, highlight=False, markup=False)
    if found.is_sample:
        console.print("These texts are the embedded sample: made to learn the tool with, not to draw conclusions from.")
    if output is not None:
        runs = [{"run_id": run_id, "weights": digest} for run_id, digest in found.runs]
        about = {"runs": runs, "is_sample": found.is_sample, "chosen": [_plain(c) for c in found.chosen]}
        counts = {"n_test": n_test, "n_groups": n_groups, "n_values": len(found.labels), "n_replicates": n_replicates}
        parts = metrics | {f"difference/{name}": asdict(i) for name, i in intervals.items()}
        write_json(output, {**about, **counts, **{name: _plain(part) for name, part in parts.items()}})
        console.print(f"written to {output}", highlight=False, soft_wrap=True)


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Undefined numbers become None: JSON has no NaN."""
    return {name: None if value != value else value for name, value in values.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns 0, or 2 on bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.benchmarks.baseline", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("run_dirs", type=Path, nargs="+", help="folder that `imprint fit` wrote; one per fold")
    parser.add_argument("--bootstrap", type=int, default=2000, help="bootstrap replicates (default %(default)s)")
    parser.add_argument("--output", type=Path, help="JSON file to write the numbers to, per value too")
    parser.add_argument("--weights", help="first 8 digits of the checkpoint's digest, where several were tested")
    settings = parser.parse_args(argv)
    try:
        if settings.bootstrap < 1:
            raise InputError(f"--bootstrap {settings.bootstrap}", "at least 1 replicate", "--bootstrap")
        console = Console(width=100)
        run_benchmark(settings.run_dirs, settings.weights, settings.bootstrap, settings.output, console)
    except InputError as error:
        print(f"baseline: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
