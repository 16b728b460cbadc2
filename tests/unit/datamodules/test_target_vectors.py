"""Are targets read with where they come from, and is a bad file told?"""

import numpy as np
import pytest

from datamodules.circumplex import places_of
from datamodules.errors import InputError
from datamodules.target_vectors import find_target, read_targets
from datamodules.taxonomy import load_taxonomy

SLUGS = load_taxonomy("schwartz").slugs


def test_bundled_targets_are_the_published_ones():
    targets = {target.name: target for target in read_targets()}
    assert list(targets) == ["ideal", "safety", "evaluation", "uk"]
    assert targets["ideal"].vector(SLUGS).tolist() == [0, 0, 0, 1, 0, 1, 0, 1, 1, 1]
    assert targets["safety"].vector(SLUGS).sum() == 2
    uk = [0.4809, 0.1305, 0.1004, 0.0029, -0.2383, 0.4362, 0.2712, 0.1420, 0.6520, 0.5906]
    assert targets["uk"].vector(SLUGS).tolist() == uk
    # The evaluation measures four values and says nothing of the others.
    assert np.flatnonzero(~np.isnan(targets["evaluation"].vector(SLUGS))).tolist() == [5, 7, 8, 9]
    assert all(target.source and target.licence and target.title for target in targets.values())
    assert targets["ideal"].weight(SLUGS).tolist() == [1.0] * 10


GOOD = """
taxonomy: schwartz
targets:
  - {name: mine, title: t, source: s, licence: l, values: {Power: -1, security: 0.5}, weights: {power: 2}}
"""


def test_a_file_of_ones_own(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD)
    target = find_target("mine", path, "--target")
    assert target.values == {"power": -1.0, "security": 0.5}
    assert target.weight(SLUGS)[4] == 2.0
    with pytest.raises(InputError, match=r"found target 'other'; needed one of mine; fix: --target"):
        find_target("other", path, "--target")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Power: -1", "power: -2", r"-2 for power .* a number in \[-1, 1\]"),
        ("Power: -1", "power: yes", "True for power"),
        ("Power: -1", "might: 1", "'might' .* no value of schwartz"),
        ("Power: -1", "Security: 1", "twice"),
        ("weights: {power: 2}", "weights: {power: -1}", "-1 for power"),
        ("weights: {power: 2}", "weights: {hedonism: 1}", "a weight of hedonism"),
        ("weights: {power: 2}", "weights: {power: 0, security: 0}", "all 0"),
        ("source: s", "source: ''", "without source"),
        ("licence: l, ", "", "without licence"),
        ("name: mine", "name: My Own", "'my-own'"),
        ("title: t", "colour: t", "no target"),
        ("{Power: -1, security: 0.5}", "{}", "no values"),
        ("{Power: -1, security: 0.5}", "3", "no numbers by value"),
        ("taxonomy: schwartz", "taxonomy: value-imprint", "with the taxonomy 'value-imprint'"),
        ("targets:", "target:", "no list of targets"),
    ],
)
def test_bad_files_are_told(tmp_path, old, new, message):
    assert old in GOOD
    path = tmp_path / "bad.yaml"
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(InputError, match=message):
        read_targets(path)


def test_no_targets_and_a_name_twice(tmp_path):
    path = tmp_path / "none.yaml"
    path.write_text("taxonomy: schwartz\ntargets: []\n")
    with pytest.raises(InputError, match="the targets none"):
        read_targets(path)
    twice = tmp_path / "twice.yaml"
    twice.write_text(GOOD + GOOD.strip().splitlines()[-1])
    with pytest.raises(InputError, match="distinct names"):
        read_targets(twice)


def test_places_on_the_circle():
    taxonomy = load_taxonomy("schwartz")
    wedges, n_wedges = places_of(taxonomy, "wedges")
    circle, n_places = places_of(taxonomy, "circle")
    place = dict(zip(taxonomy.slugs, wedges.tolist(), strict=True))
    assert (n_wedges, n_places) == (9.0, 10.0)
    # Tradition lies outside conformity, hedonism between openness and self-enhancement.
    assert place["tradition"] == place["conformity"]
    assert place["stimulation"] + 1 == place["hedonism"] == place["achievement"] - 1
    assert place["universalism"] == 8.0
    assert place["self-direction"] == 0.0
    assert sorted(circle.tolist()) == list(range(10))
    assert taxonomy.circumplex == tuple(taxonomy.slugs[k] for k in np.argsort(circle))
    with pytest.raises(ValueError, match="no circle"):
        places_of(load_taxonomy("valueeval"), "circle")
