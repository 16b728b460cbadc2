import json

import pandas as pd
import pytest

from datamodules.annotations import dialogue_group, read_annotations, read_table
from datamodules.errors import InputError
from datamodules.taxonomy import Taxonomy


def taxonomy(signed):
    values = [{"slug": slug, "name": name} for slug, name in (("calm", "Calm/Quiet"), ("zeal", "Zeal"), ("wit", "Wit"))]
    return Taxonomy.from_dict({"name": "three", "signed": signed, "values": values})


@pytest.fixture(scope="module")
def plain():
    return taxonomy(signed=False)


@pytest.fixture(scope="module")
def signed():
    return taxonomy(signed=True)


@pytest.fixture
def table(tmp_path):
    """Write a table and return its path."""

    def write(content, name="mine.csv"):
        path = tmp_path / name
        if isinstance(content, list):
            content = "".join(json.dumps(row) + "\n" for row in content)
        path.write_bytes(content.encode("utf-8"))
        return path

    return write


def test_label_columns(table, plain):
    texts, report = read_table(
        table("text,Calm/Quiet,zeal,mood\n a ,1,0,x\nb,,1.0,\nc,TRUE,false,y\nd,,,z\n,1,1,z\n"), plain
    )
    assert [(text.text, text.labels) for text in texts] == [(" a ", (1, 0, -1)), ("b", (-1, 1, -1)), ("c", (1, 0, -1))]
    assert [text.text_id for text in texts] == ["mine-1", "mine-2", "mine-3"]
    assert texts[0].group_id == dialogue_group("a")
    assert report.dropped == {"no labels": 1, "empty text": 1}
    assert report.notes == {"cells in column mood (not read)": 4}
    assert report.label_counts == {"calm": (2, 2), "zeal": (1, 3), "wit": (0, 0)}


def test_signed_columns_by_value_and_by_label(table, signed):
    texts, _ = read_table(table("text,calm,zeal-for,zeal-against\na,-1,1,0\nb,+1,0,1\nc,0,,\nd,,0,0\n"), signed)
    assert [text.labels[:4] for text in texts] == [(0, 1, 1, 0), (1, 0, 0, 1), (0, 0, -1, -1), (-1, -1, 0, 0)]
    assert all(text.labels[4:] == (-1, -1) for text in texts)


def test_for_and_against_at_once_are_unknown(table, signed):
    texts, report = read_table(table("text,zeal-for,zeal-against\na,1,1\nb,1,0\n"), signed)
    assert texts[0].labels[2:4] == (-1, -1)
    assert report.notes == {"values said to be held and opposed in one text (set to unknown)": 1}


@pytest.mark.parametrize("options", [{}, {"label_column": "labels"}])
def test_label_list_in_csv(table, plain, options):
    texts, report = read_table(table("text,labels\na,zeal; Calm/Quiet\nb,\nc,zeal;spite;\n"), plain, **options)
    assert [text.labels for text in texts] == [(1, 1, 0), (0, 0, 0), (0, 1, 0)]
    assert report.unknown_labels == {"spite": 1}
    assert report.notes == {"texts without a value (kept)": 1}


def test_label_list_in_jsonl(table, plain):
    rows = [
        {"text": "a", "values": ["zeal", "zeal"]},
        {"text": "b", "values": []},
        {"text": "c", "values": None},
        {"text": "d"},
        {"text": None, "values": ["zeal"]},
        {"text": float("nan"), "values": ["zeal"]},
    ]
    texts, report = read_table(table(rows, "mine.jsonl"), plain, label_column="values")
    assert [(text.text_id, text.labels) for text in texts] == [("mine-1", (0, 1, 0)), ("mine-2", (0, 0, 0))]
    assert report.dropped == {"no labels": 2, "empty text": 2}
    assert report.n_read == report.n_kept + sum(report.dropped.values())


def test_label_list_of_a_signed_taxonomy(table, signed):
    texts, report = read_table(table("text,labels\na,calm: -1;zeal-for\nb,wit:+1;calm\n"), signed)
    assert [text.labels for text in texts] == [(0, 1, 1, 0, 0, 0), (0, 0, 0, 0, 1, 0)]
    assert report.notes == {"malformed signs (entry dropped)": 1}


def test_parquet(tmp_path, plain):
    path = tmp_path / "mine.parquet"
    frame = {"key": [7, 8, 9], "text": ["a", None, "c"], "calm": [1.0, 0.0, None], "zeal": [True, False, True]}
    pd.DataFrame(frame).to_parquet(path)
    texts, report = read_table(path, plain, id_column="key")
    assert [(text.text_id, text.labels) for text in texts] == [("7", (1, 1, -1)), ("9", (-1, 1, -1))]
    assert report.dropped == {"empty text": 1}


def test_parquet_with_lists(tmp_path, plain):
    path = tmp_path / "mine.parquet"
    pd.DataFrame({"text": ["a", "b"], "labels": [["zeal"], None]}).to_parquet(path)
    texts, report = read_table(path, plain)
    assert [text.labels for text in texts] == [(0, 1, 0)]
    assert report.dropped == {"no labels": 1}


def test_ids_groups_and_other_column_names(table, plain):
    path = table("key,body,fam,zeal\nk1,a,f1,1\nk2,b,f1,0\nk3,c,,0\n")
    texts, _ = read_table(path, plain, text_column="body", group_column="fam", id_column="key")
    assert [(text.text_id, text.group_id) for text in texts] == [
        ("k1", "f1"),
        ("k2", "f1"),
        ("k3", dialogue_group("c")),
    ]


def test_repeats_without_ids_are_merged_and_with_ids_kept(table, plain):
    path = table("key,text,calm,zeal,wit\nk1,a,1,0,\nk2,a,1,1,0\nk3,a,1,0,\nk4,b,0,0,0\n")
    texts, report = read_table(path, plain)
    # calm agrees, zeal is contested, wit is known from one row.
    assert [text.labels for text in texts] == [(1, -1, 0), (0, 0, 0)]
    assert (report.n_duplicate_texts, report.n_conflicting_texts) == (1, 1)
    assert report.n_read == report.n_kept + sum(report.dropped.values())
    texts, report = read_table(path, plain, id_column="key")
    assert len(texts) == 4
    assert (report.n_duplicate_texts, report.n_conflicting_texts, report.dropped) == (1, 1, {})


def test_order_of_rows_does_not_change_merged_labels(table, plain):
    rows = ["a,1,0,", "a,0,1,0", "a,1,1,", "a,,0,0"]
    forwards, _ = read_table(table("\n".join(["text,calm,zeal,wit", *rows])), plain)
    backwards, _ = read_table(table("\n".join(["text,calm,zeal,wit", *rows[::-1]])), plain)
    assert forwards[0].labels == backwards[0].labels == (-1, -1, 0)


@pytest.mark.parametrize(
    ("content", "options", "message", "fix"),
    [
        ("body,zeal\na,1\n", {}, "no column text in", "--data.text_column"),
        ("text,zeal\na,1\n", {"label_column": "labels"}, "no column labels in", "--data.label_column"),
        ("text,zeal\na,1\n", {"group_column": "g"}, "no column g in", "--data.group_column"),
        ("text,zeal\na,1\n", {"id_column": "i"}, "no column i in", "--data.id_column"),
        ("text,spite\na,1\n", {}, "no label column in", "--data.taxonomy"),
        ("text,zeal,labels\na,1,zeal\n", {}, "label columns (zeal) and a column labels", "--data.label_column"),
        ("text,zeal,ZEAL\na,1,1\n", {}, "columns zeal and ZEAL", "--data.path"),
        ("text,zeal\na,2\n", {}, "'2' as zeal of row 1", "correct the file"),
        ("text,zeal\na,-1\n", {}, "'-1' as zeal of row 1", "correct the file"),
        ("text,zeal\na,0\n", {}, "no label that holds", "--data.path"),
        ("text,zeal\na,\n", {}, "nothing to keep", "--data.path"),
        ("text,labels\na,spite\nb,malice;spite\n", {}, "spite (2), malice (1)", "--data.taxonomy"),
        ("key,text,zeal\n1,a,1\n1,b,1\n", {"id_column": "key"}, "ids that occur twice", "--data.path"),
        ("key,text,zeal\n,a,1\n", {"id_column": "key"}, "no id in column key, row 1", "--data.id_column"),
    ],
)
def test_bad_tables(table, plain, content, options, message, fix):
    with pytest.raises(InputError) as raised:
        read_table(table(content), plain, **options)
    assert message in str(raised.value)
    assert fix in raised.value.fix


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,zeal,zeal-for\na,1,1\n", "both for zeal-for"),
        ("text,zeal\na,2\n", "-1, 0, 1 or nothing"),
        ("text,zeal-for\na,-1\n", "0, 1 or nothing"),
    ],
)
def test_bad_signed_tables(table, signed, content, message):
    with pytest.raises(InputError) as raised:
        read_table(table(content), signed)
    assert message in str(raised.value)


def test_texts_and_lists_of_another_type(table, plain):
    with pytest.raises(InputError, match="5 in column text, row 1"):
        read_table(table([{"text": 5, "zeal": 1}], "mine.jsonl"), plain)
    with pytest.raises(InputError, match="7 as labels of row 1"):
        read_table(table([{"text": "a", "labels": 7}], "mine.jsonl"), plain)


def test_other_formats_are_refused(table, plain):
    with pytest.raises(InputError, match=r"a name that ends in \.csv, \.json, \.jsonl or \.parquet"):
        read_table(table("text\n", "mine.xlsx"), plain)
    with pytest.raises(InputError, match="not a parquet file"):
        read_table(table("text\n", "mine.parquet"), plain)


def test_long_cells_are_read(table, plain):
    (text,), _ = read_table(table(f"text,zeal\n{'long ' * 40_000},1\n"), plain)
    assert len(text.text) == 200_000


def test_by_name_with_columns(table, plain):
    data = read_annotations("table", table("body,zeal\na,1\n"), None, plain, text_column="body")
    assert (data.name, data.texts[0].text, data.texts[0].source, data.is_sample) == ("table", "a", "mine", False)
