"""Lines over two axes, as SVG text; colours follow the reader's light or dark scheme."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from typing import Literal
from xml.sax.saxutils import escape

from bench.chart import line, text

WIDTH, HEIGHT = 860, 420
LEFT, RIGHT, TOP, BOTTOM = 76, 640, 46, 364
LEGEND = 664
TICKS = 5
# Told apart without colours too: peers differ by their dashes.
DASHES = ("", "7 3", "2 3", "9 3 2 3")
COLOURS = 8
STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #57606a }
  .title { font-weight: 600; font-size: 14px; fill: #24292f }
  .grid { stroke: #d0d7de; stroke-width: 1 }
  .series { stroke-width: 1.5; fill: none }
  .ours { stroke-width: 3 }
  .c0 { stroke: #0a7d6c } .c1 { stroke: #b35900 } .c2 { stroke: #0969da } .c3 { stroke: #8250df }
  .c4 { stroke: #cf222e } .c5 { stroke: #57606a } .c6 { stroke: #9a6700 } .c7 { stroke: #bf3989 }
  @media (prefers-color-scheme: dark) {
    text { fill: #9da7b3 }
    .title { fill: #e6edf3 }
    .grid { stroke: #3d444d }
    .c0 { stroke: #3fc1ac } .c1 { stroke: #f0a35e } .c2 { stroke: #58a6ff } .c3 { stroke: #bc8cff }
    .c4 { stroke: #ff7b72 } .c5 { stroke: #9da7b3 } .c6 { stroke: #d29922 } .c7 { stroke: #f778ba }
  }
"""

RECALLS = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)

Pair = tuple[float, float]
Kind = Literal["linear", "log", "recall"]
STRETCHED: dict[Kind, Callable[[float], float]] = {
    "linear": float,
    "log": log10,
    # Halving what is missed is one step, wherever it is: 0.98 to 0.99 is as hard as 0.90 to 0.95.
    "recall": lambda recall: -log10(1 - recall),
}


@dataclass(frozen=True)
class Series:
    """One line: its name, its points, and whether it is drawn thick."""

    name: str
    points: Sequence[Pair]
    ours: bool = False


@dataclass(frozen=True)
class Scale:
    """From values to pixels."""

    low: float
    high: float
    first: float
    last: float
    kind: Kind

    def at(self, value: float) -> float:
        """The pixel of a value."""
        low, high, here = (STRETCHED[self.kind](one) for one in (self.low, self.high, value))
        return self.first + (here - low) / (high - low) * (self.last - self.first)

    def holds(self, value: float) -> bool:
        """Whether a value lies on the axis."""
        return self.low <= value <= self.high

    def ticks(self) -> list[float]:
        """Round values on the axis."""
        if self.kind == "recall":
            return [recall for recall in RECALLS if self.holds(recall)]
        if self.kind == "log":
            first, last = floor(log10(self.low)), ceil(log10(self.high))
            steps = (1, 2, 5) if last - first <= TICKS - 2 else (1,)
            values = [m * 10.0**e for e in range(first, last + 1) for m in steps]
            return [value for value in values if self.holds(value)]
        rough = (self.high - self.low) / TICKS
        ten = 10.0 ** floor(log10(rough))
        step = min((m * ten for m in (1, 2, 5, 10)), key=lambda size: abs(size - rough))
        first, last = ceil(self.low / step - 1e-9), floor(self.high / step + 1e-9)
        return [place * step for place in range(first, last + 1)]


@dataclass(frozen=True)
class Plot:
    """A title and two named axes. `x_range` cuts what lies outside; `y_low` is where y begins."""

    title: str
    x_name: str
    y_name: str
    x_kind: Kind = "linear"
    y_kind: Kind = "linear"
    x_range: Pair | None = None
    y_low: float = 0.0

    def draw(self, series: Sequence[Series]) -> str:
        """The whole picture; empty if there is nothing to draw."""
        shown = [self._cut(one) for one in series]
        points = [point for one in shown for point in one.points]
        if not points:
            return ""
        x, y = self._scales(points)
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
            f"<title>{escape(self.title)}</title>",
            f"<style>{STYLE}</style>",
            text(LEFT - 60, 24, escape(f"{self.title}: {self.y_name}"), "title"),
            *self._axes(x, y),
        ]
        for place, one in enumerate(one for one in shown if one.points):
            parts += _line(one, place, x, y)
        return "\n".join([*parts, "</svg>"]) + "\n"

    def _cut(self, one: Series) -> Series:
        low, high = self.x_range or (float("-inf"), float("inf"))
        kept = [point for point in sorted(one.points) if low <= point[0] <= high]
        return Series(one.name, kept, one.ours)

    def _scales(self, points: Sequence[Pair]) -> tuple[Scale, Scale]:
        xs, ys = [x for x, _ in points], [y for _, y in points]
        low_x, high_x = self.x_range or _wide(min(xs), max(xs))
        low_y, high_y = self.y_low, max(ys) + 0.05 * (max(ys) - self.y_low)
        if self.y_kind == "log":
            low_y, high_y = min(ys) * 0.9, max(ys) * 1.1
        return (
            Scale(low_x, high_x, LEFT, RIGHT, self.x_kind),
            Scale(low_y, high_y if low_y < high_y else low_y + 1.0, BOTTOM, TOP, self.y_kind),
        )

    def _axes(self, x: Scale, y: Scale) -> Iterator[str]:
        for value in y.ticks():
            yield line((LEFT, y.at(value)), (RIGHT, y.at(value)), "grid")
            yield text(LEFT - 8, y.at(value) + 4, _number(value), anchor="end")
        for value in x.ticks():
            yield line((x.at(value), TOP), (x.at(value), BOTTOM), "grid")
            yield text(x.at(value), BOTTOM + 20, _number(value), anchor="middle")
        yield text((LEFT + RIGHT) / 2, BOTTOM + 42, escape(self.x_name), anchor="middle")


def _wide(low: float, high: float) -> Pair:
    """An axis that has some length."""
    return (low, high) if low < high else (low * 0.9, high * 1.1 or 1.0)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 10 or value == round(value) else f"{value:.4g}"


def _line(one: Series, place: int, x: Scale, y: Scale) -> Iterator[str]:
    """The line and its entry in the legend."""
    style = f"series c{place % COLOURS}" + (" ours" if one.ours else "")
    dash = DASHES[place // COLOURS % len(DASHES)]
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    places = " ".join(f"{x.at(a):.1f},{y.at(b):.1f}" for a, b in one.points)
    yield f'<polyline class="{style}"{dashed} points="{places}"/>'
    height = TOP + 18 * place
    ends = f'x1="{LEGEND}" y1="{height}" x2="{LEGEND + 24}" y2="{height}"'
    yield f'<line class="{style}"{dashed} {ends}/>'
    yield text(LEGEND + 32, height + 4, escape(one.name))
