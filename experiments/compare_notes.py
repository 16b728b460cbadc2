"""What stands behind the numbers of a comparison? The sentences below its tables."""

import math

from experiments.compare_rows import N_REDRAWS, Comparison
from experiments.summary import SAMPLE_NOTE
from experiments.variants import SEED, Variant


def comparison_notes(found: Comparison) -> list[str]:
    """Say what stands behind the numbers."""
    return [
        *_text_notes(found),
        *_test_notes(found),
        *_seed_notes(found),
        *(_variant_note(found, variant) for variant in found.variants),
        *_cost_notes(found),
        *_conclusion_notes(found),
        *found.notes,
    ]


def _text_notes(found: Comparison) -> list[str]:
    texts = found.texts
    n_positives = (texts.targets == 1).sum(axis=0)
    empty = [label for label, n in zip(texts.labels, n_positives.tolist(), strict=True) if not n]
    notes = []
    if empty:
        names = ", ".join(empty)
        notes.append(f"no test text carries {names}: undefined, and in no macro of any variant")
    notes.append(f"{len(texts.labels) - len(empty)} of {len(texts.labels)} values have a known positive in test")
    notes += [
        f"{metric} is undefined on these labels (no known negatives, or no single positives)"
        for metric in found.metrics
        if all(math.isnan(row["estimate"]) for row in found.of("metric", metric))
    ]
    if any(len(repeat) > 1 for variant in found.variants for repeat in variant.repeats):
        notes.append(
            "folds: the test predictions of all folds are put together, every text once; AP and AUROC rank texts by "
            "the calibrated probabilities of different models"
        )
    return notes


def _test_notes(found: Comparison) -> list[str]:
    n = len(found.variants) - 1
    if not n:
        return ["one variant, nothing to compare it with; --groups none compares its runs"]
    per_value = " (per value: over variants and values)" if any(row["value"] for row in found.rows) else ""
    return [
        f"* better, - worse than {found.baseline.name}, adjusted p < .05: Holm over {n} variant{'s' * (n > 1)}"
        f"{per_value}, each metric a family of its own; intervals are of each difference alone",
        f"paired: {N_REDRAWS:,} redraws of whole groups of texts, the same for all runs; t with error and degrees of "
        "freedom put together from texts and seeds",
    ]


def _seed_notes(found: Comparison) -> list[str]:
    if len(found.variants) < 2:
        return []
    without = [name for name, known in found.has_seed_noise.items() if not known]
    alone = [variant.name for variant in found.variants if len(variant.repeats) == 1]
    if len(without) == len(found.has_seed_noise):
        return ["one seed a variant: seed noise is not in the intervals, and another seed may turn a difference round"]
    notes = ["intervals hold the luck of the texts and of the seeds"]
    if without:
        notes[0] += f", but not the seeds' for {', '.join(without)} (one seed on both sides)"
    borrowed = [name for name in alone if name not in without]
    if borrowed:
        notes.append(f"one seed of {', '.join(borrowed)}: in its place, the seeds of the other side tell the noise")
    return notes


def _variant_note(found: Comparison, variant: Variant) -> str:
    told = ", ".join(f"{name} {value}" for name, value in variant.settings.items() if name != "run.experiment")
    seeds = ", ".join(str(repeat[0].settings[SEED]) for repeat in variant.repeats)
    runs = ", ".join(f"{run.run_id} ({run.predictions.weights})" for run in variant.runs)
    several = f"seed{'s' * (len(variant.repeats) > 1)} {seeds}"
    n_folds = len(variant.repeats[0])
    folds = f", {n_folds} folds" if n_folds > 1 else ""
    return f"{variant.name}: {several}{folds}: {runs}{f'; {told}' if told else ''}"


def _cost_notes(found: Comparison) -> list[str]:
    notes = ["costs are means over runs (training without audits; a frozen encoder's cached features are not in it)"]
    devices = sorted({cost.device for cost in found.costs.values()})
    if len(devices) > 1:
        notes.append(f"the runs are of different devices ({', '.join(devices)}): times do not compare")
    if any(math.isnan(row["estimate"]) for row in found.rows if row["kind"] == "cost"):
        notes.append("cost -: not recorded for every run (older, killed while training, or gone on from another run)")
    if all(run.settings.get("data.name") == "sample" for variant in found.variants for run in variant.runs):
        notes.append(SAMPLE_NOTE)
    return notes


def _conclusion_notes(found: Comparison) -> list[str]:
    if not found.audits:
        return []
    return [
        "conclusions are + or - where Holm p < .05, else 0 (not told apart); estimates that are both 0 agree; rows of "
        "the baseline's own further seeds show what another seed alone changes"
    ]
