"""Is it told how annotators' labels fit the circle, of signed values alone?"""

from dataclasses import replace

import numpy as np
import pytest

from audits.stats.circumplex import circumplex_fit
from datamodules.annotated_text import AnnotatedData, AnnotatedText
from datamodules.circumplex import places_of
from datamodules.read_report import ReadReport
from datamodules.taxonomy import load_taxonomy
from experiments.circle_report import circle_lines

TAXONOMY = load_taxonomy("schwartz")


@pytest.fixture
def data():
    """80 texts in 40 groups, each with a value and its neighbour on the circle; hedonism is never labelled."""
    around = [TAXONOMY.slugs.index(slug) for slug in TAXONOMY.circumplex]
    rng = np.random.default_rng(0)
    texts = []
    for i in range(80):
        at = int(rng.integers(10))
        states = np.zeros((10, 2), dtype=int)
        for place in (at, (at + 1) % 10):
            states[around[place], int(rng.random() < 0.1)] = 1
        states[2] = 0
        labels = tuple(states.ravel().tolist())
        texts.append(AnnotatedText(f"t{i}", f"text {i}", labels, f"g{i // 2}", "made"))
    texts[0] = replace(texts[0], labels=(-1, -1, *texts[0].labels[2:]))
    report = ReadReport("made", {}, 80, 80, {}, {}, 0, 0, {}, {}, {})
    return AnnotatedData("table", TAXONOMY, tuple(texts), None, report, False)


def test_labels_on_a_circle(data):
    lines = circle_lines(data)
    assert max(map(len, lines)) <= 100
    assert "79 texts in 40 groups" in lines[0]
    truth = np.array([text.labels for text in data.texts[1:]])
    vectors = (truth[:, ::2] - truth[:, 1::2]).astype(float)
    groups = [text.group_id for text in data.texts[1:]]
    fit = circumplex_fit(vectors, *places_of(TAXONOMY, "circle"), np.array(groups))
    index = fit.statistics["correspondence"]
    assert f"index {index.estimate:+.2f} [{index.ci_low:+.2f}, {index.ci_high:+.2f}]" in "\n".join(lines)
    assert index.estimate > 0.3
    assert "  left out, the same in every text: hedonism" in lines
    held = (vectors[:, [5, 6, 7]] == 1).any(axis=1).sum()
    opposed = (vectors[:, [5, 6, 7]] == -1).any(axis=1).sum()
    told = f"conservation (security, tradition, conformity): texts {held} for and {opposed} against any of them"
    assert f"  {told}" in lines


def test_nothing_is_said_of_values_without_a_sign(data):
    plain = load_taxonomy("value-imprint")
    assert circle_lines(replace(data, taxonomy=plain)) == []
