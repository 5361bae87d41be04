"""What drivers say to each other, as bytes.

A frame is one tag byte and a msgpack body: `R` a Raft message (its own envelope), `P` a packet: the
snapshot protocol (pull: the receiver asks), refusals, and trouble with the disk. Both carry
cluster, group, source, target and the source's disk; a frame of another cluster or group is
dropped.
"""

from typing import Annotated, Literal, TypeAlias

import msgspec

from balsadb.errors import MalformedBody
from balsadb.raft import Message
from balsadb.raft import decode as decode_message
from balsadb.raft import encode as encode_message
from balsadb.types import NUMBER, ClusterId, DiskId, GroupId, LogIndex, NodeId

DIGEST_BYTES = 16

_Index: TypeAlias = Annotated[LogIndex, NUMBER]


class ManifestRequest(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """Send me the manifest of your checkpoint at `index`."""

    index: _Index


class ManifestData(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """The manifest asked for, as it lies on the sender's disk."""

    index: _Index
    data: bytes


class ChunkRequest(msgspec.Struct, array_like=True, frozen=True, tag=3):
    """Send me the chunk with this digest; `index` says for which checkpoint."""

    index: _Index
    digest: bytes


class ChunkData(msgspec.Struct, array_like=True, frozen=True, tag=4):
    """The chunk asked for. The digest decides, not the checkpoint: chunks are content-addressed."""

    index: _Index
    digest: bytes
    data: bytes


class Gone(msgspec.Struct, array_like=True, frozen=True, tag=5):
    """What was asked for the checkpoint at `index` is not here (any more); start over."""

    index: _Index


class Refused(msgspec.Struct, array_like=True, frozen=True, tag=6):
    """The target's messages are refused: it speaks from `disk`, but the log says otherwise; or it
    was removed."""

    disk: Annotated[DiskId, NUMBER]
    reason: str
    removed: bool = False


Space = Literal["enough", "low", "full"]
"""How much room a node's disk has (`balsadb.cluster.disk_watch`)."""


class DiskTrouble(msgspec.Struct, array_like=True, frozen=True, tag=7):
    """My disk has little space left, or its sync hangs. Repeated as long as it is so."""

    space: Space
    free_bytes: int
    stalled: bool


PacketBody = (
    ManifestRequest | ManifestData | ChunkRequest | ChunkData | Gone | Refused | DiskTrouble
)


class Packet(msgspec.Struct, array_like=True, frozen=True):
    """Everything between drivers that is not Raft."""

    cluster: Annotated[ClusterId, NUMBER]
    group: Annotated[GroupId, NUMBER]
    source: Annotated[NodeId, NUMBER]
    target: Annotated[NodeId, NUMBER]
    source_disk: Annotated[DiskId, NUMBER]
    body: PacketBody


PeerFrame = Message | Packet

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Packet)


def encode_packet(packet: Packet) -> bytes:
    """The frame of a packet."""
    return b"P" + _encoder.encode(packet)


def encode_raft(message: Message) -> bytes:
    """The frame of a Raft message."""
    return b"R" + encode_message(message)


def decode_frame(data: bytes) -> PeerFrame:
    """The frame's content. Raises `MalformedBody` for anything that is not a frame."""
    try:
        if data[:1] == b"R":
            return decode_message(data[1:])
        if data[:1] == b"P":
            return _decoder.decode(memoryview(data)[1:])
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise MalformedBody("frame", f"is not a peer frame: {error}") from error
    raise MalformedBody("frame", "is neither a Raft message nor a packet")
