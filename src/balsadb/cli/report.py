"""What the demo found: checks that held or did not, and figures."""

from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table


class Check(msgspec.Struct, frozen=True):
    """One statement about the system, whether it held, and what was seen."""

    name: str
    ok: bool
    seen: str


class Report(msgspec.Struct):
    """The checks in the order in which they were made, and the figures behind them."""

    checks: list[Check] = []
    figures: dict[str, Any] = {}

    @property
    def ok(self) -> bool:
        """Whether something was checked and all of it held."""
        return bool(self.checks) and all(check.ok for check in self.checks)

    def check(self, name: str, ok: bool, seen: str) -> None:
        """Note that `name` held or not, and what was seen."""
        self.checks.append(Check(name, ok, seen))

    def to_json(self) -> str:
        """One JSON object with `ok`, `checks` and `figures`."""
        found = {"ok": self.ok, "checks": self.checks, "figures": self.figures}
        return msgspec.json.format(msgspec.json.encode(found)).decode()

    def show(self, console: Console) -> None:
        """Print the summary table."""
        table = Table("", "check", "seen", title="BalsaDB demo")
        for check in self.checks:
            mark = "[green]ok[/green]" if check.ok else "[red]FAILED[/red]"
            table.add_row(mark, check.name, check.seen)
        console.print(table)
        console.print("[green]All held.[/green]" if self.ok else "[red]Not all held.[/red]")
