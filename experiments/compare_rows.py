"""What does a comparison of variants find? One tidy row per variant and metric, value, cost or audited data set."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from audits.comparison import AVERAGES, METRICS, SIGNED_METRICS, Difference, Measured, differences, measure
from audits.findings import SIGNIFICANT
from audits.stats.paired_bootstrap import group_weights
from audits.stats.signed_outcomes import signed_slugs
from datamodules.errors import InputError
from experiments.same_texts import SameTexts, same_texts
from experiments.variants import Variant
from models.evaluation import is_error, is_single_positive
from models.metrics import multilabel_metrics
from train.cost import Cost, read_cost
from train.progress import Progress

N_REDRAWS = 2000
DEFAULT_METRICS = ("f1_macro", "f1_micro", "ap_macro")
# Of signed labels besides.
SIGNED_DEFAULTS = ("f1_for_macro", "f1_against_macro", "kappa_macro", "kappa_linear_macro")
SINGLE_METRICS = ("top1_accuracy", "f1_top1_macro", "f1_top1_weighted")
CALIBRATION = ("ece_macro", "brier_macro")
COSTS = ("training_seconds", "audit_seconds", "texts_per_second", "n_parameters", "n_trainable")
BASELINE, BETTER, WORSE = "baseline", "*", "-"

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Variants side by side.

    Attributes:
        variants: The first is the baseline.
        texts: What they predicted.
        metrics: Names of the metrics that are compared.
        rows: Rows of kind `metric` (value empty: an average), `calibration` and `cost`.
        costs: Cost of every run, by run id.
        has_seed_noise: By name of the variant, whether the luck of seeds is in its intervals.
        audits: Rows of kind `audit`.
        notes: What a reader must know besides.
    """

    variants: tuple[Variant, ...]
    texts: SameTexts
    metrics: tuple[str, ...]
    rows: list[Row]
    costs: dict[str, Cost]
    has_seed_noise: dict[str, bool]
    audits: list[Row] = field(default_factory=list)
    notes: tuple[str, ...] = ()

    def of(self, kind: str, metric: str) -> list[Row]:
        """Rows of a kind and metric, in the order of the variants."""
        return [row for row in self.rows if row["kind"] == kind and row["metric"] == metric]

    @property
    def baseline(self) -> Variant:
        """What the others are compared with."""
        return self.variants[0]


def compare_variants(
    variants: Sequence[Variant],
    metrics: Sequence[str] | None,
    per_value: bool,
    progress: Progress,
    n_redraws: int = N_REDRAWS,
    seed: int = 0,
) -> Comparison:
    """Compare variants on the same test texts with the first one.

    Args:
        variants: The baseline first.
        metrics: Names out of `audits.comparison.METRICS`; those that fit the labels when left out.
        per_value: Whether each value is compared too.
        progress: Shows the work.
        n_redraws: Redraws of the texts.
        seed: Seed of the redraws.

    Raises:
        InputError: No such metric, or predictions of other texts.
    """
    require_metrics(metrics)
    texts = same_texts(variants)
    names = tuple(metrics or _default_metrics(texts))
    if (asked := [name for name in names if name in SIGNED_METRICS]) and not signed_slugs(texts.labels):
        fix = "--metrics, or runs of a signed taxonomy"
        raise InputError(f"metric {asked[0]} of unsigned labels", "labels for and against each value", fix)
    families = tuple(dict.fromkeys(AVERAGES[name] for name in names if name in AVERAGES)) if per_value else ()
    weights = group_weights(texts.groups, n_redraws, seed)
    measured = []
    with progress.bar("measuring on redrawn texts", sum(map(len, texts.predictions)), "runs") as advance:
        for runs in texts.predictions:
            measured.append(measure(runs, texts.targets, weights, (*names, *families), texts.labels))
            advance(len(runs))
    rows: list[Row] = []
    has_seed_noise: dict[str, bool] = {}
    for name in (*names, *families):
        n_groups = texts.n_positive_groups if name in families else texts.n_groups
        found = differences(measured[0][name], [own[name] for own in measured[1:]], n_groups)
        values = texts.labels if name in families else ("",)
        for variant, own, difference in zip(variants, measured, [None, *found], strict=True):
            rows += _metric_rows(variant, name, values, own[name], difference, texts)
            if difference is not None:
                has_seed_noise[variant.name] = difference.has_seed_noise
    costs = {run.run_id: read_cost(run.directory) for variant in variants for run in variant.runs}
    for variant, runs in zip(variants, texts.predictions, strict=True):
        rows += _calibration_rows(variant, runs, texts)
        rows += _cost_rows(variant, [costs[run.run_id] for run in variant.runs])
    return Comparison(tuple(variants), texts, names, rows, costs, has_seed_noise)


def _default_metrics(texts: SameTexts) -> tuple[str, ...]:
    if is_single_positive(texts.targets):
        return SINGLE_METRICS
    return (*DEFAULT_METRICS, *SIGNED_DEFAULTS) if signed_slugs(texts.labels) else DEFAULT_METRICS


def require_metrics(metrics: Sequence[str] | None) -> None:
    """Raise InputError where a name is not that of a metric, or occurs twice."""
    for name in metrics or ():
        if name not in METRICS:
            raise InputError(f"metric {name!r}", f"one of {', '.join(METRICS)}", "--metrics")
    if metrics is not None and (not metrics or len(set(metrics)) < len(metrics)):
        raise InputError(f"metrics {','.join(metrics) or '(none)'}", "each metric once", "--metrics")


def _metric_rows(
    variant: Variant, name: str, values: Sequence[str], own: Measured, difference: Difference | None, texts: SameTexts
) -> list[Row]:
    n_positives = (texts.targets == 1).sum(axis=0)
    rows = []
    for k, value in enumerate(values):
        row = _row("metric", variant, name, float(own.mean[k]), float(own.seed_sd[k]))
        row |= {"value": value, "n": len(texts.targets), "n_groups": texts.n_groups}
        row["n_positives"] = int(n_positives[k]) if value else None
        if difference is None:
            row["verdict"] = BASELINE
        else:
            names = ("std_error", "ci_low", "ci_high", "p_value", "p_adjusted")
            row |= {"difference": float(difference.estimate[k])}
            row |= {each: float(getattr(difference, each)[k]) for each in names}
            row["verdict"] = verdict(row["difference"], row["p_adjusted"], name)
        rows.append(row)
    return rows


def verdict(difference: float, p_adjusted: float, metric: str) -> str:
    """Return `*` for significantly better than the baseline, `-` for significantly worse, else nothing."""
    if not p_adjusted < SIGNIFICANT:
        return ""
    return BETTER if (difference > 0) != is_error(metric) else WORSE


def _calibration_rows(variant: Variant, runs: Sequence[Any], texts: SameTexts) -> list[Row]:
    found = [multilabel_metrics(run.probabilities, run.decisions, texts.targets, texts.labels) for run in runs]
    rows = []
    for name in CALIBRATION:
        values = np.array([each[name] for each in found])
        rows.append(_row("calibration", variant, name, float(values.mean()), _sd(values)))
    return rows


def _cost_rows(variant: Variant, costs: Sequence[Cost]) -> list[Row]:
    rows = []
    for name in COSTS:
        values = np.array([np.nan if (v := getattr(cost, name)) is None else v for cost in costs], dtype=np.float64)
        rows.append(_row("cost", variant, name, float(values.mean()), _sd(values)))
    return rows


def _row(kind: str, variant: Variant, metric: str, estimate: float, sd: float) -> Row:
    own = {"kind": kind, "variant": variant.name, "metric": metric, "value": "", "estimate": estimate, "seed_sd": sd}
    return own | {"n_seeds": len(variant.repeats), "n_runs": len(variant.runs), "verdict": ""}


def _sd(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else float("nan")
