"""Small parts of the driver, each alone."""

from dataclasses import replace

import msgspec
import pytest

from balsadb.cluster.admission import Admission
from balsadb.cluster.apply_queue import ApplyQueue
from balsadb.cluster.chance import Chance
from balsadb.cluster.checkpointer import Checkpointer
from balsadb.cluster.effects import ApplyEntries, ApplyFreeze, ApplyRestore
from balsadb.cluster.frames import (
    ChunkData,
    ManifestRequest,
    Packet,
    PacketBody,
    Refused,
    decode_frame,
    encode_packet,
    encode_raft,
)
from balsadb.cluster.linker import RETRY_TICKS, Linker
from balsadb.cluster.log_writer import LogWriter
from balsadb.cluster.members import Members, encode_member_disk, encode_places
from balsadb.cluster.options import DriverOptions
from balsadb.errors import InvalidInput, MalformedBody
from balsadb.raft import (
    AppendResponse,
    Change,
    Heartbeat,
    MembersChange,
    Message,
    Ready,
    SnapshotMeta,
    VoteRequest,
    encode_change,
)
from balsadb.raft import Members as Roles
from balsadb.storage import SnapshotRef
from balsadb.storage.manifest import Manifest
from balsadb.types import (
    ENTRY_CHANGE,
    ENTRY_MEMBERS,
    ClusterId,
    DiskId,
    Entry,
    GroupId,
    HardState,
    LogIndex,
    NodeId,
    Term,
)

OPTIONS = DriverOptions(
    node=NodeId(1),
    cluster=ClusterId(7),
    disk=DiskId(11),
    seed=0,
    checkpoint_log_bytes=1000,
    log_tail_bytes=300,
    log_bytes_max=5000,
)


def entries(first: int, count: int, size: int = 68) -> list[Entry]:
    """Each counts `size` + 32 bytes."""
    return [Entry(LogIndex(first + i), Term(1), 0, bytes(size)) for i in range(count)]


def ready(number: int, **fields: object) -> Ready:
    empty: dict[str, object] = {
        "hard_state": None,
        "entries": [],
        "snapshot": None,
        "must_sync": False,
        "messages": [],
        "messages_after_persist": [],
        "committed": [],
        "reads": [],
        "dropped_reads": [],
        "soft_state": None,
    }
    return Ready(number=number, **{**empty, **fields})  # type: ignore[arg-type]


def message(body: object, term: int = 1) -> Message:
    return Message(NodeId(1), NodeId(2), Term(term), body)  # type: ignore[arg-type]


# --- frames ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        ManifestRequest(LogIndex(3)),
        ChunkData(LogIndex(3), b"d" * 16, b"data"),
        Refused(DiskId(4), "why"),
    ],
)
def test_packets_survive_the_wire(body: PacketBody) -> None:
    packet = Packet(ClusterId(1), GroupId(0), NodeId(1), NodeId(2), DiskId(3), body)
    assert decode_frame(encode_packet(packet)) == packet


def test_raft_messages_survive_the_wire() -> None:
    assert decode_frame(encode_raft(message(Heartbeat(LogIndex(3))))) == message(
        Heartbeat(LogIndex(3))
    )


@pytest.mark.parametrize("data", [b"", b"X", b"R", b"P", b"R\x00", b"P\x93\x01\x02\x03", b"P\xff"])
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedBody):
        decode_frame(data)


# --- members and admission ---------------------------------------------------------------------


def test_members_keep_the_first_disk_and_encode_alike() -> None:
    one, two = Members([NodeId(2), NodeId(1)]), Members([NodeId(1), NodeId(2)])
    one.apply(encode_member_disk(NodeId(2), DiskId(5)))
    one.apply(encode_member_disk(NodeId(1), DiskId(4)))
    one.apply(encode_member_disk(NodeId(2), DiskId(6)))
    two.apply(encode_member_disk(NodeId(1), DiskId(4)))
    two.apply(encode_member_disk(NodeId(2), DiskId(5)))
    assert one.encode() == two.encode()
    assert Members.decode(one.encode()).disk_of(NodeId(2)) == 5


def test_members_tell_who_came_moved_and_went() -> None:
    members = Members([NodeId(1), NodeId(2)])
    came = (Change("learner", NodeId(3)), Change("update", NodeId(2)))
    places = {NodeId(3): "c:1", NodeId(2): "b:2", NodeId(9): "nobody"}
    members.change(MembersChange(came, "implicit", encode_places(places)))
    assert members.addresses == {3: "c:1", 2: "b:2"}
    members.change(MembersChange())
    assert members.roles == Roles.of([1, 2], (), [3])
    members.apply_entry(
        Entry(
            LogIndex(7),
            Term(1),
            ENTRY_CHANGE,
            encode_change(MembersChange((Change("remove", NodeId(2)),))),
        )
    )
    assert (members.removed, members.addresses, members.voters) == ({2}, {3: "c:1"}, (1,))
    again = Members.decode(members.encode())
    assert again.encode() == members.encode()
    assert (again.roles, again.removed) == (members.roles, members.removed)
    with pytest.raises(InvalidInput):
        members.change(MembersChange((Change("remove", NodeId(1)),)))
    assert again.encode() == members.encode()


def test_a_table_of_before_members_could_change_is_read() -> None:
    old = msgspec.msgpack.encode([[1, 2, 3], [[1, 11]]])
    members = Members.decode(old)
    assert (members.roles, members.disk_of(NodeId(1))) == (Roles.of([1, 2, 3]), 11)


def test_a_removed_node_is_refused_and_its_id_never_taken_again() -> None:
    members = Members([NodeId(1), NodeId(2), NodeId(3)])
    admission = Admission(OPTIONS, members, members.copy())
    assert admission.check(packet_from(2, 22)) == "take"
    gone = encode_change(MembersChange((Change("remove", NodeId(2)),)))
    admission.apply(Entry(LogIndex(4), Term(1), ENTRY_CHANGE, gone))
    verdict = admission.check(packet_from(2, 22))
    assert isinstance(verdict, Refused)
    assert verdict.removed
    for kind in ("voter", "learner"):
        with pytest.raises(InvalidInput, match="was removed"):
            admission.check_change(MembersChange((Change(kind, NodeId(2)),)))
    admission.check_change(MembersChange((Change("voter", NodeId(4)),)))


def test_a_stranger_may_be_the_leader_that_tells_who_came() -> None:
    admission = Admission(OPTIONS, Members([NodeId(1)]), Members([NodeId(1)]))
    assert admission.check(packet_from(5, 55)) == "take"
    assert admission.next_to_log() == encode_member_disk(NodeId(1), DiskId(11))
    assert admission.next_to_log() is None, "the disk of a stranger is not logged"


def disk_entry(data: bytes) -> Entry:
    return Entry(LogIndex(1), Term(1), ENTRY_MEMBERS, data)


def packet_from(node: int, disk: int) -> Packet:
    return Packet(
        ClusterId(7),
        GroupId(0),
        NodeId(node),
        NodeId(1),
        DiskId(disk),
        ManifestRequest(LogIndex(1)),
    )


def test_disks_are_logged_one_by_one_and_others_refused() -> None:
    voters = [NodeId(1), NodeId(2)]
    admission = Admission(OPTIONS, Members(voters), Members(voters))
    assert admission.check(packet_from(2, 22)) == "take"
    logged = [admission.next_to_log(), admission.next_to_log(), admission.next_to_log()]
    assert logged == [
        encode_member_disk(NodeId(1), DiskId(11)),
        encode_member_disk(NodeId(2), DiskId(22)),
        None,
    ]
    for data in logged[:2]:
        assert data is not None
        admission.apply(disk_entry(data))
    assert admission.check(packet_from(2, 22)) == "take"
    assert isinstance(admission.check(packet_from(2, 23)), Refused)
    admission.leadership_changed()
    assert admission.next_to_log() is None


def test_a_disk_heard_of_early_is_refused_once_the_log_names_another() -> None:
    voters = [NodeId(1), NodeId(2)]
    admission = Admission(OPTIONS, Members(voters), Members(voters))
    assert admission.check(packet_from(2, 23)) == "take"
    admission.apply(disk_entry(encode_member_disk(NodeId(2), DiskId(22))))
    assert isinstance(admission.check(packet_from(2, 23)), Refused)


# --- log writer --------------------------------------------------------------------------------


def test_a_batch_merges_overwrites_and_releases_in_order() -> None:
    writer = LogWriter(Term(1))
    writer.add(ready(1, entries=entries(1, 3), must_sync=True, messages_after_persist=["first"]))
    first = writer.next()
    assert first is not None
    writer.add(ready(2, entries=entries(4, 3), must_sync=True))
    writer.add(
        ready(
            3,
            hard_state=HardState(Term(2), NodeId(0), LogIndex(0)),
            entries=entries(5, 1),
            must_sync=True,
            messages_after_persist=["second"],
        )
    )
    assert writer.next() is None, "one at a time"
    assert writer.done(first.number) == ["first"]
    assert (writer.ready_durable, writer.durable_term) == (1, 1)
    second = writer.next()
    assert second is not None
    assert second.batch is not None
    assert [entry.index for entry in second.batch.entries] == [4, 5]
    assert writer.done(second.number) == ["second"]
    assert (writer.ready_durable, writer.durable_term) == (3, 2)


def test_a_snapshot_drops_what_was_not_written() -> None:
    writer = LogWriter(Term(1))
    writer.add(ready(1, entries=entries(1, 3), must_sync=True))
    meta = SnapshotMeta(LogIndex(9), Term(1), Roles.of([1]))
    writer.add(ready(2, snapshot=meta, must_sync=True))
    writer.add(ready(3, entries=entries(10, 1), must_sync=True))
    work = writer.next()
    assert work is not None
    assert work.batch is not None
    assert work.batch.snapshot == SnapshotRef(LogIndex(9), Term(1))
    assert [entry.index for entry in work.batch.entries] == [10]


def test_what_needs_no_sync_does_not_wait_for_one() -> None:
    writer = LogWriter(Term(1))
    writer.add(ready(1, messages_after_persist=["free"]))
    assert writer.next() is None
    assert writer.unsynced_free() == ["free"]
    assert writer.unsynced_free() is None
    assert writer.ready_durable == 1


def test_no_message_leaves_before_its_term_is_durable() -> None:
    writer = LogWriter(Term(1))
    writer.check(message(AppendResponse(LogIndex(1)), term=1))
    writer.check(message(VoteRequest(LogIndex(1), Term(1), pre_vote=True), term=2))
    with pytest.raises(AssertionError, match="term 2"):
        writer.check(message(VoteRequest(LogIndex(1), Term(1)), term=2))


# --- apply queue -------------------------------------------------------------------------------


def test_pieces_are_bounded_and_freezes_keep_their_place() -> None:
    queue = ApplyQueue(works_max=1, entries_max=10, bytes_max=250)
    queue.push_entries(entries(1, 3))
    queue.push_freeze(ApplyFreeze(7))
    queue.push_entries(entries(4, 1))
    pieces: list[object] = []
    while (work := queue.next(0)) is not None:
        assert queue.next(0) is None, "one outstanding"
        pieces.append(work)
        queue.done()
    assert [len(p.entries) if isinstance(p, ApplyEntries) else p for p in pieces] == [
        2,
        1,
        ApplyFreeze(7),
        1,
    ]
    assert queue.waiting_bytes == 0


def test_a_restore_waits_for_its_mark_and_replaces_what_waits() -> None:
    queue = ApplyQueue(works_max=2, entries_max=10, bytes_max=250)
    manifest = Manifest(LogIndex(9), Term(1), b"", ClusterId(1), GroupId(0))
    queue.push_entries(entries(1, 3))
    queue.push_freeze(ApplyFreeze(7))
    assert queue.push_restore(manifest, ready_number=5) == [ApplyFreeze(7)]
    queue.push_entries(entries(10, 1))
    assert queue.next(4) is None
    assert queue.next(5) == ApplyRestore(manifest)
    assert isinstance(queue.next(5), ApplyEntries)


# --- checkpointer ------------------------------------------------------------------------------


def test_a_checkpoint_is_due_by_bytes_and_keeps_a_tail() -> None:
    checkpointer = Checkpointer(OPTIONS, LogIndex(0))
    checkpointer.applied(entries(1, 10))
    assert not checkpointer.is_due()
    for index in range(11, 21):
        checkpointer.applied(entries(index, 1))
    assert checkpointer.is_due()
    checkpointer.started(1)
    assert not checkpointer.is_due()
    checkpointer.ended()
    checkpointer.durable(LogIndex(20))
    assert checkpointer.compact_to([], 2000) == 17, "300 bytes are three entries"
    assert checkpointer.compact_to([LogIndex(12)], 2000) == 12, "a follower still needs them"
    assert checkpointer.compact_to([LogIndex(12)], 6000) == 17, "unless the log is too long"


def test_a_checkpoint_is_due_by_entries_too() -> None:
    """A start applies what no checkpoint has: many small entries take long as well."""
    checkpointer = Checkpointer(replace(OPTIONS, checkpoint_entries=5), LogIndex(0))
    checkpointer.applied(entries(1, 5, size=0))
    assert not checkpointer.is_due()
    checkpointer.applied(entries(6, 1, size=0))
    assert checkpointer.is_due()
    checkpointer.started(1)
    checkpointer.applied(entries(7, 3, size=0))
    checkpointer.failed()
    assert checkpointer.log_bytes_since == 9 * 32
    checkpointer.started(2)
    checkpointer.ended()
    checkpointer.applied(entries(10, 5, size=0))
    assert not checkpointer.is_due()
    checkpointer.restored(LogIndex(50))
    checkpointer.applied(entries(51, 5, size=0))
    assert not checkpointer.is_due()


def test_nothing_beyond_the_checkpoint_is_dropped() -> None:
    checkpointer = Checkpointer(OPTIONS, LogIndex(0))
    for index in range(1, 101):
        checkpointer.applied(entries(index, 1))
    checkpointer.durable(LogIndex(20))
    assert checkpointer.compact_to([], 2000) == 20


def test_after_a_restore_the_log_begins_there() -> None:
    checkpointer = Checkpointer(OPTIONS, LogIndex(0))
    checkpointer.applied(entries(1, 20))
    checkpointer.restored(LogIndex(50))
    assert checkpointer.log_bytes_since == 0
    checkpointer.applied(entries(51, 1))
    assert checkpointer.compact_to([], 100) in (0, 50)


# --- linker ------------------------------------------------------------------------------------


def test_long_tails_are_linked_at_once_and_short_ones_when_idle() -> None:
    linker = Linker(OPTIONS)
    linker.tick()
    linker.proposed()
    linker.applied()
    assert linker.wants_plan()
    assert linker.started() == OPTIONS.link_tail_rows_min
    assert not linker.wants_plan(), "one at a time"
    linker.planned(found=False)
    assert not linker.wants_plan(), "it looked already"
    for _ in range(OPTIONS.link_idle_ticks):
        linker.tick()
    assert linker.wants_plan()
    assert linker.started() == 1
    linker.planned(found=True)
    assert not linker.wants_plan()
    linker.settled(linked=True)
    assert linker.wants_plan(), "there may be more"


def test_a_lost_plan_is_tried_again_later() -> None:
    linker = Linker(OPTIONS)
    linker.started()
    linker.planned(found=True)
    linker.settled(linked=False)
    assert not linker.wants_plan()
    for _ in range(RETRY_TICKS):
        linker.tick()
    assert linker.wants_plan()


def test_chance_follows_from_its_seed() -> None:
    one, two, other = Chance(1), Chance(1), Chance(2)
    first = [one.below(100) for _ in range(50)]
    assert first == [two.below(100) for _ in range(50)]
    assert first != [other.below(100) for _ in range(50)]
    assert len(set(first)) > 20
