"""Does a response stop in mid-sentence, as texts do that were cut at a limit of tokens?

A rule on the last line. The text stops at a comma, a dash, a colon, a slash or an open bracket, or inside one; or at a
word that ends no sentence ("the", "because"); or, where sentences before it end with marks, without one after at least
six words of a sentence that is no list item, or after a word that seldom ends one ("can", "it's"). A web address, a
smiley or a ruled line at the end is no such stop. Not found: a cut soon after the end of a sentence, or inside a list
item, a table or code. Wrongly found: a writer who leaves out the last full stop of a text with others.

One reader judged responses of hh-rlhf (harmless-base and helpful-rejection-sampled, test) that were not looked at while
the rule was made: of 80 that it marks 62 were cut (.78, 95% interval .67 to .85), most of the others lack nothing but a
full stop; of 80 that end without a mark and that it does not mark 18 were cut. So it finds about four cuts of five. Of
200 responses drawn at random, seen while it was made, 8 were cut: it marks those.
"""

import re

from datamodules.text_features import words_of

FEWEST_WORDS = 6
_CLOSERS = "\"'\u2019\u201d\u00bb)]}*_`~ "
_OPEN_ENDS = (",", ";", ":", "-", "/", "\u2013", "\u2014", "(", "[", "{", "\u201c", "\u00ab")
_SENTENCE_END = re.compile(r"[.!?]['\")\]\u2019\u201d]?\s")
_LIST_ITEM = re.compile(r"\s*(?:[-*+\u2022\u2013|#>]|\(?\d{1,3}[.)]|\(?[A-Za-z][.)])\s*\S")
# Where a text may end without a mark.
_ADDRESS = re.compile(r"\w://|^www\.|\S@\S|^[\w-]+\.(?:com|org|net|edu|gov)(?:/|$)", re.IGNORECASE)
_SMILEY = re.compile(r"[:;=8]['-]?[()DPp/|]+")
_RULED_LINE = re.compile(r"[-_=*~]{3,}")
# What hardly ever is the last word of a sentence, formal or not.
_ENDS_NOTHING = re.compile(
    r"(?:an?|the|and|or|but|nor|of|my|your|our|their|its|if|because|than|whose|every|into|onto|upon|towards?|via"
    r"|(?:i|you|we|they)'(?:ve|ll)|i'm|(?:you|we|they)'re|s?he's)",
    re.IGNORECASE,
)
# What seldom is, of a writer who ends sentences with marks.
_SELDOM_LAST = re.compile(
    r"(?:to|in|for|with|on|at|by|from|as|about|is|are|was|were|be|been|am|can|could|will|would|should|may|might|must"
    r"|do|does|did|have|has|had|get|just|really|very|pretty|often|also|specific|this|these|those|some|any|what|which"
    r"|who|when|where|while|how|i|we|he|she|you|they|it's|that's|there's|don't|doesn't|won't|isn't|\w+'ll|\w+n't)",
    re.IGNORECASE,
)


def seems_cut_off(text: str) -> bool:
    """Tell whether a response seems to stop in mid-sentence; an empty one does not."""
    text = text.strip()
    while text and _RULED_LINE.fullmatch(last := text.rsplit(maxsplit=1)[-1]):
        text = text.removesuffix(last).rstrip()
    end = text.rstrip(_CLOSERS)
    if not end or _ADDRESS.search(last) or _SMILEY.fullmatch(last):
        return False
    if end.endswith(_OPEN_ENDS) or text.endswith(_OPEN_ENDS):
        return True
    line = end.rsplit("\n", 1)[-1]
    if _is_inside_bracket(text.rsplit("\n", 1)[-1]):
        return True
    if not end[-1].isalpha():
        return False
    words = words_of(_SENTENCE_END.split(line)[-1])
    last = words[-1].replace("\u2019", "'") if words else ""
    if _ENDS_NOTHING.fullmatch(last):
        return True
    ends_sentences = end == text and _SENTENCE_END.search(text) is not None
    if _LIST_ITEM.match(line) or not ends_sentences:
        return False
    return len(words) >= FEWEST_WORDS or _SELDOM_LAST.fullmatch(last) is not None


def _is_inside_bracket(line: str) -> bool:
    """Tell whether a line without a mark at its end leaves a bracket or a quotation open."""
    if line.rstrip(_CLOSERS).endswith((".", "!", "?")):
        return False
    return line.count("(") > line.count(")") or line.count("\u201c") > line.count("\u201d")
