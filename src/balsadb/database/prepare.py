"""Requests into commands, on the leader: everything is checked here, before the log.

What could differ between nodes is fixed here: vectors are normalised, payloads become canonical
JSON, and a filter becomes the ids that match now with the versions their points have now. When
such a command is applied, a point that changed in between is left alone: it is as if the filter had
run before that change. Requests are cut into commands of at most `COMMAND_POINTS_MAX` points and
`COMMAND_BYTES_MAX` bytes, as a function of the request alone; each command is atomic, a request of
several is not.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from balsadb.database import commands, limits
from balsadb.database.catalog import Catalog
from balsadb.database.collection import Collection
from balsadb.database.commands import AnyCommand, Origin
from balsadb.database.filters import keys_of, parse
from balsadb.database.json_values import check_each, check_json
from balsadb.database.masks import mask_of
from balsadb.database.paths import parse_path
from balsadb.database.payload_store import encode_payload
from balsadb.database.point_ids import Ids, pack, parse_ids
from balsadb.database.requests import (
    ClearPayload,
    CreateCollection,
    CreatePayloadIndex,
    DeleteCollection,
    DeletePayloadIndex,
    DeletePayloadKeys,
    DeletePoints,
    Marker,
    OverwritePayload,
    PointsRequest,
    Request,
    SessionKey,
    SetPayload,
    UpdateCollection,
    UpsertPoints,
    VectorBlock,
)
from balsadb.database.schema import (
    PAYLOAD_KINDS,
    SchemaChange,
    change_of,
    encode,
    schema_of,
)
from balsadb.database.vector_bounds import bounded
from balsadb.errors import AlreadyExists, InvalidInput, LimitExceeded, MalformedBody
from balsadb.index import prepare_vector

_COMMAND_OVERHEAD = 4_096
"""Bytes kept for everything of a command that is not a point."""
_POINT_BYTES = 17 + 4


class _Cut(msgspec.Struct):
    """An upsert checked and encoded, point by point."""

    ids: Ids
    payloads: list[bytes]
    vectors: dict[int, tuple[NDArray[np.int64], NDArray[np.float32]]]


def prepare(catalog: Catalog, request: Request, session: SessionKey) -> list[bytes]:
    """The encoded commands of a request. InvalidInput & co name what is wrong."""
    if len(session.session) != 16 or not 0 <= session.sequence < 1 << 64:
        raise InvalidInput("session", "must be 16 bytes and a sequence below 2**64")
    origin = Origin(session.session, session.sequence)
    if isinstance(request, UpsertPoints):
        return _upsert(catalog.get(request.collection), request, origin)
    if isinstance(request, PointsRequest):
        return _select(catalog.get(request.collection), request, origin)
    return [_encoded(_schema_command(catalog, request, origin))]


def _schema_command(catalog: Catalog, request: Request, origin: Origin) -> AnyCommand:
    if isinstance(request, Marker):
        return commands.MarkerCommand(origin)
    if isinstance(request, CreateCollection):
        if request.name in catalog.by_name:
            raise AlreadyExists(f"Collection `{request.name}` already exists!")
        if len(catalog.by_name) >= limits.COLLECTIONS_MAX:
            raise LimitExceeded("collection_name", f"at most {limits.COLLECTIONS_MAX} collections")
        schema = schema_of(request)
        return commands.CreateCollectionCommand(origin, schema.name, encode(schema))
    if isinstance(request, DeleteCollection):
        found = catalog.by_name.get(request.name)
        return commands.DropCollectionCommand(origin, found.uid if found else 0, request.name)
    if isinstance(request, UpdateCollection):
        collection = catalog.get(request.name)
        change = change_of(request, collection.schema)
    elif isinstance(request, CreatePayloadIndex):
        collection = catalog.get(request.collection)
        change = SchemaChange(payload_index=_declaration(collection, request))
    elif isinstance(request, DeletePayloadIndex):
        collection = catalog.get(request.collection)
        parse_path(request.field, "field_name")
        change = SchemaChange(payload_index=(request.field, None))
    else:
        raise TypeError(f"not a request: {type(request)}")
    return commands.ReplaceSchemaCommand(origin, collection.uid, encode(change))


def _declaration(collection: Collection, request: CreatePayloadIndex) -> tuple[str, str]:
    parse_path(request.field, "field_name")
    if request.kind not in PAYLOAD_KINDS:
        raise InvalidInput("field_schema", f"must be one of {', '.join(PAYLOAD_KINDS)}")
    declared = collection.schema.payload_indexes
    if request.field not in declared and len(declared) >= limits.PAYLOAD_INDEXES_MAX:
        raise LimitExceeded("field_name", f"at most {limits.PAYLOAD_INDEXES_MAX} payload indexes")
    return request.field, request.kind


# ---------------------------------------------------------------------- upsert


def _upsert(collection: Collection, request: UpsertPoints, origin: Origin) -> list[bytes]:
    ids = _parse_ids(request.ids, "points")
    count = ids.lo.size
    payloads = _payload_texts(request, count)
    vectors = dict(
        _block(collection, name, block, count) for name, block in sorted(request.vectors.items())
    )
    room = limits.POINTS_MAX - collection.points_count
    if count > room:
        raise LimitExceeded("points", f"the collection has room for {room} more points")
    cut = _without_duplicates(_Cut(ids, payloads, vectors))
    bounds = _bounds(cut)
    last = len(bounds) - 2
    return [
        _upsert_command(collection, cut, (first, stop), _part(origin, place, last=place == last))
        for place, (first, stop) in enumerate(pairwise(bounds))
    ]


def _parse_ids(values: Sequence[Any], field: str) -> Ids:
    if len(values) > limits.BATCH_POINTS_MAX:
        raise LimitExceeded(field, f"at most {limits.BATCH_POINTS_MAX} in one request")
    if not values:
        raise InvalidInput(field, "must name at least one point")
    return parse_ids(values, field)


def _payload_texts(request: UpsertPoints, count: int) -> list[bytes]:
    payloads, field, known = request.payloads, request.payload_field, request.payloads_are_json
    if payloads is None:
        return [b""] * count
    if len(payloads) != count:
        raise InvalidInput("payloads", f"{len(payloads)} payloads for {count} points")
    return [
        payload_text(part, field.format(place), is_json=known)
        for place, part in enumerate(payloads)
    ]


def payload_text(payload: Any, where: str, *, is_json: bool = False) -> bytes:
    """Canonical JSON of a payload as it arrives. InvalidInput naming the path below `where`.

    `is_json`: it was decoded from JSON, so that there are no values of other kinds to refuse.
    """
    if payload is None:
        return b""
    if isinstance(payload, msgspec.Raw):
        try:
            payload, is_json = msgspec.json.decode(payload), True
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise MalformedBody(where, f"not JSON: {error}") from None
        if payload is None:
            return b""
    if not isinstance(payload, Mapping):
        raise InvalidInput(where, "a payload must be an object")
    members = cast("Mapping[str, Any]", payload)
    try:
        text = encode_payload(members)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        with suppress(RecursionError):
            check_each(members, where)
        raise InvalidInput(where, f"not a JSON object: {error}") from None
    if len(text) > limits.PAYLOAD_BYTES_MAX:
        raise LimitExceeded(where, f"at most {limits.PAYLOAD_BYTES_MAX} bytes of JSON")
    if text.count(b"{") + text.count(b"[") > limits.PAYLOAD_DEPTH_MAX:
        _check_depth(members, where)
    if not is_json:
        check_json(members, text, where)
    return text


def _check_depth(payload: object, field: str) -> None:
    """LimitExceeded if objects and lists are nested too deep; works level by level."""
    level = [payload]
    for _ in range(limits.PAYLOAD_DEPTH_MAX):
        level = [part for value in level for part in _parts(value)]
    if any(isinstance(value, Mapping | list | tuple) for value in level):
        raise LimitExceeded(
            field, f"at most {limits.PAYLOAD_DEPTH_MAX} objects and lists inside one another"
        )


def _parts(value: object) -> Iterable[object]:
    """What is in an object or a list."""
    if isinstance(value, Mapping):
        return cast("Mapping[str, object]", value).values()
    return cast("Sequence[object]", value) if isinstance(value, list | tuple) else ()


def _block(
    collection: Collection, name: str, block: VectorBlock, count: int
) -> tuple[int, tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """(ordinal, (positions, prepared values)) of the vectors of one name."""
    field = f"vectors.{name}" if name else "vector"
    rows = np.shape(block.values)[0]
    if block.positions is None:
        positions = np.arange(count)
    else:
        positions = np.asarray(block.positions).astype(np.int64)
        ordered = positions.size < 2 or bool((np.diff(positions) > 0).all())
        if not ordered or (positions.size and not 0 <= positions[0] <= positions[-1] < count):
            raise InvalidInput(field, "positions must ascend and be of points of the request")
    if positions.size != rows:
        raise InvalidInput(field, f"{rows} vectors for {positions.size} points")

    def element(row: int) -> str:
        place = int(positions[row]) if positions.size else 0
        if block.field:
            return block.field.format(place)
        return f"points[{place}].vector" + (f".{name}" if name else "")

    ordinal = collection.ordinal(name, element(0))
    schema = collection.schema.vectors[ordinal]
    values = check_vectors(block.values, schema.size, element)
    return ordinal, (positions, prepare_vector(schema.distance, values))


def check_vectors(
    values: NDArray[Any], size: int, element: Callable[[int], str]
) -> NDArray[np.float32]:
    """(n, size) float32 within bounds. InvalidInput naming the `element` of the first bad row."""
    array = np.asarray(values)
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise InvalidInput(element(0), "must be lists of numbers")
    if array.shape[1] != size:
        raise InvalidInput(
            element(0),
            f"Vector dimension error: expected dim: {size}, got {array.shape[1]}",
        )
    return bounded(array, element)


def _without_duplicates(cut: _Cut) -> _Cut:
    """Keep the last of points with one id."""
    ids = cut.ids
    if not ids.kind.any() and np.unique(ids.lo).size == ids.lo.size:
        return cut
    keys = list(zip(ids.kind.tolist(), ids.hi.tolist(), ids.lo.tolist(), strict=True))
    last = {key: place for place, key in enumerate(keys)}
    if len(last) == len(keys):
        return cut
    keep = np.array(sorted(last.values()))
    renumbered = np.full(len(keys), -1)
    renumbered[keep] = np.arange(keep.size)
    vectors = {
        ordinal: (renumbered[positions][kept], values[kept])
        for ordinal, (positions, values) in cut.vectors.items()
        for kept in [renumbered[positions] >= 0]
    }
    return _Cut(ids.take(keep), [cut.payloads[place] for place in keep.tolist()], vectors)


def _bounds(cut: _Cut) -> list[int]:
    """Where commands begin and end, in points."""
    sizes = np.array([_POINT_BYTES + len(text) for text in cut.payloads], np.int64)
    for positions, values in cut.vectors.values():
        sizes[positions] += 4 + 4 * values.shape[1]
    bytes_max = limits.COMMAND_BYTES_MAX - _COMMAND_OVERHEAD
    largest = int(sizes.argmax())
    if sizes[largest] > bytes_max:
        raise LimitExceeded(f"points[{largest}]", f"at most {bytes_max} bytes with its vectors")
    bounds, total = [0], 0
    for place, size in enumerate(sizes.tolist()):
        if total + size > bytes_max or place - bounds[-1] == limits.COMMAND_POINTS_MAX:
            bounds.append(place)
            total = 0
        total += size
    return [*bounds, len(cut.payloads)]


def _upsert_command(
    collection: Collection, cut: _Cut, span: tuple[int, int], origin: Origin
) -> bytes:
    first, stop = span
    texts = cut.payloads[first:stop]
    parts: list[commands.VectorPart] = []
    for ordinal, (positions, values) in cut.vectors.items():
        begin, end = np.searchsorted(positions, (first, stop)).tolist()
        if begin < end:
            where = (positions[begin:end] - first).astype("<u4").tobytes()
            raw = values[begin:end].astype("<f4", copy=False).tobytes()
            parts.append(commands.VectorPart(ordinal, where, raw))
    return _encoded(
        commands.UpsertCommand(
            origin,
            collection.uid,
            pack(cut.ids.take(slice(first, stop))),
            np.array([len(text) for text in texts], "<u4").tobytes(),
            b"".join(texts),
            parts,
        )
    )


# ---------------------------------------------------------------------- by ids or filter


def _select(collection: Collection, request: PointsRequest, origin: Origin) -> list[bytes]:
    action, payload, keys = _change(request)
    if (request.ids is None) == (request.filter is None):
        raise InvalidInput("points", "exactly one of points and filter must be given")
    versions: NDArray[np.uint64] | None = None
    if request.ids is not None:
        ids = _parse_ids(request.ids, "points")
    else:
        tree = parse(request.filter)
        collection.warm(keys_of(tree))
        with collection.lock.shared():
            collection.check_open()
            slots = np.flatnonzero(mask_of(collection, tree))
            ids, versions = collection.map.ids(slots), collection.version.data[slots]
    step = limits.COMMAND_POINTS_MAX
    starts = range(0, max(1, ids.lo.size), step)
    encoded: list[bytes] = []
    for place, first in enumerate(starts):
        part = _part(origin, place, last=place == len(starts) - 1, resolved=versions is not None)
        span = slice(first, first + step)
        packed = pack(ids.take(span))
        seen = b"" if versions is None else versions[span].astype("<u8").tobytes()
        if isinstance(request, DeletePoints):
            command = commands.DeleteCommand(part, collection.uid, packed, seen)
        else:
            command = commands.ChangePayloadCommand(
                part, collection.uid, action, packed, seen, payload, keys
            )
        encoded.append(_encoded(command))
    return encoded


def _change(request: PointsRequest) -> tuple[int, bytes, list[str]]:
    """(action, payload text, paths) of a request that selects points."""
    if isinstance(request, SetPayload):
        if request.key is not None:
            parse_path(request.key, "key")
        keys = [] if request.key is None else [request.key]
        return commands.SET, payload_text(request.payload, "payload"), keys
    if isinstance(request, OverwritePayload):
        return commands.OVERWRITE, payload_text(request.payload, "payload"), []
    if isinstance(request, ClearPayload):
        return commands.CLEAR, b"", []
    if isinstance(request, DeletePayloadKeys):
        if len(request.keys) > limits.PAYLOAD_KEYS_MAX:
            raise LimitExceeded("keys", f"at most {limits.PAYLOAD_KEYS_MAX}")
        for place, key in enumerate(request.keys):
            parse_path(key, f"keys[{place}]")
        return commands.DELETE_KEYS, b"", list(request.keys)
    return 0, b"", []


def _part(origin: Origin, part: int, *, last: bool, resolved: bool = False) -> Origin:
    return Origin(origin.session, origin.sequence, part, last, resolved)


def _encoded(command: AnyCommand) -> bytes:
    data = commands.encode(command)
    if len(data) > limits.COMMAND_BYTES_MAX:
        raise LimitExceeded("body", f"at most {limits.COMMAND_BYTES_MAX} bytes in one command")
    return data
