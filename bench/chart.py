"""Draws the README's chart from the figures of `bench/index.py` and `bench/search.py`.

    python bench/index.py --out bench/results/index.json
    python bench/search.py > bench/results/search-1.json     # as often as you like: -2, -3, ...
    python bench/chart.py                                    # writes docs/img/figures.svg

Left: recall against queries a second of the graph, by ef. Right: medians of one search, over all
`search-*.json`. Plain SVG text; its colours follow the reader's light or dark scheme.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import msgspec

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results"
CHART = ROOT / "docs" / "img" / "figures.svg"
WIDTH, HEIGHT = 860, 330
TOP, BOTTOM = 62, 280
LEFT, MIDDLE = 64, 430
BARS, RIGHT = 600, 790
RECALLS = (0.88, 0.92, 0.96, 1.0)
RATES = (0, 10_000, 20_000, 30_000, 40_000)
LATENCIES = {
    "in_process": "in process",
    "rest_local": "REST, consistency=local",
    "rest_leader": "REST, leader",
    "rest_follower": "REST, follower",
    "rest_filtered": "REST, filter on two keys",
}
STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #57606a }
  .title { font-weight: 600; font-size: 14px; fill: #24292f }
  .value { font-weight: 600; fill: #24292f }
  .grid { stroke: #d0d7de; stroke-width: 1 }
  .line { stroke: #0a7d6c; stroke-width: 2.5; fill: none }
  .dot, .bar { fill: #0a7d6c }
  .most { stroke: #b35900; stroke-width: 2 }
  @media (prefers-color-scheme: dark) {
    text { fill: #9da7b3 }
    .title, .value { fill: #e6edf3 }
    .grid { stroke: #3d444d }
    .line { stroke: #3fc1ac }
    .dot, .bar { fill: #3fc1ac }
    .most { stroke: #f0a35e }
  }
"""


class Latency(NamedTuple):
    """One bar: the medians and 99th percentiles of the runs, and the figure that must hold."""

    name: str
    p50_ms: float
    p99_ms: float
    most_ms: float


def read_index(folder: Path) -> list[Mapping[str, Any]]:
    """The points of the recall curve."""
    found = msgspec.json.decode((folder / "index.json").read_bytes())
    return found["curve"]["balsadb"]


def read_latencies(folder: Path) -> list[Latency]:
    """The bars, each the median over all runs."""
    runs = [msgspec.json.decode(path.read_bytes()) for path in sorted(folder.glob("search-*.json"))]
    return [
        Latency(
            title,
            median(run[name]["p50"] for run in runs),
            median(run[name]["p99"] for run in runs),
            runs[0][name]["p50_most"],
        )
        for name, title in LATENCIES.items()
    ]


def text(x: float, y: float, words: str, style: str = "", anchor: str = "start") -> str:
    """One piece of text."""
    kind = f' class="{style}"' if style else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{kind}>{words}</text>'


def line(start: tuple[float, float], end: tuple[float, float], style: str) -> str:
    """One straight line."""
    (x1, y1), (x2, y2) = start, end
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{style}"/>'


def curve(points: list[Mapping[str, Any]]) -> Iterator[str]:
    """The left panel."""
    span = RECALLS[-1] - RECALLS[0]

    def place(recall: float, rate: float) -> tuple[float, float]:
        x = LEFT + (recall - RECALLS[0]) / span * (MIDDLE - LEFT)
        return x, BOTTOM - rate / RATES[-1] * (BOTTOM - TOP)

    yield text(LEFT - 48, 24, "The index: queries a second, one thread", "title")
    for rate in RATES:
        _, y = place(RECALLS[0], rate)
        yield line((LEFT, y), (MIDDLE, y), "grid")
        yield text(LEFT - 8, y + 4, f"{rate:,}", anchor="end")
    for recall in RECALLS:
        x, y = place(recall, 0)
        yield text(x, y + 20, f"{recall:.2f}", anchor="middle")
    yield text((LEFT + MIDDLE) / 2, BOTTOM + 40, "recall@10", anchor="middle")
    places = [place(point["recall"], point["queries_per_s"]) for point in points]
    yield f'<polyline class="line" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in places)}"/>'
    for point, (x, y) in zip(points, places, strict=True):
        yield f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>'
        name, style = f"ef {point['ef']}", "value" if point["ef"] == 64 else ""
        if point["ef"] in (16, 32, 64):
            yield text(x + 8, y - 6, name, style)
        elif point["ef"] in (128, 256):  # below the curve: the other panel is near
            yield text(x - 8, y + 12, name, style, "end")


def bars(latencies: list[Latency]) -> Iterator[str]:
    """The right panel."""
    most = max(latency.most_ms for latency in latencies)
    step = (BOTTOM - TOP) / len(latencies)
    yield text(BARS - 146, 24, "One search at ef 64: median in ms", "title")
    for place, latency in enumerate(latencies):
        y = TOP + place * step
        width = latency.p50_ms / most * (RIGHT - BARS)
        bound = BARS + latency.most_ms / most * (RIGHT - BARS)
        yield text(BARS - 10, y + 16, latency.name, anchor="end")
        yield f'<rect class="bar" x="{BARS}" y="{y:.1f}" width="{width:.1f}" height="22" rx="2"/>'
        yield line((bound, y - 4), (bound, y + 26), "most")
        yield text(max(BARS + width, bound) + 8, y + 16, f"{latency.p50_ms:.2f}", "value")
    yield line((BARS, BOTTOM + 35.5), (BARS, BOTTOM + 47.5), "most")
    yield text(BARS + 10, BOTTOM + 45, "the most it may take")


def draw(folder: Path) -> str:
    """The chart of the results in `folder`."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        "<title>Recall against queries a second, and medians of one search</title>",
        f"<style>{STYLE}</style>",
        *curve(read_index(folder)),
        *bars(read_latencies(folder)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def main() -> None:
    """Write the chart."""
    CHART.parent.mkdir(parents=True, exist_ok=True)
    CHART.write_text(draw(RESULTS), encoding="utf-8")
    print(f"wrote {CHART.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
