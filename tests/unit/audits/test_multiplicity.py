"""Are p-values adjusted as the textbooks (and statsmodels) do?"""

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from audits.stats.multiplicity import benjamini_hochberg, bonferroni, holm

ORACLES = [(holm, "holm"), (bonferroni, "bonferroni"), (benjamini_hochberg, "fdr_bh")]


def test_by_hand():
    p = [0.01, 0.04, 0.03, 0.5]
    assert holm(p).tolist() == pytest.approx([0.04, 0.09, 0.09, 0.5])
    assert bonferroni(p).tolist() == pytest.approx([0.04, 0.16, 0.12, 1.0])
    assert benjamini_hochberg(p).tolist() == pytest.approx([0.04, 0.16 / 3, 0.16 / 3, 0.5])


@pytest.mark.parametrize(("adjust", "method"), ORACLES)
@pytest.mark.parametrize("seed", range(5))
def test_against_statsmodels(adjust, method, seed):
    p = np.random.default_rng(seed).random(31) ** 4
    p[3] = p[7]
    np.testing.assert_allclose(adjust(p), multipletests(p, method=method)[1], rtol=1e-12)


@pytest.mark.parametrize(("adjust", "method"), ORACLES)
def test_undefined_p_stays_nan_and_leaves_the_family(adjust, method):
    p = np.array([np.nan, 0.01, 0.2, np.inf])
    adjusted = adjust(p)
    assert np.isnan(adjusted[[0, 3]]).all()
    np.testing.assert_allclose(adjusted[1:3], multipletests(p[1:3], method=method)[1])
    assert np.isnan(adjust([np.nan])).all()
    assert len(adjust([])) == 0


def test_holm_is_never_above_bonferroni():
    p = np.random.default_rng(1).random(40)
    assert (holm(p) <= bonferroni(p)).all()


@pytest.mark.parametrize("bad", [[-0.1], [1.1], [[0.5]]])
def test_what_is_no_p_value_is_refused(bad):
    with pytest.raises(ValueError, match="p-values"):
        holm(bad)
