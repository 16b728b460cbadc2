"""Which parts of a text must nobody rewrite?"""

import re

# A character of the last private-use plane stands for a kept part, itself included.
MARK = "\U000f0000"

# Every alternative is anchored where it starts, so that no text takes more than linear time.
_KEPT = re.compile(
    r"""
    ^[ ]{0,3}(?P<fence>```|~~~).*?(?:^[ ]{0,3}(?P=fence)[^\n]*$|\Z)    # fenced code, also where it is never closed
    | (?-s:^(?:[ ]{4,}|\t).*$)                                         # an indented line
    | ^(?=[^\n]*[{}=<>\\|^~]|[^\n]*;[ \t]*$)[^\n]*$                     # a line that looks like code or mathematics
    | (?-s:^[ \t]*(?:\#|//|import[ ]|from[ ]\w+[ ]import|def[ ]|class[ ]\w+:).*$)
    | ^[ \t]*(?:Human|Assistant):                                      # a role marker
    | `[^`\n]+`
    | \b\w+\([^)\n]{0,200}\)                                           # a call
    | \[[^\]\n]{1,200}\](?:\([^)\n]{0,500}\))?                               # a citation or link
    | (?:https?://|www\.)[^\s"“”<>]+
    | (?<![\w@.-])[\w.-]+@[\w.-]+
    | (?<![\w.-])[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.(?:com|org|net|edu|gov|io|uk|de|info)\b(?:/[^\s"“”<>]*)?
    | (?<![\w$€£¥#+./:,%°'\u2019\u2013-])[\w$€£¥#+./:,%°'\u2019\u2013-]*[\d_]  # with a digit or underscore
      [\w$€£¥#+./:,%°'\u2019\u2013-]*
    | (?<![\w'\u2019])'(?=\S)[^\n]{1,300}?(?<=\S)'(?!\w)                    # single quotes with their marks
    | \u2018[^\n]{1,300}?\u2019(?!\w)
    """,
    re.VERBOSE | re.MULTILINE | re.DOTALL,
)
_PARAGRAPH_END = re.compile(r"(\n[ \t]*\n)")


def split_kept(text: str) -> tuple[str, tuple[str, ...]]:
    """Take the kept parts out of a text.

    Kept are code, URLs, mail addresses, links, whatever has a digit, role markers, and what stands between quotation
    marks (double marks themselves are not kept). A paragraph whose double marks do not pair up is kept whole, with all
    up to the next such paragraph.

    Args:
        text: The text.

    Returns:
        The text with one `MARK` for each kept part, and the parts in order.
    """
    blanked = _KEPT.sub(lambda match: MARK * len(match[0]), text)
    pieces, is_open = [], False
    for piece in _PARAGRAPH_END.split(blanked):
        is_odd = piece.count('"') % 2 == 1 or piece.count("“") != piece.count("”")
        if is_open or is_odd:
            pieces.append(MARK * len(piece))
        else:
            pieces.append(_blank_quoted(piece))
        is_open ^= is_odd
    blanked = "".join(pieces)
    runs = list(re.finditer(f"{MARK}+", blanked))
    return re.sub(f"{MARK}+", MARK, blanked), tuple(text[run.start() : run.end()] for run in runs)


def put_back(marked: str, parts: tuple[str, ...]) -> str:
    """Return a marked text with its kept parts.

    Raises:
        ValueError: The text has not one `MARK` for each part.
    """
    free = marked.split(MARK)
    if len(free) != len(parts) + 1:
        raise ValueError(f"{len(free) - 1} marks for {len(parts)} kept parts")
    return free[0] + "".join(part + rest for part, rest in zip(parts, free[1:], strict=True))


def _blank_quoted(paragraph: str) -> str:
    """Blank what stands between double marks, of which there is an even number."""
    straight = paragraph.split('"')
    straight[1::2] = [MARK * len(inner) for inner in straight[1::2]]
    return re.sub(r"(?<=“)[^”]+(?=”)", lambda match: MARK * len(match[0]), '"'.join(straight))
