"""At most once: what was answered to the newest requests of each session.

Columns: `sessions/key` (uint64 (n, 2)): the session's 16 bytes, zero where free; `sessions/used`
(uint64): log index of its newest command; `sessions/recent` (uint64 (n, SESSION_WINDOW, 4)): for
sequence s, at place s mod SESSION_WINDOW: s, log index, packed answer, parts applied (its top bit:
all of them). From session to row there is a derived dictionary.

A part is applied if it is the next one of its sequence; an earlier one is answered from memory; a
later one is refused (its predecessors were lost on the way, the request has to be sent again). A
sequence that has left the window is `SessionExpired`: whether it was applied is no longer known. So
is a session unknown with a sequence beyond the first window, once sessions have been forgotten; a
session that begins later than that, because its first requests were all refused, has to be renamed.
"""

from typing import Final

import numpy as np

from balsadb.columns import Column, ColumnSet
from balsadb.database import limits
from balsadb.database.commands import Origin
from balsadb.database.results import Result
from balsadb.errors import (
    AlreadyExists,
    CollectionReplaced,
    LimitExceeded,
    NotFound,
    SessionExpired,
    Unavailable,
)
from balsadb.types import LogIndex

DONE: Final = 1 << 63
_ERRORS: Final = {
    AlreadyExists.code: (1, "the name already exists"),
    CollectionReplaced.code: (2, "the collection was dropped before this request was applied"),
    NotFound.code: (3, "not found"),
    LimitExceeded.code: (4, "a named maximum was reached"),
}
_BY_NUMBER: Final = {number: (code, text) for code, (number, text) in _ERRORS.items()}
_BOOLEAN, _INTEGER, _ERROR = 1, 2, 3
"""Low two bits of a packed answer; 0: None."""


class Sessions:
    """The remembered answers."""

    def __init__(self, columns: ColumnSet) -> None:
        """Create the columns, or adopt them when they are there."""
        self._key = _column(columns, "sessions/key", (2,))
        self._used = _column(columns, "sessions/used", ())
        self._recent = _column(columns, "sessions/recent", (limits.SESSION_WINDOW, 4))
        self._rows = {
            self._key.data[row].tobytes(): row
            for row in range(self._key.rows)
            if self._key.data[row].any()
        }

    def recall(self, origin: Origin) -> Result | None:
        """The answer of a command that must not be applied (again); None: apply it."""
        if not any(origin.session):
            return None
        row = self._rows.get(origin.session)
        sequence = log_index = answer = parts = 0
        if row is not None:
            place = origin.sequence % limits.SESSION_WINDOW
            sequence, log_index, answer, parts = self._recent.data[row, place].tolist()
        elif self._key.rows >= limits.SESSIONS_MAX and origin.sequence >= limits.SESSION_WINDOW:
            return _expired()
        if not parts or sequence < origin.sequence:
            parts = 0
        elif sequence > origin.sequence:
            return _expired()
        elif parts & DONE or (origin.part < parts and not origin.resolved):
            return _unpack(log_index, answer)
        return None if origin.part <= parts else _gap()

    def is_done(self, session: bytes, sequence: int) -> bool:
        """Whether the whole request was applied here, and its answer is remembered. Any thread."""
        row = self._rows.get(session)
        if row is None:
            return False
        known, _, _, parts = self._recent.data[row, sequence % limits.SESSION_WINDOW].tolist()
        # The row may have been given to another session meanwhile: its key changes first.
        same = self._key.data[row].tobytes() == session
        return same and known == sequence and bool(parts & DONE)

    def record(self, origin: Origin, result: Result) -> None:
        """Remember the answer of a command that was applied, or that failed for good."""
        if not any(origin.session):
            return
        row = self._rows.get(origin.session)
        if row is None:
            row = self._open(origin.session)
        place = origin.sequence % limits.SESSION_WINDOW
        parts = origin.part + 1
        # A failed part fails the request: the parts after it answer alike.
        if origin.last or result.error is not None:
            parts |= DONE
        self._used.put(row, result.log_index)
        self._recent.touch(row, row + 1)
        self._recent.data[row, place] = (origin.sequence, result.log_index, _pack(result), parts)

    def _open(self, session: bytes) -> int:
        """A row for a new session: one more, or that of the session used longest ago."""
        row = self._key.rows
        if row < limits.SESSIONS_MAX:
            for column in (self._key, self._used, self._recent):
                column.resize(row + 1)
        else:
            row = int(np.argmin(self._used.used))
            del self._rows[self._key.data[row].tobytes()]
            self._recent.put(row, 0)
        self._key.put(row, np.frombuffer(session, np.uint64))
        self._rows[session] = row
        return row


def _pack(result: Result) -> int:
    if result.error is not None:
        return _ERRORS[result.error[0]][0] << 2 | _ERROR
    if result.value is None:
        return 0
    return int(result.value) << 2 | (_BOOLEAN if isinstance(result.value, bool) else _INTEGER)


def _unpack(log_index: int, answer: int) -> Result:
    kind, value = answer & 3, answer >> 2
    index = LogIndex(log_index)
    if kind == _ERROR:
        return Result(index, None, _BY_NUMBER[value])
    return Result(index, None if not kind else bool(value) if kind == _BOOLEAN else value)


def error_text(code: str) -> tuple[str, str]:
    """The (code, message) of an error result: fixed texts, so that a repeated command answers with
    the very words of the first."""
    return code, _ERRORS[code][1]


def _expired() -> Result:
    return Result(
        LogIndex(0),
        None,
        (SessionExpired.code, "the answers to this session's request are no longer remembered"),
    )


def _gap() -> Result:
    return Result(
        LogIndex(0),
        None,
        (Unavailable.code, "an earlier part of this request was not applied: send it again"),
    )


def _column(columns: ColumnSet, name: str, row_shape: tuple[int, ...]) -> Column:
    if name in columns:
        return columns[name]
    return columns.create(name, np.uint64, row_shape, rows_max=limits.SESSIONS_MAX)
