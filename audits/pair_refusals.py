"""Are rejected responses more often refusals than chosen ones? Rules on preference data, without a model."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from audits.base import subset_scopes
from audits.judged_completions import RATES
from audits.pair_rows import Rows, difference_rows, estimate_rows, with_holm
from audits.refusals import AUDIT
from audits.stats.clustered import clustered_rate
from audits.stats.discordance import no_contrast_p_value
from audits.table import make_table
from datamodules.preference_data import PreferenceData
from datamodules.refusals import EMPTY, classify_refusals

METHOD = "rules"


def pair_refusal_table(data: PreferenceData) -> pa.Table:
    """Classify both responses of every pair, and compare chosen with rejected.

    Args:
        data: The pairs; they are read once.

    Returns:
        Rows of the audit table, for all pairs and for each subset where there are several.
    """
    responses = [text for pair in data.read() for text in (pair.first.response, pair.second.response)]
    classes = classify_refusals(responses).reshape(-1, 2)
    index = data.index
    _, clusters = np.unique(index.cluster_ids, return_inverse=True)
    rows = pair_refusal_rows(classes, clusters, index.is_tie, index.subsets)
    return make_table([row | {"audit": AUDIT, "dataset": data.name} for row in rows])


def pair_refusal_rows(
    classes: NDArray[np.int8], clusters: NDArray[np.int64], is_tie: NDArray[np.bool_], subsets: NDArray[np.str_]
) -> Rows:
    """Rates of each side and paired differences chosen - rejected, clustered by prompt.

    A side without text has no class: it is in no rate, its pair in no difference, and both are counted. Sides of ties
    are `a` and `b` and in no difference.

    Args:
        classes: See `classify_refusals`, int8 [n_pairs, 2].
        clusters: Number of the prompt [n_pairs].
        is_tie: [n_pairs].
        subsets: [n_pairs].
    """
    rows: Rows = []
    for subset, inside in subset_scopes(subsets, np.ones(len(clusters), dtype=np.bool_)):
        for own in (_sides(classes, clusters, is_tie, inside), _differences(classes, clusters, inside & ~is_tie)):
            rows += [row | {"subset": subset} for row in own]
    return rows


def _sides(
    classes: NDArray[np.int8], clusters: NDArray[np.int64], is_tie: NDArray[np.bool_], inside: NDArray[np.bool_]
) -> Rows:
    rows: Rows = []
    for is_tied, names in ((False, ("chosen", "rejected")), (True, ("a", "b"))):
        kept = inside & (is_tie == is_tied)
        if not kept.any():
            continue
        for side, name in enumerate(names):
            own = classes[kept, side]
            same: dict[str, Any] = {"slice": name, "mode": "corrected", "method": METHOD}
            for metric, counted in RATES.items():
                events = np.where(own == EMPTY, np.nan, np.isin(own, counted))[:, None]
                spec = {"metric": metric, "spec": "pooled-clustered"}
                rows += estimate_rows(clustered_rate(events, clusters[kept]), [""], same | spec)
            n_empty = int((own == EMPTY).sum())
            if n_empty:
                same = {"slice": name, "metric": "left_out", "method": "empty-response"}
                rows.append(same | {"estimate": float(n_empty), "n": len(own)})
    return rows


def _differences(classes: NDArray[np.int8], clusters: NDArray[np.int64], inside: NDArray[np.bool_]) -> Rows:
    """One row per rate; each is a family of its own in Holm's adjustment."""
    known = inside & (classes != EMPTY).all(axis=1)
    if not known.any():
        return []
    rows: Rows = []
    for metric, counted in RATES.items():
        is_one = np.isin(classes[known], counted).astype(np.float64)
        same = {"slice": "chosen-rejected", "metric": f"{metric}_difference", "mode": "corrected", "method": METHOD}
        differences = (is_one[:, 0] - is_one[:, 1])[:, None]
        (row,) = difference_rows(differences, clusters[known], [""], same)
        if differences.any():
            # As dataset-quality tests it: few pairs differ, and t would find too much.
            row |= {"p_value": float(no_contrast_p_value(differences, clusters[known])[0])}
        rows += with_holm([row])
    return rows
