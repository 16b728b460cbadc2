"""Languages are told from enough text, and not guessed from too little."""

# ruff: noqa: RUF001 - other scripts are what is tested
import pytest

from datamodules.language import CHARACTERS_READ, UNDETERMINED, language_of
from datamodules.preferences import read_preferences

SENTENCES = {
    "en": "The garden gate was open, so the neighbour's dog ran across the road and into the field.",
    "de": "Das Gartentor stand offen, also lief der Hund des Nachbarn über die Straße und auf das Feld.",
    "fr": "La porte du jardin était ouverte, alors le chien du voisin a traversé la route jusqu'au champ.",
    "es": "La puerta del jardín estaba abierta, así que el perro del vecino cruzó la calle hasta el campo.",
    "it": "Il cancello del giardino era aperto, così il cane del vicino ha attraversato la strada verso il campo.",
    "pt": "O portão do jardim estava aberto, então o cachorro do vizinho atravessou a rua e entrou no campo.",
    "nl": "Het tuinhek stond open, dus de hond van de buren rende over de weg en het veld in.",
    "pl": "Furtka do ogrodu była otwarta, więc pies sąsiada przebiegł przez drogę i wpadł na pole.",
    "ru": "Калитка в сад была открыта, и соседская собака перебежала через дорогу на поле.",
    "ja": "庭の門が開いていたので、隣の犬が道を渡って畑に走っていきました。",
    "zh": "花园的门开着，所以邻居的狗跑过马路，跑进了田里。",
    "ar": "كانت بوابة الحديقة مفتوحة، فركض كلب الجيران عبر الطريق إلى الحقل.",
}


@pytest.mark.parametrize("code", SENTENCES)
def test_a_sentence_is_enough(code):
    assert language_of(SENTENCES[code]) == code


@pytest.mark.parametrize("text", ["", " ", "Ok", "No.", "12345 67890", "Paris, Berlin", "😀😀", "x = y + 1"])
def test_too_little_is_not_guessed(text):
    assert language_of(text) == UNDETERMINED


def test_the_opening_is_read():
    opening = (SENTENCES["de"] + " ") * 4
    assert len(opening) > CHARACTERS_READ
    assert language_of(opening + SENTENCES["en"] * 50) == "de"


@pytest.mark.data
def test_english_responses_are_hardly_ever_called_something_else(data_root):
    """A reader of all 1,802 WebGPT answers finds English; of two words of them, most are undetermined."""
    pairs = list(read_preferences("webgpt", data_root).read())
    whole = [language_of(side.response) for pair in pairs for side in (pair.first, pair.second)]
    assert (whole.count("en"), len(whole)) == (1802, 1802)
    openings = [language_of(" ".join(pair.first.response.split()[:2])) for pair in pairs]
    assert openings.count(UNDETERMINED) > 0.8 * len(openings)
    assert len(openings) - openings.count("en") - openings.count(UNDETERMINED) <= 2
