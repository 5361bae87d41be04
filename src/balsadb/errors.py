"""Every error that leaves BalsaDB, as one tree.

Each class fixes four facts that the layers above need, so that no layer guesses:

* `code`: a stable machine-readable name (the HTTP status for it lives in `balsadb.api.statuses`);
* `deterministic`: whether every replica that applies the same command raises it alike. Only such
  an error may be the *result* of a command; any other exception inside apply ends the process;
* `retryable`: whether sending the same request again can succeed without a change by the user;
* `outcome`: `"failed"` (certainly not applied) or `"unknown"` (may or may not have been applied;
  safe to repeat with the same session and sequence).

    BalsaError
    ├── InvalidInput                 bad request; names `field` and `rule`; nothing changed
    │   ├── MalformedBody            not JSON / msgpack, or not of the documented shape
    │   ├── LimitExceeded            over a named maximum
    │   │   ├── BodyTooLarge         a request body over its maximum; refused before it is read
    │   │   └── BodyTooSlow          a request body that did not arrive in time
    │   └── DamagedFile              a saved index that is truncated, corrupt or of another version
    ├── NotFound
    │   ├── CollectionNotFound
    │   ├── PointNotFound
    │   └── NotSupported             an endpoint of the wire dialect that is not served yet
    ├── AlreadyExists                text always contains "already exists"
    ├── CollectionReplaced           the write was meant for a dropped and re-created collection
    ├── SessionExpired               a retry arrived after its session's results were forgotten
    ├── Unauthorized
    ├── Unavailable                  the cluster cannot serve this now
    │   ├── NotLeader                (carries the leader it knows, 0 if none)
    │   ├── QuorumLost               no leader, or the leader cannot reach a majority
    │   ├── Overloaded               refused before the log; `retry_after_s`
    │   ├── DiskFull                 too little disk space for writes that add data
    │   ├── NotReady                 still starting, or shutting down
    │   └── OutcomeUnknown           the write was sent to the log, its fate was not seen in time
    └── StorageError                 this node's disk or data directory
        ├── DataDirInUse
        ├── ForeignDataDir           of another node or cluster
        ├── NewerFormat
        ├── EmptiedDisk              an old node id came back with an empty disk
        ├── Corruption               bytes that were synced do not verify: the node is quarantined
        └── DiskFailed               a write or fsync returned an error; the process must end
"""

from typing import ClassVar, Literal

Outcome = Literal["failed", "unknown"]


class BalsaError(Exception):
    """Base of the tree. `message` says what was wrong, where, and what to do."""

    code: ClassVar[str] = "internal"
    deterministic: ClassVar[bool] = False
    retryable: ClassVar[bool] = False
    outcome: ClassVar[Outcome] = "failed"

    status_code: int = 0
    """The HTTP status that a client got; 0 if the error did not come over the wire."""
    request_id: str = ""
    """The id under which the node's log has the request; empty if it did not come over the wire."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidInput(BalsaError, ValueError):
    """A request that breaks a rule: `field` is the path of the value, `rule` what it must obey."""

    code = "invalid_input"
    deterministic = True

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(f"{field}: {rule}" if field else rule)
        self.field = field
        self.rule = rule


class MalformedBody(InvalidInput):
    """The body could not be decoded; `field` is `body` or the path the decoder reached."""

    code = "malformed_body"


class LimitExceeded(InvalidInput):
    """A value over a named maximum (page, batch, body, ef, k, dimension ...)."""

    code = "limit_exceeded"


class BodyTooLarge(LimitExceeded):
    """A request body over its maximum; refused before it is read to the end."""

    code = "body_too_large"


class BodyTooSlow(LimitExceeded):
    """A request body that did not arrive in time; nothing of it was looked at."""

    code = "body_too_slow"
    retryable = True


class DamagedFile(InvalidInput):
    """A saved index that does not verify: truncated, corrupt, or written by another version."""

    code = "damaged_file"


class NotFound(BalsaError, LookupError):
    """Something named by the request does not exist."""

    code = "not_found"
    deterministic = True


class CollectionNotFound(NotFound):
    """`Collection `x` doesn't exist!` (the wire dialect's words; clients match them)."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Collection `{name}` doesn't exist!")
        self.name = name


class PointNotFound(NotFound):
    """No point with that id in the collection."""


class NotSupported(NotFound):
    """An endpoint of the dialect that is not served yet."""

    code = "not_supported"


class AlreadyExists(BalsaError):
    """The name is taken. The text contains "already exists": clients of the dialect match it."""

    code = "already_exists"
    deterministic = True


class CollectionReplaced(BalsaError):
    """The collection was dropped (and perhaps created anew) between the request and its apply."""

    code = "collection_replaced"
    deterministic = True


class SessionExpired(BalsaError):
    """The session's results were evicted: whether the first attempt was applied is not known."""

    code = "session_expired"
    deterministic = True
    outcome = "unknown"


class Unauthorized(BalsaError):
    """No key or a wrong key."""

    code = "unauthorized"


class Unavailable(BalsaError):
    """The cluster cannot serve this now; the request had no effect."""

    code = "unavailable"
    retryable = True


class NotLeader(Unavailable):
    """This node does not lead; `leader` is the one it knows of, 0 if none."""

    code = "not_leader"

    def __init__(self, leader: int, message: str = "") -> None:
        super().__init__(
            message or f"this node is not the leader (known leader: {leader or 'none'})"
        )
        self.leader = leader


class QuorumLost(Unavailable):
    """No leader is known, or the leader cannot reach a majority of the members."""

    code = "quorum_lost"


class Overloaded(Unavailable):
    """Refused before the log because a queue is full; wait `retry_after_s` seconds."""

    code = "overloaded"

    def __init__(self, message: str, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class DiskFull(Unavailable):
    """Too little disk space is left for writes that add data; reads, deletes and drops go on."""

    code = "disk_full"


class NotReady(Unavailable):
    """The node is starting or shutting down."""

    code = "not_ready"


class OutcomeUnknown(Unavailable):
    """The write reached the log but its fate was not seen; safe to retry with the same session
    and sequence."""

    code = "outcome_unknown"
    outcome = "unknown"


REJOIN = "`balsadb node rejoin --new-id N --config FILE --member URL`"
"""The way back for a node whose directory is damaged or lost, for messages."""


class StorageError(BalsaError):
    """This node's disk or data directory."""

    code = "storage"


class DataDirInUse(StorageError):
    """Another process holds the directory's lock."""

    code = "data_dir_in_use"


class ForeignDataDir(StorageError):
    """The directory belongs to another node or another cluster."""

    code = "foreign_data_dir"


class NewerFormat(StorageError):
    """The directory was written by a newer version."""

    code = "newer_format"


class EmptiedDisk(StorageError):
    """This node id was used before with another disk: its promises (votes, acknowledgements) are
    gone, so it must not rejoin under the old id."""

    code = "emptied_disk"


class Corruption(StorageError):
    """Synced bytes do not verify. The node must not vote or acknowledge; see the message."""

    code = "corruption"


class DiskFailed(StorageError):
    """A write or an fsync failed. Never retried (the page cache may have dropped the data)."""

    code = "disk_failed"
