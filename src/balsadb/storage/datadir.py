"""The data directory: whose it is, and that it is whole.

    LOCK             held by the one process that uses the directory
    IDENTITY         format version, cluster id, node id, disk id; JSON with a checksum
    IDENTITY.new     the same while a first start is under way
    wal/             the log
    checkpoints/     checkpoints and their packs

A first start writes IDENTITY.new, begins the log under that identity, and renames the file to
IDENTITY as its last step; a start that finds IDENTITY.new goes on with it. So a directory with an
IDENTITY always has a log, and a log without one is damage: neither can come from a crash. That is
how a node whose log was deleted is told from a new one, and kept from voting twice.
"""

import hashlib
import zlib
from collections.abc import Callable, Mapping

import msgspec

from balsadb.errors import REJOIN, Corruption, EmptiedDisk, ForeignDataDir, NewerFormat
from balsadb.storage.files import Files, Lock
from balsadb.storage.record import WalHeader
from balsadb.storage.wal import Wal, WalOptions
from balsadb.storage.wal_recovery import list_segments
from balsadb.types import ClusterId, DiskId, NodeId

FORMAT_VERSION = 1
"""Of the directory as a whole: a larger number means that this version must not touch it."""

LOCK_NAME = "LOCK"
IDENTITY_NAME = "IDENTITY"
WAL_DIRECTORY = "wal"
CHECKPOINTS_DIRECTORY = "checkpoints"

_UNFINISHED_NAME = "IDENTITY.new"
_IDENTITY_BYTES_MAX = 4096
_ID_MASK = (1 << 63) - 1


class Identity(msgspec.Struct, frozen=True):
    """Whose directory it is."""

    format: int
    cluster: ClusterId
    node: NodeId
    disk: DiskId


class _Sealed(msgspec.Struct, frozen=True):
    """The IDENTITY file: this shape never changes, whatever a later version puts in `identity`."""

    identity: msgspec.Raw
    crc32: int


class _AnyVersion(msgspec.Struct, frozen=True):
    format: int


def cluster_id(name: str, members: Mapping[NodeId, str]) -> ClusterId:
    """The cluster's id: 63 bits of BLAKE2b over its name and first members (id and address).

    The same on every node that was started with the same words; 1 or larger.
    """
    words = msgspec.json.encode([name, sorted(members.items())])
    digest = hashlib.blake2b(words, digest_size=8, person=b"balsadb-cluster").digest()
    return ClusterId(int.from_bytes(digest, "little") & _ID_MASK or 1)


class DataDir:
    """An open data directory; nobody else can open it until `close` or the end of the process."""

    def __init__(self, identity: Identity, lock: Lock, is_new: bool) -> None:
        self.identity = identity
        self.is_new = is_new
        """Whether this start was the first."""
        self._lock = lock

    @classmethod
    def open(
        cls,
        files: Files,
        node: NodeId,
        cluster: ClusterId,
        new_disk_id: Callable[[], int],
        wal_options: WalOptions | None = None,
    ) -> "DataDir":
        """Lock the directory and check that it is this node's; set it up if it is new.

        `new_disk_id` is asked once in a directory's life for a random number of 63 bits.
        DataDirInUse; ForeignDataDir if it is another node's or cluster's; NewerFormat; EmptiedDisk
        if the log under an identity is gone; Corruption if the identity is damaged, or gone from
        above a log. None of these changes anything.
        """
        lock = files.lock(LOCK_NAME)
        try:
            identity = _read_identity(files, IDENTITY_NAME)
            is_new = identity is None
            if identity is None:
                identity = _begin(files, node, cluster, new_disk_id)
            _check_owner(identity, node, cluster)
            if is_new:
                _finish(files, identity, wal_options)
            elif not _has_log(files):
                raise EmptiedDisk(
                    f"the data directory of node {node} has an identity but no log: what this node "
                    "voted for and acknowledged is gone. Restore the files, or join as a new node: "
                    f"{REJOIN}"
                )
        except BaseException:
            lock.release()
            raise
        return cls(identity, lock, is_new)

    @property
    def disk_id(self) -> DiskId:
        """The random number written at the first start; an emptied directory gets another."""
        return self.identity.disk

    @property
    def wal_header(self) -> WalHeader:
        """What `Wal.create_or_open` must be given for this directory's log."""
        return WalHeader(self.identity.cluster, self.identity.node, self.identity.disk)

    def close(self) -> None:
        """Let others open it."""
        self._lock.release()


def read_identity(files: Files) -> Identity | None:
    """Whose directory it is; None if it does not say. Corruption or NewerFormat."""
    return _read_identity(files, IDENTITY_NAME)


def _begin(
    files: Files, node: NodeId, cluster: ClusterId, new_disk_id: Callable[[], int]
) -> Identity:
    """The identity of a first start, durable as IDENTITY.new; that of an unfinished one if there
    is such."""
    try:
        unfinished = _read_identity(files, _UNFINISHED_NAME)
    except Corruption:
        unfinished = None  # torn; if a log had been begun under it, the next check says so
    if unfinished is not None:
        return unfinished
    if _has_log(files) or _names(files, CHECKPOINTS_DIRECTORY):
        raise Corruption(
            "the data directory holds a log or checkpoints but no IDENTITY file. Restore the file, "
            f"or move the directory away and join as a new node: {REJOIN}"
        )
    disk = DiskId(new_disk_id() & _ID_MASK or 1)
    identity = Identity(FORMAT_VERSION, cluster, node, disk)
    body = msgspec.json.encode(identity)
    sealed = msgspec.json.encode(_Sealed(msgspec.Raw(body), zlib.crc32(body)))
    file = files.open(_UNFINISHED_NAME, create=True)
    try:
        file.truncate(0)
        file.pwrite(sealed, 0)
        file.sync()
    finally:
        file.close()
    files.sync_dir("")
    return identity


def _finish(files: Files, identity: Identity, wal_options: WalOptions | None) -> None:
    """Begin the log, then make the identity final."""
    header = WalHeader(identity.cluster, identity.node, identity.disk)
    wal, _ = Wal.create_or_open(files, WAL_DIRECTORY, header, wal_options)
    wal.close()
    files.mkdir(CHECKPOINTS_DIRECTORY)
    files.rename(_UNFINISHED_NAME, IDENTITY_NAME)
    files.sync_dir("")


def _read_identity(files: Files, name: str) -> Identity | None:
    """The identity in a file, None if there is no such file. Corruption or NewerFormat."""
    try:
        file = files.open(name)
    except FileNotFoundError:
        return None
    try:
        data = file.pread(_IDENTITY_BYTES_MAX, 0)
    finally:
        file.close()
    try:
        sealed = msgspec.json.decode(data, type=_Sealed)
        if zlib.crc32(sealed.identity) != sealed.crc32:
            raise Corruption(
                f"{name}: the checksum does not match. Restore the file, or join as a new node: "
                f"{REJOIN}"
            )
        version = msgspec.json.decode(sealed.identity, type=_AnyVersion).format
        if version > FORMAT_VERSION:
            raise NewerFormat(
                f"the data directory has format {version}, this version reads {FORMAT_VERSION}: "
                "start the newer version again"
            )
        return msgspec.json.decode(sealed.identity, type=Identity)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise Corruption(
            f"{name}: not readable ({error}). Restore the file, or join as a new node: {REJOIN}"
        ) from error


def _check_owner(identity: Identity, node: NodeId, cluster: ClusterId) -> None:
    """ForeignDataDir unless the directory is of this node in this cluster."""
    if identity.node != node:
        raise ForeignDataDir(
            f"the data directory belongs to node {identity.node}, this is node {node}; each node "
            "needs its own directory"
        )
    if identity.cluster != cluster:
        raise ForeignDataDir(
            f"the data directory belongs to cluster {identity.cluster:016x}, this node was started "
            f"for {cluster:016x}: the cluster's name or its initial members differ from those of "
            "the first start"
        )


def _has_log(files: Files) -> bool:
    return bool(_names(files, WAL_DIRECTORY)) and bool(list_segments(files, WAL_DIRECTORY))


def _names(files: Files, directory: str) -> list[str]:
    try:
        return files.listdir(directory)
    except FileNotFoundError:
        return []
