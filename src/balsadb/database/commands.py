"""What the log carries: versioned, tagged records, encoded once by the leader.

The first byte is the format's version, the rest one msgpack array. Everything that could differ
between nodes is fixed here by the leader: vectors are normalised and travel as raw little-endian
float32, payloads as canonical JSON, a filter as the ids it selected with the version of each point
that the leader saw. Each command names the session, sequence and part it belongs to, and the uid
of its collection, so that it can neither be applied twice nor hit a namesake created later.
"""

import msgspec

from balsadb.errors import Corruption, NewerFormat

COMMAND_VERSION = 1
_PREFIX = bytes([COMMAND_VERSION])

SET, OVERWRITE, DELETE_KEYS, CLEAR = 0, 1, 2, 3
"""`ChangePayload.action`."""


class Origin(msgspec.Struct, array_like=True, frozen=True):
    """The request a command is a part of.

    `part` counts from 0; `last` is set on the final one. `resolved`: the parts were computed from
    the state (a filter), so a retry may be cut differently; only its completion is remembered.
    """

    session: bytes
    sequence: int
    part: int = 0
    last: bool = True
    resolved: bool = False


class Command(msgspec.Struct, array_like=True, frozen=True):
    """Base of all commands."""

    origin: Origin


class CreateCollectionCommand(Command, tag=1, frozen=True):
    """`schema` is the canonical JSON of `schema.Schema`; the uid becomes the entry's log index."""

    name: str
    schema: bytes


class DropCollectionCommand(Command, tag=2, frozen=True):
    """Remove a collection. uid 0: it did not exist when the leader looked."""

    uid: int
    name: str


class ReplaceSchemaCommand(Command, tag=3, frozen=True):
    """New value of the parts of a schema that may change: `change` is canonical JSON of
    `schema.SchemaChange`."""

    uid: int
    change: bytes


class VectorPart(msgspec.Struct, array_like=True, frozen=True):
    """Vectors of one name: its ordinal in the schema, uint32 positions, float32 values, both raw
    little-endian."""

    ordinal: int
    positions: bytes
    values: bytes


class UpsertCommand(Command, tag=4, frozen=True):
    """Points with distinct ids. `ids`: packed (`point_ids`), `payload_lengths`: uint32 each,
    `payloads`: the canonical JSON texts end to end (length 0: the empty payload)."""

    uid: int
    ids: bytes
    payload_lengths: bytes
    payloads: bytes
    vectors: list[VectorPart]


class DeleteCommand(Command, tag=5, frozen=True):
    """Delete points. `versions`: uint64 each, or empty; a point whose version is another one is
    left alone."""

    uid: int
    ids: bytes
    versions: bytes


class ChangePayloadCommand(Command, tag=6, frozen=True):
    """Change the payloads of points. `payload`: canonical JSON, `keys`: paths (for `SET`, the
    path to merge at, or nothing); `versions` as in `DeleteCommand`."""

    uid: int
    action: int
    ids: bytes
    versions: bytes
    payload: bytes
    keys: list[str]


class LinkCommand(Command, tag=7, frozen=True):
    """A planned change of one graph (`balsadb.index`)."""

    uid: int
    ordinal: int
    edit: bytes


class CompactHeapCommand(Command, tag=8, frozen=True):
    """Rewrite a collection's payload heap without its dead bytes."""

    uid: int


class MarkerCommand(Command, tag=9, frozen=True):
    """Nothing."""


AnyCommand = (
    CreateCollectionCommand
    | DropCollectionCommand
    | ReplaceSchemaCommand
    | UpsertCommand
    | DeleteCommand
    | ChangePayloadCommand
    | LinkCommand
    | CompactHeapCommand
    | MarkerCommand
)

NO_ORIGIN = Origin(bytes(16), 0)
"""Of commands that the leader proposes on its own account."""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(AnyCommand)


def encode(command: AnyCommand) -> bytes:
    """The bytes of an entry."""
    return _PREFIX + _encoder.encode(command)


def decode(data: bytes) -> AnyCommand:
    """The command of an entry. `NewerFormat` if a newer leader wrote it, `Corruption` if nobody can
    have: this node must stop."""
    if data[:1] != _PREFIX:
        if not data:
            raise Corruption("the log holds a command without a byte")
        raise NewerFormat(
            f"the log holds a command of version {data[0]}, this program knows {COMMAND_VERSION}: "
            "upgrade this node"
        )
    try:
        return _decoder.decode(memoryview(data)[1:])
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise Corruption(f"the log holds a command that cannot be read: {error}") from error
