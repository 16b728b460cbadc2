"""Do rows on a panel of value vectors equal outside references, and stay honest about prompts and many tests?"""

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

from audits import value_panel
from audits.stats.multiplicity import holm
from audits.stats.value_distance import basealign_distance, l1_distance
from audits.table import make_table
from audits.value_panel import panel_rows, reward_fits, reward_rows, tag_rows
from datamodules.target_vectors import read_targets
from datamodules.taxonomy import load_taxonomy
from datamodules.value_vectors import ValueVectors

TAXONOMY = load_taxonomy("schwartz")
TARGETS = read_targets()
EVALUATION = TARGETS[2].vector(TAXONOMY.slugs)
G = 40


@pytest.fixture(scope="module")
def data():
    """Two models' answers to 40 prompts; answers to a prompt are alike, and the reward follows power within prompts."""
    rng = np.random.default_rng(0)
    vectors = np.clip(np.tile(rng.normal(0, 0.5, (G, 10)), (2, 1)) + rng.normal(0, 0.2, (2 * G, 10)), -1, 1)
    rewards = vectors[:, 4] + np.tile(rng.normal(size=G), 2) + 0.1 * rng.normal(size=2 * G)
    stored = l1_distance(vectors, EVALUATION)
    stored[5] += 1e-6
    return ValueVectors(
        name="toy",
        digest="d",
        layout="panel",
        slugs=TAXONOMY.slugs,
        models=np.repeat(["one", "two"], G),
        prompts=np.tile([f"p{k}" for k in range(G)], 2),
        vectors=vectors,
        rewards=rewards,
        lengths=None,
        length_name="length",
        tag_names=("common", "rare"),
        tags=np.tile(np.stack([np.arange(G) < 15, np.arange(G) == 0], axis=1), (2, 1)),
        stored={"h_distance": stored},
        n_read=2 * G,
        n_left_out=0,
    )


@pytest.fixture(scope="module")
def rows(data):
    made = panel_rows(data, TAXONOMY, TARGETS)
    make_table(made)  # the keys are unique
    return made


def find(rows, **columns):
    columns = {"subset": ""} | columns
    found = [r for r in rows if all(r.get(name, "") == value for name, value in columns.items())]
    assert len(found) == 1, f"{len(found)} rows for {columns}"
    return found[0]


def test_mask_correlation_and_stored_distances(data, rows):
    t = TARGETS[0].vector(TAXONOMY.slugs)
    masked, unmasked = basealign_distance(data.vectors, t), basealign_distance(data.vectors, t, mask=None)
    row = find(rows, metric="mask_rank_correlation", method="unmasked", feature="ideal", slice="")
    assert row["estimate"] == pytest.approx(stats.spearmanr(masked, unmasked).statistic)
    assert (row["n"], row["n_clusters"], row["mode"]) == (2 * G, G, "as_published")
    error = find(rows, metric="stored_distance_error", slice="")
    assert (error["estimate"], error["n"]) == (pytest.approx(1e-6, rel=1e-3), 2 * G)
    assert find(rows, metric="stored_distance_error", slice="two")["estimate"] == 0.0


def test_models_are_compared_within_prompts(data, rows):
    difference = data.vectors[:G, 0] - data.vectors[G:, 0]
    row = find(rows, metric="mean_value_difference", feature="self-direction-net", slice="one - two")
    expected = stats.ttest_1samp(difference, 0)
    assert (row["estimate"], row["p_value"]) == pytest.approx((difference.mean(), expected.pvalue))


def test_tag_contrasts_equal_statsmodels_with_one_family_a_slice(data, rows):
    has = data.tags[:, 0].astype(float)
    by = {"cov_type": "cluster", "cov_kwds": {"groups": np.tile(np.arange(G), 2)}, "use_t": True}
    fit = sm.OLS(data.vectors[:, 3], sm.add_constant(has)).fit(**by)
    row = find(rows, metric="value_contrast", subset="common", feature="achievement-net", slice="")
    assert row["estimate"] == pytest.approx(fit.params[1], rel=1e-9)
    # Each side of the comparison has its own small-sample factor, and the p-value is a permutation's.
    assert row["std_error"] == pytest.approx(fit.bse[1], rel=0.02)
    assert row["p_value"] == pytest.approx(fit.pvalues[1], abs=0.03)
    mean = find(rows, metric="mean_value", subset="common", feature="achievement-net", slice="")
    assert (mean["n"], mean["n_clusters"]) == (30, 15)
    family = [r for r in rows if r["metric"] == "value_contrast" and r["slice"] == ""]
    assert len(family) == 20
    expected = holm([r["p_value"] for r in family])
    np.testing.assert_array_equal([r["p_adjusted"] for r in family], expected)
    # One prompt has the rare tag: nothing can be told of it.
    assert all(np.isnan(r["p_value"]) for r in family if r["subset"] == "rare")


def test_tags_of_nothing_are_rarely_found_and_naive_errors_find_them(monkeypatch):
    monkeypatch.setattr(value_panel, "TAG_DRAWS", 399)

    def found(seed, cluster):
        rng = np.random.default_rng(seed)
        vectors = np.clip(np.repeat(rng.normal(0, 0.4, (20, 10)), 5, axis=0) + rng.normal(0, 0.05, (100, 10)), -1, 1)
        prompts = np.repeat(np.arange(20), 5) if cluster else np.arange(100)
        data = ValueVectors(
            "toy", "", "table", TAXONOMY.slugs, np.tile(list("abcde"), 20), prompts.astype(str), vectors, None, None,
            "length", ("tag",), (np.repeat(np.arange(20), 5) % 2 == 0)[:, None], {}, 100, 0,
        )  # fmt: skip
        made = tag_rows(data, np.ones(100, dtype=bool), {"slice": ""})
        return min(r["p_adjusted"] for r in made if r["metric"] == "value_contrast") < 0.05

    assert sum(found(seed, True) for seed in range(40)) <= 7
    assert sum(found(seed, False) for seed in range(40)) >= 25


def test_tags_of_nothing_and_values_that_are_hardly_ever_there(monkeypatch):
    """Few prompts have the tag and few answers the value: t with robust errors finds differences, dealing tags not."""
    monkeypatch.setattr(value_panel, "TAG_DRAWS", 199)
    n, k = 300, len(TAXONOMY.slugs)
    ours, naive = [], []
    for seed in range(15):
        rng = np.random.default_rng(seed)
        vectors = np.where(rng.random((n, k)) < 0.04, 1.0, 0.001 * rng.normal(size=(n, k)))
        has = rng.permutation(n) < 20
        data = ValueVectors(
            "toy", "", "table", TAXONOMY.slugs, np.array(["one"] * n), np.arange(n).astype(str), vectors, None, None,
            "length", ("tag",), has[:, None], {}, n, 0,
        )  # fmt: skip
        rows = tag_rows(data, np.ones(n, dtype=bool), {"slice": ""})
        ours += [row["p_value"] for row in rows if row["metric"] == "value_contrast"]
        design = sm.add_constant(has.astype(float))
        naive += [sm.OLS(column, design).fit(cov_type="HC1").pvalues[1] for column in vectors.T]
    assert np.mean(np.array(ours) < 0.05) < 0.1
    assert np.mean(np.array(naive) < 0.05) > 0.25


def test_reward_within_prompts_finds_what_prompts_hide(data):
    fits = {fit.spec: fit for fit in reward_fits(data)}
    k = fits["within"].fit.names.index("power-net")
    assert fits["within"].fit.beta[k] == pytest.approx(1, abs=0.2)
    assert fits["within"].p_adjusted[k] < 0.001
    assert {row["audit"] for row in reward_rows(list(fits.values()), data, TAXONOMY)} == {"reward-imprint"}
