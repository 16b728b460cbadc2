"""How are numbers and tables written in a model card?"""

import math
from collections.abc import Sequence


def digits(value: float) -> str:
    """Write a number with three digits behind the point; undefined is a dash."""
    return f"{value:.3f}" if math.isfinite(value) else "-"


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a Markdown table whose first column alone stands to the left."""
    rules = ["---", *["---:"] * (len(headings) - 1)]
    cells = ([cell.replace("|", "\\|") for cell in row] for row in (headings, rules, *rows))
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)
