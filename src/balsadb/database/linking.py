"""What the leader does on its own account: link rows that wait, code them, compact heaps."""

import msgspec

from balsadb.database import commands, limits
from balsadb.database.catalog import Catalog
from balsadb.database.collection import Collection
from balsadb.index import Codes, VectorIndex
from balsadb.index.planner import Run
from balsadb.types import CollectionUid

CODES_RUN = 8
"""Edits of codes in a row before an edit of a graph with a long tail gets its turn."""


class LinkWork(msgspec.Struct, frozen=True):
    """A vector name with rows to link (or dead ones to free), and how many wait; `codes`: an edit
    of its codes is due, which waits for no number of rows."""

    uid: CollectionUid
    vector_name: str
    tail: int
    codes: bool = False


def linkable(index: VectorIndex) -> int:
    """Rows of the tail that belong into a graph: none while there are too few for one."""
    tail = index.tail_count
    return tail if index.linked_count + tail >= limits.GRAPH_ROWS_MIN else 0


def settled_by_edit(index: VectorIndex) -> int:
    """Rows that an edit would link, or free: a vector that changes again and again in a collection
    too small for a graph leaves a dead row each time. Repairs of the graph count with them."""
    dead = index.tail_dead_count
    waiting = dead if dead >= limits.DEAD_ROWS_MIN else 0
    return linkable(index) + waiting + index.repair_due


def codes_wait(index: VectorIndex) -> bool:
    """Whether rows are to get codes and have none yet; the same on all replicas."""
    codes = index.codes
    return codes.coded < codes.rows or (codes.epoch == 0 and index.codes_due)


def all_codes(catalog: Catalog) -> Codes:
    """How far the codes are, summed over all vector names."""
    found = [part.index.codes for one in catalog.by_uid.values() for part in one.vectors]
    return Codes(
        sum(one.epoch for one in found),
        sum(one.rows for one in found),
        sum(one.coded for one in found),
    )


def link_work(catalog: Catalog, *, idle: bool, codes: bool = True) -> LinkWork | None:
    """The first vector name whose codes are due (with `codes`: there are few such edits, each is
    short, and walks are slower without), else the one with the longest tail, if that is long
    enough; ties by uid."""
    best: LinkWork | None = None
    least = 1 if idle else limits.LINK_BATCH
    # One look at the dictionary: apply may replace it at any moment.
    for uid, collection in sorted(catalog.by_uid.items()):
        for part in collection.vectors:
            tail = settled_by_edit(part.index)
            if codes and part.index.codes_due:
                return LinkWork(uid, part.schema.name, tail, codes=True)
            if tail >= least and (best is None or tail > best.tail):
                best = LinkWork(uid, part.schema.name, tail)
    return best


class Spread(msgspec.Struct, frozen=True):
    """How a plan's searches are spread over threads: `run` is called like `map`, with `slices`
    arguments. The edit does not depend on it."""

    slices: int = 1
    run: Run = map


ONE_THREAD = Spread()


def plan(catalog: Catalog, work: LinkWork, rows_limit: int, spread: Spread) -> bytes | None:
    """An encoded Link command, or None if there is nothing to do (any more). Runs beside apply."""
    collection = catalog.by_uid.get(work.uid)
    if collection is None:
        return None
    ordinal = collection.ordinals[work.vector_name]
    edit = collection.vectors[ordinal].index.plan(
        rows_limit, slices=spread.slices, run=spread.run, codes=work.codes
    )
    if edit is None:
        return None
    return commands.encode(commands.LinkCommand(commands.NO_ORIGIN, work.uid, ordinal, edit))


def maintenance(catalog: Catalog) -> list[bytes]:
    """Encoded commands that are worth their cost now: heaps of which more than half is dead."""
    return [
        commands.encode(commands.CompactHeapCommand(commands.NO_ORIGIN, uid))
        for uid, collection in sorted(catalog.by_uid.items())
        if _wasteful(collection)
    ]


def _wasteful(collection: Collection) -> bool:
    dead = collection.payloads.dead_bytes
    return dead >= limits.HEAP_DEAD_BYTES_MIN and 2 * dead > collection.payloads.heap_bytes
