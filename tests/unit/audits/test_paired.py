"""Is McNemar's test exact?"""

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import mcnemar

from audits.stats.paired import exact_mcnemar, unanimous_p_value


@pytest.mark.parametrize(
    ("b", "c", "p"),
    [  # SEAL (arXiv 2408.10270), printed in its notebooks
        (2938, 6082, 3.2042752133495114e-245),
        (2938, 4758, 2.1692835037190495e-96),
        (4758, 6082, 4.416077898360805e-37),
    ],
)
def test_published_p_values(b, c, p):
    assert exact_mcnemar(b, c) == pytest.approx(p, rel=1e-9)
    assert exact_mcnemar(c, b) == exact_mcnemar(b, c)


def test_rewriting_counts():
    assert round(float(exact_mcnemar(170, 121)), 5) == 0.00481
    assert exact_mcnemar(170, 121) == pytest.approx(mcnemar([[0, 170], [121, 0]], exact=True).pvalue, rel=1e-9)


def test_edges_and_arrays():
    p = exact_mcnemar([0, 5, 0], [0, 5, 3])
    assert p.tolist() == pytest.approx([1.0, 1.0, 0.25])


@pytest.mark.parametrize("bad", [-1, 0.5, np.nan])
def test_counts_must_be_counts(bad):
    with pytest.raises(ValueError, match="counts"):
        exact_mcnemar(bad, 3)


def test_differences_that_are_all_the_same_have_the_exact_sign_flip_p():
    differences = np.array([[1.0, 0.0, -1.0, 1.0]] * 8)
    differences[0, 3] = 0.0  # varies: not for this test
    p = unanimous_p_value(differences, np.array([8, 8, 1, 8]))
    np.testing.assert_allclose(p, [2 / 2**8, 1.0, 1.0, np.nan])
    # One pair a cluster: the same as McNemar's exact test of 8 changes one way and none the other.
    assert p[0] == exact_mcnemar(8, 0)
    assert np.isnan(unanimous_p_value(np.empty((0, 1)), np.array([0]))).all()
