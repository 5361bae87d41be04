"""What a collection is: its vectors, its graph parameters, its declared payload keys.

A schema rests as canonical JSON in the column `c/{uid}/schema`; the objects here are decoded from
it at start and after each change.
"""

from typing import Final

import msgspec

from balsadb.database import limits
from balsadb.database.requests import (
    INT8,
    UNQUANTISED,
    CreateCollection,
    HnswParams,
    UpdateCollection,
    VectorParams,
)
from balsadb.errors import InvalidInput, LimitExceeded
from balsadb.index import IndexOptions, Metric
from balsadb.types import CollectionUid

PAYLOAD_KINDS: Final = ("keyword", "integer", "float", "bool")
"""Types a payload key may be declared to have."""


class VectorSchema(msgspec.Struct, frozen=True):
    """One vector name. Its ordinal, its place in `Schema.vectors`, names its columns.
    `quantization`: its own, or None for the collection's."""

    name: str
    size: int
    distance: Metric
    quantization: str | None = None


class Schema(msgspec.Struct, frozen=True):
    """A collection's configuration. `payload_indexes`: key -> declared type; `quantization`: of the
    vectors that have none of their own."""

    name: str
    vectors: list[VectorSchema]
    hnsw: HnswParams
    payload_indexes: dict[str, str]
    quantization: str = INT8

    def quantization_of(self, vector: VectorSchema) -> str:
        """The quantisation of one of the vectors."""
        return self.quantization if vector.quantization is None else vector.quantization

    def index_options(self, ordinal: int, uid: CollectionUid) -> IndexOptions:
        """The parameters of a vector's index; the collection's uid seeds the layers."""
        vector = self.vectors[ordinal]
        rows_max = min(2 * limits.POINTS_MAX, limits.VECTOR_COLUMN_BYTES_MAX // (4 * vector.size))
        return IndexOptions(
            dim=vector.size,
            metric=vector.distance,
            m=self.hnsw.m,
            ef_construct=self.hnsw.ef_construct,
            seed=uid,
            rows_max=rows_max,
            graph_rows_min=limits.GRAPH_ROWS_MIN,
            quantization=INT8 if self.quantization_of(vector) == INT8 else "",
            codes_rows_min=limits.CODES_ROWS_MIN,
        )


class SchemaChange(msgspec.Struct, frozen=True):
    """Which parts of a schema get which new value; None: unchanged. A declared type of None
    forgets the declaration."""

    ef_construct: int | None = None
    full_scan_threshold: int | None = None
    payload_index: tuple[str, str | None] | None = None

    def of(self, schema: Schema) -> Schema:
        """The schema with this change. Equal on all replicas whatever the schema was."""
        hnsw = HnswParams(
            schema.hnsw.m,
            _either(self.ef_construct, schema.hnsw.ef_construct),
            _either(self.full_scan_threshold, schema.hnsw.full_scan_threshold),
        )
        declared = dict(schema.payload_indexes)
        if self.payload_index is not None:
            key, kind = self.payload_index
            declared.pop(key, None)
            if kind is not None:
                declared[key] = kind
        return Schema(schema.name, schema.vectors, hnsw, declared, schema.quantization)


_encoder = msgspec.json.Encoder(order="deterministic")
_schema_decoder = msgspec.json.Decoder(Schema)
_change_decoder = msgspec.json.Decoder(SchemaChange)


def encode(value: Schema | SchemaChange) -> bytes:
    """Canonical JSON: the same value is the same bytes."""
    return _encoder.encode(value)


def decode_schema(data: bytes) -> Schema:
    """Inverse of `encode`."""
    return _schema_decoder.decode(data)


def decode_change(data: bytes) -> SchemaChange:
    """Inverse of `encode`."""
    return _change_decoder.decode(data)


def check_name(name: object, field: str, *, empty: bool = False) -> str:
    """A name of a collection, vector or payload key. InvalidInput naming `field`."""
    if not isinstance(name, str) or (not name and not empty):
        raise InvalidInput(field, "must be a non-empty string")
    if len(name) > limits.NAME_LENGTH_MAX:
        raise LimitExceeded(field, f"at most {limits.NAME_LENGTH_MAX} characters")
    if any(
        ord(letter) < 32 or letter == "\x7f" or 0xD800 <= ord(letter) < 0xE000 for letter in name
    ):
        raise InvalidInput(field, "must not contain control characters")
    return name


def schema_of(request: CreateCollection) -> Schema:
    """The schema a request asks for. InvalidInput naming what is wrong."""
    name = check_name(request.name, "collection_name")
    if any(letter in '<>:"/\\|?*' for letter in name):
        raise InvalidInput("collection_name", 'must not contain any of <>:"/\\|?*')
    if len(request.vectors) > limits.VECTOR_NAMES_MAX:
        raise LimitExceeded("vectors", f"at most {limits.VECTOR_NAMES_MAX} vector names")
    vectors = [_vector_schema(key, request.vectors[key]) for key in sorted(request.vectors)]
    hnsw = request.hnsw
    check_hnsw(hnsw.m, hnsw.ef_construct, hnsw.full_scan_threshold)
    _check_quantization(request.quantization, "quantization_config")
    return Schema(name, vectors, hnsw, {}, request.quantization)


def change_of(request: UpdateCollection, schema: Schema) -> SchemaChange:
    """The change a request asks for. InvalidInput naming what is wrong."""
    if request.m is not None and request.m != schema.hnsw.m:
        raise InvalidInput(
            "hnsw_config.m", f"cannot be changed after creation (it is {schema.hnsw.m})"
        )
    _check_said("quantization_config", request.quantization, schema.quantization)
    known = {vector.name: vector for vector in schema.vectors}
    for name, said in (request.vector_quantization or {}).items():
        if name not in known:
            raise InvalidInput(f"vectors.{name}", "is not a vector of the collection")
        held = schema.quantization_of(known[name])
        _check_said(f"vectors.{name}.quantization_config", said, held)
    check_hnsw(schema.hnsw.m, request.ef_construct, request.full_scan_threshold)
    return SchemaChange(request.ef_construct, request.full_scan_threshold)


def check_hnsw(m: int, ef_construct: int | None, full_scan_threshold: int | None) -> None:
    """Ranges of the graph's parameters. InvalidInput naming what is wrong."""
    _check_range("hnsw_config.m", m, limits.M_MIN, limits.M_MAX)
    if ef_construct is not None:
        low, high = limits.EF_CONSTRUCT_MIN, limits.EF_CONSTRUCT_MAX
        _check_range("hnsw_config.ef_construct", ef_construct, low, high)
    if full_scan_threshold is not None:
        high = limits.FULL_SCAN_THRESHOLD_MAX
        _check_range("hnsw_config.full_scan_threshold", full_scan_threshold, 0, high)


def _vector_schema(name: str, params: VectorParams) -> VectorSchema:
    check_name(name, "vectors", empty=True)
    where = f"vectors.{name}" if name else "vectors"
    _check_range(f"{where}.size", params.size, 1, limits.DIMENSION_MAX)
    try:
        metric = Metric(params.distance)
    except ValueError:
        known = ", ".join(Metric)
        raise InvalidInput(f"{where}.distance", f"must be one of {known}") from None
    if params.quantization is not None:
        _check_quantization(params.quantization, f"{where}.quantization_config")
    return VectorSchema(name, params.size, metric, params.quantization)


def _check_quantization(value: str, field: str) -> None:
    if value not in (INT8, UNQUANTISED):
        raise InvalidInput(field, f"must be {INT8} or {UNQUANTISED}")


def _check_said(field: str, said: str | None, held: str) -> None:
    """The columns of an index are those of its quantisation for life."""
    if said is not None and said != held:
        raise InvalidInput(field, f"cannot be changed after creation (it is {held})")


def _check_range(field: str, value: object, low: int, high: int) -> None:
    if type(value) is not int:
        raise InvalidInput(field, "must be an integer")
    if value > high:
        raise LimitExceeded(field, f"must be in {low}..{high}, not {value}")
    if value < low:
        raise InvalidInput(field, f"must be in {low}..{high}, not {value}")


def _either(new: int | None, old: int) -> int:
    return old if new is None else new
