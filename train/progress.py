"""How does long work show that it moves?"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress


class Progress:
    """Progress bars on a terminal, plain lines elsewhere.

    Args:
        mode: `auto` (bars when standard error is a terminal), `on` or `off` (nothing but `say`).
        console: Where to write; standard error when left out, so that standard output holds results only.
    """

    # A log file gets a line at most this often.
    SECONDS_BETWEEN_LINES = 10.0

    def __init__(self, mode: str = "auto", console: Console | None = None) -> None:
        self.console = console or Console(file=sys.stderr, width=100 if not sys.stderr.isatty() else None)
        self._mode = mode

    def say(self, text: str) -> None:
        """Print a line."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def bar(self, label: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        """Yield a function that advances a bar; ends with a line of count, time and rate unless nothing was done.

        Args:
            label: What is being done.
            total: Units in all.
            unit: Name of a unit, in the plural.
        """
        start = time.perf_counter()
        done = 0
        if self._mode == "on" or (self._mode == "auto" and self.console.is_terminal):
            rate = TextColumn("{task.fields[rate]}")
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
            with RichProgress(*columns, console=self.console, transient=True) as progress:
                task = progress.add_task(label, total=total, rate="")

                def advance(n: int) -> None:
                    nonlocal done
                    done += n
                    progress.update(task, completed=done, rate=_rate(done, start, unit))

                yield advance
        else:
            last_line = start

            def advance(n: int) -> None:
                nonlocal done, last_line
                done += n
                now = time.perf_counter()
                if self._mode != "off" and now - last_line > self.SECONDS_BETWEEN_LINES and done < total:
                    last_line = now
                    self.say(f"  {label}: {done:,} of {total:,} {unit}, {_rate(done, start, unit)}")

            yield advance
        seconds = time.perf_counter() - start
        if self._mode != "off" and done:
            self.say(f"  {label}: {done:,} {unit} in {seconds:.1f} s, {_rate(done, start, unit)}")


def _rate(done: int, start: float, unit: str) -> str:
    rate = done / max(time.perf_counter() - start, 1e-9)
    return f"{rate:,.1f} {unit}/s" if rate < 10 else f"{rate:,.0f} {unit}/s"
