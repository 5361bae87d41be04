"""Writes the tables of figures in docs from the JSON in `bench/results`.

    python bench/tables.py [--check]       # --check: only say what is out of date, exit 1

A table stands between `<!-- figures: NAME -->` and `<!-- /figures -->`; one whose JSON is not there
stays as it is. NAME: `curve` (from `index.json`), `ratios-DATASET` (from `ann-DATASET.json`), and
each from `NAME.json`: `ann-DATASET`, `build-DATASET`, `churn-DATASET`, `filters`, `scale`, `dot`,
`failover`.
"""

import re
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
RESULTS = ROOT / "bench" / "results"
MARKED = re.compile(
    r"(<!-- figures: ([a-z0-9-]+) -->\n)(.*?)(<!-- /figures -->)", re.DOTALL | re.ASCII
)

Result = Mapping[str, Any]


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    names = list(head)
    lines = [" | ".join(row) for row in (names, *rows)]
    return f"| {lines[0]} |\n{'|---' * len(names)}|\n" + "".join(
        f"| {row} |\n" for row in lines[1:]
    )


def number(value: float | None, form: str = ",.0f") -> str:
    """A figure, or a dash for one that there is not."""
    return "-" if value is None else format(value, form)


def curve(result: Result) -> str:
    """Recall and rate by ef, of `bench/index.py`."""
    rows = (
        [f"{at['ef']}", f"{at['recall']:.3f}", f"{at['queries_per_s']:,.0f}"]
        for at in result["curve"]["balsadb"]
    )
    return table(["ef", "Recall@10", "Queries a second"], rows)


def ann(result: Result) -> str:
    """Rates of all engines, and seconds of their builds by number of threads."""
    engines = result["engines"]
    recalls = list(next(iter(engines.values()))["at"])
    threads = sorted({at for held in engines.values() for at in held["build_s"]}, key=int)
    rows = (
        [
            name,
            *(number(held["at"][at]) for at in recalls),
            *(number(held["build_s"].get(at), ".1f") for at in threads),
        ]
        for name, held in engines.items()
    )
    builds = [f"Build, {at} thread{'s' if at != '1' else ''}, s" for at in threads]
    return table(["Engine", *recalls, *builds], rows)


def ratios(result: Result) -> str:
    """Ours over hnswlib and over the best peer."""
    rows = (
        [
            name,
            recall,
            number(at["over_hnswlib"], ".2f"),
            number(at["over_best"], ".2f"),
            at["best"] or "-",
        ]
        for name, held in result["ratios"].items()
        for recall, at in held.items()
    )
    return table(["Engine", "Recall@10", "Over hnswlib", "Over the best", "The best"], rows)


def build(result: Result) -> str:
    """Builds that took turns."""
    times = result["build_s"]
    rows = (
        [threads, *(f"{times[name][threads]:.1f}" for name in times), f"{over:.2f}"]
        for threads, over in result["over_hnswlib"].items()
    )
    return table(["Threads", *(f"{name}, s" for name in times), "Times as fast"], rows)


def churn(result: Result) -> str:
    """Churned against fresh, at equal ef."""
    rows = (
        [
            name,
            f"{at['ef']}",
            f"{at['recall']:.3f}",
            f"{at['fresh_recall']:.3f}",
            f"{at['cost_ratio']:.2f}",
            number(held["generations"][-1]["unreachable"], "d"),
        ]
        for name, held in result["engines"].items()
        for at in held["against_fresh"]
    )
    return table(["Engine", "ef", "Recall@10", "Fresh", "Cost over fresh", "Unreachable"], rows)


def filters(result: Result) -> str:
    """Recall and milliseconds by share."""
    kinds = ("random", "near", "far")
    cells = zip(*(result["filters"][kind] for kind in kinds), strict=True)
    rows = (
        [
            f"{100 * at[0]['share']:g} %",
            *(f"{one['recall']:.3f}, {one['p50_ms']:.2f} ms" for one in at),
            f"{at[0]['exact_p50_ms']:.2f} ms",
        ]
        for at in cells
    )
    return table(["Matching", "Random", "Near", "Far", "Exact scan"], rows)


def scale(result: Result) -> str:
    """Growth."""
    rows = (
        [
            f"{at['rows']:,}",
            name,
            " / ".join(number(rate) for rate in held["built_per_s"].values()),
            number(held["queries_per_s"]),
            number(held["bytes_per_vector"]),
        ]
        for at in result["sizes"]
        for name, held in at["engines"].items()
    )
    head = ["Vectors", "Engine", "Built a second", "Queries a second", "Bytes a vector"]
    return table(head, rows)


def dot(result: Result) -> str:
    """Dot against the plain graph."""
    rows = (
        [
            kind,
            f"{held['equal_cost']['ef']}",
            f"{held['equal_cost']['distances']:,.0f}",
            *(f"{held['equal_cost'][name]:.3f}" for name in ("dot", "plain")),
            *(number(held[name]["distances_at_95"]) for name in ("dot", "plain")),
        ]
        for kind, held in result["kinds"].items()
    )
    at = ["ef", "Distances", "Recall@10", "Plain graph, as many"]
    return table(["Lengths", *at, "Distances for 0.95", "Plain graph"], rows)


def failover(result: Result) -> str:
    """Write gaps by what happened to the leader."""
    events = {"kill": "SIGKILL", "pause": "SIGSTOP", "stop": "planned stop"}
    rows = (
        [
            events[kind],
            name,
            *(number(found[name]["gap_ms"][at]) for at in ("median", "lower", "upper", "worst")),
        ]
        for kind, found in result["kinds"].items()
        for name in result["versions"]
    )
    head = ["The leader gets", "System", "Median, ms", "Lower quartile", "Upper quartile", "Worst"]
    return table(head, rows)


KINDS: dict[str, tuple[str, Callable[[Result], str]]] = {
    "curve": ("index", curve),
    "ann": ("ann", ann),
    "ratios": ("ann", ratios),
    "build": ("build", build),
    "churn": ("churn", churn),
    "filters": ("filters", filters),
    "scale": ("scale", scale),
    "dot": ("dot", dot),
    "failover": ("failover", failover),
}
"""First word of a name: first word of its file, and what makes the table."""


def made(name: str, results: Path = RESULTS) -> str | None:
    """The table of that name; None if its JSON is not there. KeyError for an unknown name."""
    kind, _, of = name.partition("-")
    stem, make = KINDS[kind]
    path = results / ("-".join(filter(None, (stem, of))) + ".json")
    return make(msgspec.json.decode(path.read_bytes())) if path.exists() else None


def rewritten(text: str, results: Path = RESULTS) -> str:
    """A document with the tables of its figures made anew."""

    def one(found: re.Match[str]) -> str:
        new = made(found[2], results)
        return found[0] if new is None else found[1] + new + found[4]

    return MARKED.sub(one, text)


def main() -> int:
    """Write, or check."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    stale = 0
    for path in sorted(DOCS.rglob("*.md")):
        text = path.read_text(encoding="utf-8")
        if (new := rewritten(text)) == text:
            continue
        stale += 1
        if not given.check:
            path.write_text(new, encoding="utf-8")
        print(f"{'out of date' if given.check else 'wrote'}: {path.relative_to(ROOT)}")
    return 1 if stale and given.check else 0


if __name__ == "__main__":
    sys.exit(main())
