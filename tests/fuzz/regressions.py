"""Inputs that once broke something, by target: each is checked on every run.

Written as code where the bytes have a shape, so that they still mean the same when a format moves.
"""

from typing import Any

import msgspec

from balsadb.cluster.rpc import Call
from balsadb.raft import AppendRequest, Heartbeat, Message
from balsadb.types import Entry, LogIndex, NodeId, Term

NESTED = b"\x91" * 5000


def _pack(value: Any) -> bytes:
    return msgspec.msgpack.encode(value)


def _no_text(value: Any) -> bytes:
    """Packed, with bytes that are no UTF-8 in place of a text `@@`."""
    return _pack(value).replace(b"@@", b"\xff\xfe")


def _frame(term: int, body: Any) -> bytes:
    return b"R" + _pack(Message(NodeId(2), NodeId(1), Term(term), body))


def _append(*entries: tuple[int, int]) -> AppendRequest:
    """After (3, 1)."""
    made = [Entry(LogIndex(index), Term(term), 0, b"") for index, term in entries]
    return AppendRequest(LogIndex(3), Term(1), LogIndex(0), made)


def _manifest(*column: Any) -> bytes:
    return _pack([5, 2, b"", 7, 0, 1, [[column, []]]])


REGRESSIONS: dict[str, list[bytes]] = {
    # A text that is no UTF-8 is a UnicodeDecodeError, not one of the decoder's own.
    "manifest_body": [
        _no_text([5, 2, b"", 7, 0, 1, [[["@@", "<u8", [], 0, 8], []]]]),
        _pack([5, 2, b"", 7, 0, 1, []])[:-1] + NESTED,
        # Columns that no node can make: a checkpoint of them ended the node that fetched it.
        _manifest("a", "O", [], 0, 8),
        _manifest("a", ">u8", [], 0, 8),
        _manifest("a", "<f4", [-2, -2], 0, 8),
        _manifest("a", "<f4", [], 0, 2**63 - 1),
        _manifest("a", "|V9", [1 << 40], 0, 1 << 40),
        _manifest("a", "f4,f4", [], 0, 8),
        # Numbers that no file name holds.
        _pack([-5, 2, b"", 7, 0, 1, []]),
        _pack([2**64 - 1, 2, b"", 7, 0, 1, []]),
    ],
    "frame": [
        # A term taken over and counted up did not fit the log's record any more.
        _frame(2**64 - 1, Heartbeat(LogIndex(0))),
        _frame(-1, Heartbeat(LogIndex(0))),
        # Entries that stand in no log reached the assertions of the log.
        _frame(2, _append((5, 1))),
        _frame(2, _append((4, 2), (4, 2))),
        _frame(2, _append((4, 2), (5, 1))),
        _frame(2, _append((4, 3))),
        _frame(2, _append((4, 0))),
        b"R" + NESTED,
        b"P" + NESTED,
        b"P" + _no_text([7, 0, 2, 1, 22, [6, 4, "@@", True]]),
    ],
    "call": [_no_text(Call(1, "@@", b"")), _pack(["call", 1, "x", b"", 1])[:-1] + NESTED],
    "change": [
        _no_text([[["@@", 4]], "auto", b""]),
        _pack([[], "auto", b"", 1])[:-1] + NESTED,
        _pack([[["voter", 4]], "auto", _no_text([{4: "@@"}])]),
        _pack([[["voter", -4]], "auto", b""]),
    ],
    "members": [
        b"",
        b"?",
        _no_text([[1], [], [], [], [], False, [[4, "@@"]]]),
        _pack([[1], [], 1])[:-1] + NESTED,
    ],
    "command": [
        b"",
        b"\x01",
        b"\x01\x90",
        b"\x01" + _no_text([1, [bytes(16), 1], "@@", b"{}"]),
        b"\x01" + _pack([9, [bytes(16), 1], 1])[:-1] + NESTED,
    ],
}
