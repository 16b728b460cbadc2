"""Do two models refuse the same prompts, and does one refuse more?

Completions of two models are paired by a key, never by their place in the file: the prompt, its type, and the number of
the completion among those of that prompt and type (the first sample of one model meets the first of the other). A
completion without a partner, and a pair without a judgement on both sides, is left out and counted. Samples of one
prompt could as well have come in another order: which of them meet decides the four cells of the table, but neither the
difference of the rates nor its test, which keep a prompt's samples together.

The test turns the signs of whole templates (`discordance.sign_flip_p_value`), which is McNemar's exact test where no
template has two pairs; beside it Stuart and Maxwell's, clustered too, asks whether all four classes are as frequent.
Holm's family is the pairs of models of one side, judgement and test.
"""

from itertools import combinations, groupby
from typing import Any

import numpy as np

from audits.judged_completions import SIDES, Bools, Floats, Ints, Judged
from audits.pair_rows import Rows, estimate_rows, with_holm
from audits.stats.discordance import MOST_FLIPPED, discordance
from audits.stats.stuart_maxwell import stuart_maxwell
from datamodules.completions import Completions
from datamodules.refusals import CLASSES

CELL, DIFFERENCE, CLASS_TEST, UNPAIRED = "refusal_cell", "model_refusal_difference", "model_class_test", "unpaired"
# Who refused; `neither` also holds pairs that one or both did not understand.
CELLS = ("both", "first", "second", "neither")
SPEC = "by-template"


def model_pair_rows(models: list[Judged]) -> Rows:
    """Rows on every pair of models, in the order of the file; `scorer` is FIRST|SECOND, differences first - second."""
    tests: Rows = []
    rows: Rows = []
    for first, second in combinations(models, 2):
        for row in _pair_rows(first, second):
            named = row | {"scorer": f"{first.completions.model}|{second.completions.model}"}
            (tests if row["metric"] in (DIFFERENCE, CLASS_TEST) else rows).append(named)

    # Methods say how a p-value was found, which may differ inside a family.
    def family(row: dict[str, Any]) -> tuple[str, str, str]:
        return row["slice"], row["mode"], row["metric"]

    for _, own in groupby(sorted(tests, key=family), family):
        rows += with_holm(list(own))
    return rows


def paired_rows(first: Completions, second: Completions) -> tuple[Ints, Ints]:
    """Return which entries of two models' completions are of one key: positions [n] and [n], in the first's order."""
    places = {key: j for j, key in enumerate(_keys(second))}
    met = [(i, places[key]) for i, key in enumerate(_keys(first)) if key in places]
    one, two = np.array(met, dtype=np.int64).reshape(-1, 2).T
    return one, two


def _keys(completions: Completions) -> list[tuple[str, str, int]]:
    """Prompt, type and number of every completion."""
    seen: dict[tuple[str, str], int] = {}
    keys = []
    for prompt, kind in zip(completions.prompts.tolist(), completions.types.tolist(), strict=True):
        number = seen[prompt, kind] = seen.get((prompt, kind), 0) + 1
        keys.append((prompt, kind, number))
    return keys


def _pair_rows(first: Judged, second: Judged) -> Rows:
    one, two = paired_rows(first.completions, second.completions)
    rows: Rows = []
    for side in SIDES:
        inside = first.sides[side][one]
        n_alone = [int(model.sides[side].sum()) - int(inside.sum()) for model in (first, second)]
        rows += [
            {"slice": side, "metric": UNPAIRED, "feature": place, "method": "no-partner", "estimate": float(n)}
            for place, n in zip(("first", "second"), n_alone, strict=True)
            if n
        ]
        if not inside.any():
            continue
        clusters = first.by_template[one]
        for (mode, method, metric, a), (_, other, _, b) in zip(first.judgements(), second.judgements(), strict=True):
            if metric == "refusal_rate":
                same = {"slice": side, "mode": mode}
                rows += _table_rows(a[one], b[two], inside, clusters, same, method if method == other else "mixed")
        classes = first.classes[one], second.classes[two]
        known = inside & (classes[0] >= 0) & (classes[1] >= 0)
        found = stuart_maxwell(classes[0][known], classes[1][known], len(CLASSES), clusters[known])
        rows.append(
            {"slice": side, "mode": "corrected", "metric": CLASS_TEST, "spec": SPEC, "estimate": found.statistic}
            | {"method": f"rules-stuart-maxwell-df{found.df}", "p_value": found.p_value}
            | {"n": found.n, "n_clusters": found.n_clusters}
        )
    return rows


def _table_rows(
    first: Floats, second: Floats, inside: Bools, clusters: Ints, same: dict[str, Any], method: str
) -> Rows:
    """The four cells, the paired difference with its test, and how many pairs had no judgement."""
    known = inside & np.isfinite(first) & np.isfinite(second)
    a, b, labels = first[known] == 1, second[known] == 1, clusters[known]
    rows: Rows = []
    if n_unknown := int((inside & ~known).sum()):
        rows.append(same | {"metric": UNPAIRED, "feature": "both", "method": f"{method}-no-judgement"})
        rows[-1] |= {"estimate": float(n_unknown), "n": int(inside.sum())}
    if not known.any():
        return rows
    counts = {"metric": CELL, "spec": "pooled", "method": method, "n": len(a), "n_clusters": len(np.unique(labels))}
    for cell, marks in zip(CELLS, (a & b, a & ~b, ~a & b, ~a & ~b), strict=True):
        rows.append(same | counts | {"feature": cell, "estimate": float(marks.sum())})
    differences = (a.astype(np.float64) - b)[:, None]
    found = discordance(differences, labels).strength
    test = {"metric": DIFFERENCE, "spec": SPEC, "method": f"{method}-{_test_name(differences, labels)}"}
    (row,) = estimate_rows(found, [""], same | test)
    return [*rows, row | {"p_value": float(found.p_value[0])}]


def _test_name(differences: Floats, clusters: Ints) -> str:
    """Say which test `discordance` makes of these differences [n, 1]."""
    if len(np.unique(clusters[differences[:, 0] != 0])) > MOST_FLIPPED:
        return "clustered-t"
    return "mcnemar-exact" if len(np.unique(clusters)) == len(clusters) else "sign-flips"
