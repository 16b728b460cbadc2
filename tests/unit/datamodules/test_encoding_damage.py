"""Texts that were decoded wrongly are found, and nothing that people write is taken for one."""

# ruff: noqa: RUF001 - typographic characters are what is tested
import csv

import pytest

from datamodules.encoding_damage import is_damaged

SOUND = [
    "Plain words, 100% ASCII.",
    "« Voilà », dit-elle, « c’est passé ! » À bientôt… Ça va, Noël ? Œuvre, île, où.",
    "« il est passé » « à »",
    "MANHÃ… AMANHÃ” IRMÃ— «MAÇÃ» É proibido? Não, irmã; ação, pão, mãe, você.",
    "Größe, Spaß“, „Straße“ und ‚Ähnliches‘, ‚Ärger‘… 20 °C, §5, 3×½×…",
    "¿Qué? ¡Señor, mañana! ESPAÑA… 5º, 2ª",
    "Tiếng Việt: TÂM… ÂM NHẠC, NGÃ” ngã, đây là câu. Â, Ă, Ê.",
    "Română: ârâie „înâ”, în România. Câmpulung",
    "Svenska: Å… Ä… Ö! Åsa, ärlig, öl. Dansk: Århus. Íslenska: það, Ísland.",
    "Zażółć gęślą jaźń. Příliš žluťoučký kůň. İstanbul’da çığ.",
    "Привет, как дела? Ñ и Ð. Ελληνικά: γειά σου.",
    "שלום עולם, مرحبا بالعالم، नमस्ते, สวัสดี",
    "你好,世界。「日本語」、한국어!",
    "emoji 😀 👩‍👩‍👧 ❤️ ✓ → • … – — ‘quoted’ “quoted” ™ € £5 ©2020",
    "f(x) = √x + √π ≤ ∞, ¬p ∨ ¬q, x ≠ y ± 2, ∂f, ∑ 2√3, √ª",
    "Ð is a letter, Þ too; × is a sign; ƒ and ‰ and Š.",
    "«Aquí está»¡Qué bien! «Ahí está»¿Verdad? «ya»¿no?",
    "ANTÔNIO Â 10 °C; 5º e 10 ª; naïf",
]


def as_windows(text):
    """What a reader that takes UTF-8 for Windows-1252 makes of a text."""
    return "".join(bytes([b]).decode("cp1252", errors="ignore") or chr(b) for b in text.encode())


WRONGLY = {
    "windows": as_windows,
    "latin-1": lambda text: text.encode().decode("latin-1"),
    "mac": lambda text: text.encode().decode("mac-roman"),
    "lost": lambda text: text.encode("cp1252", errors="replace").decode("utf-8", errors="replace"),
}
ORIGINALS = {
    "french": "Le café est fermé, déjà; c’est l’été à la forêt.",
    "german": "Die Größe der Straße überrascht die Mädchen.",
    "spanish": "Mañana el niño comió aquí.",
    "portuguese": "A ação não é fácil.",
    "quotes": "Don’t say “no” – say… nothing.",
}
OTHER_SCRIPTS = {
    "russian": "Привет, как дела?",
    "greek": "Καλημέρα κόσμε",
    "arabic": "مرحبا بالعالم",
    "hebrew": "שלום עולם",
    "chinese": "你好世界",
    "japanese": "こんにちは世界",
    "korean": "안녕하세요 여러분",
    "hindi": "नमस्ते दुनिया",
    "emoji": "well done 😀",
    "polish": "zażółć gęślą jaźń",
    "vietnamese": "tiếng Việt rất hay",
    "euro": "it costs 5€ or 7 €",
    "degrees": "it is 20°C and £5",
}


@pytest.mark.parametrize("text", SOUND)
def test_what_people_write_is_sound(text):
    assert not is_damaged(text)


@pytest.mark.parametrize("wrongly", list(WRONGLY))
@pytest.mark.parametrize("text", ORIGINALS.values(), ids=list(ORIGINALS))
def test_western_texts_read_wrongly_are_found(text, wrongly):
    assert not is_damaged(text)
    assert is_damaged(WRONGLY[wrongly](text))


@pytest.mark.parametrize("wrongly", ["windows", "latin-1"])
@pytest.mark.parametrize("text", OTHER_SCRIPTS.values(), ids=list(OTHER_SCRIPTS))
def test_other_scripts_read_wrongly_are_found(text, wrongly):
    assert not is_damaged(text)
    assert is_damaged(WRONGLY[wrongly](text))


@pytest.mark.parametrize("wrongly", ["windows", "latin-1"])
@pytest.mark.parametrize("text", ["lost \ufffd byte", "\ufeffThe first word", "10 °C", "in °C", "mỡ lợn", "cỡ Âu"])
def test_marks_and_signs_read_wrongly_are_found(text, wrongly):
    assert is_damaged(WRONGLY[wrongly](text))


def test_twice_wrong_is_wrong():
    assert is_damaged(as_windows(as_windows("café")))


@pytest.mark.data
def test_the_known_damage_is_found_and_nothing_else(data_root):
    """668 of 1,000 rows of this file are UTF-8 that was read as Mac Roman; the others are clean."""
    with (data_root / "hh-audit" / "df_labeledharmlessoutputs_second_pass.csv").open(encoding="utf-8") as file:
        rows = [" ".join(row) for row in csv.reader(file)]
    damaged = [row for row in rows if is_damaged(row)]
    known = [row for row in rows if "‚Ä" in row]
    assert len(known) == 668
    assert set(known) <= set(damaged)
    assert len(damaged) - len(known) <= 1  # one row has a damaged é only
    for path in ("xstest/xstest_prompts.csv", "xstest/xstest_v2_completions_gpt4.csv", "fulcra/trustworthy_data.jsonl"):
        lines = (data_root / path).read_text(encoding="utf-8").splitlines()
        assert not any(is_damaged(line) for line in lines), path
