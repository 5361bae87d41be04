"""One collection's columns: points in slots, their payloads, and an index for each vector name.

Columns under `c/{uid}` (the uid as 16 hex digits, so that names sort by age): `schema`, the id map,
`slots/*` (the allocator), `version` (uint64: log index of the point's last change), the payload
store, and for vector ordinal n `v{n}/row` (uint32: row + 1 of the point's vector, 0 for none) with
the index under `v{n}/index`. Nothing else is remembered; the rest of this object is derived.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from balsadb.columns import Column, ColumnSet, SlotAllocator
from balsadb.database import limits
from balsadb.database.id_map import IdMap
from balsadb.database.locks import Mutex, SharedLock
from balsadb.database.masks import Mask
from balsadb.database.paths import Step, parse_path
from balsadb.database.payload_keys import KeyValues, PayloadKey
from balsadb.database.payload_store import PayloadStore
from balsadb.database.point_ids import Ids
from balsadb.database.schema import Schema, VectorSchema, decode_schema, encode
from balsadb.errors import CollectionNotFound, InvalidInput
from balsadb.index import VectorIndex
from balsadb.types import CollectionUid, LogIndex

PREFIX = "c/"
Slots = NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class NamedVectors:
    """One vector name of a collection: its schema, the row + 1 of each slot, its index."""

    schema: VectorSchema
    rows: Column
    index: VectorIndex


def column_prefix(uid: CollectionUid) -> str:
    """Where the columns of a collection are."""
    return f"{PREFIX}{uid:016x}"


def stored_uids(columns: ColumnSet) -> Iterator[CollectionUid]:
    """The uids of all collections in a set of columns, oldest first."""
    for column in columns.with_prefix(PREFIX):
        if column.name.endswith("/schema"):
            yield CollectionUid(int(column.name.split("/")[1], 16))


class Collection:
    """A collection in memory. Reads hold `lock` shared, apply holds it exclusively."""

    def __init__(self, columns: ColumnSet, uid: CollectionUid, schema: Schema | None) -> None:
        """A new collection, or (schema None) the one whose columns are there."""
        prefix = column_prefix(uid)
        self.uid = uid
        self.lock = SharedLock()
        self.dropped = False
        self.distances_retired = 0
        self._columns = columns
        self._schema = _column(columns, f"{prefix}/schema", np.uint8, limits.SCHEMA_BYTES_MAX)
        if schema is not None:
            self._schema.append(np.frombuffer(encode(schema), np.uint8))
        self.schema = decode_schema(self._schema.used.tobytes())
        self.map = IdMap(columns, prefix)
        self.slots = SlotAllocator(columns, f"{prefix}/slots", limits.POINTS_MAX)
        self.version = _column(columns, f"{prefix}/version", np.uint64, limits.POINTS_MAX)
        self.payloads = PayloadStore(columns, prefix)
        self.vectors = [self._open_vectors(n) for n in range(len(self.schema.vectors))]
        self.ordinals = {one.name: place for place, one in enumerate(self.schema.vectors)}
        self._live = np.zeros(0, np.bool_)
        self._order: NDArray[np.int64] | None = None
        self._derived_lock = Mutex()
        self._keys: dict[str, PayloadKey] = {}
        self._renew_live()

    # ------------------------------------------------------------------ what filters see

    @property
    def slots_count(self) -> int:
        """Slots ever handed out: the length of masks."""
        return self.slots.top

    @property
    def points_count(self) -> int:
        """Points in the collection."""
        return self.slots.used_count

    @property
    def live(self) -> Mask:
        """(slots_count,): which slots hold a point. Not to be written."""
        return self._live[: self.slots.top]

    def find(self, ids: Ids) -> NDArray[np.int64]:
        """Slots of ids, -1 where unknown."""
        return self.map.find(ids)

    def key_values(self, key: str, steps: tuple[Step, ...]) -> KeyValues:
        """Typed values of a payload key; builds what `warm` left to build."""
        return self._key(key, steps).values(self.payloads, self.slots.top)

    def warm(self, keys: Iterable[tuple[str, tuple[Step, ...]]]) -> None:
        """Build the typed values of payload keys, in steps that each hold the lock shared: a first
        use must not keep apply waiting. The caller holds no lock."""
        for key, steps in keys:
            known = self._keys.get(key)
            while known is None or not known.is_near:
                with self.lock.shared():
                    self.check_open()
                    known = self._key(key, steps)
                    known.advance(self.payloads, self.slots.top)

    def _key(self, key: str, steps: tuple[Step, ...]) -> PayloadKey:
        known = self._keys.get(key)
        if known is None:
            with self._derived_lock:
                known = self._keys.get(key)
                if known is None:
                    self._make_room()
                    known = self._keys[key] = PayloadKey(steps, self.slots.top)
        return known

    def vector_slots(self, name: str) -> Mask:
        """Slots that have a vector of this name."""
        return self.vectors[self.ordinal(name)].rows.used[: self.slots.top] != 0

    # ------------------------------------------------------------------ other reads

    def ordinal(self, name: str, field: str = "using") -> int:
        """The ordinal of a vector name. InvalidInput naming `field`."""
        place = self.ordinals.get(name)
        if place is None:
            known = ", ".join(repr(one) for one in self.ordinals) or "none"
            raise InvalidInput(field, f"unknown vector name {name!r} (there are: {known})")
        return place

    def check_open(self) -> None:
        """CollectionNotFound if it was dropped before the caller had the lock."""
        if self.dropped:
            raise CollectionNotFound(self.schema.name)

    @property
    def distances_total(self) -> int:
        """Distances computed by this process in this collection."""
        return self.distances_retired + sum(part.index.distances_total for part in self.vectors)

    def slots_by_id(self) -> NDArray[np.int64]:
        """Live slots in the order of ids; sorted once for each change of the set of points."""
        order = self._order
        if order is None:
            slots = np.flatnonzero(self.live)
            ids = self.map.ids(slots)
            if ids.kind.any():
                order = slots[np.lexsort((ids.lo, ids.hi, ids.kind))]
            else:
                order = slots[np.argsort(ids.lo, kind="stable")]
            self._order = order
        return order

    def check(self) -> list[str]:
        """Violated invariants, in words; empty if all hold."""
        wrong = self.map.check(self.live) + self.payloads.check() + self.slots.check()
        for part in self.vectors:
            rows = part.rows.used.astype(np.int64) - 1
            slots = np.flatnonzero(rows >= 0)
            if not np.array_equal(part.index.row_slot[rows[slots]], slots):
                wrong.append(f"vector {part.schema.name!r}: a row of another slot")
            if part.index.live_count != slots.size:
                wrong.append(f"vector {part.schema.name!r}: rows and slots differ in number")
            if not self.live[slots].all():
                wrong.append(f"vector {part.schema.name!r}: a free slot has a row")
            wrong.extend(part.index.check())
        return wrong

    # ------------------------------------------------------------------ apply only, lock held

    def has_room(self, points: int, payload_bytes: int, vectors: list[int]) -> bool:
        """Whether an upsert fits, were all of its points new; `vectors`: rows by ordinal."""
        return (
            self.slots.used_count + points <= limits.POINTS_MAX
            and payload_bytes <= self.payloads.free_bytes
            and all(
                part.index.rows_taken + count <= part.index.options.rows_reserved
                for part, count in zip(self.vectors, vectors, strict=True)
            )
        )

    def upsert_ids(self, ids: Ids, log_index: LogIndex) -> tuple[Slots, Mask]:
        """Slots of distinct ids, new ones for those unknown; and which were known."""
        found = self.map.find(ids)
        known = found >= 0
        fresh = np.flatnonzero(~known)
        if fresh.size:
            slots = self.slots.alloc(fresh.size)
            found[fresh] = slots
            self._resize()
            self.map.insert(slots, ids.take(fresh), self.slots.used_count)
            self._live[slots] = True
            self._order = None
        slots = found.astype(np.uint32)
        self.stamp(slots, log_index)
        return slots, known

    def stamp(self, slots: Slots, log_index: LogIndex) -> None:
        """These points changed now."""
        self.version.touch_rows(slots)
        self.version.data[slots] = log_index
        for key in self._keys.values():
            key.note(slots, self.slots.top)

    def put_vectors(self, ordinal: int, slots: Slots, known: Mask, values: NDArray[Any]) -> None:
        """Give slots (distinct) new vectors: equal bytes keep the row, others take a new one."""
        part = self.vectors[ordinal]
        if known.any():
            rows = part.rows.data[slots].astype(np.int64) - 1
            held = np.flatnonzero(rows >= 0)
            stored = part.index.vectors(rows[held]).view(np.uint32)
            same = (stored == values[held].view(np.uint32)).all(axis=1)
            part.index.tombstone(rows[held[~same]].astype(np.uint32))
            fresh = np.ones(slots.size, np.bool_)
            fresh[held[same]] = False
            slots, values = slots[fresh], values[fresh]
        if slots.size:
            rows = part.index.add(slots, values)
            part.rows.touch_rows(slots)
            part.rows.data[slots] = rows + np.uint32(1)

    def drop_vectors(self, ordinal: int, slots: Slots) -> None:
        """Take the vectors of one name from slots."""
        part = self.vectors[ordinal]
        rows = part.rows.data[slots]
        held = rows != 0
        if held.any():
            part.index.tombstone(rows[held] - np.uint32(1))
            part.rows.touch_rows(slots[held])
            part.rows.data[slots[held]] = 0

    def delete(self, slots: Slots) -> None:
        """Remove the points of slots (distinct, live)."""
        if not slots.size:
            return
        for ordinal in range(len(self.vectors)):
            self.drop_vectors(ordinal, slots)
        self.payloads.clear(slots)
        self.stamp(slots, LogIndex(0))
        self.map.remove(slots)
        self.slots.free(slots)
        self._live[slots] = False
        self._order = None

    def replace_schema(self, schema: Schema) -> None:
        """New configuration; vector names and sizes are the same."""
        data = np.frombuffer(encode(schema), np.uint8)
        self._schema.resize(0)
        self._schema.append(data)
        renew = schema.hnsw != self.schema.hnsw
        self.schema = schema
        if renew:
            self.distances_retired = self.distances_total
            self.vectors = [self._open_vectors(n) for n in range(len(schema.vectors))]

    def drop(self) -> None:
        """Take the columns out of the set; readers that still wait for the lock get told."""
        self.dropped = True
        for column in self._columns.with_prefix(column_prefix(self.uid) + "/"):
            self._columns.remove(column.name)

    # ------------------------------------------------------------------ inside

    def _open_vectors(self, ordinal: int) -> NamedVectors:
        schema = self.schema.vectors[ordinal]
        prefix = f"{column_prefix(self.uid)}/v{ordinal}"
        rows = _column(self._columns, f"{prefix}/row", np.uint32, limits.POINTS_MAX)
        options = self.schema.index_options(ordinal, self.uid)
        return NamedVectors(schema, rows, VectorIndex(self._columns, f"{prefix}/index", options))

    def _resize(self) -> None:
        top = self.slots.top
        for column in (self.version, *(part.rows for part in self.vectors)):
            if column.rows < top:
                column.resize(top)
        self.payloads.resize(top)
        if self._live.size < top:
            more = np.zeros(top + top // 4 + 256 - self._live.size, np.bool_)
            self._live = np.concatenate([self._live, more])

    def _renew_live(self) -> None:
        used = self.slots.used()
        self._live = np.zeros(used.size + 256, np.bool_)
        self._live[: used.size] = used

    def _make_room(self) -> None:
        """Forget derived values of a key that is not declared, if there are too many."""
        while len(self._keys) >= limits.DERIVED_KEYS_MAX:
            declared = self.schema.payload_indexes
            oldest = next(
                (key for key in self._keys if key not in declared), next(iter(self._keys))
            )
            del self._keys[oldest]


def declared_values(collection: Collection, key: str) -> KeyValues:
    """Typed values of a declared payload key."""
    return collection.key_values(key, parse_path(key, "field_name"))


def _column(columns: ColumnSet, name: str, dtype: type[np.generic], rows_max: int) -> Column:
    if name in columns:
        return columns[name]
    return columns.create(name, dtype, rows_max=rows_max)
