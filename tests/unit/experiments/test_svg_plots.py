"""Points lie where their values say, and the document is well-formed."""

import math
from xml.etree import ElementTree

import pytest

from experiments.svg_plots import (
    BOTTOM,
    HEIGHT,
    LEFT,
    NAMES,
    RIGHT,
    TOP,
    VALUES,
    WIDTH,
    Axis,
    Point,
    bars_svg,
    scatter_svg,
)

SVG = "{http://www.w3.org/2000/svg}"


def test_shares_of_an_axis():
    assert [Axis("x", 2.0, 4.0).share(value) for value in (2.0, 3.0, 4.0)] == [0.0, 0.5, 1.0]
    assert Axis("x", 1e-4, 1.0, log=True).share(1e-2) == pytest.approx(0.5)
    assert Axis.of_categories("x", ["a", "b"]).share(0.0) == 0.25


@pytest.mark.parametrize(
    ("axis", "ticks"),
    [
        (Axis("x", 0.0, 1.0), ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
        (Axis("x", 0.31, 0.33), ["0.31", "0.315", "0.32", "0.325", "0.33"]),
        (Axis("x", -1.0, 49.0), ["0", "10", "20", "30", "40"]),
        (Axis("x", -0.5, 11.5, whole=True), ["0", "2", "4", "6", "8", "10"]),
        (Axis("x", -0.1, 2.1, whole=True), ["0", "1", "2"]),
        (Axis("x", 2e-4, 3e-2, log=True), ["0.0002", "0.0005", "0.001", "0.002", "0.005", "0.01", "0.02"]),
        (Axis("x", 1e-6, 1.0, log=True), ["1e-06", "1e-05", "0.0001", "0.001", "0.01", "0.1", "1"]),
        (Axis("x", 2.0, 4.0, log=True), ["2", "2.5", "3", "3.5", "4"]),
        (Axis.of_categories("x", ["none", "sqrt"]), ["none", "sqrt"]),
    ],
)
def test_ticks_are_round_and_inside(axis, ticks):
    assert [text for _, text in axis.ticks()] == ticks
    assert all(axis.low <= value <= axis.high for value, _ in axis.ticks())


@pytest.mark.parametrize("values", [[0.5], [0.5, 0.5], [0.0], [1e-9, 2e-9]])
def test_an_axis_around_few_values_has_room(values):
    axis = Axis.around("x", values)
    assert axis.low < axis.high
    assert all(0 < axis.share(value) < 1 for value in values)
    assert all(math.isfinite(value) for value, _ in axis.ticks())


def test_points_lie_where_their_values_say_and_texts_are_escaped():
    points = [Point(0.0, 10.0, "trial <1>"), Point(1.0, 20.0, "b & c", "best"), Point(0.5, 15.0, "c", "faint")]
    text = scatter_svg("a < b", Axis("x & y", 0.0, 1.0), Axis("y", 10.0, 20.0), points, [(0.0, 10.0), (1.0, 20.0)])
    root = ElementTree.fromstring(text)
    circles = root.findall(f"{SVG}circle")
    assert [(float(c.get("cx")), float(c.get("cy"))) for c in circles] == [
        (LEFT, HEIGHT - BOTTOM),
        (WIDTH - RIGHT, TOP),
        ((LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2),
    ]
    assert [c.find(f"{SVG}title").text for c in circles] == ["trial <1>", "b & c", "c"]
    texts = [element.text for element in root.findall(f"{SVG}text")]
    assert {"a < b", "x & y", "y"} <= set(texts)
    # A line in steps: across, then up.
    assert f'd="M{LEFT:.1f} {HEIGHT - BOTTOM:.1f}H{WIDTH - RIGHT:.1f}V{TOP:.1f}"' in text


def test_names_that_would_overlap_keep_their_end_and_the_whole_under_the_mouse():
    names = [f"organisation/encoder-with-a-long-name-{k}" for k in range(6)]
    text = scatter_svg("t", Axis.of_categories("x", names), Axis("y", 0.0, 1.0), [])
    labels = [e for e in ElementTree.fromstring(text).findall(f"{SVG}text") if e.find(f"{SVG}title") is not None]
    assert [label.find(f"{SVG}title").text for label in labels] == names
    room = (WIDTH - LEFT - RIGHT) / 6
    assert all(len(label.text) * 6 < room and label.text.endswith(str(k)) for k, label in enumerate(labels))


def test_bars_are_as_long_as_their_shares():
    root = ElementTree.fromstring(bars_svg("t", [("a", 0.75), ("b & c", 0.25), ("d", 0.0)]))
    _, *bars = root.findall(f"{SVG}rect")
    whole = WIDTH - NAMES - VALUES
    assert [float(bar.get("width")) for bar in bars] == pytest.approx([0.75 * whole, 0.25 * whole, 0.5], abs=0.1)
    texts = [element.text for element in root.findall(f"{SVG}text")]
    assert texts == ["t", "a", "0.75", "b & c", "0.25", "d", "0.00"]
    assert float(root.get("height")) > max(float(bar.get("y")) + float(bar.get("height")) for bar in bars)
