"""The database: every collection, the sessions, and the one door for changes, `apply`."""

from collections.abc import Mapping, Sequence
from typing import Any

from balsadb.columns import ColumnSet
from balsadb.database.requests import PointIdLike, Request, SessionKey
from balsadb.database.results import CollectionInfo, Record, Result, ScoredPoint, ScrollPage
from balsadb.database.selection import NOTHING, PAYLOAD, Query, Selection
from balsadb.types import LogIndex


class LinkWork:
    """A vector name with rows to link: (uid, vector_name, tail)."""

    uid: int
    vector_name: str
    tail: int


class Database:
    """A replicated state machine; everything it remembers is in `columns`."""

    def __init__(self, columns: ColumnSet | None = None) -> None:
        self.columns = ColumnSet() if columns is None else columns

    @property
    def applied_index(self) -> LogIndex:
        """Log index of the newest entry applied, 0 if none."""
        raise NotImplementedError

    @property
    def distances_total(self) -> int:
        """Distances computed by this process since it started."""
        raise NotImplementedError

    def apply(self, log_index: LogIndex, data: bytes) -> Result:
        """Apply one entry; deterministic. Empty data (a new leader's no-op) only moves the index."""
        raise NotImplementedError

    def prepare(self, request: Request, session: SessionKey) -> list[bytes]:
        """Check a request on the leader and encode its commands. InvalidInput, NotFound ..."""
        raise NotImplementedError

    def link_work(self, *, idle: bool = False) -> LinkWork | None:
        """The vector name that most needs linking; `idle`: even a short tail counts."""
        raise NotImplementedError

    def plan(self, work: LinkWork, rows_limit: int) -> bytes | None:
        """An encoded Link command for up to `rows_limit` rows; runs beside apply."""
        raise NotImplementedError

    def maintenance(self) -> list[bytes]:
        """Encoded commands (heap compaction) the leader should propose now; mostly none."""
        raise NotImplementedError

    def collections(self) -> list[str]:
        """Names, sorted."""
        raise NotImplementedError

    def exists(self, name: str) -> bool:
        """Whether the collection exists."""
        raise NotImplementedError

    def info(self, name: str) -> CollectionInfo:
        """State and configuration of a collection."""
        raise NotImplementedError

    def retrieve(
        self, name: str, ids: Sequence[PointIdLike], *, selection: Selection = PAYLOAD
    ) -> list[Record]:
        """The points with these ids, in the order asked for; unknown ones are left out."""
        raise NotImplementedError

    def scroll(
        self,
        name: str,
        *,
        limit: int = 10,
        offset: PointIdLike | None = None,
        filter: Mapping[str, Any] | None = None,  # noqa: A002
        selection: Selection = PAYLOAD,
    ) -> ScrollPage:
        """A page of points in id order, from the id `offset` on."""
        raise NotImplementedError

    def count(self, name: str, *, filter: Mapping[str, Any] | None = None) -> int:  # noqa: A002
        """How many points match; exact."""
        raise NotImplementedError

    def query(self, name: str, query: Query) -> list[ScoredPoint]:
        """The points nearest to a vector, best first."""
        raise NotImplementedError


__all__ = ["NOTHING", "PAYLOAD", "Database", "LinkWork"]
