"""Texts that repeat themselves are told from those that do not."""

import numpy as np
import pytest

from datamodules.repetition import is_repetitive, repeated_share


def test_by_hand():
    # Runs of four: abcd bcda cdab dabc abcd -> one of five again.
    assert repeated_share("a b c d A b c d") == pytest.approx(1 / 5)
    assert np.isnan(repeated_share("only three words"))
    assert repeated_share("every word of this sentence stands here once") == 0


def test_loops():
    loop = "They are the best. " * 6
    whole = "First melt the butter. Then stir in the flour, and wait until it smells of bread. Add milk."
    assert is_repetitive([loop, whole, "", "no no"]).tolist() == [True, False, False, False]
