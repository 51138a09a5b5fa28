"""A log-log line chart as SVG, with no package that draws."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 1010, 600
_LEFT, _RIGHT, _TOP, _BOTTOM = 74, 690, 74, 530
_TEXT, _FAINT, _GRID = "#222222", "#666666", "#e2e2e2"
_LABEL_HEIGHT = 40


@dataclass(frozen=True)
class Series:
    """One line.

    Args:
        label: what it is.
        note: a second line of its label.
        colour: as SVG has it.
        points: x and y, both at least 1.
        dashes: as SVG has them; empty: a solid line.
    """

    label: str
    note: str
    colour: str
    points: Sequence[tuple[float, float]]
    dashes: str = ""


def chart(
    title: str,
    subtitle: str,
    axes: tuple[str, str],
    most: tuple[int, int],
    series: Sequence[Series],
) -> str:
    """The document.

    Args:
        title: above all.
        subtitle: below it.
        axes: what x and y are.
        most: the largest x and y; grid lines are at powers of two.
        series: its lines; drawn in this order.
    """
    body = [
        _text(_LEFT, 30, title, size=19, weight="bold"),
        _text(_LEFT, 54, subtitle, size=13, colour=_FAINT),
        *_frame(axes, most),
        *_ideal(most),
    ]
    for one in series:
        body += _line(one, most)
    body += _labels(series, most)
    return "\n".join([_opening(title), *body, "</svg>", ""])


def _opening(title: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img"'
        ' font-family="system-ui, -apple-system, Segoe UI, DejaVu Sans, sans-serif">\n'
        f"<title>{escape(title)}</title>\n"
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" rx="8" fill="#ffffff"/>'
    )


def _x(value: float, most: int) -> float:
    return _LEFT + (_RIGHT - _LEFT) * math.log2(value) / math.log2(most)


def _y(value: float, most: int) -> float:
    return _BOTTOM - (_BOTTOM - _TOP) * math.log2(value) / math.log2(most)


def _powers(most: int) -> list[int]:
    return [1 << power for power in range(most.bit_length())]


def _frame(axes: tuple[str, str], most: tuple[int, int]) -> Iterator[str]:
    """The grid, its numbers, and what they count."""
    for value in _powers(most[0]):
        x = _x(value, most[0])
        yield _stroke(f"M{x:.1f},{_TOP}V{_BOTTOM}", _GRID, 1)
        yield _text(x, _BOTTOM + 20, str(value), anchor="middle")
    for value in _powers(most[1]):
        y = _y(value, most[1])
        yield _stroke(f"M{_LEFT},{y:.1f}H{_RIGHT}", _GRID, 1)
        yield _text(_LEFT - 10, y + 4, str(value), anchor="end")
    yield _stroke(f"M{_LEFT},{_TOP}V{_BOTTOM}H{_RIGHT}", _FAINT, 1.2)
    yield _text((_LEFT + _RIGHT) / 2, _BOTTOM + 48, axes[0], size=14, anchor="middle")
    middle = (_TOP + _BOTTOM) / 2
    turned = f'transform="rotate(-90 20 {middle})"'
    yield _text(20, middle, axes[1], size=14, anchor="middle", more=turned)


def _ideal(most: tuple[int, int]) -> Iterator[str]:
    """Where twice the workers would be twice as fast."""
    end = min(most)
    x, y = _x(end, most[0]), _y(end, most[1])
    path = f"M{_LEFT},{_BOTTOM}L{x:.1f},{y:.1f}"
    yield _stroke(path, "#9a9a9a", 1.5, "2 5")
    along = math.degrees(math.atan2(y - _BOTTOM, x - _LEFT))
    at_x, at_y = (_LEFT * 0.13 + x * 0.87), (_BOTTOM * 0.13 + y * 0.87)
    turned = f'transform="rotate({along:.1f} {at_x:.1f} {at_y:.1f}) translate(0 -8)"'
    text = "as many times as workers"
    yield _text(at_x, at_y, text, size=12, colour=_FAINT, anchor="middle", more=turned)


def _line(series: Series, most: tuple[int, int]) -> Iterator[str]:
    places = [(_x(x, most[0]), _y(y, most[1])) for x, y in series.points]
    path = "M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in places)
    yield _stroke(path, series.colour, 2.6, series.dashes)
    for x, y in places:
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.6" fill="{series.colour}"/>'


def _labels(series: Sequence[Series], most: tuple[int, int]) -> Iterator[str]:
    """To the right of each line's end, moved apart where ends are close."""
    ends = sorted(series, key=lambda one: -one.points[-1][1])
    wanted = [_y(one.points[-1][1], most[1]) for one in ends]
    for one, y, end in zip(ends, _apart(wanted), wanted, strict=True):
        x = _x(one.points[-1][0], most[0])
        path = f"M{x + 6:.1f},{end:.1f}L{_RIGHT + 24},{y:.1f}h8"
        yield _stroke(path, one.colour, 1)
        yield _text(_RIGHT + 38, y, one.label, colour=one.colour, weight="bold")
        yield _text(_RIGHT + 38, y + 16, one.note, size=12, colour=_FAINT)


def _apart(wanted: Sequence[float]) -> list[float]:
    """Places from the top down, none nearer to the next than a label is high."""
    places: list[float] = []
    for place in wanted:
        places.append(max(place, places[-1] + _LABEL_HEIGHT) if places else place)
    lowest = float(_BOTTOM - 16)
    for index in reversed(range(len(places))):
        places[index] = min(places[index], lowest)
        lowest = places[index] - _LABEL_HEIGHT
    return places


def _stroke(path: str, colour: str, width: float, dashes: str = "") -> str:
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return (
        f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{width}"'
        f' stroke-linejoin="round"{dashed}/>'
    )


def _text(
    x: float,
    y: float,
    text: str,
    *,
    size: int = 13,
    colour: str = _TEXT,
    anchor: str = "start",
    weight: str = "normal",
    more: str = "",
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" font-weight="{weight}"'
        f' text-anchor="{anchor}" {more}>{escape(text)}</text>'
    )
