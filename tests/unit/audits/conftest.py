"""Scored pairs to audit, made from plain arrays."""

from collections.abc import Callable

import numpy as np
import pytest

from audits.base import ScoredPairs, ScoredView
from audits.value_distribution import EXCHANGE, PUBLISHED


@pytest.fixture
def make_scored() -> Callable[..., ScoredPairs]:
    """Build ScoredPairs from probabilities [n, 2, L]; both views hold the same scores unless told otherwise."""

    def make(probabilities, published=None, *, threshold=0.5, signed=False, slugs=None, **changes) -> ScoredPairs:
        probabilities = np.asarray(probabilities, dtype=np.float64)
        n, _, n_labels = probabilities.shape
        slugs = slugs or tuple("xyzuvw"[: n_labels // 2 if signed else n_labels])
        labels = tuple(f"{s}-{sign}" for s in slugs for sign in ("for", "against")) if signed else slugs
        scores = {EXCHANGE.slug: probabilities}
        scores[PUBLISHED.slug] = probabilities if published is None else np.asarray(published, dtype=np.float64)
        rows = changes.pop("text_rows", {})
        truncated = changes.pop("truncated", {})
        views = {
            slug: ScoredView(
                slug,
                p,
                p >= threshold,
                np.asarray(rows.get(slug, np.arange(2 * n).reshape(n, 2))),
                np.asarray(truncated.get(slug, np.zeros((n, 2), dtype=bool))),
            )
            for slug, p in scores.items()
        }
        fields = {
            "dataset": "toy",
            "taxonomy": "toy-values",
            "slugs": slugs,
            "labels": labels,
            "signed": signed,
            "calibrated": True,
            "pair_ids": np.array([f"p{i}" for i in range(n)]),
            "subsets": np.array(["only"] * n),
            "clusters": np.arange(n),
            "is_tie": np.zeros(n, dtype=bool),
            "views": views,
        }
        return ScoredPairs(**(fields | {k: np.asarray(v) if k in ARRAYS else v for k, v in changes.items()}))

    return make


ARRAYS = ("pair_ids", "subsets", "clusters", "is_tie")
