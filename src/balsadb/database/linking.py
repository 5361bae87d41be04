"""What the leader does on its own account: link rows that wait, compact heaps."""

import msgspec

from balsadb.database import commands, limits
from balsadb.database.catalog import Catalog
from balsadb.database.collection import Collection
from balsadb.index import VectorIndex
from balsadb.index.planner import Run
from balsadb.types import CollectionUid


class LinkWork(msgspec.Struct, frozen=True):
    """A vector name with rows to link (or dead ones to free), and how many wait."""

    uid: CollectionUid
    vector_name: str
    tail: int


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


def link_work(catalog: Catalog, *, idle: bool) -> LinkWork | None:
    """The vector name with the longest tail, if that is long enough; ties by uid."""
    best: LinkWork | None = None
    least = 1 if idle else limits.LINK_BATCH
    # One look at the dictionary: apply may replace it at any moment.
    for uid, collection in sorted(catalog.by_uid.items()):
        for part in collection.vectors:
            tail = settled_by_edit(part.index)
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
    edit = collection.vectors[ordinal].index.plan(rows_limit, slices=spread.slices, run=spread.run)
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
