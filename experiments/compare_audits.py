"""On which conclusions of their audits do two variants disagree? From what was stored; nothing is scored again."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from audits.conclusions import Answer, Question, answers, compare_answers
from audits.table import read_table
from experiments.variants import Run, Variant
from train.drift_series import difference
from train.stored_audits import StoredAudit, stored_audits, views_of

SLOPES = "beta"

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class AuditComparison:
    """Audits of variants against those of the baseline.

    Attributes:
        rows: One per variant, run, data set and metric with the counts (verdict `agreement`), then one per disagreement
            (verdict `disagreement`) with both answers.
        notes: What was not compared, and why.
    """

    rows: list[Row]
    notes: tuple[str, ...]


def compare_audits(variants: Sequence[Variant]) -> AuditComparison:
    """Compare what the audits of each variant's best checkpoints conclude with what the baseline's do.

    The first run of the baseline is what all others are compared with: the first run of each variant, of which
    disagreements are listed, and the further repeats of the baseline itself, of which they are counted: what another
    seed alone changes. Of folds, it is the first.

    Raises:
        InputError: An audit's files cannot be read.
    """
    baseline = variants[0]
    first = baseline.repeats[0][0]
    reference = best_audit(first)
    if reference is None:
        return AuditComparison([], (f"audits are not compared: the best checkpoint of {first.run_id} was not audited",))
    compared = [(baseline, run) for (run, *_) in baseline.repeats[1:]]
    compared += [(variant, variant.repeats[0][0]) for variant in variants[1:]]
    counts: list[Row] = []
    disagreements: list[Row] = []
    notes: list[str] = []
    for variant, run in compared:
        audit = best_audit(run)
        if audit is None:
            notes.append(f"{run.run_id}: its best checkpoint was not audited")
            continue
        for dataset in dict.fromkeys([*reference.datasets, *audit.datasets]):
            why = not_comparable(reference, audit, dataset)
            if why:
                notes.append(f"{run.run_id}: {dataset} is not compared ({why})")
                continue
            own, told, more = _on_one(variant, run, reference, audit, dataset)
            counts += own
            disagreements += told if variant is not baseline else []
            notes += more
    return AuditComparison([*counts, *disagreements], tuple(notes))


def best_audit(run: Run) -> StoredAudit | None:
    """Return the newest audit of the checkpoint that predicted test; None where there is none."""
    audits = stored_audits(run.directory)
    return next((audit for audit in audits if audit.weights.startswith(run.predictions.weights)), None)


def not_comparable(reference: StoredAudit, audit: StoredAudit, dataset: str) -> str:
    """Say in a few words why two audits of a data set cannot be compared; empty where they can."""
    if dataset not in reference.datasets:
        return "not audited with the baseline"
    view = views_of(reference, dataset)[0]
    why = difference(reference, audit, dataset, view)
    if not why and (own := views_of(audit, dataset)[0]) != view:
        why = f"view {own}, not {view}"
    return why


def _on_one(
    variant: Variant, run: Run, reference: StoredAudit, audit: StoredAudit, dataset: str
) -> tuple[list[Row], list[Row], list[str]]:
    """Counts, disagreements and notes of one pair of audits on one data set."""
    first, other = (answers(read_table(each.folder / "table.parquet"), dataset) for each in (reference, audit))
    notes = []
    measured = [each.datasets[dataset].get("measured") for each in (reference, audit)]
    if measured[0] != measured[1]:
        if any(question.metric == SLOPES for question in (*first, *other)):
            notes.append(f"{run.run_id}: slopes of rewards on {dataset} are not compared (other rewards or features)")
        first = {question: answer for question, answer in first.items() if question.metric != SLOPES}
    same = {"kind": "audit", "variant": variant.name, "run_id": run.run_id, "dataset": dataset}
    counts, disagreements = [], []
    for metric, found in compare_answers(first, other).items():
        n_apart = len(found.disagreements)
        count = {"metric": metric, "verdict": "agreement", "n_agree": found.n_agree, "n_disagree": n_apart}
        counts.append(same | count | {"n_undefined": found.n_undefined})
        disagreements += [same | _disagreement(*each) for each in found.disagreements]
    return counts, disagreements, notes


def _disagreement(question: Question, first: Answer, other: Answer) -> Row:
    row: Row = {"metric": question.metric, "value": question.feature, "scorer": question.scorer}
    row |= {"slice": question.slice, "method": question.method, "verdict": "disagreement"}
    row |= {"baseline_estimate": first.estimate, "baseline_p_adjusted": first.p_adjusted}
    row |= {"baseline_conclusion": first.conclusion, "conclusion": other.conclusion}
    return row | {"estimate": other.estimate, "p_adjusted": other.p_adjusted}
