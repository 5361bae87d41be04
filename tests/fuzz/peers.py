"""Targets of what comes from other nodes, or was put into the log by one: frames of a lane, calls,
changes of members, commands."""

from collections.abc import Coroutine
from typing import Any, TypeVar, cast

import msgspec

from balsadb.cluster.frames import (
    ChunkData,
    ChunkRequest,
    Gone,
    ManifestData,
    ManifestRequest,
    Packet,
    Refused,
    decode_frame,
    encode_packet,
    encode_raft,
)
from balsadb.cluster.members import Members as Table
from balsadb.cluster.members import encode_places
from balsadb.cluster.peer_app import PeerApp
from balsadb.cluster.rpc import Call, RawRequest, Reply, decode_call
from balsadb.cluster.wire import (
    CONTROL,
    FRAME_BYTES_MAX,
    HEADER_CLUSTER,
    HEADER_NODE,
    HEADER_SECRET,
    frame,
)
from balsadb.database import commands
from balsadb.errors import BalsaError, Corruption, MalformedBody, NewerFormat
from balsadb.raft import (
    AppendRequest,
    AppendResponse,
    Change,
    Heartbeat,
    HeartbeatResponse,
    Members,
    MembersChange,
    Message,
    ReadIndexRequest,
    ReadIndexResponse,
    SnapshotMeta,
    SnapshotOffer,
    TimeoutNow,
    TransferLeader,
    VoteRequest,
    VoteResponse,
    decode_change,
    encode_change,
)
from balsadb.raft.changes import changed
from balsadb.types import ClusterId, DiskId, Entry, GroupId, LogIndex, NodeId, Term

NUMBER_MAX = 2**63 - 1
T = TypeVar("T")


def index(number: int) -> LogIndex:
    """Short for the many below."""
    return LogIndex(number)


# --- frames ------------------------------------------------------------------------------------


def bodies() -> list[Any]:
    """One of each kind, and appends of several entries."""
    entries = [Entry(index(i), Term(2), i % 3, b"data" * i) for i in range(4, 8)]
    voters = Members.of([1, 2, 3], [1, 2], [4])
    return [
        AppendRequest(index(3), Term(1), index(3), entries),
        AppendRequest(index(3), Term(1), index(3), []),
        AppendResponse(index(3), rejected=True, hint_index=index(2), hint_term=Term(1)),
        Heartbeat(index(3), 5),
        HeartbeatResponse(5),
        VoteRequest(index(3), Term(1), pre_vote=True, commit=index(2), commit_term=Term(1)),
        VoteResponse(rejected=True, commit=index(2), commit_term=Term(1)),
        ReadIndexRequest(1 << 40),
        ReadIndexResponse(1 << 40, index(3)),
        SnapshotOffer(SnapshotMeta(index(9), Term(2), voters)),
        TransferLeader(NodeId(2)),
        TimeoutNow(),
    ]


def packet_bodies() -> list[Any]:
    """One of each kind."""
    return [
        ManifestRequest(index(5)),
        ManifestData(index(5), b"manifest"),
        ChunkRequest(index(5), b"d" * 16),
        ChunkData(index(5), b"d" * 16, b"chunk"),
        Gone(index(5)),
        Refused(DiskId(4), "why", removed=True),
    ]


def frame_seeds() -> list[bytes]:
    """A frame of each kind."""
    made = [
        encode_raft(
            Message(
                NodeId(2),
                NodeId(1),
                Term(2),
                body,
                ClusterId(7),
                GroupId(0),
                source_disk=DiskId(22),
            )
        )
        for body in bodies()
    ]
    for body in packet_bodies():
        packet = Packet(ClusterId(7), GroupId(0), NodeId(2), NodeId(1), DiskId(22), body)
        made.append(encode_packet(packet))
    return made


def check_frame(data: bytes) -> None:
    """It is refused, or it is a message that says nothing impossible, and goes out as it came."""
    try:
        found = decode_frame(data)
    except MalformedBody:
        return
    if isinstance(found, Packet):
        assert decode_frame(encode_packet(found)) == found
        return
    assert decode_frame(encode_raft(found)) == found
    body = found.body
    numbers = [found.source, found.target, found.term, *_numbers(body)]
    assert all(0 <= number <= NUMBER_MAX for number in numbers), numbers
    if isinstance(body, AppendRequest):
        place, term = body.previous_index, body.previous_term
        for entry in body.entries:
            assert entry.index == place + 1
            assert term <= entry.term <= found.term
            place, term = entry.index, entry.term


def _numbers(value: object) -> list[int]:
    """Every number in a message, however deep."""
    if isinstance(value, int):
        return [value]
    if isinstance(value, list | tuple):
        return [number for one in cast("list[object]", value) for number in _numbers(one)]
    if isinstance(value, msgspec.Struct):
        return _numbers([getattr(value, name) for name in value.__struct_fields__])
    return []


# --- lanes -------------------------------------------------------------------------------------


def stream_seeds() -> list[bytes]:
    """The body of a lane: several frames, and none."""
    return [b"".join(map(frame, frame_seeds())), frame(b""), b""]


def check_stream(data: bytes) -> None:
    """The stream is taken to its end or refused with a reason; frames before the fault are taken,
    however the network cut the bytes."""
    status, field, taken = _at_once(_serve(data, len(data) or 1))
    cut = _at_once(_serve(data, 7))
    assert (status, field) == cut[:2]
    # A frame too long ends the stream at once, with what came in the same read.
    assert taken == cut[2][: len(taken)]


def _at_once(waits_for_nothing: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that is never suspended, without an event loop."""
    try:
        waits_for_nothing.send(None)
    except StopIteration as stop:
        return cast("T", stop.value)
    raise AssertionError("it waited")


async def _serve(data: bytes, size: int) -> tuple[int, str, list[bytes]]:
    """Status, field and frames taken of a lane that brings `data` in pieces."""
    taken: list[bytes] = []

    def take(_lane: str, _source: NodeId, payload: bytes) -> None:
        decode_frame(payload)
        taken.append(payload)

    app = PeerApp(ClusterId(7), "secret", lambda node: "", take)
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        piece = pieces.pop(0) if pieces else b""
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = {HEADER_SECRET: "secret", HEADER_CLUSTER: "7", HEADER_NODE: "2"}
    scope = {
        "type": "http",
        "method": "POST",
        "path": f"/lane/{CONTROL}",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    await app(scope, receive, send)
    status = sent[0]["status"]
    assert status in (200, 400, 413)
    answer = msgspec.json.decode(sent[1]["body"])
    assert (status == 200) == (answer == {})
    assert all(len(one) <= FRAME_BYTES_MAX[CONTROL] for one in taken)
    return status, "" if status == 200 else answer["error"]["field"], taken


# --- calls -------------------------------------------------------------------------------------


def call_seeds() -> list[bytes]:
    """A question and an answer of the forward lane."""
    request = RawRequest("PUT", "/collections/x/points", "wait=true", {"a": "b"}, b"{}")
    payload = msgspec.msgpack.encode(request)
    whole = [Call(1, "http", payload), Reply(1, "", b"answer"), Reply(2, "no", b"")]
    return [msgspec.msgpack.encode(one) for one in whole]


def check_call(data: bytes) -> None:
    """A call, a reply, or refused."""
    try:
        found = decode_call(data)
    except MalformedBody:
        return
    assert decode_call(msgspec.msgpack.encode(found)) == found


# --- entries of the log ------------------------------------------------------------------------


def change_seeds() -> list[bytes]:
    """Changes of members, simple and joint."""
    places = encode_places({NodeId(4): "host:1"})
    voter, learner = Change("voter", NodeId(4)), Change("learner", NodeId(2))
    return [
        encode_change(MembersChange((voter,), "auto", places)),
        encode_change(MembersChange((voter, learner), "explicit")),
        encode_change(MembersChange()),
    ]


def check_change(data: bytes) -> None:
    """Refused, or a change that is made of the members or refused, alike on every node."""
    try:
        change = decode_change(data)
    except MalformedBody:
        return
    assert decode_change(encode_change(change)) == change
    results: list[object] = []
    for _ in range(2):
        table = Table([NodeId(1), NodeId(2), NodeId(3)])
        before = table.encode()
        try:
            table.change(change)
        except BalsaError as error:
            assert table.encode() == before
            results.append(str(error))
        else:
            assert table.roles == changed(Members.of([1, 2, 3]), change)
            assert Table.decode(table.encode()).encode() == table.encode()
            results.append(table.encode())
    assert results[0] == results[1]


def member_seeds() -> list[bytes]:
    """The table of members as a manifest holds it."""
    table = Table([NodeId(1), NodeId(2), NodeId(3)])
    early = table.encode()
    for data in change_seeds()[:2]:
        table.change(decode_change(data))
    return [early, table.encode(), msgspec.msgpack.encode([[1, 2, 3], [[1, 11]]])]


def check_members(data: bytes) -> None:
    """Refused, or a table that can be kept and read again."""
    try:
        table = Table.decode(data)
    except Corruption:
        return
    assert Table.decode(table.encode()).encode() == table.encode()


def command_seeds() -> list[bytes]:
    """A command of each kind, and one of a later version."""
    origin = commands.Origin(b"s" * 16, 5, part=1, last=False, resolved=True)
    vectors = [commands.VectorPart(0, bytes(4), bytes(16))]
    made = [
        commands.CreateCollectionCommand(origin, "films", b"{}"),
        commands.DropCollectionCommand(origin, 3, "films"),
        commands.ReplaceSchemaCommand(origin, 3, b"{}"),
        commands.UpsertCommand(origin, 3, bytes(9), bytes(4), b"", vectors),
        commands.DeleteCommand(origin, 3, bytes(9), bytes(8)),
        commands.ChangePayloadCommand(origin, 3, 0, bytes(9), b"", b"{}", ["a.b"]),
        commands.LinkCommand(origin, 3, 0, bytes(40)),
        commands.CompactHeapCommand(origin, 3),
        commands.MarkerCommand(commands.NO_ORIGIN),
    ]
    return [*map(commands.encode, made), b"\x02whatever"]


def check_command(data: bytes) -> None:
    """A command, or an error that ends the node with a reason."""
    try:
        found = commands.decode(data)
    except (Corruption, NewerFormat):
        return
    assert commands.decode(commands.encode(found)) == found
