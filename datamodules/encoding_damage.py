"""Was a text decoded with the wrong encoding before it came here?

Such a text is valid, and nothing can be lost by keeping it, but its words are not the words that were written: `cafÃ©`
for café, `donâ€™t` for don't. The patterns are what UTF-8 becomes when it is read as Windows-1252 or Latin-1, or as
Mac Roman; they leave alone what people write, such as `MANHÃ…`, « passé », 20 °C or √π.
"""
# ruff: noqa: RUF001 - the ambiguous characters are what is looked for

import re

# A byte 80-BF of UTF-8, read as Windows-1252 or, where that has no character, as Latin-1.
_REST = "\u0080-\u00bf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ"
# The same without what may well follow a letter in a sentence: quotes, dashes, dots, spaces and raised marks.
_ODD = "\u0080-\u0084\u0086-\u0090\u0095\u0098-\u009f€‚ƒ„†‡ˆ‰Š‹ŒŽ•˜š›œžŸ¡¢£¤¥¦§¨©¬\u00ad¯±´µ¶¸¼½¾¿"
_LOWER = "a-zß-öø-ÿ"
_LATIN = (
    rf"[ÂÃ][{_ODD}]",  # © as Â©, é as Ã©
    rf"(?<=[{_LOWER}])[ÂÃÄÅ][{_REST}]",  # inside or behind a word: voilÃ\u00a0, beÅ¡
    rf"(?<!\w)[ÃÄÅ][{_REST}](?=[{_LOWER}])",  # a word's first letter
    "(?<!\\w)Â[\u00a0«»·]",
    "(?<=[0-9])Â[°ºª²³¹]",
    "(?<=[0-9] )Â[°º]",
    r"Â°[CF]\b",
    "ï¿½|ï»¿",  # U+FFFD and the byte order mark
    "â€",  # quotes, dashes, dots, bullets
    "â[‚„†‡ˆ‰Šœžš˜™•][" + _ODD + "’™¬º»]",  # euro and trade marks, arrows, mathematical signs
    f"ðŸ[{_REST}]",  # emoji
    f"á(?!»[¡¿][A-ZÁÉÍÑÓÚ]|»¿)[º»][{_ODD}]",  # Vietnamese, but not « está»¡Qué
    "[Â-ð][\u0080-\u0084\u0086-\u009f]",  # control characters, which nobody types
    f"(?:[Â-ß×][{_REST}]){{3,}}",  # Cyrillic, Greek, Arabic, Hebrew words
    f"(?:[à-ï][{_REST}]{{2}}){{2,}}",  # words of Chinese, Japanese, Korean, Hindi, Thai
)
_MAC = (
    "‚Ä[êëíìîïñóòôùú¢¶†]",  # quotes, dashes, dots, bullets
    "(?<=[A-Za-z])√[©®°¢£§•¶ß™´¨≠ºª†±∂≤≥µ]",  # é as √©
    "¬[†∞£©Æ´ª]",
)
_LEAD = re.compile("[Â-ð‚√¬\ufffd]")
_DAMAGED = re.compile("|".join(("\ufffd", *_LATIN, *_MAC)))


def is_damaged(text: str) -> bool:
    """Tell whether a text looks decoded with the wrong encoding (mojibake), or holds U+FFFD, the mark of lost bytes."""
    # Looking only where a pattern can begin is several times faster than one search for all of them.
    return not text.isascii() and any(_DAMAGED.match(text, lead.start()) for lead in _LEAD.finditer(text))
