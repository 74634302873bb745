"""Small SVG charts; colours come from the page's style sheet, so that they follow light and dark."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

WIDTH, HEIGHT = 320, 170
LEFT, RIGHT, TOP, BOTTOM = 54, 14, 24, 24


@dataclass(frozen=True)
class Series:
    """A line: its name and its points."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


class Frame:
    """The axes of a chart: where points lie, and the grid with its numbers.

    Args:
        xs: All values across.
        ys: All values upwards.
        log: A logarithmic scale across; all values are above 0.
    """

    def __init__(self, xs: NDArray[np.float64], ys: NDArray[np.float64], log: bool = False) -> None:
        low, high = float(ys.min()), float(ys.max())
        if high - low <= 1e-9 * max(abs(low), abs(high)):
            low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
        self.ticks = nice_ticks(low, high)
        self.low, self.high = min(low, self.ticks[0]), max(high, self.ticks[-1])
        self.first, self.last, self.log = float(xs.min()), float(xs.max()), log

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Where a point lies in the picture."""
        scale = np.log if self.log else float
        across = 0.5
        if self.last != self.first:
            across = (scale(x) - scale(self.first)) / (scale(self.last) - scale(self.first))
        down = (self.high - y) / (self.high - self.low)
        return LEFT + across * (WIDTH - LEFT - RIGHT), TOP + down * (HEIGHT - TOP - BOTTOM)

    def grid(self) -> list[Markup]:
        """Lines across with their numbers."""
        parts = []
        for tick in self.ticks:
            _, y = self.place(self.first, tick)
            parts.append(Markup('<path class="grid" d="M{} {:.1f}H{}"/>').format(LEFT, y, WIDTH - RIGHT))
            label = Markup('<text class="tick" x="{}" y="{:.1f}" text-anchor="end">{:g}</text>')
            parts.append(label.format(LEFT - 6, y + 4, tick))
        return parts

    def ends(self) -> list[Markup]:
        """The least and the greatest number across."""
        parts = []
        for x, anchor in {self.first: "start", self.last: "end"}.items():
            label = Markup('<text class="tick" x="{:.1f}" y="{}" text-anchor="{}">{}</text>')
            anchor = anchor if self.first != self.last else "middle"
            parts.append(label.format(self.place(x, self.low)[0], HEIGHT - 6, anchor, _plain(x)))
        return parts


def line_chart(series: Sequence[Series], title: str, mark: float | None = None) -> Markup:
    """Lines over epochs.

    Args:
        series: Lines, drawn in the style classes `line-0`, `line-1` and so on.
        title: What a screen reader says.
        mark: Where on the x axis the first line gets a dot with its value.
    """
    xs = np.concatenate([np.asarray(line.x, float) for line in series])
    ys = np.concatenate([np.asarray(line.y, float) for line in series])
    frame = Frame(xs, ys)
    parts = [_head(title), *frame.grid(), *frame.ends()]
    for number, line in reversed(list(enumerate(series))):
        points = [frame.place(x, y) for x, y in zip(line.x, line.y, strict=True)]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        parts.append(Markup('<path class="line line-{}" d="M{}"/>').format(number % 4, path))
        if len(points) == 1:
            parts.append(_dot(number, *points[0]))
    if mark is not None and mark in series[0].x:
        at = list(series[0].x).index(mark)
        x, y = frame.place(mark, series[0].y[at])
        shift, anchor = (-6, "end") if x > WIDTH - 70 else (6, "start")
        label = Markup('<text class="value" x="{:.1f}" y="{:.1f}" text-anchor="{}">{:.4g}</text>')
        parts.append(_dot(0, x, y))
        parts.append(label.format(x + shift / 3, y - 9, anchor, series[0].y[at]))
    return Markup("").join([*parts, Markup("</svg>")])


def dot_chart(points: Series, title: str, mark: int, *, log: bool = False, names: Sequence[str] = ()) -> Markup:
    """Dots, one a value.

    Args:
        points: The dots; with names, `x` is their place among these, from 0.
        title: What a screen reader says.
        mark: The number of the dot that stands out.
        log: A logarithmic scale across.
        names: What stands below the places, instead of the least and the greatest number.
    """
    across = np.asarray(points.x, float)
    frame = Frame(np.append(across, range(len(names))) if names else across, np.asarray(points.y, float), log)
    parts = [_head(title), *frame.grid(), *([] if names else frame.ends())]
    for place, name in enumerate(names):
        label = Markup('<text class="tick" x="{:.1f}" y="{}" text-anchor="middle">{}</text>')
        parts.append(label.format(frame.place(place, frame.low)[0], HEIGHT - 6, name))
    order = [number for number in range(len(across)) if number != mark] + [mark]
    parts += [_dot(int(number == mark), *frame.place(across[number], points.y[number])) for number in order]
    return Markup("").join([*parts, Markup("</svg>")])


def scatter_chart(xs: Sequence[float], ys: Sequence[float], names: Sequence[str], title: str) -> Markup:
    """Dots that carry short names, on a logarithmic scale across; all values across are above 0."""
    frame = Frame(np.asarray(xs, float), np.asarray(ys, float), log=True)
    parts = [_head(title), *frame.grid(), *frame.ends()]
    for x, y, name in zip(xs, ys, names, strict=True):
        across, down = frame.place(x, y)
        shift, anchor = (-6, "end") if across > (LEFT + WIDTH - RIGHT) / 2 else (6, "start")
        label = Markup('<text class="tick" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>')
        parts += [_dot(0, across, down), label.format(across + shift, down + 4, anchor, name)]
    return Markup("").join([*parts, Markup("</svg>")])


def bar_strip(counts: NDArray[np.int64], title: str, bins: int = 256) -> Markup:
    """Frequencies of codes in their order as one strip of bars; more codes than `bins` are summed into bins."""
    edges = np.linspace(0, len(counts), min(len(counts), bins) + 1).astype(int)
    heights = np.add.reduceat(counts, edges[:-1]) if len(counts) else counts
    top = max(int(heights.max(initial=0)), 1)
    width, height = 512.0, 56.0
    step = width / max(len(heights), 1)
    gap = min(1.0, step * 0.25)
    bars, holes = [], []
    for place, count in enumerate(heights):
        x, bar = f"M{place * step:.2f} ", f"h{step - gap:.2f}"
        if count:
            bars.append(f"{x}{height:g}V{height - max(height * count / top, 1.5):.2f}{bar}V{height:g}Z")
        else:
            holes.append(f"{x}{height + 3:g}{bar}v2h-{step - gap:.2f}Z")
    return Markup(
        '<svg class="strip" viewBox="0 0 512 62" preserveAspectRatio="none" role="img" aria-label="{}">'
        '<path class="bars" d="{}"/><path class="holes" d="{}"/></svg>'
    ).format(title, "".join(bars), "".join(holes))


def _head(title: str) -> Markup:
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(WIDTH, HEIGHT, title)


def _dot(number: int, x: float, y: float) -> Markup:
    return Markup('<circle class="dot line-{}" cx="{:.1f}" cy="{:.1f}" r="3.5"/>').format(number % 4, x, y)


def _plain(number: float) -> str:
    """Whole numbers in full, others to three digits."""
    return f"{number:g}" if float(number).is_integer() else f"{number:.3g}"


def nice_ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round numbers that span an interval, which is not tiny beside its ends."""
    raw = (high - low) / about
    power = 10.0 ** np.floor(np.log10(raw))
    step = power * min((1, 2, 2.5, 5, 10), key=lambda factor: abs(factor * power - raw))
    first = np.floor(low / step)
    return [float(step * (first + i)) for i in range(int(np.ceil(high / step) - first) + 1)]
