"""A small state machine for the simulator: a few registers, sessions, and a chained digest, all in
columns, so that checkpoints and snapshots of it go through the real code."""

from hashlib import blake2b
from typing import Any

import msgspec
import numpy as np

from balsadb.columns import ColumnSet
from balsadb.types import LogIndex

KEYS = 8
CLIENTS = 8
PIECES = 6
"""Further columns, one written by each command: a checkpoint has several chunks, some unchanged."""


class Command(msgspec.Struct, array_like=True, frozen=True):
    """Set `key` to `value`; applied once for each (client, sequence)."""

    client: int
    sequence: int
    key: int
    value: int
    padding: bytes


_decoder = msgspec.msgpack.Decoder(Command)


def encode_command(command: Command) -> bytes:
    """For the log."""
    return msgspec.msgpack.encode(command)


class Register:
    """`values[key]`, `versions[key]` (the log index that set it), `sessions` (last sequence and
    its index by client), `chain` (digest over all commands)."""

    def __init__(self, columns: ColumnSet | None = None) -> None:
        if columns is None:
            columns = ColumnSet()
            columns.create("values", np.int64, rows_max=KEYS).resize(KEYS)
            columns.create("versions", np.int64, rows_max=KEYS).resize(KEYS)
            columns.create("sessions", np.int64, (2,), rows_max=CLIENTS).resize(CLIENTS)
            columns.create("chain", np.uint8, rows_max=16).resize(16)
            for piece in range(PIECES):
                columns.create(f"piece{piece}", np.int64, rows_max=64).resize(64)
        self._columns = columns

    @property
    def columns(self) -> ColumnSet:
        """Everything it remembers."""
        return self._columns

    @property
    def chain(self) -> bytes:
        """16 bytes that depend on every command applied so far, in order."""
        return self._columns["chain"].used.tobytes()

    def apply(self, index: LogIndex, data: bytes, /) -> Any:
        """("set" or "repeated" or "late", the log index that did it)."""
        columns = self._columns
        command = _decoder.decode(data)
        digest = blake2b(self.chain + index.to_bytes(8, "little") + data, digest_size=16).digest()
        columns["chain"].touch(0, 16)
        columns["chain"].data[:16] = np.frombuffer(digest, np.uint8)
        sequence, done_at = columns["sessions"].data[command.client]
        if command.sequence == sequence:
            return ("repeated", int(done_at))
        if command.sequence < sequence:
            return ("late", 0)
        columns["sessions"].put(command.client, (command.sequence, index))
        columns["values"].put(command.key, command.value)
        columns["versions"].put(command.key, index)
        columns[f"piece{command.value % PIECES}"].put(command.value % 64, command.value)
        return ("set", int(index))

    def read(self, key: int) -> tuple[int, int]:
        """(value, the log index that set it)."""
        columns = self._columns
        return int(columns["values"].data[key]), int(columns["versions"].data[key])
