"""How long may a text be?"""

from datamodules.errors import InputError

# A thousand times a long dialogue: what is longer is a whole file that an open quote or a lost line break made one row.
MAX_CHARACTERS = 1_000_000


def require_length(text: str, place: str, fix: str) -> None:
    """Raise InputError for a text of more than a million characters.

    Args:
        text: The text.
        place: Where it stands (row and file), for the message.
        fix: The setting that names the file.
    """
    if len(text) > MAX_CHARACTERS:
        found = f"a text of {len(text):,} characters, {place}"
        raise InputError(found, f"texts of at most {MAX_CHARACTERS:,} characters", f"cut or remove that row, or {fix}")
