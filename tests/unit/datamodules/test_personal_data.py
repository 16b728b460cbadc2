"""Patterns of personal data are told by kind, and ordinary numbers and marks are not taken for them."""

import time

import pytest

from datamodules.personal_data import KINDS, passes_luhn, personal_data_kinds


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("write to jane.doe+news@mail.example.co.uk.", {"email"}),
        ("(me@example.com)", {"email"}),
        ("call 415-555-0132 today", {"phone"}),
        ("call (415) 555-0132.", {"phone"}),
        ("call +1 415.555.0132", {"phone"}),
        ("call +44 20 7946 0018 or +49 (0)30 901820", {"phone"}),
        ("the host 192.168.0.1 answers", {"ip-address"}),
        ("the host 2001:db8:85a3::8a2e:370:7334 answers", {"ip-address"}),
        ("card 4111 1111 1111 1111", {"card-number"}),
        ("card 5500-0000-0000-0004, please", {"card-number"}),
        ("card 378282246310005", {"card-number"}),
        ("ssn 078-05-1120", {"ssn"}),
        ("see https://example.org/a?b=c", {"url"}),
        ("see WWW.Example.org", {"url"}),
        ("me@example.com at http://example.com, 415-555-0132", {"email", "url", "phone"}),
    ],
)
def test_found(text, kinds):
    assert personal_data_kinds(text) == kinds
    assert kinds <= set(KINDS)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no data",
        "a @ b, @handle, me@localhost",
        "in 1999-2000, 12-12-2012, 100-200-3000",
        "1,234,567.89 and 3.14159 and 10:30:45",
        "version 1.2.3.4.5, section 300.1.2.3, 256.1.1.1",
        "std::vector<int>, a::b",
        "4111 1111 1111 1112",
        "0000 0000 0000 0000 and 4444444444444444",
        "1234567890",
        "000-12-3456, 666-12-3456, 912-12-3456, 123-00-4567, 123-45-0000",
        "end of sentence.Next one",
        "order 123-45-67890",
        "the www. prefix, http://",
    ],
)
def test_not_found(text):
    assert personal_data_kinds(text) == frozenset()


@pytest.mark.parametrize(("digits", "expected"), [("79927398713", True), ("79927398710", False), ("0", True)])
def test_luhn_as_published(digits, expected):
    """The example of the patent's description, and each other last digit fails."""
    assert passes_luhn(digits) is expected
    assert sum(passes_luhn(f"7992739871{last}") for last in range(10)) == 1


@pytest.mark.parametrize("piece", ["a", "1", "1-", "a.", "1.", "+", "a:", "a@", "(415) ", "4111 ", "www.a.", "%"])
def test_time_is_linear(piece):
    start = time.process_time()
    personal_data_kinds(piece * (200_000 // len(piece)) + "!")
    assert time.process_time() - start < 2
