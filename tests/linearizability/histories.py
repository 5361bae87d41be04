"""Recorded histories, as files.

*Ours*: one JSON object a line, in any order: `process`, `called`, `returned` (absent or null: the
outcome is unknown), `kind`, and what the kind needs of `key`, `value`, `expected`, `result`. Kinds
of a register are read, write and cas (whose `result` is null where the answer did not say whether
it was done); those of a `collection` are upsert, insert, update, delete, retrieve, count and
search, `value` the version of a point and a search's result a list of pairs of key and version.

*Jepsen's etcd tests*: lines with a process, `:invoke`, `:ok`, `:fail` or `:info`, then `:read`,
`:write` or `:cas`, and a value; the order of the lines is the time. `:info` and a read that failed
have unknown outcomes; a `:cas` that failed found another value.
"""

import math
import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from tests.linearizability.checker import UNKNOWN, Operation
from tests.linearizability.models import Ask, Points

_OF_REGISTERS = ("read", "write", "cas")
_OF_COLLECTIONS = ("upsert", "insert", "update", "delete", "retrieve", "count", "search")

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
    collection: Any = None


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
        if line.kind not in (*_OF_REGISTERS, *_OF_COLLECTIONS):
            kinds = ", ".join((*_OF_REGISTERS, *_OF_COLLECTIONS))
            raise BadHistory(f"line {number}: kind must be one of {kinds}, not {line.kind!r}")
        if line.returned is not None and line.returned < line.called:
            raise BadHistory(f"line {number}: returned before it was called")
        try:
            history.append(_operation(line))
        except TypeError:
            raise BadHistory(f"line {number}: a search found pairs of key and version") from None
    return history


def write_lines(history: Iterable[Operation]) -> Iterator[str]:
    """What `read_lines` reads, without ends of lines."""
    for operation in history:
        request, result = operation.request, operation.result
        if isinstance(request, Ask):
            asked = {"value": request.value, "expected": request.expected}
        else:
            asked = {"value": request.version, "collection": request.collection}
        line = Line(
            process=operation.process,
            called=operation.called,
            kind=request.kind,
            returned=operation.returned if operation.is_known else None,
            key=request.key,
            result=None if result is UNKNOWN else result,
            **asked,
        )
        yield msgspec.json.encode(line).decode()


def _operation(line: Line) -> Operation:
    returned = math.inf if line.returned is None else line.returned
    result = line.result
    if line.returned is None or (line.kind == "cas" and result is None):
        result = UNKNOWN
    elif line.kind == "search":
        result = frozenset((key, version) for key, version in result)
    request: Ask | Points
    if line.kind in _OF_REGISTERS:
        request = Ask(line.kind, line.key, line.value, line.expected)
    else:
        request = Points(line.kind, line.key, line.value, line.collection)
    return Operation(line.process, line.called, returned, request, result)


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
