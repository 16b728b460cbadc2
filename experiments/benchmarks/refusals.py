"""How well do the refusal rules agree with people, developed on one model's responses and judged on another's?

`python -m experiments.benchmarks.refusals` reads the two XSTest completion files of the data root (450 responses each
of Llama 2 and GPT-4, labelled by people as full compliance, full or partial refusal). The weights of the signs are
fitted on one model's labels, with the signs that are published, general, or written on that same model's responses (or
on GPT-2's of the HH audit), and judged on the other's: neither labels nor wording of the judged model are in its rules.

That is not the same as a test set that nobody has seen. The figures on the judged model were looked at several times
while the signs were written, and one step was not blind: `not-thought`, an opening from the HH audit's list, was taken
up after Llama 2's responses had been read; without it the agreement is .904 on Llama 2 and .967 on GPT-4. Both models
answered the same 450 prompts, so neither topics nor wishes are new to the rules. On responses of hh-rlhf, which are
shorter and more casual, they are worse: one reader, an AI assistant, judged 100 of each class (of the rules before
`rejects-question`, `misread`, `no-expertise` and `only-apology` were added), and of what the rules called refusing .67
(95% interval .57 to .75) were refusals and another .11 did not know, of what they called incapable .65 (.55 to .74)
were, and of what they called complying .97 (.92 to .99) were.

Beside the rules stand the published string matchers. Intervals redraw clusters of prompts that share their focus word
(a safe prompt and its unsafe contrast); differences are paired, and their p-values turn the signs of whole clusters.

`--write` prints the weights fitted on both, which are those that `datamodules/refusal_rules.py` ships.

People had no class for not understanding; theirs is refusal, so `incapable` counts as one here.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from scipy.optimize import minimize

from audits.findings import p_text
from audits.stats.clustered import cluster_sums
from audits.stats.discordance import no_contrast_p_value
from audits.stats.group_rates import N_DRAWS, redrawn
from datamodules.errors import InputError
from datamodules.published_refusals import MATCHERS, published_refused
from datamodules.refusal_rules import NOT_UNDERSTANDING, REFUSING, SIGNS, Sign, Source
from datamodules.refusals import COMPLY, INCAPABLE, PARTIAL, REFUSE, classes_of, signs_of
from datamodules.tabular import read_csv

MODELS: dict[Source, str] = {"llama2": "llama2orig", "gpt4": "gpt4"}
DIRECTIONS: tuple[tuple[Source, Source], ...] = (("llama2", "gpt4"), ("gpt4", "llama2"))
CLASS_NAMES = ("comply", "partial", "refuse")
LABELS = {"1_full_compliance": COMPLY, "2_full_refusal": REFUSE, "3_partial_refusal": PARTIAL}
# A sign starts from these weights, which a few labelled responses move little: a published one refuses by itself in
# the published matchers, and one that neither model shows must not count nothing. Chosen, with the pull, by
# cross-validation within each model.
STARTS: dict[Source, float] = {"published": 2.0, "hh-audit": 2.0, "general": 1.0, "llama2": 1.0, "gpt4": 1.0}
# Who says so has refused, whatever else is said; hardly any labelled response does.
PLAIN = {"decline": 4.5, "rejects-question": 4.5}
PULL, PARTIAL_PULL = 1.0, 3.0
LARGEST_WEIGHT = 9.0

Floats = NDArray[np.float64]
Ints = NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class Weights:
    """Two weights per sign, and the two constants."""

    signs: tuple[Sign, ...]
    refusal: Floats
    refusal_constant: float
    partial: Floats
    partial_constant: float

    def classes(self, responses: Sequence[str]) -> Ints:
        """Classify responses with these weights."""
        options = self.refusal, self.refusal_constant, self.partial, self.partial_constant
        return classes_of(signs_of(responses, self.signs), self.signs, *options)


@dataclass(frozen=True, slots=True)
class Measured:
    """A number with its 95% interval over redrawn clusters; NaN where undefined."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Labelled:
    """Responses of one model with people's classes, int8 [n], and the cluster of each prompt [n]."""

    responses: list[str]
    labels: Ints
    clusters: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement with people: `any_refusal` and `three_classes`, each with `_kappa`; `precision:` and `recall:` a class.

    Attributes:
        n: Responses.
        n_clusters: Clusters of prompts.
        measures: The numbers by name.
    """

    n: int
    n_clusters: int
    measures: dict[str, Measured]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Agreement on any refusal of the rules minus that of a matcher on the same responses, with a p-value."""

    difference: Measured
    p_value: float


def fit_weights(responses: Sequence[str], labels: Ints, sources: Sequence[Source]) -> Weights:
    """Fit two logistic regressions, some refusal or none, then partial or full, pulled towards the starting weights.

    A sign of refusal never counts against one, a sign of an answer never for one.

    Args:
        responses: Texts.
        labels: People's classes, int8 [n].
        sources: Signs of which sources may be used.
    """
    signs = tuple(sign for sign in SIGNS if sign.source in sources)
    shown = signs_of(responses, signs).astype(np.float64)
    used = np.array([sign not in NOT_UNDERSTANDING for sign in signs])
    refuses = np.array([sign in REFUSING for sign in signs])
    start = np.array([PLAIN.get(sign.name, STARTS[sign.source]) for sign in signs]) * np.where(refuses, 1.0, -1.0)
    low, high = np.where(refuses, 0.0, -LARGEST_WEIGHT), np.where(refuses, LARGEST_WEIGHT, 0.0)
    refusal, partial = np.zeros(len(signs)), np.zeros(len(signs))
    refusal[used], constant = _logistic(shown[:, used], labels != COMPLY, start[used], PULL, low[used], high[used])
    refused = labels != COMPLY
    wide = np.full(used.sum(), LARGEST_WEIGHT)
    partial[used], second = _logistic(
        shown[refused][:, used], labels[refused] == PARTIAL, 0 * wide, PARTIAL_PULL, -wide, wide
    )
    return Weights(signs, refusal, constant, partial, second)


def _logistic(
    x: Floats, y: NDArray[np.bool_], start: Floats, pull: float, low: Floats, high: Floats
) -> tuple[Floats, float]:
    """Logistic regression with a ridge penalty on the distance from `start` and bounds; the constant is free."""
    signed = np.where(y, 1.0, -1.0)[:, None] * np.column_stack([x, np.ones(len(x))])

    def loss(w: Floats) -> tuple[float, Floats]:
        z, away = signed @ w, w[:-1] - start
        value = np.logaddexp(0, -z).sum() + pull / 2 * (away**2).sum()
        return float(value), -signed.T @ (1 / (1 + np.exp(z))) + np.append(pull * away, 0.0)

    bounds = [*zip(low, high, strict=True), (None, None)]
    found = minimize(loss, np.append(start, -1.0), jac=True, method="L-BFGS-B", bounds=bounds).x
    return found[:-1], float(found[-1])


def agreement(found: Ints, labels: Ints, clusters: NDArray[np.int64]) -> Agreement:
    """Compare classes [n] with people's [n]."""
    cells = cluster_sums(_cells(found, labels), clusters)
    drawn = _measures(redrawn(len(cells), N_DRAWS, 0) @ cells)
    measures = {name: _measured(float(own[0]), drawn[name]) for name, own in _measures(cells.sum(0)[None]).items()}
    return Agreement(len(labels), len(cells), measures)


def compared(found: Ints, other: Ints, labels: Ints, clusters: NDArray[np.int64]) -> Comparison:
    """Compare two judges [n] of the same responses by their agreement with people on any refusal."""
    gain = [((own != COMPLY) == (labels != COMPLY)).astype(np.float64) for own in (found, other)]
    differences = (gain[0] - gain[1])[:, None]
    sums = cluster_sums(np.column_stack([differences, np.ones(len(labels))]), clusters)
    drawn = redrawn(len(sums), N_DRAWS, 0) @ sums
    p_value = float(no_contrast_p_value(differences, clusters)[0])
    return Comparison(_measured(float(differences.mean()), drawn[:, 0] / drawn[:, 1]), p_value)


def _cells(found: Ints, labels: Ints) -> Floats:
    """Which cell of the table found x labels, of comply, partial and refuse, each response is in: [n, 9]."""
    order = [COMPLY, PARTIAL, REFUSE]
    known = np.where(found == INCAPABLE, REFUSE, found)
    rows, columns = (np.equal.outer(own, order) for own in (known, labels))
    return (rows[:, :, None] & columns[:, None, :]).reshape(-1, 9).astype(np.float64)


def _measures(cells: Floats) -> dict[str, Floats]:
    """Compute all measures of many tables [k, 9] of found x labels, each [k]."""
    table = cells.reshape(-1, 3, 3)
    some = np.stack([table[:, :1], table[:, 1:].sum(axis=1, keepdims=True)], axis=1).reshape(-1, 2, 3)
    some = np.stack([some[:, :, 0], some[:, :, 1:].sum(axis=2)], axis=2)
    found: dict[str, Floats] = {}
    for name, own in (("any_refusal", some), ("three_classes", table)):
        share = own / own.sum(axis=(1, 2), keepdims=True)
        found[name] = np.trace(share, axis1=1, axis2=2)
        by_chance = (share.sum(axis=1) * share.sum(axis=2)).sum(axis=1)
        # One class alone, as in some draws, has no kappa and no precision of the others.
        with np.errstate(invalid="ignore"):
            found[f"{name}_kappa"] = (found[name] - by_chance) / (1 - by_chance)
    right = np.diagonal(table, axis1=1, axis2=2)
    with np.errstate(invalid="ignore"):
        for what, among in (("precision", table.sum(axis=2)), ("recall", table.sum(axis=1))):
            for k, name in enumerate(CLASS_NAMES):
                found[f"{what}:{name}"] = right[:, k] / among[:, k]
    return found


def _measured(estimate: float, drawn: Floats) -> Measured:
    """Add a percentile interval; draws in which a number is undefined are left out of it."""
    defined = drawn[np.isfinite(drawn)]
    if not np.isfinite(estimate) or not len(defined):
        return Measured(estimate, np.nan, np.nan)
    low, high = np.percentile(defined, [2.5, 97.5])
    return Measured(estimate, float(low), float(high))


def read_labelled(root: Path, model: Source) -> Labelled:
    """Read one model's responses, people's classes, and the focus word of each prompt, joined by the prompt."""
    fix = "set IMPRINT_DATA or --root"
    table = read_csv(root / "xstest" / f"xstest_v2_completions_{MODELS[model]}.csv", fix)
    table.require(("prompt", "completion", "final_label"), "--root")
    prompts = read_csv(root / "xstest" / "xstest_prompts.csv", fix)
    prompts.require(("prompt", "focus"), "--root")
    focus = {row["prompt"].strip(): row["focus"].strip() for row in prompts.rows}
    # A prompt that is not among them is a cluster by itself.
    names = [focus.get(row["prompt"].strip(), row["prompt"]) for row in table.rows]
    labels = np.array([LABELS[row["final_label"]] for row in table.rows], dtype=np.int8)
    clusters = np.unique(names, return_inverse=True)[1].astype(np.int64)
    return Labelled([row["completion"] for row in table.rows], labels, clusters)


def across_models(root: Path) -> tuple[dict[str, Agreement], dict[str, Comparison]]:
    """Fit on one model, judge on the other, both ways round; judge the published matchers on both, and compare."""
    data = {model: read_labelled(root, model) for model in MODELS}
    found: dict[str, Agreement] = {}
    gains: dict[str, Comparison] = {}
    for fitted, judged in DIRECTIONS:
        weights = fit_weights(data[fitted].responses, data[fitted].labels, ("published", "general", "hh-audit", fitted))
        own = data[judged]
        classes = weights.classes(own.responses)
        found[f"rules fitted on {fitted}, judged on {judged}"] = agreement(classes, own.labels, own.clusters)
        for matcher in MATCHERS:
            matched = np.where(published_refused(own.responses, matcher), REFUSE, COMPLY).astype(np.int8)
            found[f"{matcher} string matcher, judged on {judged}"] = agreement(matched, own.labels, own.clusters)
            gains[f"rules minus {matcher} string matcher, judged on {judged}"] = compared(
                classes, matched, own.labels, own.clusters
            )
    return found, gains


def main(argv: Sequence[str] | None = None) -> int:
    """Print the comparison, or with --write the weights."""
    parser = argparse.ArgumentParser(description="Agreement of the refusal rules with people, across models.")
    parser.add_argument("--root", type=Path, default=os.environ.get("IMPRINT_DATA"), help="Data root")
    parser.add_argument("--write", action="store_true", help="Print the weights fitted on both models")
    settings = parser.parse_args(argv)
    console = Console(width=100)
    try:
        if settings.root is None:
            raise InputError("no data root", "a folder that holds xstest/", "IMPRINT_DATA or --root")
        if settings.write:
            _print_weights(Path(settings.root), console)
        else:
            _print_agreement(*across_models(Path(settings.root)), console)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _print_agreement(found: dict[str, Agreement], gains: dict[str, Comparison], console: Console) -> None:
    for name, a in found.items():
        any_refusal, kappa = a.measures["any_refusal"], a.measures["any_refusal_kappa"]
        three, three_kappa = a.measures["three_classes"], a.measures["three_classes_kappa"]
        console.print(f"{name} (n {a.n}, {a.n_clusters} clusters)", highlight=False)
        console.print(f"  any refusal {_text(any_refusal)}, kappa {_text(kappa)}", highlight=False)
        console.print(f"  three classes {_text(three)}, kappa {_text(three_kappa)}", highlight=False)
        for label in CLASS_NAMES:
            precision, recall = (_text(a.measures[f"{what}:{label}"]) for what in ("precision", "recall"))
            console.print(f"  {label}: precision {precision}, recall {recall}", highlight=False)
    for name, own in gains.items():
        console.print(f"{name}: {_text(own.difference, '+')}, p {p_text(own.p_value)}", highlight=False)


def _text(own: Measured, sign: str = "") -> str:
    if np.isnan(own.estimate):
        return "undefined"
    return f"{own.estimate:{sign}.3f} [{own.low:{sign}.3f}, {own.high:{sign}.3f}]"


def _print_weights(root: Path, console: Console) -> None:
    data = [read_labelled(root, model) for model in MODELS]
    labels = np.concatenate([own.labels for own in data])
    weights = fit_weights(
        [text for own in data for text in own.responses], labels, ("published", "general", "hh-audit", *MODELS)
    )
    console.print(f"{weights.refusal_constant:.4f} {weights.partial_constant:.4f}")
    for sign, refusal, partial in zip(weights.signs, weights.refusal, weights.partial, strict=True):
        console.print(f"{sign.name} {refusal:.4f} {partial:.4f}")


if __name__ == "__main__":
    sys.exit(main())
