"""What the database answers: results of commands and of reads, ready for any encoder."""

from typing import Any

import msgspec

from balsadb import errors
from balsadb.index import Codes
from balsadb.types import LogIndex

WirePointId = int | str
"""A point's id as it leaves: a u64, or a UUID in hyphenated lower case."""
WireVector = list[float] | dict[str, list[float]]


class Result(msgspec.Struct, array_like=True, frozen=True):
    """Of one applied command: its log index and a builtin value, or an error (code, message)
    that every replica reached alike. A repeated command answers with the first one's log index."""

    log_index: LogIndex
    value: bool | int | None = None
    error: tuple[str, str] | None = None

    @property
    def index(self) -> LogIndex:
        """Same as `log_index`."""
        return self.log_index

    def unwrap(self) -> bool | int | None:
        """The value; raises the error."""
        if self.error is not None:
            raise exception_of(*self.error)
        return self.value


class Record(msgspec.Struct, omit_defaults=False):
    """A point as stored. `payload`: JSON bytes (`msgspec.Raw`) or an object, None if not asked
    for; `vector`: components of the unnamed vector, or name -> components."""

    id: WirePointId
    payload: msgspec.Raw | dict[str, Any] | None = None
    vector: WireVector | None = None


class ScoredPoint(msgspec.Struct, omit_defaults=False):
    """A point found by a query. `version`: log index of its last change."""

    id: WirePointId
    version: int
    score: float
    payload: msgspec.Raw | dict[str, Any] | None = None
    vector: WireVector | None = None


class ScrollPage(msgspec.Struct):
    """Points in id order (u64 first, then UUID) and the id the next page starts with."""

    points: list[Record]
    next_page_offset: WirePointId | None = None


class VectorInfo(msgspec.Struct, frozen=True):
    """State of one vector name: `tail` rows are searched exactly until they are linked.
    `quantization`: "int8" or "none"; `own_quantization`: whether it is the vector's own, not the
    collection's; `codes` (epoch, rows, coded): walks go by codes once all rows have one."""

    size: int
    distance: str
    live: int
    linked: int
    tail: int
    graph_version: int
    quantization: str
    own_quantization: bool
    codes: Codes


class PayloadIndexInfo(msgspec.Struct, frozen=True):
    """`points`: how many points hold a value of the declared type."""

    data_type: str
    points: int


class CollectionInfo(msgspec.Struct, frozen=True):
    """What is known of a collection. `status`: green, or yellow while rows wait to be linked or to
    get codes; `quantization`: "int8" or "none", of vectors that have none of their own."""

    name: str
    uid: int
    status: str
    points_count: int
    indexed_vectors_count: int
    vectors: dict[str, VectorInfo]
    m: int
    ef_construct: int
    full_scan_threshold: int
    quantization: str
    payload_schema: dict[str, PayloadIndexInfo]
    payload_bytes: int
    payload_dead_bytes: int


_BY_CODE: dict[str, type[errors.BalsaError]] = {
    kind.code: kind
    for kind in (
        errors.AlreadyExists,
        errors.CollectionReplaced,
        errors.NotFound,
        errors.SessionExpired,
        errors.Unavailable,
    )
}


def exception_of(code: str, message: str) -> errors.BalsaError:
    """The exception that an error result stands for."""
    if code == errors.LimitExceeded.code:
        return errors.LimitExceeded("", message)
    if code == errors.InvalidInput.code:
        return errors.InvalidInput("", message)
    return _BY_CODE.get(code, errors.BalsaError)(message)
