"""What is told when a file cannot be written?"""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from datamodules.errors import InputError

# What a user can mend: a full or read-only disk, rights, a file where a folder should be or the other way round.
# Other kinds of OSError (a lost connection, a bug) keep their traceback.
_ERRNOS = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EIO,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.EEXIST,
)


@contextmanager
def writing(path: Path, then: str, n_bytes: int | None = None) -> Iterator[None]:
    """Turn a failed write into one message that names the path, the free space and how to go on.

    Args:
        path: What is written.
        then: What to do when the disk is mended, e.g. a command.
        n_bytes: Room that is needed, where it is known.

    Raises:
        InputError: The disk is full or read-only, a right is missing, or something else lies at the path.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _ERRNOS:
            raise
        reason = os.strerror(error.errno)
        found = f"{path}, where writing failed ({reason}; {_free_space(path)})"
        room = "room" if n_bytes is None else f"room for {_megabytes(n_bytes)}"
        raise InputError(
            found, f"{room} on that disk, and the right to write there", f"mend that, then {then}"
        ) from error


def _free_space(path: Path) -> str:
    folder = next(folder for folder in path.absolute().parents if folder.is_dir())
    return f"{_megabytes(shutil.disk_usage(folder).free)} free"


def _megabytes(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:,.0f} MB"
