"""Which numbers of an audit go to a tracker?"""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from audits.item_table import HEADLINE_SPEC
from audits.misclassification import METHOD as GOLD_SLOPES
from audits.pair_rows import POLICY
from audits.prevalence import BAND_METHODS, GOLD_METHOD, UNCALIBRATED
from audits.reward_agreement import TIES

CLUSTERED, PAIRED = "pooled-clustered", "within"

# Audit -> metric -> spec of its headlines; the other rows of these audits stay in the table.
HEADLINES: Mapping[str, Mapping[str, str]] = {
    "value-contrast": {
        "relevance": PAIRED,
        "preference_kappa": PAIRED,
        "strength": PAIRED,
        "length_explained_share": "within-length",
    },
    "value-disparity": {
        "prevalence_disparity_max_min": "within-subset",
        "prevalence_difference_disparity_max_min": "within-subset",
    },
    "value-space": {
        "mean_value": CLUSTERED,
        "mean_value_difference": PAIRED,
        "mean_group_value": CLUSTERED,
        "mean_group_value_difference": PAIRED,
        "smooth_distance": CLUSTERED,
        "smooth_distance_difference": PAIRED,
        "correspondence_index": "wedges",
    },
    "reward-imprint": {"beta": HEADLINE_SPEC},
    "resistance": {
        "agreement": CLUSTERED,
        "resistance_rate": CLUSTERED,
        "misalignment_effect": CLUSTERED,
        "agreement_difference": PAIRED,
        "regime_share": CLUSTERED,
        "gamma_share": CLUSTERED,
        "classifier_agreement": CLUSTERED,
    },
    "robustness": {
        "flip_lost": CLUSTERED,
        "flip_gained": CLUSTERED,
        "probability_shift": PAIRED,
        "agreement": CLUSTERED,
        "agreement_difference": PAIRED,
        "robustness_score": CLUSTERED,
    },
}


def audit_scalars(table: pa.Table) -> dict[str, float]:
    """Name the estimates over whole data sets `audit/<dataset>/<metric>/<scorer>/<slice>/<feature>`.

    Empty parts fall out. Rows of subsets stay in the table, and so do those beside the headlines of the audits of
    rewards. As-published rows get `as-published-` before the metric, so that the two never share a name, and what
    was corrected with gold labels `-gold` behind it. Adjusted counts, which are bands, stay in the table.

    Args:
        table: Audit rows of one checkpoint.
    """
    scalars: dict[str, float] = {}
    for row in table.filter(pc.equal(table["subset"], "")).to_pylist():
        if not _is_headline(row):
            continue
        metric = row["metric"] if row["mode"] == "corrected" else f"as-published-{row['metric']}"
        metric += "-gold" * (row["method"] in (GOLD_SLOPES, GOLD_METHOD))
        parts = [part for part in (row["dataset"], metric, row["scorer"], row["slice"], row["feature"]) if part]
        name = "/".join(["audit", *parts])
        if name in scalars:
            raise ValueError(f"two audit rows are named {name}")
        scalars[name] = row["estimate"]
    return scalars


def _is_headline(row: dict[str, Any]) -> bool:
    """Tell whether a row makes a trajectory; of the policies for ties of the reward, one does."""
    if row["method"].removesuffix(UNCALIBRATED) in BAND_METHODS or row["metric"] in ("refused", "clipped"):
        return False
    if row["audit"] not in HEADLINES:
        return True
    other_policy = row["method"] in TIES and row["method"] != POLICY
    return HEADLINES[row["audit"]].get(row["metric"]) == row["spec"] and not other_policy
