"""Fenced blocks of the documentation, and how to run them against a cluster of the test."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FENCED = re.compile(
    r"^(?:<!-- not run: ([^\n]+) -->\n)?```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE
)
SECONDS_MAX = 60
SAME_WORDS = (
    (re.compile(r"\d+"), "#"),
    (re.compile(r"\b(?:leader|follower)\b"), "leader|follower"),
    (re.compile(r"\b(?:started|already running)\b"), "started"),
    (re.compile(r"\s+"), " "),
)
"""What differs from run to run: numbers, who leads, whether a node ran before, columns' widths."""


@dataclass(frozen=True)
class Block:
    """One block: where it begins, its language, and why it is not run (None: it is)."""

    path: Path
    line: int
    language: str
    text: str
    reason: str | None

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"


@dataclass(frozen=True)
class Step:
    """One command of a console block and the lines that it must print, in this order."""

    command: str
    expected: tuple[str, ...]


def blocks(path: Path) -> Iterator[Block]:
    """All fenced blocks of a document."""
    text = path.read_text(encoding="utf-8")
    for found in FENCED.finditer(text):
        line = text.count("\n", 0, found.start(3)) + 1
        yield Block(path, line, found[2], found[3], found[1])


def steps(block: Block) -> list[Step]:
    """The commands of a console block."""
    found: list[Step] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append(Step(line[2:], ()))
        elif line.strip() != "...":
            last = found.pop()
            found.append(Step(last.command, (*last.expected, line)))
    return found


def script(path: Path) -> str:
    """The Python blocks of a document as one script whose line numbers are the document's."""
    lines: list[str] = []
    for block in blocks(path):
        if block.language == "python" and block.reason is None:
            lines += [""] * (block.line - 1 - len(lines)) + block.text.splitlines()
    return "\n".join(lines) + "\n" if lines else ""


def missing(expected: tuple[str, ...], printed: str) -> str:
    """The first expected line that was not printed after those before it; empty if all were."""
    lines = iter([same(line) for line in printed.splitlines()])
    for wanted in expected:
        pattern = ".*".join(re.escape(part) for part in same(wanted).split("..."))
        if not any(re.fullmatch(pattern, line) for line in lines):
            return wanted
    return ""


def same(line: str) -> str:
    """A line without what differs from run to run."""
    for pattern, word in SAME_WORDS:
        line = pattern.sub(word, line)
    return line.strip()


def rewrite(text: str, ports: Mapping[int, int]) -> str:
    """The text with the documented ports replaced by those of the test's cluster."""
    return re.sub(r"127\.0\.0\.1:(\d+)", lambda m: f"127.0.0.1:{ports[int(m[1])]}", text)


def run(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program with the tools of this environment first in its path."""
    own = {name: text for name, text in os.environ.items() if not name.startswith("PYTEST_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        arguments,
        cwd=folder,
        env={**own, "PATH": path, "COLUMNS": "100", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
