"""Is what the frequencies alone would score told beside what a classifier does, within the width of a console?"""

import numpy as np

from audits.signed_evaluation import signed_rows
from experiments.signed_report import signed_lines

LABELS = ("power-for", "power-against", "duty-for", "duty-against")


def test_lines_tell_scores_baselines_and_what_cannot_be_told():
    rng = np.random.default_rng(0)
    truth = rng.choice(3, size=(90, 2), p=(0.1, 0.5, 0.4))
    truth[:, 1] = np.where(truth[:, 1] == 0, 1, truth[:, 1])
    # Power is told without a fault, duty is said of every text.
    decided = np.column_stack([truth[:, 0], np.full(90, 2)])
    targets, decisions = (np.stack([t == 2, t == 0], axis=2).reshape(90, 4) for t in (truth, decided))
    shares = np.array([[0.1, 0.5, 0.4], [0.0, 0.6, 0.4]])
    rows = signed_rows(decisions, targets.astype(np.int64), LABELS, np.arange(90), shares)
    lines = signed_lines(rows)
    assert max(map(len, lines)) <= 100
    (macro,) = [row for row in rows if row.metric == "f1_for_macro"]
    (line,) = [line for line in lines if line.startswith("  macro-F1 for ")]
    numbers = (macro.estimate, macro.ci_low, macro.ci_high, macro.random, macro.majority, macro.always)
    assert all(f"{number:.3f}" in line for number in numbers)
    text = "\n".join(lines)
    assert "no test text is against duty: no F1, and not in that macro" in text
    assert "F1 that may be no better than saying it of every text (95% CI): for duty\n" in text
    assert "-0.000" not in text
    (kappa,) = [line for line in lines if line.startswith("  kappa")]
    assert kappa.split()[-3:] == ["0.000", "0.000", "-"]
