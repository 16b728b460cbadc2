"""Does a labelled file come back as it was written, and is every way to spoil it told?"""

import csv
import json

import numpy as np
import pytest

from datamodules.errors import InputError
from datamodules.gold_file import DESIGN, LONGEST_CELL, is_same_text, item_id, read_gold_file, write_gold_file

LABELS = ("duty", "wisdom")
COLUMNS = ["item_id", "text", *LABELS, *DESIGN]
TEXT = 'Human: a "quote", a comma\n\nAssistant: =1+1\r\nline ünïcode 😀\u2028end'


def drawn_rows(dataset="toy", n=6):
    """Six responses: two strata, three of three and three of thirty, drawn one by one."""
    return [
        {
            "item_id": item_id(dataset, f"p{k}", "chosen", "exchange", TEXT),
            "text": f"{TEXT} {k}",
            "dataset": dataset,
            "view": "exchange",
            "unit": "text",
            "stratum": f"s{k % 2 + 1}",
            "stratum_drawn": 3,
            "stratum_size": (3, 30)[k % 2],
            "inclusion_probability": (1.0, 0.1)[k % 2],
        }
        for k in range(n)
    ]


def labelled(**changes):
    rows = [row | {"duty": k % 2, "wisdom": 1} for k, row in enumerate(drawn_rows())]
    for key, value in changes.items():
        row, _, column = key.partition("_")
        rows[int(row[1:])][column] = value
    return rows


def save(path, rows):
    if path.suffix == ".jsonl":
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
            writer.writeheader()
            writer.writerows(rows)
    return path


def read(path, rows=None, labels=LABELS):
    return read_gold_file(path if rows is None else save(path, rows), labels, "--gold")


@pytest.mark.parametrize("name", ["g.csv", "g.jsonl"])
def test_what_is_written_is_read_back(tmp_path, name):
    path = tmp_path / name
    write_gold_file(path, COLUMNS, labelled())
    (sheet,) = read(path).values()
    assert (sheet.dataset, sheet.view, sheet.unit) == ("toy", "exchange", "text")
    assert sheet.item_ids.tolist() == [row["item_id"] for row in drawn_rows()]
    assert sheet.labels.tolist() == [[k % 2, 1] for k in range(6)]
    assert sheet.drawn.tolist() == [3] * 6
    assert sheet.sizes.tolist() == [3, 30] * 3
    assert sheet.second is None
    first = 2 if path.suffix == ".csv" else 1
    assert sheet.rows.tolist() == list(range(first, first + 6))


def test_jsonl_keeps_texts_exactly_and_blank_labels_are_null(tmp_path):
    path = tmp_path / "g.jsonl"
    write_gold_file(path, COLUMNS, drawn_rows())
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
    assert [row["text"] for row in rows] == [row["text"] for row in drawn_rows()]
    assert all(row["duty"] is None and row["wisdom"] is None for row in rows)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\uff1d"])
def test_csv_survives_a_spreadsheet(tmp_path, start):
    """A mark for UTF-8, texts in one cell however many lines, and none that is run as a formula."""
    path = tmp_path / "g.csv"
    rows = drawn_rows(f"{start}toy")
    rows[0]["text"] = f'{start}HYPERLINK("http://x")'
    write_gold_file(path, COLUMNS, [row | {"duty": 1, "wisdom": 0} for row in rows])
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    with path.open(encoding="utf-8-sig", newline="") as file:
        cells = list(csv.DictReader(file))
    assert cells[0]["text"] == f"'{rows[0]['text']}"
    assert [cell["text"] for cell in cells[1:]] == [row["text"] for row in rows[1:]]
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for row in cells for cell in row.values())
    assert list(read(path)) == [f"{start}toy"]


def test_ids_join_and_no_spreadsheet_takes_them_for_numbers():
    found = item_id("toy", "p1", "chosen", "exchange", "text")
    assert found[0] == "g"
    assert len(found) == 16
    others = [("toy", "p1", "chosen", "exchange", "other"), ("toy", "p1", "rejected", "exchange", "text")]
    others += [("toy2", "p1", "chosen", "exchange", "text"), ("toy", "p1", "chosen", "response", "text")]
    assert len({found, *(item_id(*parts) for parts in others)}) == 5


def test_nothing_is_ever_overwritten(tmp_path):
    path = tmp_path / "g.csv"
    path.write_text("my labels")
    with pytest.raises(InputError, match="never overwritten"):
        write_gold_file(path, COLUMNS, drawn_rows())
    assert path.read_text() == "my labels"
    assert list(tmp_path.iterdir()) == [path]


def test_csv_cannot_hold_a_nul(tmp_path):
    rows = [row | {"text": "a\0b"} for row in drawn_rows()]
    with pytest.raises(InputError, match=r"NUL .* ends in \.jsonl"):
        write_gold_file(tmp_path / "g.csv", COLUMNS, rows)
    write_gold_file(tmp_path / "g.jsonl", COLUMNS, rows)
    assert json.loads((tmp_path / "g.jsonl").read_text().splitlines()[0])["text"] == "a\0b"


@pytest.mark.parametrize(
    ("cell", "value"),
    [("1", 1), ("0", 0), (" TRUE ", 1), ("False", 0), ("Yes", 1), ("no", 0), ("1.0", 1), ("0.0", 0)],
)
def test_words_for_labels_in_csv(tmp_path, cell, value):
    (sheet,) = read(tmp_path / "g.csv", labelled(r2_duty=cell)).values()
    assert sheet.labels[2, 0] == value


@pytest.mark.parametrize(("cell", "value"), [(True, 1), (False, 0), (1.0, 1), (0, 0), ("yes", 1)])
def test_words_for_labels_in_jsonl(tmp_path, cell, value):
    (sheet,) = read(tmp_path / "g.jsonl", labelled(r2_duty=cell)).values()
    assert sheet.labels[2, 0] == value


@pytest.mark.parametrize("name", ["g.csv", "g.jsonl"])
def test_blank_rows_are_not_labelled(tmp_path, name):
    blank = None if name.endswith("jsonl") else ""
    (sheet,) = read(tmp_path / name, labelled(r4_duty=blank, r4_wisdom=blank)).values()
    assert np.isnan(sheet.labels).all(axis=1).tolist() == [False] * 4 + [True, False]


def test_second_annotator_notes_and_several_data_sets(tmp_path):
    rows = [row | {"duty_2": 1, "wisdom_2": 0, "notes": "hm"} for row in labelled()]
    rows[5] |= {"duty_2": "", "wisdom_2": ""}
    others = [row | {"duty": 1, "wisdom": 1, "duty_2": "", "wisdom_2": ""} for row in drawn_rows("other")]
    sheets = read(tmp_path / "g.csv", [*others[::-1], *rows])
    assert list(sheets) == ["other", "toy"]
    assert sheets["other"].second is None
    assert np.isnan(sheets["toy"].second).all(axis=1).tolist() == [False] * 5 + [True]
    assert sheets["toy"].second[0].tolist() == [1, 0]
    assert sheets["toy"].rows.tolist() == list(range(8, 14))


def test_fewer_digits_of_a_spreadsheet_are_no_change(tmp_path):
    rows = labelled()
    for row in rows[1::2]:
        row |= {"stratum_drawn": 3, "stratum_size": 37, "inclusion_probability": 0.0811}
    (sheet,) = read(tmp_path / "g.csv", rows).values()
    assert sheet.sizes[1] == 37


def test_an_empty_column_and_empty_rows_of_a_spreadsheet_are_no_data(tmp_path):
    path, rows = tmp_path / "g.csv", labelled()
    with path.open("w", encoding="utf-8", newline="") as out:
        blank = dict.fromkeys(rows[0], "")
        csv.writer(out).writerows([*row, ""] for row in (list(rows[0]), *(r.values() for r in (*rows, blank))))
    assert len(read(path)["toy"].item_ids) == 6


BAD = [
    ({"r2_duty": "maybe"}, r"'maybe' for duty of row 4 of .*g\.csv; needed 1, 0"),
    ({"r2_duty": "2"}, r"'2' for duty of row 4"),
    ({"r2_duty": ""}, r"no duty in row 4 of .*, which has other labels"),
    ({"r2_item_id": ""}, r"no item_id in row 4"),
    ({"r2_item_id": item_id("toy", "p1", "chosen", "exchange", TEXT)}, r"item_id g\w+ in rows 3 and 4"),
    ({"r2_inclusion_probability": ""}, r"inclusion_probability '' in row 4"),
    ({"r2_inclusion_probability": "0"}, r"inclusion_probability '0' in row 4"),
    ({"r2_inclusion_probability": "1.5"}, r"inclusion_probability '1.5' in row 4"),
    ({"r2_inclusion_probability": "often"}, r"inclusion_probability 'often' in row 4"),
    ({"r3_inclusion_probability": "0.2"}, r"0\.2 in row 5 .* which was changed; needed 0\.1, that is 3 of 30"),
    ({"r2_stratum_drawn": "4"}, r"stratum_drawn '4' of '3' in row 4"),
    ({"r2_stratum_size": "2.5"}, r"stratum_drawn '3' of '2.5' in row 4"),
    ({"r3_stratum_size": "300", "r3_inclusion_probability": "0.01"}, r"stratum_size 30 and 300 in stratum s2"),
    ({"r2_stratum": "s2"}, r"2 rows of stratum s1 of toy"),
    ({"r2_view": "response"}, r"exchange and response as view of toy"),
    ({"r2_unit": "pair"}, r"pair and text as unit of toy"),
    ({"r2_dataset": "other"}, r"2 rows of stratum s1 of toy .* needed all 3 that were drawn"),
]


@pytest.mark.parametrize(("changes", "message"), BAD)
def test_spoiled_rows_are_named(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        read(tmp_path / "g.csv", labelled(**changes))


def test_missing_rows_are_noticed(tmp_path):
    with pytest.raises(InputError, match=r"2 rows of stratum s2 .* a row without labels stays, blank"):
        read(tmp_path / "g.csv", labelled()[:5])


def test_unlabelled_and_empty_files_are_refused(tmp_path):
    blank = [row | {"duty": "", "wisdom": ""} for row in labelled()]
    with pytest.raises(InputError, match=r"6 rows in .*, none of them labelled"):
        read(tmp_path / "g.csv", blank)
    (tmp_path / "h.csv").write_text(",".join(COLUMNS) + "\n")
    with pytest.raises(InputError, match=r"0 rows in .*, none of them labelled"):
        read(tmp_path / "h.csv")
    with pytest.raises(InputError, match="no file at"):
        read(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (("duty", "wisdom", "power"), r"no column power in .*g\.csv; needed columns of .* labels, duty, wisdom, power"),
        (("duty",), r"unknown columns wisdom in"),
        (("duty-for", "duty-against"), r"no column duty-for, duty-against; unknown columns duty, wisdom"),
    ],
)
def test_labels_of_another_taxonomy_are_refused(tmp_path, labels, message):
    with pytest.raises(InputError, match=message):
        read(tmp_path / "g.csv", labelled(), labels)


def test_half_a_second_annotator_is_refused(tmp_path):
    with pytest.raises(InputError, match="no column wisdom_2"):
        read(tmp_path / "g.csv", [row | {"duty_2": 1} for row in labelled()])
    rows = [row | {"duty_2": 1, "wisdom_2": ""} for row in labelled()]
    with pytest.raises(InputError, match="no wisdom_2 in row 2 of"):
        read(tmp_path / "g.csv", rows)


def test_semicolons_are_told_as_such(tmp_path):
    (tmp_path / "g.csv").write_text("item_id;text;duty\ng1;t;1\n")
    with pytest.raises(InputError, match="semicolons between its cells; needed commas"):
        read(tmp_path / "g.csv")


def test_a_cell_that_a_spreadsheet_cut_holds_its_text_and_a_beginning_alone_does_not():
    text = "many words " * 5_000
    assert is_same_text(text[:LONGEST_CELL], text)
    assert not is_same_text(text[:1_000], text)
    assert not is_same_text("other" + text[:LONGEST_CELL], text)
