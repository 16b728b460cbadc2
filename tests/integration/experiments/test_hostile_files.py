"""Whatever a file holds, the command line says in one message what it is, or reads it as it was meant; nothing is left
half-written and nothing in a file is run.
"""

import csv
import gzip
import io
import json
import os
import re
import shutil
import zipfile

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from datamodules.taxonomy import load_taxonomy
from experiments.cli import main

TINY = ("--trainer.max_epochs=1", "--trainer.limit_train_batches=2", "--track.wandb=disabled", "--audit.enabled=false")
VALUES = [value.name for value in load_taxonomy("value-imprint").values]
ROWS = [(f"Human: question number {i}\n\nAssistant: a kind answer, number {i}.", VALUES[i % 7]) for i in range(42)]
OBJECTS = [{"text": text, "labels": [label]} for text, label in ROWS]


def fails(capsys, code, text):
    """One message that matches, exit code 2, no traceback."""
    captured = capsys.readouterr()
    assert code == 2, captured.err[-2000:]
    lines = [line for line in captured.err.splitlines() if line.startswith("imprint: error:")]
    assert len(lines) == 1, captured.err
    assert re.search(text, lines[0]), lines[0]
    assert re.search("found .*; needed .*; fix: .", lines[0]), lines[0]
    assert len(lines[0]) < 1200, lines[0]
    assert "Traceback" not in captured.err


def csv_text(rows=ROWS, line_end="\n"):
    content = io.StringIO()
    csv.writer(content, lineterminator=line_end, quoting=csv.QUOTE_ALL).writerows([("Text", "Label"), *rows])
    return content.getvalue()


def json_lines(rows):
    return "\n".join(map(json.dumps, rows)).encode()


PLAIN = csv_text().encode()
LONG = "word " * 250_000  # 1.25 million characters
SWALLOWED = f'Text,Label\nfine words,{VALUES[0]}\n"an open quote,{VALUES[0]}\n' + f"more words,{VALUES[1]}\n" * 60
HOSTILE = {
    "utf-16": ("a.csv", csv_text().encode("utf-16"), r"not UTF-8 in .*a\.csv, line 1.*UTF-16.*iconv -f UTF-16 "),
    "utf-16 unmarked": ("a.csv", csv_text().encode("utf-16-le"), r"NUL.* line 1: it looks like UTF-16LE.*iconv"),
    "utf-16 json": ("a.jsonl", json_lines(OBJECTS).decode().encode("utf-16"), r"not UTF-8 in .*line 1.*UTF-16"),
    "windows-1252": (
        "a.csv",
        csv_text([*ROWS, ("café “here”", VALUES[0])]).encode("cp1252"),
        r"not UTF-8 in .*a\.csv, line 128; needed UTF-8.*iconv -f WINDOWS-1252 -t UTF-8",
    ),
    "gzip without .gz": ("a.csv", gzip.compress(PLAIN), r"looks like gzip.*\.gz"),
    "gzip json without .gz": ("a.jsonl", gzip.compress(json_lines(OBJECTS)), r"looks like gzip.*\.gz"),
    "no gzip": ("a.csv.gz", PLAIN, r"a\.csv\.gz, which is not a whole gzip file"),
    "cut gzip": ("a.csv.gz", gzip.compress(PLAIN)[:-40], r"a\.csv\.gz, which is not a whole gzip file .*ended before"),
    "cut gzip json": ("a.jsonl.gz", gzip.compress(json_lines(OBJECTS))[:-40], r"not a whole gzip file .*ended before"),
    "excel": ("a.csv", b"PK\x03\x04" + bytes(range(256)), r"looks like a zip archive"),
    "array in lines": ("a.jsonl", json.dumps(OBJECTS).encode(), r"begins with an array; .*rename it to \.json"),
    "lines in array": ("a.json", json_lines(OBJECTS), r"does not begin with an array; .*rename it to \.jsonl"),
    "one row on many lines": (
        "a.jsonl",
        "\n".join(json.dumps(row, indent=2) for row in OBJECTS).encode(),
        r"a\.jsonl, line 1, is not JSON .*one JSON object a line",
    ),
    "json in csv": ("a.csv", json.dumps(OBJECTS).encode(), r"begins like JSON; needed a csv file.*rename it to \.json"),
    "open quote": ("a.csv", SWALLOWED.encode(), r"a quote that is never closed in the row that starts at line 3 of"),
    "open quote, large": (
        "a.csv",
        SWALLOWED.encode() + b"words\n" * 200_000,
        r"a cell of more than 1,000,000 characters .*quote left open there\?.* in the row that starts at line 3 of",
    ),
    "large row": (
        "a.csv",
        csv_text([*ROWS, (LONG, VALUES[0])]).encode(),
        r"more than 1,000,000 .*starts at line 128 of",
    ),
    "large json row": (
        "a.jsonl",
        json_lines([*OBJECTS, {"text": LONG, "labels": [VALUES[0]]}]),
        r"a text of 1,250,000 characters, row 43 of .*a\.jsonl; needed texts of at most 1,000,000 characters",
    ),
    "nul": ("a.csv", b"Text,Label\none\0two,Duty\n", r"a NUL character in .*a\.csv, line 2"),
    "empty": ("a.csv", b"", r"no header line in .*a\.csv"),
    "half a character": (
        "a.jsonl",
        b'{"text": "\\ud83d", "labels": ["Duty"]}\n' * 9,
        r"nothing to keep in .*9 half a surrogate pair",
    ),
    "half a character in a label": (
        "a.jsonl",
        b'{"text": "words", "labels": ["\\ud83d"]}\n',
        r"half a surrogate pair in labels of row 1 of",
    ),
    "half a character in a key": (
        "a.jsonl",
        b'{"text": "a", "labels": [], "\\ud83d": 1}',
        r"half .* in a key of .*a\.jsonl",
    ),
}


@pytest.mark.parametrize("verb", ["check", "fit"])
@pytest.mark.parametrize(("name", "content", "text"), HOSTILE.values(), ids=list(HOSTILE))
def test_files_of_texts(tiny_run, capsys, tmp_path, verb, name, content, text):
    path = tmp_path / name
    path.write_bytes(content)
    is_csv = ".csv" in name
    if verb == "check":
        code = main(["data", "check", str(path), *([] if is_csv else ["--taxonomy", "value-imprint"])])
    else:
        layout = ["value-imprint"] if is_csv else ["table", "--data.taxonomy=value-imprint"]
        code = tiny_run(f"--data.name={layout[0]}", *layout[1:], f"--data.path={path}", *TINY)
    fails(capsys, code, text)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


@pytest.fixture(scope="module")
def trained(tiny_encoder, tmp_path_factory):
    """A finished run, made once; tests copy it."""
    root = tmp_path_factory.mktemp("trained")
    places = (f"--run.root={root / 'runs'}", f"--run.cache_dir={root / 'cache'}", f"--model.encoder={tiny_encoder}")
    cut = ("--data.max_length=48", "--audit.max_length=64")
    assert main(["fit", "--data.name=sample", *places, *cut, *TINY]) == 0
    (run,) = (root / "runs").iterdir()
    return run


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the finished run that a test may damage."""
    return shutil.copytree(trained, tmp_path / "run")


def score(run, path, output, *flags):
    return main(["score", f"--checkpoint={run}/checkpoints/last.ckpt", f"--input={path}", f"--output={output}", *flags])


@pytest.mark.parametrize("case", ["utf-16", "windows-1252", "gzip without .gz", "cut gzip", "open quote"])
def test_score_refuses_them_too(run, capsys, tmp_path, case):
    name, content, text = HOSTILE[case]
    (tmp_path / name).write_bytes(content)
    fails(capsys, score(run, tmp_path / name, tmp_path / "s.parquet", "--text_column=Text"), text.split("; needed")[0])
    assert not (tmp_path / "s.parquet").exists()


def test_line_ends_and_marks_change_no_score(run, tmp_path):
    variants = {
        "plain.csv": PLAIN,
        "crlf.csv": csv_text(line_end="\r\n").encode(),
        "mark.csv": b"\xef\xbb\xbf" + PLAIN,
        "both.csv.gz": gzip.compress(b"\xef\xbb\xbf" + csv_text(line_end="\r\n").encode()),
        "plain.jsonl": json_lines([{"Text": text} for text, _ in ROWS]),
        "crlf.jsonl": b"\xef\xbb\xbf" + json_lines([{"Text": text} for text, _ in ROWS]).replace(b"\n", b"\r\n"),
    }
    tables = []
    for name, content in variants.items():
        (tmp_path / name).write_bytes(content)
        assert score(run, tmp_path / name, tmp_path / "s.parquet", "--text_column=Text") == 0
        tables.append(pq.read_table(tmp_path / "s.parquet"))
    assert tables[0].num_rows == 42
    assert all(table.equals(tables[0]) for table in tables)


def test_line_ends_and_marks_change_no_split(tiny_run, tmp_path):
    splits = []
    for name, content in (("lf", PLAIN), ("crlf", b"\xef\xbb\xbf" + csv_text(line_end="\r\n").encode())):
        path = tmp_path / f"{name}.csv"
        path.write_bytes(content)
        flags = (
            "--data.name=value-imprint",
            f"--data.path={path}",
            "--model.loss=wan",
            "--data.allow_empty_values=true",
        )
        assert tiny_run(*flags, *TINY, f"--run.root={tmp_path / name}") == 0
        splits.append(json.loads(next((tmp_path / name).glob("*/splits.json")).read_text()))
    assert splits[0] == splits[1]


def test_mis_decoded_texts_are_kept_counted_and_told(tiny_run, only_run, capsys, tmp_path):
    rows = [
        *ROWS,
        ("the cafÃ© donâ€™t open", VALUES[0]),
        ("a lost \ufffd byte", VALUES[0]),
        ("un café fermé", VALUES[1]),
    ]
    path = tmp_path / "a.csv"
    path.write_text(csv_text(rows), encoding="utf-8")
    warning = r"warning: 2 texts look mis-decoded \(mojibake, .*such as row 43; kept as they stand"
    assert main(["data", "check", str(path)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert re.search(warning, out), out
    assert "45 texts kept" in out
    assert tiny_run("--data.name=value-imprint", f"--data.path={path}", "--model.loss=wan", *TINY) == 0
    captured = capsys.readouterr()
    assert re.search(warning, " ".join(captured.err.split())), captured.err
    assert "donâ" not in out + captured.out + captured.err  # the note shows no fragment of a text
    report = json.loads((only_run() / "env.json").read_text(encoding="utf-8"))["data"]["annotations"]
    assert (report["n_damaged_texts"], report["first_damaged_row"], report["n_kept"]) == (2, 43, 45)


def test_pair_ids_that_occur_twice(tiny_run, capsys, tmp_path):
    sides = {side: f"\n\nHuman: why ?\n\nAssistant: {side} ." for side in ("chosen", "rejected")}
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(json_lines([{"pair_id": name, **sides} for name in ("p1", "p2", "p1")]))
    text = r"pair ids? that occurs? more than once in .*pairs\.jsonl, such as 'p1'; needed a different pair_id in"
    fails(capsys, main(["data", "check", str(path)]), text)
    flags = (*TINY[:3], "--audit.enabled=true", f"--audit.datasets=[{path}]")
    fails(capsys, tiny_run("--data.name=sample", *flags), text)
    assert [entry.name for entry in tmp_path.iterdir()] == ["pairs.jsonl"]


GOOD = "name: mine\nvalues:\n  - {slug: calm, name: Calm}\n  - {slug: zeal, name: Zeal}\n"


def one_value(text):
    return f"name: mine\nvalues:\n  - {{{text}}}\n"


TAXONOMIES = {
    "empty": ("", "nothing in .*mine.yaml"),
    "no mapping": ("- calm\n", "mine.yaml, which is not a mapping; needed a mapping with the keys name, values"),
    "not yaml": ("name: [mine\n", r"line 2, that is not YAML \(expected ',' or '\]'"),
    "two documents": (GOOD + "---\n" + GOOD, "line 5, that is not YAML .*another document"),
    "python": ("name: !!python/object/apply:os.system ['touch RAN']\n", r"line 1, that is not YAML .*os\.system"),
    "deep": (GOOD + "groups: " + "{a: " * 2000 + "1" + "}" * 2000, "not YAML .nested too deeply"),
    "key twice": (GOOD + "name: other\n", "line 5, that is not YAML .key name occurs twice"),
    "impossible date": (GOOD + "version: 2024-13-45\n", "not YAML .month must be in 1..12"),
    "half a character": (one_value('slug: a, name: "\\ud83d"'), "line 3, that is not YAML .half a surrogate pair"),
    "typo": (GOOD + "group:\n  all: [calm]\n", "unknown keys in .*: group; needed keys among name, version"),
    "typo in a value": (one_value("slug: a, name: A, definiton: x"), "unknown keys in value 1 of .*: definiton"),
    "values as mapping": ("name: mine\nvalues: {calm: Calm}\n", "`values` of .* a list of at least one value"),
    "value as text": ("name: mine\nvalues: [calm]\n", "value 1 of .*, which is not a mapping"),
    "no slug": (one_value("name: A"), "no slug in value 1 of"),
    "empty slug": (one_value("slug: '', name: A"), "`slug` of value 1 of .* is ''; needed a non-empty string"),
    "slug of nothing": (
        one_value("slug: '!!!', name: A"),
        "'!!!', of which no slug is left; needed at least one letter",
    ),
    "slug twice": (GOOD + "  - {slug: calm, name: More}\n", "calm more than once in the slugs of"),
    "slug in capitals": (GOOD + "  - {slug: Calm, name: More}\n", "'Calm'; needed the form 'calm'"),
    "name twice": (GOOD + "  - {slug: rest, name: CALM}\n", "calm more than once in the names of"),
    "spelling twice": (
        GOOD + "  - {slug: rest, name: Rest, accepted: [zeal]}\n",
        "'zeal' in .* for both zeal and rest",
    ),
    "column of texts": (one_value("slug: text, name: Words"), "'text' in .*names a column of its own"),
    "column of ids": (one_value("slug: a, name: text_id"), "'text_id' in .*names a column of its own"),
    "group of unknowns": (GOOD + "groups:\n  all: [calm, rage]\n", "unknown values in group all of .*: rage"),
    "groups in a circle": (GOOD + "groups: {a: [b], b: [a]}\n", "unknown values in group a of .*: b"),
    "empty group": (GOOD + "groups: {a: []}\n", "group a of .* without a value"),
    "collapse in a circle": (GOOD + "collapse: {a: b, b: a}\n", "takes a to b, itself collapsed"),
    "anchor in itself": ("name: mine\nvalues: &v\n  - *v\n", "value 1 of .*, which is not a mapping"),
    "group in itself": (GOOD + "groups: &g\n  a: *g\n", "group a of .* is .*needed a list of non-empty strings"),
    "not utf-8": (GOOD.encode("utf-16"), "not UTF-8 in .*mine.yaml, line 1.*UTF-16"),
}


@pytest.mark.parametrize("verb", ["check", "fit"])
@pytest.mark.parametrize(("content", "text"), TAXONOMIES.values(), ids=list(TAXONOMIES))
def test_taxonomies(tiny_run, capsys, tmp_path, monkeypatch, verb, content, text):
    taxonomy, table = tmp_path / "mine.yaml", tmp_path / "table.jsonl"
    taxonomy.write_bytes(content.encode() if isinstance(content, str) else content)
    table.write_bytes(json_lines([{"text": f"text {i}", "labels": ["calm"]} for i in range(9)]))
    monkeypatch.chdir(tmp_path)  # where a command in the file would leave RAN
    if verb == "check":
        code = main(["data", "check", str(table), "--taxonomy", str(taxonomy)])
    else:
        code = tiny_run("--data.name=table", f"--data.path={table}", f"--data.taxonomy={taxonomy}", *TINY)
    fails(capsys, code, text)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["mine.yaml", "table.jsonl"]


class Command:
    """A pickle of this touches a file when it is read without care."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def shortened(share):
    return lambda path, _: path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def zipped(path, _):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")


def edited(change):
    def write(path, content):
        change(content)
        torch.save(content, path)

    return write


def of_another_project(path, _):
    weights = {"layer.weight": torch.ones(2, 2)}
    torch.save({"state_dict": weights, "hyper_parameters": {"lr": 0.1}, "epoch": 0, "loops": {}}, path)


CHECKPOINTS = {
    "empty": (lambda path, _: path.write_bytes(b""), "which is empty"),
    "cut at the start": (shortened(0.001), "is cut off: its end is missing"),
    "cut in the middle": (shortened(0.5), "is cut off: its end is missing"),
    "cut at the end": (shortened(0.99999), "is cut off: its end is missing"),
    "text": (lambda path, _: path.write_text("weights\n"), "is not a torch checkpoint"),
    "zip": (zipped, "a zip archive that is not a torch checkpoint"),
    "code": (
        lambda path, content: torch.save(content | {"x": Command(path.parent / "RAN")}, path),
        r"more than tensors and plain values \(\w+\.system\); not loaded",
    ),
    "another project": (of_another_project, "a checkpoint of something else .*no taxonomy"),
    "bare weights": (lambda path, content: torch.save(content["state_dict"], path), "something else .*no `state_dict`"),
    "missing": (edited(lambda c: c["state_dict"].pop("head.weight")), r"its own architecture \(no head\.weight\)"),
    "extra": (edited(lambda c: c["state_dict"].update(more=torch.ones(1))), r"its own architecture \(more too many\)"),
    "shape": (
        edited(lambda c: c["state_dict"].update({"head.weight": torch.ones(3, 16)})),
        r"its own architecture \(head\.weight is \[3, 16\], not \[7, 16\]\)",
    ),
    "nan": (
        edited(lambda c: c["state_dict"]["head.weight"][0].fill_(np.nan)),
        r"weights that are not finite \(head\.weight\): training had diverged",
    ),
    "sparse": (
        edited(lambda c: c["state_dict"].update({"head.weight": c["state_dict"]["head.weight"].to_sparse()})),
        r"its own architecture \(head\.weight is not a dense tensor\)",
    ),
    "arguments": (edited(lambda c: c["hyper_parameters"].update(new=1)), "of another version or an edited one"),
}


def contents(folder):
    """Bytes of every file but locks, by path."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.endswith("lock"))
    return {path: path.read_bytes() for path in files}


@pytest.mark.parametrize(("damage", "text"), CHECKPOINTS.values(), ids=list(CHECKPOINTS))
def test_checkpoints(run, capsys, tmp_path, damage, text):
    path = run / "checkpoints" / "last.ckpt"
    damage(path, torch.load(path, weights_only=True))
    (tmp_path / "texts.jsonl").write_text('{"text": "a law"}\n')
    before = contents(tmp_path)
    thresholds = f"--thresholds={next((run / 'thresholds').iterdir())}"
    fails(capsys, score(run, tmp_path / "texts.jsonl", tmp_path / "s.parquet", thresholds), rf"last\.ckpt,.* {text}")
    audit = ["audit", f"--checkpoint={path}", "--datasets", "sample-webgpt", f"--output={tmp_path / 'a'}"]
    fails(capsys, main([*audit, "--max_length", "64", thresholds]), rf"last\.ckpt,.* {text}")
    fails(capsys, main(["fit", f"--resume={run}", "--trainer.max_epochs=2"]), rf"last\.ckpt,.* {text}")
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", r"nothing in .*config\.yaml"),
        (b"\xff\xfeo", r"not UTF-8 in .*config\.yaml, line 1"),
        (b"optim:\n  lr_head: 0.001\n  lr_head: 0.5\n", r"config\.yaml, line 3, .*key lr_head occurs twice"),
    ],
    ids=["empty", "not utf-8", "key twice"],
)
def test_resume_with_a_damaged_config(run, capsys, content, text):
    (run / "config.yaml").write_bytes(content)
    before = contents(run)
    fails(capsys, main(["fit", f"--resume={run}", "--trainer.max_epochs=2"]), text)
    assert contents(run) == before


def test_resume_needs_the_state_of_the_optimiser(run, capsys):
    best = next(path for path in (run / "checkpoints").iterdir() if path.name != "last.ckpt")
    shutil.copy(best, run / "checkpoints" / "last.ckpt")
    before = contents(run)
    text = (
        r"last\.ckpt, which training cannot go on from \(it has no .*optimizer_states.*needed .*state of the optimiser"
    )
    fails(capsys, main(["fit", f"--resume={run}", "--trainer.max_epochs=2"]), text)
    assert contents(run) == before


@pytest.fixture
def wider_encoder(tiny_encoder, tmp_path):
    """Another encoder: the tiny one with a longer vocabulary."""
    folder = shutil.copytree(tiny_encoder, tmp_path / "wider")
    from transformers import BertConfig, BertModel

    config = BertConfig.from_pretrained(tiny_encoder)
    config.hidden_size = 32
    BertModel(config).save_pretrained(folder)
    return folder


def test_resume_with_another_label_space_or_encoder(run, wider_encoder, capsys, tmp_path):
    other = load_taxonomy("value-imprint").to_dict()
    other["values"] = other["values"][::-1]
    (tmp_path / "other.yaml").write_text(json.dumps(other), encoding="utf-8")
    before = contents(run)
    resume = ["fit", f"--resume={run}", "--trainer.max_epochs=2"]
    text = "a changed taxonomy; needed the architecture and labels that the run began with; fix: leave the .*--data"
    fails(capsys, main([*resume, f"--data.taxonomy={tmp_path / 'other.yaml'}"]), text)
    fails(capsys, main([*resume, f"--model.encoder={wider_encoder}"]), "a changed encoder_name .*wider.*began with")
    assert contents(run) == before


def changed_thresholds(run, change):
    """Edit the thresholds of the run's checkpoint in place."""
    path = next((run / "thresholds").iterdir())
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


def rename_labels(content):
    content["labels"] = {f"{name}-x": entry for name, entry in content["labels"].items()}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (rename_labels, "labels civility-x, .* in .*; needed labels civility, .*; fix: --thresholds"),
        (lambda c: c.update(weights="0" * 64), "thresholds of weights 00000000 in .*; needed thresholds of weights"),
        (lambda c: c["labels"]["duty"].update(threshold=1.7), r"threshold 1\.7 of duty in .*threshold in \[0, 1\]"),
        (lambda c: c["labels"]["duty"].update(temperature=float("nan")), "temperature nan of duty in"),
        (lambda c: c["labels"]["duty"].pop("threshold"), "does not read as thresholds .no 'threshold'"),
        (
            lambda c: c.update(softmax=not c["softmax"]),
            "softmax true in .*as the model was|different temp",
        ),
    ],
    ids=["labels", "weights", "range", "nan", "missing", "head"],
)
def test_thresholds(run, capsys, tmp_path, change, text):
    path = changed_thresholds(run, change)
    (tmp_path / "texts.jsonl").write_text('{"text": "a law"}\n')
    before = contents(tmp_path)
    fails(capsys, score(run, tmp_path / "texts.jsonl", tmp_path / "s.parquet"), text)
    audit = ["audit", "--datasets", "sample-webgpt", "--max_length", "64"]
    last = f"--checkpoint={run / 'checkpoints' / 'last.ckpt'}"
    fails(capsys, main([*audit, last, f"--thresholds={path}", f"--output={tmp_path / 'a'}"]), text)
    unchanged = {p: c for p, c in contents(tmp_path).items() if "/cache/" not in str(p)}
    assert unchanged == before
    # Other checkpoints of the run would be audited all the same, hence a failed audit and no refusal.
    assert main([*audit, str(run)]) == 1
    captured = capsys.readouterr()
    assert re.search(text, captured.err)
    assert "Traceback" not in captured.err
    assert not (run / "audits").exists() or not list((run / "audits").iterdir())


def test_thresholds_that_were_edited_are_marked(run, tmp_path):
    changed_thresholds(run, lambda c: c["labels"]["duty"].update(threshold=0.25))
    last = f"--checkpoint={run / 'checkpoints' / 'last.ckpt'}"
    flags = ["--datasets", "sample-webgpt", "--max_length", "64", f"--output={tmp_path / 'a'}"]
    assert main(["audit", last, *flags]) == 0
    calibration = json.loads((tmp_path / "a" / "meta.json").read_text())["calibration"]
    assert calibration["labels"]["duty"]["threshold"] == 0.25
    assert calibration["notes"][-1] == "edited by hand after they were fitted"
