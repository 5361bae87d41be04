"""How commands show what they found: a table for people, or JSON with everything."""

import enum
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import typer


class Output(enum.Enum):
    """How answers are shown."""

    TABLE = "table"
    JSON = "json"


Shown = Annotated[Output, typer.Option("--output", "-o", help="table or json.")]
AsJson = Annotated[bool, typer.Option("--json", help="The same as -o json.")]


def wants_json(output: Output, as_json: bool) -> bool:
    """Whether either of the two options asks for JSON."""
    return as_json or output is Output.JSON


def print_json(found: object) -> None:
    """One line."""
    print(msgspec.json.encode(found).decode())


def show(found: Sequence[dict[str, Any]], columns: Sequence[str], *, as_json: bool) -> None:
    """All of it as JSON, or the columns of it as a table; what is not known is a dash."""
    if as_json:
        print_json(found)
        return
    print_table(columns, [[_cell(one.get(name)) for name in columns] for one in found])


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as what is in them, so that nothing is cut, whatever the terminal."""
    lines = [columns, *rows]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    for line in lines:
        cells = (text.ljust(width) for text, width in zip(line, widths, strict=True))
        print("  ".join(cells).rstrip())


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else str(value)
