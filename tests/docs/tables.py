"""The tables of the documentation that come from code.

    python -m tests.docs.tables      # writes them anew, between their marks in docs/*.md

A table stands between `<!-- table: NAME -->` and `<!-- /table -->`; `test_docs.py` compares.
"""

import ast
import asyncio
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import balsadb.api.limits
import balsadb.database.limits
from balsadb import errors
from balsadb.api.routes import BY_OPERATION, ROUTES, MethodNotAllowed
from balsadb.api.statuses import STATUSES
from balsadb.api.unsupported import UNSUPPORTED
from balsadb.cli.settings import DEFAULTS, TABLE, Setting
from balsadb.database import Database
from balsadb.server.metrics import Metrics

ROOT = Path(__file__).resolve().parents[2]
MARKED = re.compile(r"(<!-- table: ([a-z-]+) -->\n)(.*?)(<!-- /table -->)", re.DOTALL)
MEBIBYTE = 1 << 20
MEANINGS: dict[type[errors.BalsaError], str] = {
    errors.BalsaError: "A defect of ours, or an error of no other kind.",
    errors.CollectionNotFound: "No collection has that name.",
}
"""Where the class itself speaks to programmers."""


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table with blank lines around it."""
    names = list(head)
    lines = [names, ["---"] * len(names), *(list(row) for row in rows)]
    cells = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
    return "\n" + "\n".join(cells) + "\n\n"


def figure(name: str, value: object) -> str:
    """A default or a maximum; bytes are shown in MiB beside it."""
    if "bytes" in name.lower() and isinstance(value, int) and value >= MEBIBYTE:
        return f"`{value}` ({value // MEBIBYTE} MiB)"
    return f"`{value}`"


def settings() -> str:
    """Every setting of a node, from the table that the command line reads."""

    def default(setting: Setting) -> str:
        value = DEFAULTS[setting.field]
        return "" if value in ("", {}) else figure(setting.field, value)

    rows = ([f"`{s.flag}`", f"`{s.variable}`", default(s), s.help] for s in TABLE)
    return table(["Flag", "Variable", "Default", "What it means"], rows)


def error_classes() -> Iterator[type[errors.BalsaError]]:
    """The tree, depth first, in the order of its source."""

    def below(kind: type[errors.BalsaError]) -> Iterator[type[errors.BalsaError]]:
        yield kind
        for child in kind.__subclasses__():
            if child.__module__ == errors.__name__:
                yield from below(child)

    yield from below(errors.BalsaError)
    yield MethodNotAllowed


def first_sentence(documented: object) -> str:
    """What a docstring begins with, up to its first full stop, on one line."""
    words = " ".join((inspect.getdoc(documented) or "").split("\n\n")[0].split())
    return re.split(r"(?<=\.)\s", words)[0]


def error_codes() -> str:
    """One line for each class of `balsadb.errors`, with its status on the wire."""
    rows: list[list[str]] = []
    for kind in error_classes():
        name = kind.__name__
        meaning = MEANINGS.get(kind) or first_sentence(kind)
        repeat = "yes" if kind.retryable else "no"
        status = str(STATUSES[kind.code].status)
        rows.append([f"`{kind.code}`", status, f"`{name}`", kind.outcome, repeat, meaning])
    return table(["Code", "Status", "Class", "Outcome", "Repeat as it is", "When"], rows)


def endpoints() -> str:
    """Every route."""
    rows = ([f"`{r.method} {r.path}`", r.kind, r.summary] for r in ROUTES)
    return table(["Endpoint", "Kind", "What it does"], rows)


def unsupported() -> str:
    """Every endpoint of the dialect that is known and not served."""
    return table(["Endpoint"], ([f"`{method} {path}`"] for method, path in UNSUPPORTED))


def limits_of(module: Any) -> str:
    """The maxima of a module: each constant and the text under it."""
    body = ast.parse(inspect.getsource(module)).body
    rows: list[list[str]] = []
    for position, node in enumerate(body):
        if not isinstance(node, ast.Assign):
            continue
        name = cast("ast.Name", node.targets[0]).id
        after = body[position + 1] if position + 1 < len(body) else None
        text = ""
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            text = " ".join(str(after.value.value).split())
        rows.append([f"`{name}`", figure(name, getattr(module, name)), text])
    return table(["Name", "Value", "Of what"], rows)


def metrics() -> str:
    """Every family of `GET /metrics`, as a leader with two peers shows them."""

    class Everything(dict[str, Any]):
        """A status that has every figure."""

        def get(self, key: str, default: Any = None) -> Any:
            del default
            groups = {
                *("checkpoint", "snapshot", "linker", "frames"),
                *("longest_lock_hold", "codes", "disk"),
            }
            if key in {"peers", "addresses"}:
                return {"2": {"lag": 0}}
            return Everything() if key in groups else {"wal": 0} if key == "queues" else 0

    class Fake:
        """The two methods of a service that metrics ask."""

        async def status(self) -> Mapping[str, Any]:
            return Everything()

        async def read(self, function: Callable[[Database], Any], **options: Any) -> Any:
            del options
            return function(Database())

    exposed = Metrics("0")
    exposed.observe(BY_OPERATION["query_points"], 200, 0.001)
    text = asyncio.run(exposed.render(cast("Any", Fake()))).decode()
    helps = dict(re.findall(r"^# HELP (\S+) (.*)$", text, re.MULTILINE))
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    names = [name for name in kinds if not name.endswith("_created")]
    rows = ([f"`{name}`", kinds[name], helps[name]] for name in names)
    return table(["Name", "Kind", "What it is"], rows)


TABLES: dict[str, Callable[[], str]] = {
    "settings": settings,
    "errors": error_codes,
    "endpoints": endpoints,
    "unsupported": unsupported,
    "metrics": metrics,
    "request-limits": lambda: limits_of(balsadb.api.limits),
    "database-limits": lambda: limits_of(balsadb.database.limits),
}


def rewritten(text: str) -> str:
    """A document with its tables as the code has them now."""
    return MARKED.sub(lambda found: found[1] + TABLES[found[2]]() + found[4], text)


def main() -> None:
    """Write the tables of all documents."""
    for path in sorted((ROOT / "docs").rglob("*.md")):
        text = path.read_text(encoding="utf-8")
        if (new := rewritten(text)) != text:
            path.write_text(new, encoding="utf-8")
            sys.stdout.write(f"wrote {path.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
