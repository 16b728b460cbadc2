import copy
import json
from itertools import pairwise

import pytest
import yaml

from datamodules.errors import InputError
from datamodules.taxonomy import Taxonomy, bundled_taxonomies, load_taxonomy, slugify

TINY = {
    "name": "tiny",
    "version": "1",
    "title": "Two values",
    "source": "written for a test",
    "signed": False,
    "values": [
        {
            "slug": "calm",
            "name": "Calm & Quiet",
            "accepted": ["Quiet"],
            "definition": "No noise.",
            "sub_values": ["rest"],
        },
        {"slug": "zeal", "name": "Zeal"},
    ],
    "groups": {"moods": ["calm", "zeal"]},
    "circumplex": ["zeal", "calm"],
    "collapse": {"deep-calm": "calm", "zeal": "zeal"},
    "items": {"be calm": "calm"},
}


def changed(path, value):
    """TINY with the entry at `path` replaced."""
    data = copy.deepcopy(TINY)
    place = data
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return data


@pytest.mark.parametrize(
    ("text", "slug"),
    [
        ("Self-direction: thought", "self-direction-thought"),
        ("Information Seeking", "information-seeking"),
        ("Civility/Tolerance", "civility-tolerance"),
        ("Justice & Human/Animal Rights", "justice-human-animal-rights"),
        ("  Well-being  ", "well-being"),
        ("Power (all of it)!", "power-all-of-it"),
        ("a - b", "a-b"),
        ("Güte", "güte"),
        ("&", ""),
    ],
)
def test_slugify(text, slug):
    assert slugify(text) == slug
    assert slugify(slug) == slug


def test_bundled_taxonomies_are_the_published_ones():
    assert bundled_taxonomies() == ("hh-quality", "schwartz", "value-imprint", "valueeval")
    for name in bundled_taxonomies():
        taxonomy = load_taxonomy(name)
        assert taxonomy.name == name
        assert taxonomy.version == "1"
        assert all(value.definition and value.sub_values for value in taxonomy.values)
        # Verdicts on quality are of no higher order.
        grouped = () if name == "hh-quality" else taxonomy.slugs
        assert sorted(slug for slugs in taxonomy.groups.values() for slug in slugs) == sorted(grouped)


def test_value_imprint_slugs_and_published_spellings():
    taxonomy = load_taxonomy("value-imprint")
    assert taxonomy.labels == taxonomy.slugs == (
        "civility", "duty", "empathy", "information-seeking", "justice", "well-being", "wisdom",
    )  # fmt: skip
    for published in ("Justice & Human/Animal Rights", "Justice/Human Rights & Animal Rights"):
        assert taxonomy.resolve(published) == "justice"
    assert taxonomy.groups == {
        "deontological": ("duty", "justice"),
        "utilitarian": ("information-seeking", "well-being"),
        "virtue": ("civility", "empathy", "wisdom"),
    }


def test_schwartz_order_and_signed_labels():
    taxonomy = load_taxonomy("schwartz")
    assert taxonomy.slugs == (
        "self-direction", "stimulation", "hedonism", "achievement", "power",
        "security", "tradition", "conformity", "benevolence", "universalism",
    )  # fmt: skip
    assert taxonomy.circumplex == (
        "self-direction", "stimulation", "hedonism", "achievement", "power",
        "security", "conformity", "tradition", "benevolence", "universalism",
    )  # fmt: skip
    assert taxonomy.labels[:3] == ("self-direction-for", "self-direction-against", "stimulation-for")
    assert len(taxonomy.labels) == 20
    assert taxonomy.resolve("humility") is None


def test_schwartz_items_and_refined_values():
    taxonomy = load_taxonomy("schwartz")
    assert len(taxonomy.collapse) == 19
    assert len(taxonomy.items) == 65
    assert taxonomy.items["observing social norms"] == "security"
    assert taxonomy.items["have social recognition"] == taxonomy.items["have a social recognition"] == "power"
    assert taxonomy.collapse["humility"] == taxonomy.items["be humble"] == "conformity"
    assert "be respectful" not in taxonomy.items


def test_valueeval_and_schwartz_agree():
    refined, basic = load_taxonomy("valueeval"), load_taxonomy("schwartz")
    assert len(refined.values) == 20
    assert set(refined.slugs) - set(basic.collapse) == {"universalism-objectivity"}
    assert set(basic.collapse) <= set(refined.slugs)
    group_of = {slug: group for group, slugs in refined.groups.items() for slug in slugs}
    basic_group_of = {slug: group for group, slugs in basic.groups.items() for slug in slugs}
    for slug, target in basic.collapse.items():
        assert group_of[slug] == basic_group_of[target], slug
    for value in refined.values:
        assert value.slug == slugify(value.name)


@pytest.mark.parametrize("written", ["calm", "CALM", "Calm & Quiet", " calm  &\tquiet ", "Calm&Quiet", "quiet"])
def test_resolve_ignores_case_and_white_space(written):
    assert Taxonomy.from_dict(TINY).resolve(written) == "calm"


@pytest.mark.parametrize("written", ["", "calmness", "deep-calm", "be calm"])
def test_resolve_knows_spellings_only(written):
    assert Taxonomy.from_dict(TINY).resolve(written) is None


@pytest.mark.parametrize("name", ["schwartz", "value-imprint", "valueeval"])
def test_to_dict_survives_json(name):
    taxonomy = load_taxonomy(name)
    again = Taxonomy.from_dict(json.loads(json.dumps(taxonomy.to_dict())))
    assert again == taxonomy
    assert again.digest == taxonomy.digest


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("version",), "2"),
        (("signed",), True),
        (("values", 0, "definition"), "No noise at all."),
        (("values", 0, "accepted"), []),
        (("circumplex",), ["calm", "zeal"]),
        (("items",), {}),
        (("values",), TINY["values"][::-1]),
    ],
)
def test_digest_covers_everything(path, value):
    assert Taxonomy.from_dict(changed(path, value)).digest != Taxonomy.from_dict(TINY).digest


def test_optional_parts_may_be_missing():
    taxonomy = Taxonomy.from_dict({"name": "tiny", "version": 2, "values": [{"slug": "calm", "name": "Calm"}]})
    assert (taxonomy.version, taxonomy.signed, taxonomy.groups, taxonomy.circumplex) == ("2", False, {}, ())


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("values",), [], "`values` of the taxonomy is []"),
        (("values",), "calm", "`values` of the taxonomy is 'calm'"),
        (("values", 0), "calm", "value 1 of the taxonomy, which is not a mapping"),
        (("values", 0), {"name": "Calm"}, "no slug in value 1 of the taxonomy"),
        (("values", 1), {"slug": "zeal"}, "no name in value 2 of the taxonomy"),
        (("values", 0, "slug"), "", "`slug` of value 1 of the taxonomy is ''"),
        (("values", 0, "name"), " ", "`name` of value 1 of the taxonomy is ' '"),
        (("values", 0, "slug"), True, "put it in quotes"),
        (("values", 0, "slug"), "Calm Down", "the form 'calm-down'"),
        (("values", 0, "slug"), "!!!", "slug in the taxonomy: '!!!', of which no slug is left"),
        (("values", 0, "slug"), "text", "'text' in the taxonomy, which names a column of its own"),
        (("values", 0, "accepted"), ["Text_ID"], "'Text_ID' in the taxonomy, which names a column of its own"),
        (("values", 0, "slug"), "zeal", "zeal more than once in the slugs"),
        (("values", 0, "name"), "ZEAL", "zeal more than once in the names"),
        (("values", 0, "accepted"), ["zeal"], "spelling 'zeal' in the taxonomy for both calm and zeal"),
        (("values", 0, "accepted"), "Quiet", "`accepted` of value 1 of the taxonomy is 'Quiet'"),
        (("values", 0, "sub_values"), [1], "`sub_values` of value 1"),
        (("values", 0, "color"), "red", "unknown keys in value 1 of the taxonomy: color"),
        (("colour",), "red", "unknown keys in the taxonomy: colour"),
        (("name",), "", "`name` of the taxonomy is ''"),
        (("name",), "My Values", "the form 'my-values'"),
        (("version",), 1.1, "`version` of the taxonomy is 1.1"),
        (("signed",), "yes", "`signed` of the taxonomy is 'yes'"),
        (("groups",), ["calm"], "`groups` of the taxonomy"),
        (("groups", "moods"), ["calm", "rage"], "unknown values in group moods of the taxonomy: rage"),
        (("groups", "moods"), [], "group moods of the taxonomy without a value"),
        (
            ("groups",),
            {"moods": ["others"], "others": ["moods"]},
            "unknown values in group moods of the taxonomy: others",
        ),
        (("groups", "moods"), ["calm", "calm"], "calm more than once in group moods"),
        (("groups",), {"My moods": ["calm"]}, "the form 'my-moods'"),
        (("circumplex",), ["calm", "rage"], "unknown values in `circumplex` of the taxonomy: rage"),
        (("circumplex",), ["calm", "calm"], "calm more than once in `circumplex`"),
        (("collapse",), {"deep-calm": "rage"}, "unknown values in `collapse` of the taxonomy: rage"),
        (("collapse",), {"a": "b", "b": "a"}, "takes a to b, itself collapsed"),
        (("collapse",), {"zeal": "calm"}, "takes the value zeal to calm"),
        (("collapse",), {"Deep calm": "calm"}, "the form 'deep-calm'"),
        (("items",), {"be calm": "rage"}, "unknown values in `items` of the taxonomy: rage"),
        (("items",), {"be calm": None}, "`be calm` of `items` of the taxonomy is None"),
        (("items",), {"be calm": "calm", "Be  Calm": "zeal"}, "becalm more than once in the items"),
    ],
)
def test_unsound_taxonomies_are_refused(path, value, message):
    with pytest.raises(InputError) as raised:
        Taxonomy.from_dict(changed(path, value))
    assert message in str(raised.value)
    assert "--data.taxonomy" in raised.value.fix


def test_from_dict_refuses_what_is_not_a_mapping():
    with pytest.raises(InputError, match="not a mapping"):
        Taxonomy.from_dict(["calm"])


def test_load_a_file_of_the_users_own(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(TINY, sort_keys=False), encoding="utf-8")
    assert load_taxonomy(str(path)) == Taxonomy.from_dict(TINY)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: tiny\nvalues:\n  - slug: [calm\n", "mine.yaml, line 4, that is not YAML"),
        ("name: tiny\nvalues: []\nname: twice\n", "mine.yaml, line 3, that is not YAML (key name occurs twice)"),
        ("", "nothing in "),
        ("# no more than a comment\n", "nothing in "),
        ("- calm\n- zeal\n", "mine.yaml, which is not a mapping"),
        ("name: tiny\n---\nname: more\n", "line 2, that is not YAML (but found another document)"),
        ("name: tiny\n\tvalues: []\n", "line 2, that is not YAML (found character '\\t'"),
        ("name: tiny\nversion: 2024-13-45\n", "that is not YAML (month must be in 1..12)"),
        ("name: ti\x07ny\n", "that is not YAML (unacceptable character #x0007"),
        ("name: tiny\nvalues: " + "[" * 3000 + "]" * 3000, "that is not YAML (nested too deeply)"),
        ("name: tiny\nvalues: &all\n  - *all\n", "value 1 of"),
        ("name: tiny\nvalues: [{slug: a, name: A}]\ngroups: &g\n  more: *g\n", "group more of"),
        ("name: tiny\nvalues:\n  - {slug: on, name: On}\n", "is True"),
    ],
)
def test_bad_files_name_the_place(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as raised:
        load_taxonomy(str(path))
    assert message in str(raised.value)


def test_a_signed_label_is_no_slug():
    data = TINY | {"values": [{"slug": s, "name": s} for s in ("power", "power-for")], "signed": True}
    for key in ("groups", "circumplex", "collapse", "items"):
        data.pop(key)
    with pytest.raises(InputError, match="slug power-for in the taxonomy, which is also a label of a signed value"):
        Taxonomy.from_dict(data)
    assert Taxonomy.from_dict(data | {"signed": False}).labels == ("power", "power-for")


def test_nothing_in_a_file_is_run(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(f"name: !!python/object/apply:os.system ['touch {tmp_path}/ran']\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"line 1, that is not YAML \(could not determine a constructor.*os\.system"):
        load_taxonomy(str(path))
    assert not (tmp_path / "ran").exists()


def test_aliases_that_multiply_are_told_shortly(tmp_path):
    """Ten lines that would be a billion words when written out."""
    doublings = "".join(f"  - &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in pairwise("abcdefghij"))
    path = tmp_path / "mine.yaml"
    path.write_text(f"name: tiny\nvalues: [{{slug: calm, name: Calm}}]\ncircumplex:\n  - &a [lol]\n{doublings}")
    with pytest.raises(InputError, match="`circumplex` of") as raised:
        load_taxonomy(str(path))
    assert len(str(raised.value)) < 1000


def test_unknown_name_lists_the_bundled_ones(tmp_path):
    with pytest.raises(InputError, match=r"one of hh-quality, schwartz, value-imprint, valueeval, or a YAML file"):
        load_taxonomy(str(tmp_path / "absent.yaml"))
