"""Memory for copies of frozen chunks, used again and again.

A copy into fresh memory costs mostly page faults: 0.7 ms for 1 MiB where a copy into memory that
was written before costs 0.1 ms (measured on one core of a shared machine). The writer pays for
copies while readers of the database wait, so the memory of the last freeze is kept for the next.
"""

from threading import Lock
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from balsadb.columns.meta import CHUNK_BYTES
from balsadb.columns.reserve import Reserve

SEGMENT_BUFFERS = 8
"""Buffers are cut from segments large enough for huge pages."""
BUFFERS_KEPT_MAX = 64
"""Idle buffers kept: 64 MiB for the process. What is freed beyond goes back to the system."""


class Copy(NamedTuple):
    """The bytes of one chunk, in the first `length` bytes of a buffer."""

    buffer: NDArray[np.uint8]
    length: int

    @property
    def view(self) -> NDArray[np.uint8]:
        """The bytes; valid until the copy is given back."""
        return self.buffer[: self.length]


class CopyPool:
    """Buffers of one chunk each; any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._idle: list[NDArray[np.uint8]] = []

    def take(self, source: NDArray[np.uint8]) -> Copy:
        """Copy some bytes (a chunk; one of a single huge row is longer than a buffer)."""
        if source.size > CHUNK_BYTES:
            return Copy(source.copy(), source.size)
        with self._lock:
            if not self._idle:
                self._grow()
            buffer = self._idle.pop()
        buffer[: source.size] = source
        return Copy(buffer, source.size)

    def give(self, copy: Copy) -> None:
        """The copy's view is not read any more."""
        if copy.buffer.size != CHUNK_BYTES:
            return
        with self._lock:
            if len(self._idle) < BUFFERS_KEPT_MAX:
                self._idle.append(copy.buffer)

    def _grow(self) -> None:
        segment = Reserve(SEGMENT_BUFFERS * CHUNK_BYTES)
        segment.advise(segment.size)
        self._idle = list(segment.bytes.reshape(SEGMENT_BUFFERS, CHUNK_BYTES))


POOL = CopyPool()
"""One for the process: freezes of all columns come and go together."""
