"""Does the table of prevalence say how many responses stand behind which number?"""

from audits.prevalence_comparison import PrevalenceComparison
from experiments.prevalence_command import _report

NAN = float("nan")
SIDE = {"side": "chosen", "step": 7}


def compared(feature: str, method: str, n: int, refused: str = "") -> PrevalenceComparison:
    shares = {"published": 0.5, "corrected": 0.3, "ci_low": 0.2, "ci_high": 0.4, "band_low": NAN, "band_high": NAN}
    steps = (-0.1, 0.0, -0.1 if method == "ppi++" else NAN)
    same = {"method": method, "steps": steps, "n": n, "n_counted": 9000, "n_published": 9000, "calibrated": True}
    return PrevalenceComparison("d", feature, **shares, **same, refused=refused)


def test_with_gold_labels_the_title_counts_responses_and_a_note_the_labels() -> None:
    told = _report([compared("care", "ppi++", 200), compared("duty", "cc", 9000, "4 events")], SIDE, "text")
    assert "% of 9,000 that carry each value" in told
    assert "200 of the responses are labelled" in told
    assert "not error-corrected, the classifier's own count (cc): duty" in told
    assert "refused, 4 events: duty" in told


def test_without_gold_labels_nothing_is_called_corrected_for_errors() -> None:
    told = _report([compared("care", "cc", 9000)], SIDE, "text")
    assert "labelled" not in told
    assert "its errors are not removed" in told
