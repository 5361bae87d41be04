"""Frames as a later version would send them, for clusters that are upgraded node by node.

There is one version of the protocol yet. What a later one may do without asking the others first is
to say more: fields at the end of an envelope or of a body. This version must read past them. (New
kinds of messages or of log entries need that all members know them; those are not simulated.)
"""

from typing import Any

import msgspec

BODY_AT = {b"R": 3, b"P": 5}
"""Where the body stands in the envelope, by the frame's tag (`balsadb.cluster.frames`)."""
MORE = {"hint": [1, 2, 3]}


def of_next_version(frame: bytes) -> bytes:
    """The same frame with a field more in the envelope and one in the body."""
    tag = frame[:1]
    envelope: list[Any] = msgspec.msgpack.decode(memoryview(frame)[1:])
    at = BODY_AT[tag]
    # The fields of the body are all there, so the next is one that this version does not know.
    envelope[at] = [*envelope[at], MORE]
    return tag + msgspec.msgpack.encode([*envelope, MORE])
