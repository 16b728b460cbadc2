"""Does the value-space audit give the vectors of both sides, and refuse a classifier that has none?"""

import math

import numpy as np
import pytest
from scipy.stats import spearmanr

from audits.base import HeldOut
from audits.stats import circumplex
from audits.stats.clustered import clustered_mean
from audits.stats.multiplicity import holm
from audits.stats.value_distance import value_distances
from audits.value_space import ValueSpace, require_signed_schwartz, value_vectors
from datamodules.errors import InputError
from datamodules.target_vectors import read_targets
from datamodules.taxonomy import load_taxonomy
from train.audit_metrics import audit_scalars

TAXONOMY = load_taxonomy("schwartz")
SLUGS = TAXONOMY.slugs
N = 24


@pytest.fixture(autouse=True)
def few_orders(monkeypatch):
    """All 181,440 orders of a circle are tried in the tests of circles."""
    monkeypatch.setattr(circumplex, "MOST_ORDERS", 100)
    monkeypatch.setattr(circumplex, "RANDOM_ORDERS", 200)
    circumplex.circle_orders.cache_clear()
    yield
    circumplex.circle_orders.cache_clear()


@pytest.fixture
def probabilities():
    return np.random.default_rng(0).uniform(0, 1, (N, 2, 20))


@pytest.fixture
def scored(make_scored, probabilities):
    fields = {"clusters": np.arange(N) // 2, "is_tie": np.arange(N) >= 22}
    return make_scored(probabilities, signed=True, slugs=SLUGS, **fields)


def find(table, **columns):
    rows = [r for r in table.to_pylist() if all(r[name] == value for name, value in columns.items())]
    assert len(rows) == 1, f"{len(rows)} rows for {columns}"
    return rows[0]


def test_vectors_are_for_minus_against(probabilities, scored):
    vectors = value_vectors(probabilities, scored.labels, TAXONOMY)
    np.testing.assert_allclose(vectors[..., 3], probabilities[..., 6] - probabilities[..., 7])
    shuffled = tuple(reversed(scored.labels))
    np.testing.assert_array_equal(value_vectors(probabilities[..., ::-1], shuffled, TAXONOMY), vectors)


def test_means_groups_and_differences_are_clustered_by_prompt(probabilities, scored):
    table = ValueSpace().rows(scored)
    v = value_vectors(probabilities, scored.labels, TAXONOMY)[:22]
    mean = clustered_mean(v[:, 0], scored.clusters[:22])
    row = find(table, metric="mean_value", slice="chosen", feature="power-net")
    assert (row["estimate"], row["std_error"]) == pytest.approx((mean.estimate[4], mean.std_error[4]))
    assert (row["n"], row["n_clusters"], row["mode"]) == (22, 11, "corrected")
    assert math.isnan(row["p_value"])
    group = find(table, metric="mean_group_value", slice="rejected", feature="conservation")
    assert group["estimate"] == pytest.approx(v[:, 1][:, [5, 6, 7]].mean())
    difference = clustered_mean(v[:, 0] - v[:, 1], scored.clusters[:22])
    rows = [find(table, metric="mean_value_difference", feature=f"{slug}-net") for slug in SLUGS]
    assert [r["estimate"] for r in rows] == pytest.approx(difference.estimate.tolist())
    assert [r["p_adjusted"] for r in rows] == pytest.approx(holm(difference.p_value).tolist())
    assert {r["slice"] for r in rows} == {"chosen-rejected"}
    tie = find(table, metric="mean_value", slice="b", feature="power-net")
    assert (tie["n"], tie["n_clusters"]) == (2, 1)
    assert math.isnan(tie["ci_low"])


def test_distances_to_every_target_in_both_modes(probabilities, scored):
    table = ValueSpace().rows(scored)
    v = value_vectors(probabilities, scored.labels, TAXONOMY)[:22]
    for target in read_targets():
        own = [value_distances(v[:, side], target.vector(SLUGS)) for side in (0, 1)]
        for method, mode in (("basealign", "as_published"), ("smooth", "corrected"), ("cosine", "corrected")):
            row = find(table, metric=f"{method}_distance", slice="chosen", feature=target.name)
            assert (row["estimate"], row["mode"]) == (pytest.approx(own[0][method].mean()), mode)
            paired = find(table, metric=f"{method}_distance_difference", feature=target.name)
            assert paired["estimate"] == pytest.approx((own[0][method] - own[1][method]).mean())
    one = ValueSpace(targets=read_targets()[:1]).rows(scored).to_pylist()
    assert {r["feature"] for r in one if r["metric"] == "smooth_distance"} == {"ideal"}


def test_circle_of_sides_of_both_and_of_held_out_labels(make_scored, probabilities):
    rng = np.random.default_rng(1)
    targets = (rng.random((30, 20)) < 0.4).astype(np.int64)
    targets[:, 1::2] = 0
    targets[:, 4] = 0  # hedonism is in no label
    targets[3, 0] = -1
    held_out = HeldOut(rng.random((30, 20)), targets == 1, targets, np.array([f"g{i}" for i in range(30)]))
    table = ValueSpace().rows(make_scored(probabilities, signed=True, slugs=SLUGS, held_out=held_out))
    for name, n in (("chosen", N), ("rejected", N), ("", 2 * N), ("held-out", 29), ("held-out-labels", 29)):
        for spec in ("wedges", "circle"):
            row = find(table, metric="correspondence_index", slice=name, spec=spec)
            assert row["n"] == n
            assert 0 < row["p_value"] <= 1
    left = find(table, metric="left_out")
    assert (left["slice"], left["feature"], left["method"]) == ("held-out-labels", "hedonism-net", "no-variance")
    orders = find(table, metric="circle_orders", slice="", spec="circle")
    assert (orders["estimate"], orders["method"]) == (200, "random")


def test_held_out_labels_vouch_for_values(make_scored, probabilities):
    rng = np.random.default_rng(1)
    targets = np.zeros((30, 20), dtype=np.int64)
    targets[:9, 8] = 1  # power-for
    targets[9:12, 9] = 1  # power-against
    targets[12, 8:10] = -1
    scores = rng.random((30, 20))
    held_out = HeldOut(scores, targets == 1, targets, np.arange(30).astype(str))
    table = ValueSpace().rows(make_scored(probabilities, signed=True, slugs=SLUGS, held_out=held_out))
    row = find(table, metric="label_correlation", feature="power-net")
    known = np.arange(30) != 12
    net = (scores[:, 8] - scores[:, 9])[known]
    assert row["estimate"] == pytest.approx(spearmanr(net, (targets[:, 8] - targets[:, 9])[known]).statistic)
    assert (row["n"], row["slice"]) == (29, "held-out")
    assert find(table, metric="labelled_texts", feature="power-net")["estimate"] == 12
    assert math.isnan(find(table, metric="label_correlation", feature="security-net")["estimate"])
    assert find(table, metric="labelled_texts", feature="security-net")["estimate"] == 0


def test_pairs_that_were_trained_on_are_left_out(make_scored, probabilities):
    marks = np.arange(N) < 4
    table = ValueSpace().rows(make_scored(probabilities, signed=True, slugs=SLUGS, trained_on=marks))
    assert find(table, metric="mean_value", slice="chosen", feature="power-net")["n"] == N - 4


def test_subsets_have_rows_of_their_own(make_scored, probabilities):
    subsets = np.array(["x", "y"] * (N // 2))
    table = ValueSpace().rows(make_scored(probabilities, signed=True, slugs=SLUGS, subsets=subsets))
    assert {r["subset"] for r in table.to_pylist()} == {"", "x", "y"}
    assert find(table, subset="x", metric="mean_value", slice="chosen", feature="power-net")["n"] == N // 2


def test_headlines_for_a_tracker_have_distinct_names(scored):
    scalars = audit_scalars(ValueSpace().rows(scored))
    assert "audit/toy/smooth_distance/chosen/ideal" in scalars
    assert "audit/toy/correspondence_index/chosen" in scalars
    assert not [name for name in scalars if "basealign" in name or "value_correlation" in name]


def test_a_classifier_without_signed_schwartz_labels_is_refused(make_scored):
    unsigned = make_scored(np.full((3, 2, 10), 0.5), slugs=SLUGS)
    other = make_scored(np.full((3, 2, 4), 0.5), signed=True)
    for scored in (unsigned, other):
        with pytest.raises(InputError, match=r"audit value-space of a classifier .* needed one with signed Schwartz"):
            ValueSpace().rows(scored)
    require_signed_schwartz(list(TAXONOMY.labels))


def test_uncalibrated_scores_are_marked(make_scored, probabilities):
    table = ValueSpace().rows(make_scored(probabilities, signed=True, slugs=SLUGS, calibrated=False))
    methods = {r["method"] for r in table.to_pylist() if r["metric"] in ("mean_value", "smooth_distance")}
    assert methods == {"mean-uncalibrated"}
