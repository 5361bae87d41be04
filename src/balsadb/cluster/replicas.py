"""Are the replicas the same? Digests of every column, taken on each node right after one entry.

A marker goes through the log. Each node freezes its columns when it applies the marker (cheap),
and hashes the frozen chunks on a thread of its own (chunks that did not change since their last
digest are not hashed again). Equal log index, equal bytes: promise 3.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial

from balsadb.cluster.workers import Fatal, Worker
from balsadb.columns import ColumnSet, FrozenColumn
from balsadb.database import Database, LinkWork, Result
from balsadb.database.commands import MarkerCommand, decode
from balsadb.database.linking import ONE_THREAD, Spread
from balsadb.errors import NotReady
from balsadb.types import LogIndex

MARKERS_KEPT = 16
"""Digests of the last markers that a node remembers."""
MARKER_BYTES_MAX = 64
"""No other command is so short that decoding it twice matters."""

Digests = dict[str, str]
"""Column name -> hexadecimal digest."""


class ReplicaDigests:
    """The digests this node took, by the log index of the marker. Thread-safe."""

    def __init__(self, fatal: Fatal) -> None:
        self._worker = Worker("digest", fatal)
        self._lock = threading.Lock()
        self._taken: OrderedDict[LogIndex, Future[Digests]] = OrderedDict()

    def start(self) -> None:
        """Start the hashing thread."""
        self._worker.start()

    def stop(self) -> None:
        """Stop it."""
        self._worker.stop()

    def at(self, index: LogIndex) -> Future[Digests]:
        """The digests at the marker with that log index, now or once it is applied here; NotReady
        when later markers have taken its place (a snapshot may have jumped over it)."""
        with self._lock:
            return self._future(index)

    def take(self, index: LogIndex, columns: ColumnSet) -> None:
        """Called on the apply thread right after the marker: freeze now, hash later."""
        self._worker.submit(partial(self._hash, index, columns.freeze()))

    def _hash(self, index: LogIndex, frozen: Sequence[FrozenColumn]) -> None:
        digests: Digests = {}
        for column in frozen:
            digests[column.meta.name] = column.digest().hex()
            column.release()
        with self._lock:
            future = self._future(index)
            if not future.done():
                future.set_result(digests)

    def _future(self, index: LogIndex) -> Future[Digests]:
        future = self._taken.get(index)
        if future is None:
            future = self._taken[index] = Future()
            # It is shared: one that stops waiting must not cancel it for the others.
            future.set_running_or_notify_cancel()
            while len(self._taken) > MARKERS_KEPT:
                old, forgotten = self._taken.popitem(last=False)
                if not forgotten.done():
                    forgotten.set_exception(NotReady(f"no digests were taken at log index {old}"))
        return future


class ObservedDatabase:
    """The database as the driver sees it, with an eye on markers."""

    def __init__(
        self, database: Database, digests: ReplicaDigests, spread: Spread = ONE_THREAD
    ) -> None:
        self.database = database
        self._spread = spread
        self._digests = digests

    @property
    def columns(self) -> ColumnSet:
        """Everything it remembers."""
        return self.database.columns

    def apply(self, index: LogIndex, data: bytes, /) -> Result:
        """Apply one command; after a marker, freeze for the digests."""
        result = self.database.apply(index, data)
        if len(data) <= MARKER_BYTES_MAX and isinstance(decode(data), MarkerCommand):
            self._digests.take(index, self.database.columns)
        return result

    def link_work(self) -> LinkWork | None:
        """The next thing to link, however short its tail (the linker decides what is too short)."""
        return self.database.link_work(idle=True)

    def plan(self, work: LinkWork, rows_limit: int, /) -> bytes | None:
        """The encoded command that links at most `rows_limit` rows."""
        return self.database.plan(work, rows_limit, self._spread)

    def maintenance(self) -> list[bytes]:
        """Housekeeping commands to propose in a quiet moment."""
        return self.database.maintenance()


def compare(index: LogIndex, nodes: dict[int, Digests | str]) -> dict[str, object]:
    """The report of `GET /cluster/verify`: `nodes` maps each member to its digests, or to the
    reason why it gave none: then it is `not_compared`, and `equal`, which is said of all members,
    is false although perhaps nothing is `differing`."""
    taken = {node: found for node, found in nodes.items() if not isinstance(found, str)}
    names = sorted({name for digests in taken.values() for name in digests})
    differing = [
        name for name in names if len({digests.get(name) for digests in taken.values()}) > 1
    ]
    return {
        "index": index,
        "equal": not differing and len(taken) == len(nodes),
        "columns": len(names),
        "differing": differing,
        "not_compared": [node for node, found in sorted(nodes.items()) if isinstance(found, str)],
        "nodes": {
            str(node): {"error": found}
            if isinstance(found, str)
            else {"columns": len(found), "digests": found}
            for node, found in sorted(nodes.items())
        },
    }
