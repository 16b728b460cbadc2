"""Are value vectors read from both layouts, with what is missing counted and what is wrong told?"""

import json
import math

import numpy as np
import pytest

from datamodules.errors import InputError
from datamodules.taxonomy import load_taxonomy
from datamodules.value_vectors import read_value_vectors

TAXONOMY = load_taxonomy("schwartz")


def panel_row(k, **changes):
    row = {"prompt": f"Prompt {k}?", "safety_issues": ["theft"] * (k % 2), "answer": "No." * k, "reward": 0.5 * k}
    return row | {"value_reward": [0.1 * k] * 10, "e_distance": 1.0, "h_distance": 2.0} | changes


def plain_row(k, **changes):
    values = {slug: 0.05 * j for j, slug in enumerate(TAXONOMY.slugs)}
    return {"model": "m", "prompt_id": f"p{k}"} | values | changes


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_panel_layout(tmp_path):
    paths = [
        write(tmp_path / f"harmless_test_openai_{name}.jsonl", [panel_row(k) for k in range(3)]) for name in ("b", "a")
    ]
    data = read_value_vectors(paths, TAXONOMY)
    assert (data.name, data.layout, data.model_names) == ("fulcra-panel", "panel", ("b", "a"))
    assert data.vectors[:3, 0].tolist() == [0.0, 0.1, 0.2]
    assert data.lengths.tolist() == [0, 3, 6] * 2
    assert data.length_name == "n_characters"
    assert data.rewards.tolist() == [0.0, 0.5, 1.0] * 2
    assert data.tag_names == ("theft",)
    assert data.tags[:, 0].tolist() == [False, True, False] * 2
    assert {name: values.tolist() for name, values in data.stored.items()} == {
        "e_distance": [1.0] * 6,
        "h_distance": [2.0] * 6,
    }
    # Ids, not texts; the same prompt has one id in both files.
    assert data.prompts[0] == data.prompts[3]
    assert "Prompt" not in data.prompts[0]


def test_plain_layout_with_signed_columns_and_missing_parts(tmp_path):
    rows = [plain_row(k, tags="x; y" if k else None, reward=None if k else 1.5) for k in range(3)]
    for row in rows:
        del row["power"]
        row |= {"power-for": 0.2, "power-against": 0.9}
    rows[2]["security"] = None
    data = read_value_vectors([write(tmp_path / "mine.jsonl", rows)], TAXONOMY)
    assert (data.name, data.layout, data.n_read, data.n_left_out) == ("mine", "table", 3, 1)
    assert data.vectors[:, 4].tolist() == pytest.approx([-0.7, -0.7])
    assert data.rewards[0] == 1.5
    assert math.isnan(data.rewards[1])
    assert data.lengths is None
    assert data.tags.tolist() == [[False, False], [True, True]]
    assert data.stored == {}


def test_scores_of_texts_are_value_vectors_of_one_model(tmp_path):
    """As `imprint score` writes them, with one taxonomy and with several."""
    for name, start in (("one", ""), ("several", "schwartz.")):
        rows = [
            {"text_id": f"q{i}"}
            | {f"{start}{slug}-for": 0.1 * i for slug in TAXONOMY.slugs}
            | {f"{start}{slug}-against": 0.3 for slug in TAXONOMY.slugs}
            for i in range(3)
        ]
        data = read_value_vectors([write(tmp_path / f"{name}.jsonl", rows)], TAXONOMY)
        assert (data.model_names, data.prompts.tolist()) == ((name,), ["q0", "q1", "q2"])
        assert data.vectors[:, 0].tolist() == pytest.approx([-0.3, -0.2, -0.1])
    both = read_value_vectors([tmp_path / "one.jsonl", tmp_path / "several.jsonl"], TAXONOMY)
    assert both.model_names == ("one", "several")
    assert len(np.unique(both.prompts)) == 3


def test_order_of_values_is_that_of_the_taxonomy(tmp_path):
    header = ["prompt_id", *reversed(TAXONOMY.slugs), "model"]
    cells = ["p", *[str(0.1 * j) for j in range(9, -1, -1)], "m"]
    path = tmp_path / "t.csv"
    path.write_text(",".join(header) + "\n" + ",".join(cells) + "\n")
    np.testing.assert_allclose(read_value_vectors([path], TAXONOMY).vectors[0], 0.1 * np.arange(10))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([plain_row(0), plain_row(0)], "prompt p0 twice of model m"),
        ([plain_row(0, power=1.5)], r"value 1.5 in row 1 .* \[-1, 1\]"),
        ([plain_row(0, power="much")], "power of row 1 .* no number"),
        ([plain_row(0, model=" ")], "without model"),
        ([plain_row(0, prompt_id=None)], "without prompt_id"),
        ([plain_row(0, tags=[1])], "tags of row 1"),
        ([{"model": "m", "prompt_id": "p", "power": 0.1}], "no column self-direction, stimulation"),
        ([plain_row(0, power=None)], "no value vector"),
        ([panel_row(0, value_reward=[0.1] * 9)], "no list of ten numbers"),
        ([panel_row(0, value_reward=[None] + [0.1] * 9)], "missing number"),
        ([panel_row(0, prompt="")], "without prompt"),
        ([panel_row(0, reward="good")], "reward of row 1"),
    ],
)
def test_what_is_wrong_is_told(tmp_path, rows, message):
    with pytest.raises(InputError, match=message):
        read_value_vectors([write(tmp_path / "x.jsonl", rows)], TAXONOMY)


def test_both_layouts_at_once(tmp_path):
    paths = [write(tmp_path / "a.jsonl", [panel_row(0)]), write(tmp_path / "b.jsonl", [plain_row(0)])]
    with pytest.raises(InputError, match="both layouts"):
        read_value_vectors(paths, TAXONOMY)
