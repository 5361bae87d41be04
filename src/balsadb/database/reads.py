"""Reads of one collection. Each holds its lock shared from the first look to the last."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from balsadb.database import limits
from balsadb.database.collection import Collection, declared_values
from balsadb.database.filters import Filter, keys_of, parse
from balsadb.database.linking import codes_wait, linkable
from balsadb.database.masks import Mask, mask_of
from balsadb.database.paths import Step, kept, parse_path
from balsadb.database.payload_store import EMPTY, decode_payload, encode_payload
from balsadb.database.point_ids import parse_ids, split_id, wire_id, wire_ids
from balsadb.database.requests import PointIdLike
from balsadb.database.results import (
    CollectionInfo,
    PayloadIndexInfo,
    Record,
    ScoredPoint,
    ScrollPage,
    VectorInfo,
    WireVector,
)
from balsadb.database.selection import Query, Selection
from balsadb.database.vector_bounds import bounded
from balsadb.errors import InvalidInput, LimitExceeded, PointNotFound
from balsadb.index import Metric, Precision, larger_is_better, prepare_vector

FilterLike = Mapping[str, Any] | Filter | None
Payload = msgspec.Raw | dict[str, Any] | None
_DEFAULT_EF = 64
"""`hnsw_ef` when the query names none and asks for few: recall@10 above 0.97 on the films."""


def info(collection: Collection) -> CollectionInfo:
    """State and configuration."""
    declared = [(key, parse_path(key, key)) for key in collection.schema.payload_indexes]
    collection.warm(declared)
    with collection.lock.shared():
        collection.check_open()
        schema = collection.schema
        vectors = {
            part.schema.name: VectorInfo(
                part.schema.size,
                part.schema.distance.value,
                part.index.live_count,
                part.index.linked_count,
                part.index.tail_count,
                part.index.graph_version,
                schema.quantization_of(part.schema),
                part.schema.quantization is not None,
                part.index.codes,
            )
            for part in collection.vectors
        }
        waiting = any(linkable(part.index) or codes_wait(part.index) for part in collection.vectors)
        return CollectionInfo(
            name=schema.name,
            uid=collection.uid,
            status="yellow" if waiting else "green",
            points_count=collection.points_count,
            indexed_vectors_count=sum(part.live - part.tail for part in vectors.values()),
            vectors=vectors,
            m=schema.hnsw.m,
            ef_construct=schema.hnsw.ef_construct,
            full_scan_threshold=schema.hnsw.full_scan_threshold,
            quantization=schema.quantization,
            payload_schema={
                key: PayloadIndexInfo(kind, _typed_points(collection, key, kind))
                for key, kind in schema.payload_indexes.items()
            },
            payload_bytes=collection.payloads.heap_bytes,
            payload_dead_bytes=collection.payloads.dead_bytes,
        )


def retrieve(
    collection: Collection, ids: Sequence[PointIdLike], selection: Selection
) -> list[Record]:
    """The points with these ids, in the order asked for; unknown ones are left out."""
    if len(ids) > limits.PAGE_MAX:
        raise LimitExceeded("ids", f"at most {limits.PAGE_MAX}")
    parsed = parse_ids(ids, "ids")
    with collection.lock.shared():
        collection.check_open()
        found = collection.find(parsed)
        return _records(collection, found[found >= 0], selection)


def count(collection: Collection, condition: FilterLike) -> int:
    """How many points match; exact."""
    tree = _tree(collection, condition)
    with collection.lock.shared():
        collection.check_open()
        if tree is None:
            return collection.points_count
        return int(np.count_nonzero(mask_of(collection, tree)))


def scroll(
    collection: Collection,
    condition: FilterLike,
    limit: int,
    offset: PointIdLike | None,
    selection: Selection,
) -> ScrollPage:
    """A page in id order, from the id `offset` (present or not) on."""
    check_limit(limit, "limit", 1, limits.PAGE_MAX)
    start = None if offset is None else split_id(offset, "offset")
    tree = _tree(collection, condition)
    with collection.lock.shared():
        collection.check_open()
        slots = _in_order(collection, tree, start)[: limit + 1]
        records = _records(collection, slots[:limit], selection)
        rest = None
        if slots.size > limit:
            rest = wire_ids(collection.map.ids(slots[limit:]))[0]
        return ScrollPage(records, rest)


def query(collection: Collection, asked: Query) -> list[ScoredPoint]:
    """The points nearest to a vector or a point, best first; without either, in id order."""
    _check_query(asked)
    tree = _tree(collection, asked.filter)
    if asked.vector is None and asked.id is None:
        return _first_points(collection, tree, asked)
    ordinal = collection.ordinal(asked.using)
    vector = None
    if asked.vector is not None:
        vector = query_vector(collection, ordinal, asked.vector)
    with collection.lock.shared():
        collection.check_open()
        own = -1
        if asked.id is not None:
            own, vector = _vector_of(collection, ordinal, asked.id)
        assert vector is not None
        mask = None if tree is None else mask_of(collection, tree)
        wanted = asked.limit + asked.offset + (own >= 0)
        index = collection.vectors[ordinal].index
        rows, scores = index.search(
            vector,
            wanted,
            ef=max(asked.hnsw_ef or _DEFAULT_EF, wanted),
            slots=mask,
            exact=asked.exact,
            precision=Precision(not asked.ignore_codes, asked.oversampling),
        )
        slots = index.row_slot[rows]
        if own >= 0:
            other = slots != own
            slots, scores = slots[other], scores[other]
        slots, scores = _cut(asked, collection.schema.vectors[ordinal].distance, slots, scores)
        return _scored(collection, slots, scores, asked.selection)


def query_many(collection: Collection, asked: Sequence[Query]) -> list[list[ScoredPoint]]:
    """Several queries, one after the other; each sees the collection as it is in its turn."""
    if sum(one.limit for one in asked) > limits.BATCH_RESULTS_MAX:
        raise LimitExceeded("searches", f"at most {limits.BATCH_RESULTS_MAX} results together")
    answers: list[list[ScoredPoint]] = []
    components = 0
    for place, one in enumerate(asked):
        try:
            answers.append(query(collection, one))
        except InvalidInput as error:
            raise type(error)(f"searches[{place}].{error.field}", error.rule) from None
        components += len(answers[-1]) * _components(collection, one.selection)
        _check_components(components, "searches")
    return answers


def _first_points(collection: Collection, tree: Filter | None, asked: Query) -> list[ScoredPoint]:
    """The answer to a query that names nothing to be near to."""
    with collection.lock.shared():
        collection.check_open()
        slots = _in_order(collection, tree, None)[asked.offset :][: asked.limit]
        return _scored(collection, slots, np.zeros(slots.size, np.float32), asked.selection)


def query_vector(
    collection: Collection, ordinal: int, vector: NDArray[np.float32] | Sequence[float]
) -> NDArray[np.float32]:
    """A query vector checked and prepared, (dim,) float32. InvalidInput naming `query`."""
    schema = collection.schema.vectors[ordinal]
    try:
        with np.errstate(over="ignore"):
            values = np.asarray(vector, np.float32)
    except (TypeError, ValueError, OverflowError):
        raise InvalidInput("query", "must be a list of numbers") from None
    if values.ndim != 1:
        raise InvalidInput("query", "must be one list of numbers")
    if values.size != schema.size:
        raise InvalidInput(
            "query", f"Vector dimension error: expected dim: {schema.size}, got {values.size}"
        )
    return prepare_vector(schema.distance, bounded(values[np.newaxis], lambda _: "query")[0])


def check_limit(value: object, field: str, low: int, high: int) -> None:
    """An integer in low..high. InvalidInput or LimitExceeded naming `field`."""
    if type(value) is not int or value < low:
        raise InvalidInput(field, f"must be an integer in {low}..{high}, not {value!r:.40}")
    if value > high:
        raise LimitExceeded(field, f"must be in {low}..{high}, not {value}")


def _check_query(asked: Query) -> None:
    check_limit(asked.limit, "limit", 1, limits.PAGE_MAX)
    check_limit(asked.offset, "offset", 0, limits.OFFSET_MAX)
    if asked.hnsw_ef is not None:
        check_limit(asked.hnsw_ef, "params.hnsw_ef", 1, limits.EF_MAX)
    if not 1 <= asked.oversampling < np.inf:
        raise InvalidInput("params.quantization.oversampling", "must be a finite number from 1 on")
    if asked.vector is not None and asked.id is not None:
        raise InvalidInput("query", "must be a vector or a point id, not both")
    threshold = asked.score_threshold
    if threshold is not None and not np.isfinite(threshold):
        raise InvalidInput("score_threshold", "must be a finite number")


def _vector_of(
    collection: Collection, ordinal: int, point: PointIdLike
) -> tuple[int, NDArray[np.float32]]:
    """(slot, stored vector) of a point. PointNotFound; InvalidInput if it has no such vector."""
    slot = collection.map.find_one(*split_id(point, "query"))
    if slot < 0:
        raise PointNotFound(f"No point with id {point} found")
    part = collection.vectors[ordinal]
    row = int(part.rows.data[slot]) - 1
    if row < 0:
        raise InvalidInput("query", f"point {point} has no vector {part.schema.name!r}")
    return slot, part.index.vectors(np.array([row]))[0]


def _cut(
    asked: Query, metric: Metric, slots: NDArray[Any], scores: NDArray[np.float32]
) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Only what is on the page and good enough."""
    span = slice(asked.offset, asked.offset + asked.limit)
    slots, scores = slots[span], scores[span]
    if asked.score_threshold is not None:
        with np.errstate(over="ignore"):
            bound = np.float32(asked.score_threshold)
        good = scores >= bound if larger_is_better(metric) else scores <= bound
        slots, scores = slots[good], scores[good]
    return slots, scores


def _in_order(
    collection: Collection, tree: Filter | None, start: tuple[int, int, int] | None
) -> NDArray[np.int64]:
    """Matching slots in id order, from an id on."""
    order = collection.slots_by_id()
    if start is not None:
        order = order[_place(collection, order, start) :]
    if tree is not None:
        mask: Mask = mask_of(collection, tree)
        order = order[mask[order]]
    return order


def _place(collection: Collection, order: NDArray[np.int64], key: tuple[int, int, int]) -> int:
    """Of the first id not below `key`: bisection."""
    low, high = 0, order.size
    while low < high:
        middle = (low + high) // 2
        ids = collection.map.ids(order[middle : middle + 1])
        if (int(ids.kind[0]), int(ids.hi[0]), int(ids.lo[0])) < key:
            low = middle + 1
        else:
            high = middle
    return low


def _tree(collection: Collection, condition: FilterLike) -> Filter | None:
    """The filter parsed, and the payload keys it needs built."""
    if condition is None:
        return None
    tree = condition if isinstance(condition, Filter) else parse(condition)
    collection.warm(keys_of(tree))
    return tree


def _typed_points(collection: Collection, key: str, kind: str) -> int:
    values = declared_values(collection, key)
    entries = {
        "keyword": values.words,
        "integer": values.integers,
        "float": values.floats,
        "bool": values.flags,
    }[kind]
    return int(np.unique(entries.slots).size)


# ---------------------------------------------------------------------- what goes out


def _records(
    collection: Collection, slots: NDArray[np.int64], selection: Selection
) -> list[Record]:
    ids = wire_ids(collection.map.ids(slots))
    payload_of = payload_reader(collection, selection)
    vectors = _vectors(collection, slots, selection)
    return [
        Record(point, payload_of(slot), vector)
        for point, slot, vector in zip(ids, slots.tolist(), vectors, strict=True)
    ]


def _scored(
    collection: Collection,
    slots: NDArray[Any],
    scores: NDArray[np.float32],
    selection: Selection,
) -> list[ScoredPoint]:
    kinds, highs, lows = collection.map.ids(slots)
    numbers = lows.tolist()
    points: list[int | str] = numbers
    if kinds.any():
        points = list(map(wire_id, kinds.tolist(), highs.tolist(), numbers))
    versions = collection.version.data[slots].tolist()
    values = scores.tolist()
    if selection.payload is False and selection.vector is False:
        return list(map(ScoredPoint, points, versions, values))
    payload_of = payload_reader(collection, selection)
    payloads = map(payload_of, slots.tolist())
    vectors = _vectors(collection, slots, selection)
    return list(map(ScoredPoint, points, versions, values, payloads, vectors))


def payload_reader(collection: Collection, selection: Selection) -> Callable[[int], Payload]:
    """From a slot to the part of its payload that is asked for, in the form asked for."""
    wanted, raw, read = selection.payload, selection.raw_payload, collection.payloads.read
    if wanted is False:
        return lambda _: None
    if wanted is True:
        if raw:
            return lambda slot: msgspec.Raw(read(slot) or EMPTY)
        return lambda slot: decode_payload(read(slot))
    paths, include = _payload_paths(wanted)

    def part(slot: int) -> Payload:
        value = kept(decode_payload(read(slot)), paths, include=include)
        return msgspec.Raw(encode_payload(value) or EMPTY) if raw else value

    return part


def _payload_paths(
    wanted: Sequence[str] | Mapping[str, Sequence[str] | None],
) -> tuple[list[tuple[Step, ...]], bool]:
    """(paths, whether they are kept or left out)."""
    include = True
    names: object = wanted
    field = "with_payload"
    if isinstance(wanted, Mapping):
        given = {key: value for key, value in wanted.items() if value is not None}
        if len(given) != 1 or not given.keys() <= {"include", "exclude"}:
            raise InvalidInput(field, "must have one of include, exclude")
        key, names = next(iter(given.items()))
        include = key == "include"
        field = f"{field}.{key}"
    if not isinstance(names, list | tuple):
        raise InvalidInput(field, "must be a boolean, a list of keys, or include / exclude")
    parts = cast("Sequence[object]", names)
    if len(parts) > limits.PAYLOAD_KEYS_MAX:
        raise LimitExceeded(field, f"at most {limits.PAYLOAD_KEYS_MAX} keys")
    return [parse_path(name, f"{field}[{place}]") for place, name in enumerate(parts)], include


def _vectors(
    collection: Collection, slots: NDArray[Any], selection: Selection
) -> list[WireVector | None]:
    """The vectors asked for, point by point."""
    result: list[WireVector | None] = [None] * len(slots)
    if selection.vector is False:
        return result
    ordinals = _ordinals(collection, selection)
    _check_components(len(slots) * _components(collection, selection), "limit")
    found: list[dict[str, list[float]]] = [{} for _ in result]
    for ordinal in ordinals:
        part = collection.vectors[ordinal]
        rows = part.rows.data[slots].astype(np.int64) - 1
        held = np.flatnonzero(rows >= 0)
        values = part.index.vectors(rows[held]).tolist()
        for place, value in zip(held.tolist(), values, strict=True):
            found[place][part.schema.name] = value
    for place, named in enumerate(found):
        result[place] = named[""] if list(named) == [""] else named
    return result


def _ordinals(collection: Collection, selection: Selection) -> list[int]:
    """Which vectors are asked for."""
    wanted = selection.vector
    if isinstance(wanted, bool):
        return list(range(len(collection.vectors))) if wanted else []
    if isinstance(wanted, list | tuple):
        return [collection.ordinal(name, "with_vector") for name in wanted]
    raise InvalidInput("with_vector", "must be a boolean or a list of vector names")


def _components(collection: Collection, selection: Selection) -> int:
    """Components of the vectors of one point of an answer."""
    schemas = collection.schema.vectors
    return sum(schemas[ordinal].size for ordinal in _ordinals(collection, selection))


def _check_components(components: int, field: str) -> None:
    if components > limits.ANSWER_COMPONENTS_MAX:
        raise LimitExceeded(
            field, f"at most {limits.ANSWER_COMPONENTS_MAX} vector components in one answer"
        )
