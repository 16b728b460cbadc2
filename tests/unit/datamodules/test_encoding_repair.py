"""A repair brings back what was written, and never touches what is not damaged."""

# ruff: noqa: RUF001 - typographic characters are what is tested
import csv

import pytest

from datamodules.encoding_damage import is_damaged
from datamodules.encoding_repair import repaired

WRITTEN = "She said “it’s a café” – and left…"


@pytest.mark.parametrize("encoding", ["mac-roman", "cp1252", "latin-1"])
def test_wrong_decodings_are_reversed(encoding):
    wrong = "Don’t go – wait for me at the café" if encoding == "cp1252" else WRITTEN
    damaged = wrong.encode().decode(encoding)
    assert is_damaged(damaged)
    assert repaired(damaged) == wrong


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain",
        WRITTEN,
        "ﬁne &amp; “curly”, ｗｉｄｅ, e\u0301 \r\nNext\u2028line \x1b[31m",
        "MANHÃ… « passé » 20 °C √π voilÃ",
        "control \x85 mark",
    ],
)
def test_undamaged_texts_stay_as_they_are(text):
    """Ligatures, widths, quotes, HTML, line ends and decomposed letters: ftfy alone would change most of these."""
    assert not is_damaged(text)
    assert repaired(text) == text


def test_lost_bytes_stay_lost():
    assert repaired("lost \ufffd here") == "lost \ufffd here"


@pytest.mark.data
def test_audited_responses_are_repaired_field_by_field(data_root):
    path = data_root / "hh-audit/df_labeledharmlessoutputs_second_pass.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    fields = [row[name] for row in rows for name in ("prompt", "chosen_response", "rejected_response")]
    damaged = [field for field in fields if is_damaged(field)]
    sound = [field for field in fields if not is_damaged(field)]
    assert (len(damaged), sum(not field.isascii() for field in sound)) == (1263, 264)
    assert all(repaired(field) != field and not is_damaged(repaired(field)) for field in damaged)
    assert all(repaired(field) == field for field in sound)
    assert sum("‚Ä" in field for field in fields) == 1262
    assert not any("‚Ä" in repaired(field) for field in fields)
