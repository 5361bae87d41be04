"""What the demo found: checks that held or did not, and figures."""

from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

MARKS = {True: "[green]ok[/green]", False: "[red]FAILED[/red]", None: ""}


class Check(msgspec.Struct, frozen=True):
    """One statement about the system, whether it held (None: only a figure), and what was seen."""

    name: str
    ok: bool | None
    seen: str


class Report(msgspec.Struct):
    """The checks in the order in which they were made, and the figures behind them."""

    checks: list[Check] = []
    figures: dict[str, Any] = {}

    @property
    def ok(self) -> bool:
        """Whether something was checked and all of it held."""
        return bool(self.checks) and not any(check.ok is False for check in self.checks)

    def check(self, name: str, ok: bool, seen: str) -> None:
        """Note that `name` held or not, and what was seen."""
        self.checks.append(Check(name, ok, seen))

    def note(self, name: str, seen: str) -> None:
        """Note a figure that is shown and does not decide."""
        self.checks.append(Check(name, None, seen))

    def to_json(self) -> str:
        """One JSON object with `ok`, `checks` and `figures`."""
        found = {"ok": self.ok, "checks": self.checks, "figures": self.figures}
        return msgspec.json.format(msgspec.json.encode(found)).decode()

    def show(self, console: Console) -> None:
        """Print the summary table."""
        table = Table("", "check", "seen", title="BalsaDB demo")
        for check in self.checks:
            table.add_row(MARKS[check.ok], check.name, check.seen)
        console.print(table)
        console.print("[green]All held.[/green]" if self.ok else "[red]Not all held.[/red]")
