"""Recorded histories, as files.

*Ours*: one JSON object a line, in any order: `process`, `called`, `returned` (absent or null: the
outcome is unknown), `kind`, and what the kind needs of `key`, `value`, `expected`, `result`.

*Jepsen's etcd tests*: lines with a process, `:invoke`, `:ok`, `:fail` or `:info`, then `:read`,
`:write` or `:cas`, and a value; the order of the lines is the time. `:info` and a read that failed
have unknown outcomes; a `:cas` that failed found another value.
"""

import math
import re
from collections.abc import Iterable
from typing import Any

import msgspec

from tests.linearizability.checker import UNKNOWN, Operation
from tests.linearizability.models import Ask

_LINE = re.compile(r"(\d+)\s+:(invoke|ok|fail|info)\s+:(read|write|cas)\s+(.*\S)\s*$")


class Line(msgspec.Struct, kw_only=True):
    """One operation of our own."""

    process: int
    called: float
    kind: str
    returned: float | None = None
    key: Any = None
    value: Any = None
    expected: Any = None
    result: Any = None


class BadHistory(ValueError):
    """A line that cannot be read, by its number."""


def read_lines(lines: Iterable[str]) -> list[Operation]:
    """Our own lines. BadHistory names the first bad one."""
    history: list[Operation] = []
    decoder = msgspec.json.Decoder(Line)
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            line = decoder.decode(text)
        except msgspec.DecodeError as error:
            raise BadHistory(f"line {number}: {error}") from error
        if line.kind not in ("read", "write", "cas"):
            raise BadHistory(f"line {number}: kind must be read, write or cas, not {line.kind!r}")
        known = line.returned is not None
        if known and line.returned < line.called:
            raise BadHistory(f"line {number}: returned before it was called")
        history.append(
            Operation(
                line.process,
                line.called,
                line.returned if known else math.inf,
                Ask(line.kind, line.key, line.value, line.expected),
                line.result if known else UNKNOWN,
            )
        )
    return history


def read_jepsen(lines: Iterable[str]) -> list[Operation]:
    """A log of Jepsen's etcd tests; other lines are passed over. BadHistory for an answer to
    nothing, or a second call of a process that waits."""
    history: list[Operation] = []
    waiting: dict[int, tuple[int, Ask]] = {}
    for number, text in enumerate(lines, 1):
        found = _LINE.search(text)
        if found is None:
            continue
        process, event, kind, value = int(found[1]), found[2], found[3], found[4]
        if event == "invoke":
            if process in waiting:
                raise BadHistory(f"line {number}: process {process} has not got its answer yet")
            waiting[process] = number, _ask(kind, value)
            continue
        if process not in waiting:
            raise BadHistory(f"line {number}: process {process} did not ask for anything")
        called, ask = waiting.pop(process)
        if event == "fail" and kind == "write":
            continue  # surely not done
        known = event == "ok" or (event == "fail" and kind == "cas")
        result: Any = UNKNOWN
        if known:
            result = _number(value) if kind == "read" else event == "ok"
        history.append(Operation(process, called, number if known else math.inf, ask, result))
    for process, (called, ask) in waiting.items():
        history.append(Operation(process, called, math.inf, ask, UNKNOWN))
    return history


def _ask(kind: str, value: str) -> Ask:
    if kind == "read":
        return Ask("read")
    numbers = [_number(word) for word in value.strip("[]").split()]
    if kind == "write":
        return Ask("write", None, numbers[0])
    return Ask("cas", None, numbers[1], numbers[0])


def _number(word: str) -> int | None:
    return None if word == "nil" else int(word)
