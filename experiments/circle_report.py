"""Do annotators' own labels lie on the circle of the values? What no labels show, no classifier can."""

import numpy as np

from audits.findings import p_text
from audits.stats.circumplex import CircumplexFit, Statistic
from audits.stats.signed_outcomes import NEITHER, signed_outcomes
from audits.value_vectors import circle_fits
from datamodules.annotated_text import UNKNOWN, AnnotatedData
from datamodules.taxonomy import Taxonomy

HOW = {"wedges": "conformity and tradition in one wedge, as in the theory", "circle": "ten places of equal size"}


def circle_lines(data: AnnotatedData) -> list[str]:
    """Tell how signed labels fit the circle of their taxonomy, and the means of the groups of values.

    A text that is labelled for a value counts 1, against it -1, else 0; one with an unknown value is left out.

    Returns:
        At most 100 columns; nothing for a taxonomy without sign or circle.
    """
    taxonomy = data.taxonomy
    if not taxonomy.signed or set(taxonomy.circumplex) != set(taxonomy.slugs):
        return []
    texts = (*data.texts, *(data.test_texts or ()))
    truth = signed_outcomes(np.array([text.labels for text in texts]), taxonomy.labels)
    known = (truth != UNKNOWN).all(axis=1)
    vectors = (truth[known] - NEITHER).astype(np.float64)
    groups = np.array([text.group_id for text in texts])[known]
    fits = circle_fits(vectors, groups, taxonomy)
    lines = [
        f"Do the labels (1 for, -1 against, else 0) lie on Schwartz's circle? {len(vectors):,} texts in "
        f"{len(np.unique(groups)):,} groups",
        "  correspondence index: 1 perfect, 0 none; correlation of correlations with distance: -1 perfect;",
        "  95% CI over groups, one-sided p over orders of the circle",
    ]
    for reading, fit in fits.items():
        lines += [f"  {HOW[reading]}:", *(f"    {line}" for line in _fit_lines(fit))]
    fit = next(iter(fits.values()))
    if left := [slug for slug, varies in zip(taxonomy.slugs, fit.varying, strict=True) if not varies]:
        lines.append(f"  left out, the same in every text: {', '.join(left)}")
    return [*lines, *_extreme_lines(fit, taxonomy), *_group_lines(vectors, taxonomy)]


def _fit_lines(fit: CircumplexFit) -> list[str]:
    if fit.reason:
        return [f"undefined: {fit.reason}"]
    index, pearson = fit.statistics["correspondence"], fit.statistics["pearson"]
    return [f"index {_statistic(index)}", f"correlation with distance {_statistic(pearson)}"]


def _statistic(found: Statistic) -> str:
    interval = f" [{found.ci_low:+.2f}, {found.ci_high:+.2f}]" if np.isfinite(found.ci_low) else ""
    return f"{found.estimate:+.2f}{interval}, p {p_text(found.p_value)}"


def _extreme_lines(fit: CircumplexFit, taxonomy: Taxonomy) -> list[str]:
    """Name the pairs of values that go together most and least."""
    i, j = np.triu_indices(len(taxonomy.slugs), 1)
    r = fit.correlations[i, j]
    order = [k for k in np.argsort(r) if np.isfinite(r[k])]
    if not order:
        return []
    told = {"least": order[:2], "most": order[::-1][:2]}
    return [
        f"  go together {what}: "
        + "; ".join(f"{taxonomy.slugs[i[k]]} and {taxonomy.slugs[j[k]]} {r[k]:+.2f}" for k in which)
        for what, which in told.items()
    ]


def _group_lines(vectors: np.ndarray, taxonomy: Taxonomy) -> list[str]:
    """Tell how many texts are for and against any value of each group above the values."""
    lines = []
    for name, members in taxonomy.groups.items():
        own = vectors[:, [taxonomy.slugs.index(slug) for slug in members]]
        counts = [f"{int((own == sign).any(axis=1).sum()):,} {what}" for sign, what in ((1, "for"), (-1, "against"))]
        lines.append(f"  {name} ({', '.join(members)}): texts {' and '.join(counts)} any of them")
    return lines
