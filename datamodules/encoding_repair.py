"""What did a text say before it was decoded with the wrong encoding?

A repair is offered, never applied on the way: whoever wants it calls `repaired` field by field, and audits count what
it would change. It touches a field only where `encoding_damage.is_damaged` finds damage, and asks ftfy for nothing but
the reversal of wrong decodings: quotes, ligatures, line breaks, widths and HTML stay as they were written.
"""

from ftfy import TextFixerConfig, fix_encoding

from datamodules.encoding_damage import is_damaged

# No guesses at bytes that are lost: neither spaces that were no-break spaces, nor U+FFFD, nor control characters.
_REVERSALS_ONLY = TextFixerConfig(
    unescape_html=False,
    remove_terminal_escapes=False,
    restore_byte_a0=False,
    replace_lossy_sequences=False,
    fix_c1_controls=False,
    fix_latin_ligatures=False,
    fix_character_width=False,
    uncurl_quotes=False,
    fix_line_breaks=False,
    fix_surrogates=False,
    remove_control_chars=False,
    normalization=None,
    explain=False,
)


def repaired(text: str) -> str:
    """Return a text with wrong decodings reversed; an undamaged one, and what cannot be reversed, as it stands."""
    return fix_encoding(text, _REVERSALS_ONLY) if is_damaged(text) else text
