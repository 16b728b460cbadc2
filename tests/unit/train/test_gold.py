"""Do labels reach the responses that they are of, with the chance that these had to be drawn and labelled?"""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from datamodules.errors import InputError
from datamodules.gold_draw import draw_units
from datamodules.gold_file import DESIGN, shown_items, write_gold_file
from datamodules.preferences import read_preferences
from train.gold import read_gold, say_gold

LABELS = ("duty", "wisdom")
COLUMNS = ["item_id", "text", *LABELS, *DESIGN]
N = 40


@pytest.fixture
def data(tmp_path):
    """40 pairs in 20 prompts, every fifth a tie."""
    path = tmp_path / "toy.jsonl"
    with path.open("w") as file:
        for k in range(N):
            row = {"question": {"full_text": f"why {k // 2} ?"}, "score_0": k % 5, "score_1": 0}
            row |= {"answer_0": f"first answer {k}", "answer_1": f"second answer {k}"}
            file.write(json.dumps(row) + "\n")
    return read_preferences(str(path), None)


def truth(pair, side):
    return {"duty": (pair + side) % 2, "wisdom": int(pair % 3 == 0)}


@pytest.fixture
def drawn(data):
    """Rows of 12 pairs (or 24 single responses) in two strata, 30 pairs and 10, labelled with the truth."""

    def make(unit="pair", labelled=lambda pair, side: True):
        size = 2 if unit == "pair" else 1
        strata = np.repeat([0, 1], [60 // size, 20 // size])
        draw = draw_units([str(k) for k in range(len(strata))], strata, 24 // size, seed=1)
        items = list(shown_items(data, "exchange"))
        rows = []
        for k in draw.units.tolist():
            for pair, side in [(k, 0), (k, 1)] if unit == "pair" else [divmod(k, 2)]:
                h = strata[k]
                row = {"item_id": items[pair][0][side], "text": items[pair][1][side], "dataset": "toy"}
                row |= {"view": "exchange", "unit": unit, "stratum": f"s{h}", "stratum_drawn": int(draw.drawn[h])}
                row |= {"stratum_size": int(draw.sizes[h]), "inclusion_probability": float(draw.probability[h])}
                row |= truth(pair, side) if labelled(pair, side) else {}
                rows.append(row | {"key": (pair, side)})
        return rows

    return make


@pytest.fixture
def read(tmp_path, data):
    def join(rows, view="exchange", columns=COLUMNS, preferences=None):
        path = tmp_path / "gold.jsonl"
        path.unlink(missing_ok=True)
        write_gold_file(path, columns, rows)
        return read_gold(path, preferences or [data], LABELS, view)

    return join


@pytest.mark.parametrize("unit", ["pair", "text"])
def test_labels_and_probabilities_are_those_of_the_response(read, drawn, unit):
    rows = drawn(unit)
    gold = read(rows[::-1])["toy"].labels
    assert gold.has.sum() == 24
    for row in rows:
        assert gold.labels[row["key"]].tolist() == list(truth(*row["key"]).values())
        assert gold.probability[row["key"]] == pytest.approx(row["inclusion_probability"])
    assert (1 / gold.probability[gold.has]).sum() == pytest.approx(2 * N)


def test_what_is_not_labelled_lowers_the_chance_of_its_stratum_only(read, drawn):
    rows = drawn()
    pairs = [pair for pair in dict.fromkeys(row["key"][0] for row in rows) if pair < 30]
    left = pairs[:3]
    joined = read(drawn(labelled=lambda pair, side: pair not in left))["toy"]
    gold, n = joined.labels, len(pairs)
    assert gold.has.sum() == 24 - 6
    np.testing.assert_allclose(gold.probability[:30][gold.has[:30]], (n - 3) / 30)
    np.testing.assert_allclose(gold.probability[30:][gold.has[30:]], (12 - n) / 10)
    assert (1 / gold.probability[gold.has]).sum() == pytest.approx(2 * N), "weights still stand for all responses"
    assert joined.lines[0] == "gold labels of toy: 24 responses drawn, 18 labelled, 6 not"
    assert "warning: 6 drawn responses do without; they are taken to be missing at random" in joined.lines[1]


def test_half_a_pair_is_left_out_and_counted(read, drawn):
    one = next(row["key"][0] for row in drawn() if row["key"][0] < 30)
    joined = read(drawn(labelled=lambda pair, side: (pair, side) != (one, 1)))["toy"]
    assert not joined.labels.has[one].any()
    counts = {name: joined.provenance[name] for name in ("n_drawn", "n_labelled", "n_used")}
    assert counts == {"n_drawn": 24, "n_labelled": 23, "n_used": 22}
    assert joined.lines[1].strip() == "1 labelled responses are left out: the other one of their pair is not labelled"
    alone = read(drawn("text", lambda pair, side: pair != 3))["toy"]
    assert alone.labels.has.sum() == alone.provenance["n_labelled"]


def test_second_annotator_is_compared_and_not_used(read, drawn):
    rows = drawn()
    for k, row in enumerate(rows):
        row |= {"duty_2": 1 - row["duty"] if k < 6 else row["duty"], "wisdom_2": row["wisdom"]}
    joined = read(rows, columns=[*COLUMNS, "duty_2", "wisdom_2"])["toy"]
    np.testing.assert_array_equal(joined.labels.labels, read(drawn())["toy"].labels.labels)
    found = joined.provenance["agreement"]
    assert found["n"] == 24
    assert found["labels"]["duty"]["share"] == 0.75
    assert found["labels"]["wisdom"] == {"share": 1.0, "kappa": 1.0, "alpha": 1.0}
    assert "agreement of two annotators on 24 responses; the first one's labels are used" in joined.lines[1]
    assert "without weights" in joined.lines[2]
    assert joined.lines[-1].split()[:2] == ["wisdom", "1.00"]
    assert max(map(len, joined.lines)) <= 100


def test_other_orders_of_the_data_join_alike(read, drawn, data):
    """Ids are of the texts, not of places."""
    order = np.random.default_rng(0).permutation(N)
    index = replace(data.index, **{name: getattr(data.index, name)[order] for name in data.index.__slots__})
    shuffled = replace(data, index=index, read=lambda: (pairs[k] for k in order))
    pairs = list(data.read())
    straight, other = read(drawn())["toy"].labels, read(drawn(), preferences=[shuffled])["toy"].labels
    np.testing.assert_array_equal(straight.labels[order], other.labels)
    np.testing.assert_array_equal(straight.probability[order], other.probability)


def spoil(rows, where=lambda row: True, **changes):
    return [row | changes if where(row) else row for row in rows]


def resized(rows):
    """The second stratum as if it had one pair less."""
    (n,) = {row["stratum_drawn"] for row in rows if row["stratum"] == "s1"}
    return spoil(rows, lambda row: row["stratum"] == "s1", stratum_size=9, inclusion_probability=n / 9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: spoil(rows, view="response"), "labels of the view response of toy .* audited view exchange"),
        (lambda rows: spoil(rows, dataset="hh-rlhf"), "rows of hh-rlhf in .* which is not audited; needed rows of toy"),
        (lambda rows: spoil(rows, lambda r: r is rows[4], item_id="gffff"), r"1 items in .* such as row 5 \(gffff\)"),
        (resized, "39 pairs in the strata of toy .* needed all 40 that are audited"),
        (
            lambda rows: spoil(rows, lambda r: r["stratum"] == "s1", duty=None, wisdom=None),
            r"no labelled whole pair of one of 2 strata .* stands for its 10 pairs; fix: label rows of it \(row \d+, ",
        ),
        (lambda rows: [row for row in rows if row["stratum"] == "s0"], "30 pairs in the strata of toy"),
    ],
)
def test_what_does_not_fit_the_data_is_refused(read, drawn, change, message):
    with pytest.raises(InputError, match=message):
        read(change(drawn()))


def test_texts_that_changed_are_other_items(read, drawn, data):
    pairs = list(data.read())
    pairs[0], one = replace(pairs[0], first=pairs[1].first), drawn()[0]["key"][0]
    pairs[one] = replace(pairs[one], first=pairs[one - 1].second, second=pairs[one - 1].first)
    with pytest.raises(InputError, match=r"2 items in .* that toy does not hold"):
        read(drawn(), preferences=[replace(data, read=lambda: iter(pairs))])


def test_pairs_of_which_one_response_is_there_are_refused(read, drawn, data):
    """Two halves of different pairs: the number of rows alone does not tell."""
    rows = [row for row in drawn() if row["stratum"] == "s0"]
    items = list(shown_items(data, "exchange"))
    free = next(pair for pair in range(30) if pair not in {row["key"][0] for row in rows})
    swapped = [rows[0] | {"item_id": items[free][0][0], "text": items[free][1][0]}, *drawn()[1:]]
    with pytest.raises(InputError, match="one response only of the pair in row"):
        read(swapped)


def test_texts_that_moved_away_from_their_ids_are_refused(read, drawn):
    """Two columns sorted apart from the others: ids, labels and design are whole, and would be joined wrongly."""
    rows = drawn()
    texts = [row["text"] for row in rows]
    moved = [row | {"text": text} for row, text in zip(rows, [texts[1], texts[0], *texts[2:]], strict=True)]
    with pytest.raises(InputError, match=r"2 texts in .* not those of their item_id, such as in row 1, 2; needed"):
        read(moved)
    labels = read(rows)["toy"].labels.labels
    # What programs change, and a file without the texts.
    changed = [
        row | {"text": f" '{text.replace(' ', chr(160) * 2)}\r\n"} for row, text in zip(rows, texts, strict=True)
    ]
    np.testing.assert_array_equal(read(changed)["toy"].labels.labels, labels)
    without = read(rows, columns=[name for name in COLUMNS if name != "text"])["toy"]
    np.testing.assert_array_equal(without.labels.labels, labels)


def test_data_sets_without_labels_are_named(read, drawn):
    said = []
    say_gold(read(drawn()), ["toy", "other"], said.append)
    assert said == [
        "  gold labels of toy: 24 responses drawn, 24 labelled, 0 not",
        "  no gold labels of other: nothing is corrected there",
    ]


def test_spreadsheet_round_trip(tmp_path, drawn, data):
    """Written as csv, opened, filled and saved as a spreadsheet does: CRLF, no mark, whole numbers as floats."""
    path = tmp_path / "gold.csv"
    write_gold_file(path, COLUMNS, [{k: v for k, v in row.items() if k not in LABELS} for row in drawn()])
    with path.open(encoding="utf-8-sig", newline="") as file:
        cells = list(csv.DictReader(file))
    for row, cell in zip(drawn(), cells, strict=True):
        cell |= {label: ("FALSE", "TRUE")[row[label]] for label in LABELS}
        cell["inclusion_probability"] = f"{float(cell['inclusion_probability']):.4g}"
        cell["stratum_size"] += ".0"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(cells)
    gold = read_gold(path, [data], LABELS, "exchange")["toy"].labels
    for row in drawn():
        assert gold.labels[row["key"]].tolist() == list(truth(*row["key"]).values())
