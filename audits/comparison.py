"""Is one variant better than another on the same texts, by more than the luck of texts and seeds?

A variant is trained once or with several seeds; all runs predict the same test texts. Its value is the mean over its
runs, and the difference of two variants has two sources of luck:

* texts: whole groups of dependent texts are redrawn, once for all runs (paired), and the difference is measured on each
  redraw with the runs as they are: variance V.
* seeds: the runs of a variant differ on the very same texts: variance s^2 / S of the mean of its S runs. A side with
  one run borrows the s^2 of the other. With one run on both sides nothing is known of seeds: they are not in the error.

The error is the root of the sum, referred to a t distribution with Satterthwaite's degrees of freedom: G - 1 of the G
groups, S - 1 of the seeds. A percentile bootstrap that redraws seeds too (Owen's pigeonhole) is too narrow with the
three or five seeds that people train: s^2 is then short by a factor (S - 1) / S and its own error is left out. What the
sum counts twice (how a run's luck differs between texts is in V and in s^2) only widens the interval.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from audits.stats.multiplicity import holm
from audits.stats.redrawn_metrics import (
    columns_of,
    label_ap,
    label_auroc,
    label_brier,
    label_f1,
    mean_of_defined,
    micro_f1,
    top1_accuracy,
    top1_f1,
)
from audits.stats.signed_outcomes import AVERAGES as SIGNED_AVERAGES
from audits.stats.signed_outcomes import signed_outcomes, signed_scores

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

# Metrics that each value has, and their averages.
LABEL_METRICS = ("f1", "ap", "auroc", "brier", "f1_top1")
WHOLE_METRICS = ("f1_micro", "top1_accuracy")
AVERAGES = {f"{name}_macro": name for name in LABEL_METRICS} | {"f1_weighted": "f1", "f1_top1_weighted": "f1_top1"}
# Averages over signed values, for labels that are pairs of `<slug>-for` and `<slug>-against`.
SIGNED_METRICS = SIGNED_AVERAGES
METRICS = (*AVERAGES, *WHOLE_METRICS, *SIGNED_METRICS)
# Variation below this share of the values is rounding.
ROUNDING = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """Predictions of the test texts by one run, or by the runs of all folds.

    Attributes:
        probabilities: Calibrated, float64 [n, L]; they rank the texts too.
        decisions: bool [n, L].
    """

    probabilities: Floats
    decisions: Bools


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """A metric, or a metric of K values, of the runs of one variant.

    Attributes:
        observed: On the texts as they are, float64 [S, K].
        redrawn: On each redraw of the texts, float64 [S, B, K].
    """

    observed: Floats
    redrawn: Floats

    @property
    def mean(self) -> Floats:
        """Mean over the runs [K]."""
        return np.asarray(self.observed.mean(axis=0))

    @property
    def seed_sd(self) -> Floats:
        """Standard deviation over the runs [K]; NaN for a single one."""
        if len(self.observed) == 1:
            return np.full(self.observed.shape[1], np.nan)
        return np.asarray(self.observed.std(axis=0, ddof=1))


@dataclass(frozen=True, slots=True, eq=False)
class Difference:
    """A variant minus the baseline; every array is float64 [K], NaN where undefined.

    Attributes:
        estimate: Difference of the means over runs.
        std_error: Its error.
        df: Degrees of freedom of the error.
        ci_low: Lower end of the interval, of each difference alone.
        ci_high: Upper end.
        p_value: Two-sided, of each difference alone.
        p_adjusted: After Holm over all variants and values of the metric.
        has_seed_noise: Whether the luck of seeds is in the error.
    """

    estimate: Floats
    std_error: Floats
    df: Floats
    ci_low: Floats
    ci_high: Floats
    p_value: Floats
    p_adjusted: Floats
    has_seed_noise: bool


def measure(
    runs: Sequence[Predictions],
    targets: NDArray[np.integer],
    weights: NDArray[np.number],
    names: Sequence[str],
    labels: Sequence[str] = (),
) -> dict[str, Measured]:
    """Measure metrics of the runs of a variant.

    Args:
        runs: Predictions of the same n texts.
        targets: 1, 0 or -1 (unknown), int [n, L].
        weights: How often each text is in, one row per redraw [B, n] (`group_weights`), the same for all variants.
        names: Names out of `METRICS` (K = 1) and `LABEL_METRICS` (K = L).
        labels: Names of the labels [L], for `SIGNED_METRICS`.
    """
    w = columns_of(np.vstack([np.ones(len(targets)), weights]))
    found = [_metrics(run, targets, w, names, labels) for run in runs]
    stacked = {name: np.stack([each[name] for each in found]) for name in names}
    return {name: Measured(values[:, 0], values[:, 1:]) for name, values in stacked.items()}


def _metrics(
    run: Predictions, targets: NDArray[np.integer], w: Floats, names: Sequence[str], labels: Sequence[str]
) -> Mapping[str, Floats]:
    """Metrics of one run, [B, K] each."""
    signed = [name for name in names if name in SIGNED_METRICS]
    needed = dict.fromkeys(AVERAGES.get(name, name) for name in names if name not in signed)
    found = {name: _own_metric(name, run, targets, w) for name in needed}
    if signed:
        decided, truth = (signed_outcomes(states, labels) for states in (run.decisions, targets))
        averages = signed_scores(decided, truth, w).averages()
        found |= {name: averages[name][:, None] for name in signed}
    for name in names:
        if name.endswith("_weighted"):
            found[name] = mean_of_defined(found[AVERAGES[name]], w @ (targets == 1))[:, None]
        elif name in AVERAGES:
            found[name] = mean_of_defined(found[AVERAGES[name]])[:, None]
    return found


def _own_metric(name: str, run: Predictions, targets: NDArray[np.integer], w: Floats) -> Floats:
    match name:
        case "f1":
            return label_f1(run.decisions, targets, w)
        case "f1_micro":
            return micro_f1(run.decisions, targets, w)
        case "ap":
            return label_ap(run.probabilities, targets, w)
        case "auroc":
            return label_auroc(run.probabilities, targets, w)
        case "brier":
            return label_brier(run.probabilities, targets, w)
        case "f1_top1":
            return top1_f1(run.probabilities, targets, w)
        case "top1_accuracy":
            return top1_accuracy(run.probabilities, targets, w)
        case _:
            raise ValueError(f"no metric {name}")


def differences(
    baseline: Measured, variants: Sequence[Measured], n_groups: ArrayLike, confidence: float = 0.95
) -> list[Difference]:
    """Compare variants with the baseline in one metric; Holm's family is all variants and values.

    Args:
        baseline: Its runs, redrawn together with those of the variants.
        variants: Those of the others.
        n_groups: Groups of texts behind each of the K values: all for an average, those with a known positive for a
            value, int [K] or one number. With fewer than two there is no error.
        confidence: Level of the intervals.
    """
    alone = [_difference(baseline, variant, np.asarray(n_groups), confidence) for variant in variants]
    if not alone:
        return []
    adjusted = holm(np.concatenate([each.p_value for each in alone])).reshape(len(alone), -1)
    return [replace(each, p_adjusted=p) for each, p in zip(alone, adjusted, strict=True)]


def _difference(baseline: Measured, variant: Measured, n_groups: NDArray[np.integer], confidence: float) -> Difference:
    estimate = variant.mean - baseline.mean
    redrawn = variant.redrawn.mean(axis=0) - baseline.redrawn.mean(axis=0)
    df_texts = np.broadcast_to(n_groups - 1, estimate.shape).astype(np.float64)
    reach = np.abs(np.nan_to_num(np.concatenate([variant.observed, baseline.observed]))).max(axis=0)
    of_texts = np.where(df_texts > 0, _variances(redrawn, reach), np.nan)
    of_seeds = _seed_variances(baseline.observed, variant.observed)
    variance = of_texts + sum(part for part, _ in of_seeds)
    # Variances that cannot be seen (0) or are unknown (NaN) leave no error.
    seen = variance > 0
    squares = of_texts**2 / np.maximum(df_texts, 1) + sum(part**2 / df for part, df in of_seeds)
    df = np.divide(variance**2, squares, out=np.full(estimate.shape, np.nan), where=seen)
    error = np.where(seen, np.sqrt(np.where(seen, variance, 1.0)), np.nan)
    half = stats.t.ppf((1 + confidence) / 2, df) * error
    p_value = 2 * stats.t.sf(np.abs(estimate) / error, df)
    same = (variance == 0) & (estimate == 0)
    return Difference(
        estimate=estimate,
        std_error=error,
        df=df,
        ci_low=estimate - half,
        ci_high=estimate + half,
        p_value=np.where(same, 1.0, p_value),
        p_adjusted=np.full(estimate.shape, np.nan),
        has_seed_noise=bool(of_seeds),
    )


def _variances(redrawn: Floats, reach: Floats) -> Floats:
    """Variance over the redraws [B, K] in which a difference is defined, 0 where it is rounding; NaN below two."""
    defined = ~np.isnan(redrawn)
    n = defined.sum(axis=0)
    mean = np.divide(np.where(defined, redrawn, 0.0).sum(axis=0), n, out=np.zeros(n.shape), where=n > 0)
    squares = np.where(defined, redrawn - mean, 0.0) ** 2
    variance = np.divide(squares.sum(axis=0), n - 1, out=np.full(n.shape, np.nan), where=n > 1)
    return np.asarray(np.where(np.sqrt(variance) <= ROUNDING * reach, 0.0, variance))


def _seed_variances(baseline: Floats, variant: Floats) -> list[tuple[Floats, int]]:
    """Variance of the mean over runs of each side with its degrees of freedom; observed values [S, K]."""
    sides = [side for side in (baseline, variant) if len(side) > 1]
    if len(sides) == 1:
        share = 1 / len(baseline) + 1 / len(variant)
        return [(np.asarray(sides[0].var(axis=0, ddof=1) * share), len(sides[0]) - 1)]
    return [(np.asarray(side.var(axis=0, ddof=1) / len(side)), len(side) - 1) for side in sides]
