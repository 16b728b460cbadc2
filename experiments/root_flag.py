"""Which flag gives the data root? In commands with `--root` that one, and not the setting of `imprint fit`."""

from collections.abc import Iterator
from contextlib import contextmanager

from datamodules.errors import InputError


@contextmanager
def naming_root_flag() -> Iterator[None]:
    """Name `--root` where an InputError raised inside names `--data.root`."""
    try:
        yield
    except InputError as error:
        fix = error.fix.replace("--data.root", "--root")
        if fix == error.fix:
            raise
        raise InputError(error.found, error.needed, fix) from error
