"""The database: every collection, the sessions, and the one door for changes, `apply`."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from balsadb.columns import ColumnSet
from balsadb.database import linking, reads
from balsadb.database.applying import execute
from balsadb.database.catalog import Catalog
from balsadb.database.commands import MarkerCommand, Origin, decode, encode
from balsadb.database.linking import ONE_THREAD, LinkWork, Spread
from balsadb.database.prepare import prepare
from balsadb.database.requests import PointIdLike, Request, SessionKey
from balsadb.database.results import CollectionInfo, Record, Result, ScoredPoint, ScrollPage
from balsadb.database.selection import NOTHING, PAYLOAD, Query, Selection
from balsadb.database.sessions import Sessions
from balsadb.errors import BalsaError, NewerFormat
from balsadb.index import Codes, VectorIndex
from balsadb.types import LogIndex

STATE_FORMAT: Final = 1
_FORMAT, _APPLIED = 0, 1
"""Rows of the column `state` (uint64)."""


class Database:
    """A replicated state machine; everything it remembers is in `columns`.

    One thread applies. Any number may read, prepare and plan beside it: each collection has a lock
    that reads share and that apply takes alone for one command.
    """

    def __init__(self, columns: ColumnSet | None = None) -> None:
        """An empty database, or the one that these columns are. NewerFormat."""
        self.columns = ColumnSet() if columns is None else columns
        if "state" not in self.columns:
            self.columns.create("state", np.uint64, rows_max=8).append([STATE_FORMAT, 0])
        self._state = self.columns["state"]
        if int(self._state.data[_FORMAT]) != STATE_FORMAT:
            raise NewerFormat("the columns were written by another version of this program")
        self._sessions = Sessions(self.columns)
        self.catalog = Catalog(self.columns)
        self._codes_run = 0

    @property
    def applied_index(self) -> LogIndex:
        """Log index of the newest entry applied, 0 if none."""
        return LogIndex(int(self._state.data[_APPLIED]))

    @property
    def distances_total(self) -> int:
        """Distances computed by this process since it started."""
        return self.catalog.distances_total

    @property
    def points_count(self) -> int:
        """Points of all collections."""
        return sum(one.points_count for one in self.catalog.by_uid.values())

    @property
    def linked_rows(self) -> int:
        """Rows in graphs, of all collections; dead ones that are not repaired yet included."""
        return sum(index.linked_count for index in self._indexes())

    @property
    def tail_rows(self) -> int:
        """Rows that wait to be linked, of all collections; not those too few for a graph."""
        return sum(map(linking.linkable, self._indexes()))

    @property
    def codes(self) -> Codes:
        """How far the codes of all vectors are: quantisers trained, rows, rows that have one."""
        return linking.all_codes(self.catalog)

    def apply(self, log_index: LogIndex, data: bytes) -> Result:
        """Apply one entry; deterministic. Empty data (a new leader's no-op) only moves the index.

        An error that all replicas reach alike is in the result; an exception means that this node
        must stop. ValueError if the index does not rise.
        """
        if log_index <= self.applied_index:
            raise ValueError(f"entry {log_index} after entry {self.applied_index}")
        self._state.put(_APPLIED, np.uint64(log_index))
        if not data:
            return Result(log_index)
        command = decode(data)
        known = self._sessions.recall(command.origin)
        if known is not None:
            return known
        result = execute(self.catalog, log_index, command)
        self._sessions.record(command.origin, result)
        return result

    # ------------------------------------------------------------------ the leader

    def prepare(self, request: Request, session: SessionKey) -> list[bytes]:
        """Check a request and encode its commands, to be proposed together and in order.

        InvalidInput, LimitExceeded, CollectionNotFound, AlreadyExists: nothing was changed. Unless
        the request was applied before: what it (or a later one) did may have made it impossible,
        and yet its answer is the first one. So it goes through the log without its content.
        """
        try:
            return prepare(self.catalog, request, session)
        except BalsaError:
            if not self._sessions.is_done(session.session, session.sequence):
                raise
            return [encode(MarkerCommand(Origin(session.session, session.sequence)))]

    def link_work(self, *, idle: bool = False) -> LinkWork | None:
        """The vector name that most needs an edit; `idle`: even a short tail counts. Codes go
        first, but a long tail gets its turn after every `CODES_RUN` plans for them."""
        work = linking.link_work(self.catalog, idle=idle)
        if work is not None and work.codes and self._codes_run >= linking.CODES_RUN:
            return linking.link_work(self.catalog, idle=False, codes=False) or work
        return work

    def plan(self, work: LinkWork, rows_limit: int, spread: Spread = ONE_THREAD) -> bytes | None:
        """An encoded Link command for up to `rows_limit` rows; runs beside apply."""
        self._codes_run = self._codes_run + 1 if work.codes else 0
        return linking.plan(self.catalog, work, rows_limit, spread)

    def maintenance(self) -> list[bytes]:
        """Encoded commands (heap compaction) the leader should propose now; mostly none."""
        return linking.maintenance(self.catalog)

    # ------------------------------------------------------------------ reads

    def collections(self) -> list[str]:
        """Names, sorted."""
        return self.catalog.names()

    def exists(self, name: str) -> bool:
        """Whether the collection exists."""
        return name in self.catalog.by_name

    def info(self, name: str) -> CollectionInfo:
        """State and configuration of a collection."""
        return reads.info(self.catalog.get(name))

    def retrieve(
        self, name: str, ids: Sequence[PointIdLike], *, selection: Selection = PAYLOAD
    ) -> list[Record]:
        """The points with these ids, in the order asked for; unknown ones are left out."""
        return reads.retrieve(self.catalog.get(name), ids, selection)

    def scroll(
        self,
        name: str,
        *,
        limit: int = 10,
        offset: PointIdLike | None = None,
        filter: Mapping[str, Any] | None = None,
        selection: Selection = PAYLOAD,
    ) -> ScrollPage:
        """A page of points in id order, from the id `offset` on."""
        return reads.scroll(self.catalog.get(name), filter, limit, offset, selection)

    def count(
        self,
        name: str,
        *,
        filter: Mapping[str, Any] | None = None,
    ) -> int:
        """How many points match; exact."""
        return reads.count(self.catalog.get(name), filter)

    def query(self, name: str, query: Query) -> list[ScoredPoint]:
        """The points nearest to a vector, best first."""
        return reads.query(self.catalog.get(name), query)

    def query_many(self, name: str, queries: Sequence[Query]) -> list[list[ScoredPoint]]:
        """Several queries of one collection; between two of them it may change."""
        return reads.query_many(self.catalog.get(name), queries)

    def check(self) -> list[str]:
        """Violated invariants, in words; empty if all hold. For tests and `doctor`."""
        return [
            f"collection {collection.schema.name!r}: {wrong}"
            for _, collection in sorted(self.catalog.by_uid.items())
            for wrong in collection.check()
        ]

    def _indexes(self) -> list[VectorIndex]:
        return [part.index for one in self.catalog.by_uid.values() for part in one.vectors]


__all__ = ["NOTHING", "PAYLOAD", "Database", "LinkWork"]
