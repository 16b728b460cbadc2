"""Does a text hold what looks like personal data? Kinds are told, what was found never is.

Patterns, not proof: a number that passes Luhn's check may be no card, a version number may look like an address, and an
example address looks like a real one. Names, street addresses, dates of birth, numbers written in words, telephone
numbers without any separator and addresses spelt out ("at", "dot") are not looked for.
"""

import ipaddress
import re

KINDS = ("email", "phone", "ip-address", "card-number", "ssn", "url")

# Every pattern takes time in proportion to the text: bounded repeats, and nothing before them that repeats too.
_EMAIL = re.compile(r"(?<![\w.%+-])[\w.%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![\w-])")
# North American numbers with separators, and international ones with their plus.
_PHONE = re.compile(
    r"(?<![\w.+-])(?:(?:\+?1[ .-]?)?(?:\([2-9]\d\d\) ?|[2-9]\d\d[ .-])\d{3}[ .-]\d{4}"
    r"|\+(?=(?:[ .()-]{0,2}\d){8,15}(?!\d))[1-9](?:[ .()-]{0,2}\d){7,14})(?![\w-])"
)
_IPV4 = re.compile(r"(?<![\w.-])(?:\d{1,3}\.){3}\d{1,3}(?!\.?\w|-\d)")
_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:])")
_CARD = re.compile(r"(?<![\w.-])[2-6]\d{3}(?:[ -]?\d){9,15}(?![\w-])")
_SSN = re.compile(r"(?<![\w-])(?!000|666|9)\d{3}-(?!00)\d\d-(?!0000)\d{4}(?![\w-])")
_URL = re.compile(r"(?<!\w)(?:https?://|www\.)[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,8}", re.IGNORECASE)


def personal_data_kinds(text: str) -> frozenset[str]:
    """Return which of `KINDS` a text holds at least once."""
    kinds = set()
    if "@" in text and _EMAIL.search(text):
        kinds.add("email")
    if ("://" in text or "www." in text.casefold()) and _URL.search(text):
        kinds.add("url")
    if any(map(str.isdigit, text)):
        if _PHONE.search(text):
            kinds.add("phone")
        if _SSN.search(text):
            kinds.add("ssn")
        if any(_is_address(match[0]) for match in _IPV4.finditer(text)):
            kinds.add("ip-address")
        if any(_is_card(match[0]) for match in _CARD.finditer(text)):
            kinds.add("card-number")
    if text.count(":") > 2 and any(_is_address(match[0]) for match in _IPV6.finditer(text)):
        kinds.add("ip-address")
    return frozenset(kinds)


def passes_luhn(digits: str) -> bool:
    """Tell whether a row of digits passes the check of Luhn (ISO/IEC 7812-1)."""
    doubled = [int(digit) * (2 if i % 2 else 1) for i, digit in enumerate(reversed(digits))]
    return sum(number - 9 if number > 9 else number for number in doubled) % 10 == 0


def _is_card(found: str) -> bool:
    digits = re.sub(r"[ -]", "", found)
    return 13 <= len(digits) <= 19 and len(set(digits)) > 1 and passes_luhn(digits)


def _is_address(found: str) -> bool:
    """Tell whether it is an IP address; of version 6 with three groups, since a::b may be code."""
    if ":" in found and sum(map(bool, found.split(":"))) < 3:
        return False
    try:
        ipaddress.ip_address(found)
    except ValueError:
        return False
    return True
