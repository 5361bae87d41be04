"""Frames on a lane: a 4-byte little-endian length, then that many bytes.

A *lane* is one long-lived chunked POST from one node to another; what a lane carries never queues
behind another lane. The two directions between a pair of nodes are two POSTs, so an answer travels
on the lane of the node that answers.
"""

import struct

from balsadb.errors import LimitExceeded

CONTROL = "control"
APPEND = "append"
FORWARD = "forward"
BULK = "bulk"

FRAME_BYTES_MAX = {
    CONTROL: 1 << 20,
    APPEND: 16 << 20,
    FORWARD: 48 << 20,
    BULK: 16 << 20,
}
"""Lane -> the largest frame that it accepts; a longer one closes the lane."""

LANES = tuple(FRAME_BYTES_MAX)

PROTOCOL = 1
"""What lanes carry and mean. A version that only says more (fields at the end of what there is,
frames of new kinds) keeps the number; one that old nodes would misread raises it."""

HEADER_PROTOCOL = "balsa-protocol"
HEADER_SECRET = "balsa-secret"
HEADER_CLUSTER = "balsa-cluster"
HEADER_NODE = "balsa-node"
HEADER_ADDRESS = "balsa-address"
"""Where the node itself is reached by its peers: for those that have not heard of it yet."""
HEADER_PROCESS = "balsa-process"
"""A random word that differs between two runs of a node."""

_LENGTH = struct.Struct("<I")


def frame(payload: bytes) -> bytes:
    """`payload` with its length in front."""
    return _LENGTH.pack(len(payload)) + payload


class FrameReader:
    """Cuts a stream of bytes into frames; holds at most one frame and one network read."""

    def __init__(self, frame_bytes_max: int) -> None:
        self._frame_bytes_max = frame_bytes_max
        self._buffer = bytearray()

    @property
    def held_bytes(self) -> int:
        """Bytes of a frame that is not complete yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that `data` completes, in order.

        Raises `LimitExceeded` as soon as a length over the lane's maximum is seen, before any
        allocation of that size.
        """
        self._buffer += data
        frames: list[bytes] = []
        start = 0
        available = len(self._buffer)
        while available - start >= 4:
            (length,) = _LENGTH.unpack_from(self._buffer, start)
            if length > self._frame_bytes_max:
                raise LimitExceeded("frame", f"at most {self._frame_bytes_max} bytes, got {length}")
            if available - start - 4 < length:
                break
            frames.append(bytes(self._buffer[start + 4 : start + 4 + length]))
            start += 4 + length
        if start:
            del self._buffer[:start]
        return frames
