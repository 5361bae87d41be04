"""A whole data directory of format 1, as the first version left it, is read and goes on.

Its files are in `golden/node_format_1`. They are never written anew for a format that is released:
a version that changes a format reads them still, and gets a directory of its own beside this one.

    python -m tests.unit.cluster.test_golden FOLDER     # writes such a directory
"""

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

from balsadb.cluster.boot import CHECKPOINTS_DIRECTORY, Boot
from balsadb.cluster.members import Members
from balsadb.database import (
    NO_SESSION,
    CreateCollection,
    CreatePayloadIndex,
    Database,
    DeletePoints,
    SetPayload,
    UpsertPoints,
    VectorBlock,
    VectorParams,
)
from balsadb.storage import (
    CheckpointStore,
    DataDir,
    RealFiles,
    SnapshotRef,
    Wal,
    WalBatch,
    WalOptions,
)
from balsadb.storage.manifest import CheckpointMeta
from balsadb.types import (
    ClusterId,
    DiskId,
    Entry,
    GroupId,
    HardState,
    LogIndex,
    NodeId,
    Term,
)

GOLDEN = Path(__file__).parent / "golden" / "node_format_1"
NODE, CLUSTER, DISK = NodeId(2), ClusterId(0x0123456789ABCDEF), DiskId(0x7EDCBA9876543210)
VOTERS = [NodeId(1), NodeId(2), NodeId(3)]
WAL_OPTIONS = WalOptions(1 << 20, 0)
DIGEST_AT_CHECKPOINT = "aee9431b98066d5bfe61ea0e93be9d79"
DIGEST_AT_END = "bbef5a2c9e87aa3d34d0ab403fe62bb7"


def requests() -> list[Any]:
    """Before the checkpoint, and after it (from `CreateCollection` of "later" on)."""
    values = np.arange(48, dtype=np.float32).reshape(12, 4) / 8
    texts = [{"n": number, "tag": f"t{number % 3}"} for number in range(12)]
    return [
        CreateCollection("films", {"": VectorParams(4, "Euclid")}),
        CreatePayloadIndex("films", "n", "integer"),
        UpsertPoints("films", list(range(12)), {"": VectorBlock(values)}, texts),
        DeletePoints("films", [3]),
        CreateCollection("later", {"a": VectorParams(2, "Dot")}),
        SetPayload("films", {"seen": True}, [1, 2]),
        UpsertPoints("films", [100], {"": VectorBlock(values[:1] + 1)}, [{"n": 100}]),
        DeletePoints("films", [4]),
    ]


def write(folder: Path) -> list[str]:
    """A data directory by today's code; the digests at the checkpoint and at the end."""
    files = RealFiles(str(folder))
    data_dir = DataDir.open(files, NODE, CLUSTER, lambda: DISK, WAL_OPTIONS)
    wal, _ = Wal.create_or_open(files, "wal", data_dir.wal_header, WAL_OPTIONS)
    store = CheckpointStore(files, CHECKPOINTS_DIRECTORY)
    database, index, digests = Database(), LogIndex(0), []
    for request in requests():
        later = isinstance(request, CreateCollection) and request.name == "later"
        if later:
            members = Members(VOTERS).encode()
            meta = CheckpointMeta(index, Term(3), members, CLUSTER, GroupId(0))
            store.write(meta, database.columns.freeze())
            wal.write(WalBatch(HardState(Term(3), NODE, index), SnapshotRef(index, Term(3)), ()))
            digests.append(database.columns.digest().hex())
        for data in database.prepare(request, NO_SESSION):
            index = LogIndex(index + 1)
            database.apply(index, data).unwrap()
            entry = Entry(index, Term(3), 0, data)
            wal.write(WalBatch(HardState(Term(3), NODE, index), None, [entry]))
            wal.sync()
    wal.close()
    data_dir.close()
    return [*digests, database.columns.digest().hex()]


def test_a_directory_of_format_1_is_read_and_goes_on(tmp_path: Path) -> None:
    data = tmp_path / "node2"
    shutil.copytree(GOLDEN, data)
    files = RealFiles(str(data))
    data_dir = DataDir.open(files, NODE, CLUSTER, lambda: 1, WAL_OPTIONS)
    assert (data_dir.is_new, data_dir.disk_id) == (False, DISK)
    boot = Boot.recover(files, data_dir.wal_header, VOTERS, Database, WAL_OPTIONS)
    state, database = boot.raft_state, boot.applier.machine
    assert isinstance(database, Database)
    assert (state.hard_state.term, state.hard_state.vote) == (3, NODE)
    assert state.members.voters == tuple(VOTERS)
    assert boot.newest is not None
    assert boot.newest.index == state.applied == 4
    assert database.columns.digest().hex() == DIGEST_AT_CHECKPOINT
    for entry in state.entries:
        if entry.index > state.applied:
            database.apply(entry.index, entry.data).unwrap()
    assert database.columns.digest().hex() == DIGEST_AT_END
    # It goes on: a checkpoint of today's, and what a start makes of it.
    end = LogIndex(state.entries[-1].index)
    meta = CheckpointMeta(end, Term(3), boot.newest.members, CLUSTER, GroupId(0))
    written = boot.store.write(meta, database.columns.freeze())
    assert boot.store.load(written).digest().hex() == DIGEST_AT_END
    boot.wal.close()
    data_dir.close()


def test_todays_code_makes_the_same_state_of_the_same_requests(tmp_path: Path) -> None:
    assert write(tmp_path / "node2") == [DIGEST_AT_CHECKPOINT, DIGEST_AT_END]


if __name__ == "__main__":
    sys.stdout.write("\n".join(write(Path(sys.argv[1]))) + "\n")
