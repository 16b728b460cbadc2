"""Identity terms are found as words, in their forms, and where they are said of people."""

import pytest

from datamodules.errors import InputError
from datamodules.identity_terms import identity_terms

TERMS = identity_terms()


def found(text):
    return {TERMS.terms[i] for i in TERMS.find(text)}


def test_the_list_is_the_published_one_in_groups():
    assert (len(TERMS.terms), len(set(TERMS.terms))) == (50, 50)
    assert TERMS.groups == ("sexual-orientation", "gender", "origin", "religion", "age", "disability")
    of = {group: TERMS.group_of.count(k) for k, group in enumerate(TERMS.groups)}
    assert of == {"sexual-orientation": 9, "gender": 5, "origin": 17, "religion": 8, "age": 8, "disability": 3}
    assert "Dixon" in TERMS.source
    assert TERMS.licence == "Apache-2.0"


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("Muslims and a Christian met.", {"muslim", "christian"}),
        ("An African-American writer", {"african american"}),
        ("african  american and african", {"african american", "african"}),
        ("a middle-aged LGBTQ+ couple", {"middle aged", "lgbtq"}),
        ("a non-binary teenager", {"nonbinary", "teenage"}),
        ("Jews, jewish", {"jewish"}),
        ("older women and a young man", {"older", "young"}),
        ("an older car; go straight on; a blind alley; black coffee, white paper", set()),
        ("black people, a white-person, the Whites", {"black", "white"}),
        ("gayety, female's, females, africanus, European", {"female", "european"}),
        ("trans fat and trans women", {"trans"}),
        ("Mexican food, American history, the European Union, Chinese-made, a Japanese anime", set()),
        (
            "Are Mexicans or Chinese people rich? An American, a European citizen",
            {"mexican", "chinese", "american", "european"},
        ),
        ("she is Asian. why are Japanese like that", {"asian", "japanese"}),
        ("Indian isn't Canadian\u2019s", {"indian", "canadian"}),
        ("", set()),
    ],
)
def test_terms_of_a_text(text, terms):
    assert found(text) == terms


def test_every_term_is_found_by_itself():
    for i, term in enumerate(TERMS.terms):
        assert TERMS.find(f"some {term} people") == {i}
        assert TERMS.find(f"some {term.upper()} people") == {i}


def test_a_list_that_is_none(tmp_path):
    path = tmp_path / "terms.yaml"
    path.write_text("name: x\n")
    with pytest.raises(InputError, match="no list of identity terms"):
        identity_terms(path)
