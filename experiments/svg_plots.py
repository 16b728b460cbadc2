"""How are plots drawn without a plotting library?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 560, 360
LEFT, RIGHT, TOP, BOTTOM = 84, 20, 40, 56
# Of bars: room for their names and values, and how far they lie apart.
NAMES, VALUES, BAR = 210, 60, 28
COLOURS = {"point": "#35618f", "best": "#c2410c", "faint": "#9aa5b1", "line": "#c2410c", "grid": "#e3e7eb"}
TEXT = 'font-family="sans-serif" fill="#222"'
# Width of a letter of 11 pixels.
LETTER = 6.3


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis.

    Attributes:
        label: Its name.
        low: Smallest value on it.
        high: Largest value on it.
        log: Whether equal factors are equal distances; for values above 0.
        categories: Names of the places 0, 1, ... on it; none on an axis of numbers.
        whole: Whether only whole numbers are marked.
    """

    label: str
    low: float
    high: float
    log: bool = False
    categories: tuple[str, ...] = ()
    whole: bool = False

    @classmethod
    def around(cls, label: str, values: Sequence[float], log: bool = False, whole: bool = False) -> "Axis":
        """Return an axis with some room around values; a log axis needs all of them above 0."""
        low, high = min(values), max(values)
        if log:
            room = (high / low) ** 0.05 if high > low else 2.0
            return cls(label, low / room, high * room, log=True, whole=whole)
        room = 0.05 * (high - low) or max(abs(low), 1.0) * 0.1
        return cls(label, low - room, high + room, whole=whole)

    @classmethod
    def of_categories(cls, label: str, names: Sequence[str]) -> "Axis":
        """Return an axis with a place for each name."""
        return cls(label, -0.5, len(names) - 0.5, categories=tuple(names))

    def share(self, value: float) -> float:
        """Return where on the axis a value lies, from 0 to 1."""
        low, high, own = (map(math.log, (self.low, self.high, value))) if self.log else (self.low, self.high, value)
        return (own - low) / (high - low)

    def ticks(self) -> list[tuple[float, str]]:
        """Return round values on the axis with their texts."""
        if self.categories:
            return [(float(k), name) for k, name in enumerate(self.categories)]
        if self.log and self.high / self.low >= 10:
            return [(tick, f"{tick:g}") for tick in _log_ticks(self.low, self.high)]
        step = _round_step((self.high - self.low) / 7)
        step = max(1, math.ceil(step)) if self.whole else step
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [(k * step, f"{round(k * step, 12):g}") for k in range(first, last + 1)]


@dataclass(frozen=True, slots=True)
class Point:
    """One point: where it lies, what it is called and how it looks (`point`, `best` or `faint`)."""

    x: float
    y: float
    name: str
    look: str = "point"


def scatter_svg(title: str, x: Axis, y: Axis, points: Sequence[Point], line: Sequence[tuple[float, float]] = ()) -> str:
    """Draw points, and a line in steps behind them, as an SVG document.

    Args:
        title: Stands above.
        x: The horizontal axis.
        y: The vertical axis.
        points: In the order in which they are drawn; their names show up under the mouse.
        line: Corners of a line that keeps its height until the next; none when left out.
    """
    parts = _axes(x, y)
    if line:
        parts.append(f'<path d="{_steps(x, y, line)}" fill="none" stroke="{COLOURS["line"]}" stroke-width="1.2"/>')
    for point in points:
        place = f'cx="{_left(x, point.x):.1f}" cy="{_top(y, point.y):.1f}"'
        colour = COLOURS[point.look]
        look = {
            "best": f'r="5.5" fill="{colour}"',
            "faint": f'r="3.2" fill="none" stroke="{colour}"',
        }.get(point.look, f'r="3.6" fill="{colour}" fill-opacity="0.65"')
        parts.append(f"<circle {place} {look}><title>{escape(point.name)}</title></circle>")
    return _document(title, LEFT, HEIGHT, parts)


def bars_svg(title: str, values: Sequence[tuple[str, float]]) -> str:
    """Draw named shares as horizontal bars, as an SVG document.

    Args:
        title: Stands above.
        values: Names with shares from 0 to 1, from top to bottom.
    """
    scale = WIDTH - NAMES - VALUES
    parts = []
    for k, (name, value) in enumerate(values):
        top = TOP + k * BAR
        length = max(value * scale, 0.5)
        parts.append(_text(NAMES - 8, top + 16, _shortened(name, NAMES - 16), 11, "end", name))
        parts.append(f'<rect x="{NAMES}" y="{top + 3}" width="{length:.1f}" height="18" fill="{COLOURS["point"]}"/>')
        parts.append(_text(NAMES + length + 6, top + 16, f"{value:.2f}", 11, "start"))
    parts.append(f'<path d="M{NAMES} {TOP}V{TOP + BAR * len(values)}" stroke="#555"/>')
    return _document(title, 16, TOP + BAR * len(values) + 12, parts)


def _document(title: str, left: float, height: float, parts: Sequence[str]) -> str:
    size = f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
    first = f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n<rect width="{WIDTH}" height="{height}" fill="white"/>'
    above = _text(left, 24, _shortened(title, WIDTH - left - 8, 7.8), 14, "start", title)
    return "\n".join([first, above, *parts, "</svg>"]) + "\n"


def _text(left: float, top: float, text: str, size: int, anchor: str, whole: str = "", turned: bool = False) -> str:
    """Write a text; where it is not whole, the rest shows up under the mouse."""
    turn = f' transform="rotate(-90 {left} {top})"' if turned else ""
    more = f"<title>{escape(whole)}</title>" if whole and whole != text else ""
    place = f'x="{left:.1f}" y="{top:.1f}" font-size="{size}" text-anchor="{anchor}"{turn}'
    return f"<text {place} {TEXT}>{escape(text)}{more}</text>"


def _axes(x: Axis, y: Axis) -> list[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    room = (right - LEFT) / len(x.categories) if x.categories else math.inf
    parts = []
    for value, text in x.ticks():
        at = _left(x, value)
        parts.append(f'<path d="M{at:.1f} {TOP}V{bottom}" stroke="{COLOURS["grid"]}"/>')
        parts.append(_text(at, bottom + 16, _shortened(text, room), 11, "middle", text))
    for value, text in y.ticks():
        at = _top(y, value)
        parts.append(f'<path d="M{LEFT} {at:.1f}H{right}" stroke="{COLOURS["grid"]}"/>')
        parts.append(_text(LEFT - 6, at + 4, text, 11, "end"))
    parts.append(f'<path d="M{LEFT} {TOP}V{bottom}H{right}" fill="none" stroke="#555"/>')
    parts.append(_text((LEFT + right) / 2, HEIGHT - 16, x.label, 12, "middle"))
    parts.append(_text(18, (TOP + bottom) / 2, y.label, 12, "middle", turned=True))
    return parts


def _shortened(text: str, room: float, letter: float = LETTER) -> str:
    """Keep the end of a text, which tells paths and hub ids apart, as far as there is room for it."""
    if len(text) * letter <= room:
        return text
    return f"…{text[-max(1, int(room / letter) - 2) :]}"


def _steps(x: Axis, y: Axis, line: Sequence[tuple[float, float]]) -> str:
    (first_x, first_y), *others = line
    path = f"M{_left(x, first_x):.1f} {_top(y, first_y):.1f}"
    return path + "".join(f"H{_left(x, at):.1f}V{_top(y, value):.1f}" for at, value in others)


def _left(x: Axis, value: float) -> float:
    return LEFT + x.share(value) * (WIDTH - LEFT - RIGHT)


def _top(y: Axis, value: float) -> float:
    return HEIGHT - BOTTOM - y.share(value) * (HEIGHT - TOP - BOTTOM)


def _round_step(about: float) -> float:
    power = 10.0 ** math.floor(math.log10(about))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= about * (1 - 1e-9))


def _log_ticks(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if math.log10(high / low) < 3 else (1,)
    ticks = [float(f"{factor}e{power}") for power in powers for factor in factors]
    return [tick for tick in ticks if low <= tick <= high]
