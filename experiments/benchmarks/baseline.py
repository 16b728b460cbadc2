"""Is a run better than words counted and a straight line through them, by more than the luck of its test texts?

`python -m experiments.benchmarks.baseline RUN_DIR` gives TF-IDF with one-vs-rest logistic regression the same chances
as the run: fitted on the run's train split; regularisation and vocabulary chosen by the metric that chose the run's
checkpoint, and temperatures and thresholds fitted by the same code, on its validation split; test scored once. It reads
the same view of each text, but uncut, which can only help it. Unknown labels are left out, label by label, of fitting
and scoring.

Differences come with a paired bootstrap interval: both sides are scored on the same redrawn test texts. Whole groups
are redrawn (texts that share a declared group, a dialogue opening or their text), which is the bootstrap over texts
where every text is a group of its own. A label without known positives (or, for AP, negatives) has no score. Which
labels have one depends on the redrawn labels alone, so within a replicate both sides' macros run over the same labels.
The models are not fitted again: the interval is about test texts, not about training luck.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # scikit-learn brings it

from audits.stats.paired_bootstrap import Interval, Scored, paired_bootstrap
from datamodules.annotated_text import UNKNOWN, AnnotatedText
from datamodules.annotation_datamodule import text_parts
from datamodules.errors import InputError
from datamodules.files import write_json
from datamodules.splits import connected_groups
from datamodules.views import ViewRequest
from experiments.parsing import read_config
from models.calibration import fit_calibration
from models.evaluation import is_single_positive, validation_metrics
from models.metrics import Floats, multilabel_metrics
from train.config import Config
from train.inputs import Annotations, read_annotations_and_split
from train.progress import Progress
from train.run_directory import RunDirectory

MIN_DOCUMENTS = (1, 2, 4)
REGULARISATION = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
HEADINGS = {"f1_macro": "macro-F1", "f1_micro": "micro-F1", "ap_macro": "mAP"}


def read_run_texts(run: RunDirectory, config: Config) -> Annotations:
    """Read and split the texts of a run again.

    Raises:
        InputError: Single labels, where F1 and AP are not defined, or other splits than the run's own.
    """
    annotations = read_annotations_and_split(config.data)
    run.require_same_splits(annotations.splits.to_dict())
    if is_single_positive(_targets(annotations.splits.test)):
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
    if table["text_id"].to_pylist() != [text.text_id for text in test] or (true != _targets(test)).any():
        found = f"{files[0]}, whose texts or labels are not those of the test split"
        raise InputError(found, "the data that the run was trained on", "IMPRINT_DATA, or a run on these data")
    scores = np.stack([table[label].to_numpy() for label in labels], axis=1)
    decisions = np.stack([table[f"{label}_on"].to_numpy() for label in labels], axis=1)
    return files[0].name.removesuffix("-test.parquet"), Scored(scores, decisions.astype(np.bool_))


def fit_baseline(annotations: Annotations, config: Config, progress: Progress) -> tuple[Scored, dict[str, Any]]:
    """Fit, choose and calibrate the baseline on train and validation, and predict test.

    Returns:
        Its predictions, and what was chosen: `min_df` and `C`, and by which `criterion` of what `value` on validation.
    """
    view = ViewRequest(config.data.view, config.data.truncation, config.data.max_length)
    parts = (annotations.splits.train, annotations.splits.val, annotations.splits.test)
    texts = [["".join(text_parts(text.text, view)) for text in part] for part in parts]
    targets = [_targets(part) for part in parts]
    groups, taxonomy = connected_groups(parts[1]), annotations.taxonomy
    # What chose the run's checkpoint, where predictions alone give it (the loss, say, is nothing to compare by).
    criterion = config.trainer.monitor.removeprefix("val/")
    settings: list[tuple[float, int, float]] = []
    logits: list[list[Floats]] = []
    with progress.bar("fitting the baseline", len(MIN_DOCUMENTS) * len(REGULARISATION), "settings") as advance:
        for min_df in MIN_DOCUMENTS:
            vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=min_df)
            train, *others = vectorizer.fit_transform(texts[0]), *(vectorizer.transform(t) for t in texts[1:])
            for c in REGULARISATION:
                # Threads only cost time here: the products are sparse, the vectors short.
                with threadpool_limits(1):
                    logits.append(_one_vs_rest(train, targets[0], others, c))
                metrics = validation_metrics(logits[-1][0], targets[1], groups, taxonomy, False, None)
                criterion = criterion if criterion in metrics else "ap_macro"
                settings.append((metrics[criterion], min_df, c))
                advance(1)
    best = int(np.argmax(np.nan_to_num([value for value, _, _ in settings], nan=-np.inf)))
    (value, min_df, c), (val, test) = settings[best], logits[best]
    calibration = fit_calibration(val, targets[1], taxonomy.labels, taxonomy.signed, softmax=False)
    decisions = calibration.decide(calibration.probabilities(test))
    return Scored(test, decisions), {"min_df": min_df, "C": c, "criterion": criterion, "value": value}


def _one_vs_rest(
    train: sparse.csr_matrix, targets: NDArray[np.integer], others: Sequence[sparse.csr_matrix], c: float
) -> list[Floats]:
    """Fit one balanced logistic regression per label on its known texts; logits [n, L] of each of `others`.

    A label with one known class in training gets the same logit, 0, everywhere.
    """
    logits = [np.zeros((other.shape[0], targets.shape[1])) for other in others]
    for k in range(targets.shape[1]):
        known = targets[:, k] != UNKNOWN
        if len(np.unique(targets[known, k])) == 2:
            head = LogisticRegression(C=c, class_weight="balanced", solver="newton-cg", max_iter=1000)
            head.fit(train[known], targets[known, k])
            for part, other in zip(logits, others, strict=True):
                part[:, k] = head.decision_function(other)
    return logits


def _targets(texts: Sequence[AnnotatedText]) -> NDArray[np.int64]:
    """Labels of some texts, int64 [n, L]."""
    return np.array([text.labels for text in texts], dtype=np.int64)


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


def run_benchmark(path: Path, weights: str | None, n_replicates: int, output: Path | None, console: Console) -> None:
    """Compare one run with the baseline, print the result and write it to `output`, if given.

    Raises:
        InputError: Not a finished run, other data than its own, or labels that allow no F1.
    """
    run = RunDirectory.open(path)
    config = read_config(run.config_file)
    annotations = read_run_texts(run, config)
    test, labels = annotations.splits.test, annotations.taxonomy.labels
    targets, groups = _targets(test), connected_groups(test)
    weights, of_run = read_predictions(run, weights, labels, test)
    of_baseline, chosen = fit_baseline(annotations, config, Progress())
    intervals = paired_bootstrap(of_run, of_baseline, targets, groups, n_replicates)
    metrics = {"run": side_metrics(of_run, targets, labels), "baseline": side_metrics(of_baseline, targets, labels)}
    n_groups, n_scored = len(np.unique(groups)), int(metrics["run"]["n_values_scored"])
    console.print(results_table(metrics["run"], metrics["baseline"], intervals, f"{run.run_id}, {weights}"))
    for line in (
        f"{n_scored} of {len(labels)} values scored; a value without a known positive in test is in no macro",
        f"{len(test):,} test texts in {n_groups:,} groups; {n_replicates:,} replicates redraw groups; the macros of a "
        "replicate run over the values that have a score in it, the same ones for both sides",
        "baseline: min_df {min_df}, C {C:g} by validation {criterion} {value:.3f}".format(**chosen),
    ):
        console.print(line, highlight=False, markup=False)
    if annotations.data.is_sample:
        console.print("These texts are the embedded sample: made to learn the tool with, not to draw conclusions from.")
    if output is not None:
        about = {"run_id": run.run_id, "weights": weights, "is_sample": annotations.data.is_sample}
        counts = {"n_test": len(test), "n_groups": n_groups, "n_values": len(labels), "n_replicates": n_replicates}
        parts = metrics | {"chosen": chosen} | {f"difference/{name}": asdict(i) for name, i in intervals.items()}
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
    parser.add_argument("run_dir", type=Path, help="folder that `imprint fit` wrote")
    parser.add_argument("--bootstrap", type=int, default=2000, help="bootstrap replicates (default %(default)s)")
    parser.add_argument("--output", type=Path, help="JSON file to write the numbers to, per value too")
    parser.add_argument("--weights", help="first 8 digits of the checkpoint's digest, where several were tested")
    settings = parser.parse_args(argv)
    try:
        if settings.bootstrap < 1:
            raise InputError(f"--bootstrap {settings.bootstrap}", "at least 1 replicate", "--bootstrap")
        console = Console(width=100)
        run_benchmark(settings.run_dir, settings.weights, settings.bootstrap, settings.output, console)
    except InputError as error:
        print(f"baseline: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
