"""What must hold of the flags of a command that reads files and writes one table?"""

from collections.abc import Sequence
from pathlib import Path

from datamodules.errors import InputError
from datamodules.files import require_output

# Flags of `imprint audit` that say nothing of a file of completions or of value vectors.
NOT_OF_FILES = ("run_dir", "checkpoint", "thresholds", "datasets", "audits", "gold", "root", "max_length", "pending")


def require_table_output(output: Path, inputs: Sequence[Path]) -> None:
    """Raise InputError unless --output is a .parquet file that can be written, and none of those that are read."""
    if output.suffix != ".parquet":
        raise InputError(f"--output {output}", "a name that ends in .parquet", "--output")
    if output.resolve() in [path.resolve() for path in inputs]:
        raise InputError(f"{output} as input and as output", "two files", "--output")
    require_output(output, "--output")


def require_none_of(names: Sequence[str], given: object, flag: str, needed: str) -> None:
    """Raise InputError where settings of an audit are given that say nothing of the one that a flag asks for."""
    if other := [name for name in names if getattr(given, name)]:
        found = "a run directory" if other[0] == "run_dir" else f"--{other[0]}"
        raise InputError(f"{found} with {flag}", needed, "leave it out")
