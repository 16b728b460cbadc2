"""Does a draw become a file, the file labels, and the labels a corrected audit beside the first one?"""

import csv
import json
from itertools import pairwise

import numpy as np
import pytest

from audits.table import read_table
from datamodules.gold_file import shown_items
from datamodules.preferences import read_preferences
from experiments.cli import main
from train.run_directory import RunDirectory
from train.stored_audits import scored_pairs, stored_audits

SHORT = ("--trainer.max_epochs=2", "--trainer.batch_size=16", "--data.name=value-imprint", "--model.loss=wan")
LABELS = ("civility", "duty", "empathy", "information-seeking", "justice", "well-being", "wisdom")
N_PAIRS = 20


@pytest.fixture
def run(tiny_run, only_run, tiny_root, tmp_path, capsys):
    """A run with two audited checkpoints: hh-rlhf (20 pairs) with a reward of random numbers."""
    rng, index = np.random.default_rng(0), read_preferences("hh-rlhf", tiny_root).index
    keys = zip(np.repeat(index.pair_ids, 2).tolist(), index.sides.ravel().tolist(), strict=True)
    rewards = [{"pair_id": pair, "side": side, "reward": rng.normal()} for pair, side in keys]
    write(tmp_path / "rewards.jsonl", rewards)
    config = tmp_path / "gold.yaml"
    source = {"name": "mine", "kind": "file", "path": str(tmp_path / "rewards.jsonl")}
    audit = {"datasets": ["hh-rlhf"], "audits": ["reward-imprint"], "noise_floor": False, "rewards": [source]}
    config.write_text(json.dumps({"audit": audit}))
    assert tiny_run(f"--config={config}", *SHORT, "--track.wandb=disabled") == 0
    capsys.readouterr()
    return only_run()


def folders(run):
    return {path.name for path in (run / "audits").glob("*-*") if path.is_dir()}


def draw(run, output, *flags):
    return main(["gold", "draw", str(run), "--dataset=hh-rlhf", f"--output={output}", *flags])


def rows_of(path):
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def write(path, rows):
    if path.suffix == ".jsonl":
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


def fill(path, second=False):
    """Label every row by a coin, as somebody with an editor would."""
    rng, rows = np.random.default_rng(0), rows_of(path)
    for row in rows:
        row |= {label: ("no", "yes")[rng.integers(2)] for label in LABELS}
        row |= {f"{label}_2": row[label] if rng.random() < 0.8 else "0" for label in LABELS} if second else {}
    write(path, rows)


@pytest.mark.parametrize("name", ["gold.csv", "gold.jsonl"])
def test_draw_label_audit(run, tiny_root, tmp_path, capsys, name):
    gold, before = tmp_path / name, folders(run)
    tables = {folder: (run / "audits" / folder / "table.parquet").read_bytes() for folder in before}
    assert draw(run, gold, "--n=40") == 0
    printed = capsys.readouterr().out
    assert "40 responses of hh-rlhf written to" in printed
    assert f"imprint audit {run} --gold {gold}" in printed
    drawn = rows_of(gold)
    assert list(drawn[0])[:9] == ["item_id", "text", *LABELS]
    assert not {"side", "pair_id", "wisdom_probability"} & set(drawn[0])
    items: dict[str, str] = {}
    for ids, texts in shown_items(read_preferences("hh-rlhf", tiny_root), "exchange"):
        items |= dict(zip(ids, texts, strict=True))
    assert {row["item_id"]: row["text"] for row in drawn} == items
    assert [row["item_id"] for row in drawn] != list(items)

    fill(gold, second=True)
    assert main(["audit", str(run), f"--gold={gold}"]) == 0
    captured = capsys.readouterr()
    assert "gold labels of hh-rlhf: 40 responses drawn, 40 labelled, 0 not" in captured.err
    assert "agreement of two annotators on 40 responses; the first one's labels are used" in captured.err
    assert "2 audited now" in captured.out
    new = folders(run) - before
    assert len(new) == 2
    for folder, table in tables.items():
        assert (run / "audits" / folder / "table.parquet").read_bytes() == table, "older audits are kept"
    for folder in new:
        (data,) = json.loads((run / "audits" / folder / "meta.json").read_text())["datasets"]
        assert data["gold"]["n_used"] == data["gold"]["agreement"]["n"] == 40
        frame = read_table(run / "audits" / folder / "table.parquet").to_pandas()
        own = frame[frame["method"].eq("ols-gold") & frame["subset"].eq("")]
        assert set(own["spec"]) == {"pooled-clustered", "pooled-clustered-length", "within", "within-length"}
        assert set(own.query("metric == 'rows_with_gold'")["estimate"]) == {40}
        betas = own.query("metric == 'beta'")
        refused = frame[frame["method"].str.startswith("ols-gold: ")]
        # Every spec has slopes, or says why not.
        told = {*betas[betas["estimate"].notna()]["spec"], *refused["spec"]}
        assert told == set(own["spec"])
    assert main(["audit", str(run), f"--gold={gold}"]) == 0
    assert "0 audited now, 2 done before" in capsys.readouterr().out


def test_what_is_drawn_follows_the_flags(run, tmp_path, capsys):
    capsys.readouterr()
    first, again, other = (tmp_path / f"{name}.jsonl" for name in ("first", "again", "other"))
    assert draw(run, first, "--n=16") == draw(run, again, "--n=16") == draw(run, other, "--n=16", "--seed=1") == 0
    assert first.read_bytes() == again.read_bytes()
    assert {row["item_id"] for row in rows_of(first)} != {row["item_id"] for row in rows_of(other)}

    # Both responses of eight pairs, never side by side, with the chance that their stratum gave them.
    shown = tmp_path / "shown.jsonl"
    assert draw(run, shown, "--n=16", "--show_keys", "--show_probabilities", "--checkpoint=6") == 0
    rows = rows_of(shown)
    assert all(a["pair_id"] != b["pair_id"] for a, b in pairwise(rows))
    assert sorted((row["pair_id"], row["side"]) for row in rows) == sorted(
        (pair, side) for pair in {row["pair_id"] for row in rows} for side in ("chosen", "rejected")
    )
    assert sum(1 / row["inclusion_probability"] for row in rows) == pytest.approx(2 * N_PAIRS)
    (audit,) = (audit for audit in stored_audits(RunDirectory.open(run)) if audit.step == 6)
    (scored,) = scored_pairs([audit], "hh-rlhf", ["exchange-head-64"])
    view = scored.views["exchange-head-64"]
    carried = view.decisions.sum(axis=(0, 1))
    names = {}
    for row in rows:
        k = scored.pair_ids.tolist().index(row["pair_id"])
        p = view.probabilities[k, int(row["side"] == "rejected")]
        np.testing.assert_allclose([row[f"{label}_probability"] for label in LABELS], p, atol=6e-4)
        has = np.flatnonzero(view.decisions[k].any(axis=0))
        rarest = min(has, key=lambda j: (carried[j], j)) if len(has) else -1
        assert names.setdefault(row["stratum"], rarest) == rarest, "a stratum is a rarest value"

    single = tmp_path / "single.csv"
    assert draw(run, single, "--n=15", "--unit=text", "--stratify=subset") == 0
    assert {row["inclusion_probability"] for row in rows_of(single)} == {str(15 / 40)}
    assert "drawn by subset" in capsys.readouterr().out
    assert draw(run, tmp_path / "all.csv", "--n=40", "--stratify=none") == 0
    assert "drawn without strata" in capsys.readouterr().out
    assert {row["inclusion_probability"] for row in rows_of(tmp_path / "all.csv")} == {"1.0"}


def test_only_stored_predictions_are_needed(run, tmp_path, capsys):
    for path in (run / "checkpoints").glob("*.ckpt"):
        path.unlink()
    assert draw(run, tmp_path / "gold.csv", "--n=16") == 0
    assert "A pair counts when both its responses are labelled" in capsys.readouterr().out
    (run / "metrics.jsonl").unlink()
    assert "fix: --checkpoint STEP" in mistake(capsys, draw(run, tmp_path / "other.csv", "--n=16"))
    assert draw(run, tmp_path / "other.csv", "--n=16", "--checkpoint=12") == 0


def mistake(capsys, code):
    assert code == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("imprint: error: found ")
    return message


def test_mistakes_are_told_and_nothing_is_written(run, tiny_root, tmp_path, capsys):
    output = tmp_path / "gold.csv"
    for flags, message in (
        (["--n=15"], "--n 15 with --unit pair; needed an even number"),
        (["--n=0", "--unit=text"], "needed a number from 1"),
        (["--n=42"], "--n 42 of 40 responses"),
        (["--n=2"], "one pair of each, or weights would miss a part) to 40; fix: --n, or --stratify none"),
        (["--seed=-1"], "--seed -1; needed 0 or more"),
        (["--checkpoint=7"], "no finished audit of checkpoint 7"),
        (["--dataset=webgpt"], "no audit of webgpt with checkpoint"),
        (["--output=gold.xlsx"], "a name that ends in .csv or .jsonl"),
    ):
        assert message in mistake(capsys, draw(run, output, "--n=16", *flags))
    assert not output.exists()
    output.write_text("my labels")
    assert "never overwritten" in mistake(capsys, draw(run, output, "--n=16"))
    assert output.read_text() == "my labels"
    assert "needed draw" in mistake(capsys, main(["gold", "label"]))
    assert "no file at" in mistake(capsys, draw(tmp_path, tmp_path / "x.csv"))

    gold = tmp_path / "gold.jsonl"
    assert draw(run, gold, "--n=16") == 0
    capsys.readouterr()
    before = folders(run)
    assert "none of them labelled" in mistake(capsys, main(["audit", str(run), f"--gold={gold}"]))
    assert "--gold with --pending" in mistake(capsys, main(["audit", str(run), f"--gold={gold}", "--pending"]))
    fill(gold)
    answer = main(["audit", str(run), f"--gold={gold}", "--datasets", "webgpt", "--audits", "value-distribution"])
    assert "rows of hh-rlhf in" in mistake(capsys, answer)
    assert folders(run) == before


def test_other_data_than_was_audited_is_not_drawn_from(run, tmp_path, tiny_root, capsys):
    part = tmp_path / "part" / "hh-rlhf" / "harmless-base"
    part.mkdir(parents=True)
    first = next(iter(read_preferences("hh-rlhf", tiny_root).read()))
    texts = {"chosen": f"\n\n{first.first.render()}", "rejected": f"\n\n{first.second.render()} ."}
    (part / "test.jsonl").write_text(json.dumps(texts))
    answer = draw(run, tmp_path / "gold.csv", "--n=2", "--stratify=none", f"--root={tmp_path / 'part'}")
    assert "another hh-rlhf than the one that" in mistake(capsys, answer)


def test_gold_works_with_one_checkpoint_file_and_with_fit(run, tiny_run, tiny_root, tmp_path, capsys):
    gold = tmp_path / "gold.jsonl"
    assert draw(run, gold, "--n=24") == 0
    fill(gold)
    (checkpoint, *_) = sorted((run / "checkpoints").glob("e*.ckpt"))
    out, features = tmp_path / "out", ["--datasets", "hh-rlhf", "--audits", "value-distribution", "--max_length", "64"]
    arguments = ["audit", f"--checkpoint={checkpoint}", f"--gold={gold}", f"--root={tiny_root}", f"--output={out}"]
    assert main([*arguments, *features]) == 0
    assert "24 responses drawn, 24 labelled" in capsys.readouterr().err
    assert json.loads((out / "meta.json").read_text())["datasets"][0]["gold"]["n_used"] == 24
    flags = [f"--config={tmp_path / 'gold.yaml'}", "--track.wandb=disabled", f"--audit.gold={gold}"]
    assert tiny_run(*flags, *SHORT, "--trainer.max_epochs=1") == 0
    assert "24 responses drawn, 24 labelled" in capsys.readouterr().err
