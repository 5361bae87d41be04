"""Requests about collections and payload indexes.

Hints about storage and optimisation that have no meaning here (`on_disk`, `optimizers_config`,
`shard_number` ...) are accepted and have no effect; what would change answers and is not served
(sparse and multi-vectors, quantisation other than scalar, custom sharding) is refused.
"""

from typing import Annotated, Any, Literal

import msgspec

from balsadb.api import limits
from balsadb.api.codec import as_object, convert
from balsadb.api.quantization import Quantization, QuantizationConfig, quantization_of
from balsadb.errors import InvalidInput

Distance = Literal["Cosine", "Euclid", "Dot", "Manhattan"]
DISTANCES: tuple[Distance, ...] = ("Cosine", "Euclid", "Dot", "Manhattan")

Count = Annotated[int, msgspec.Meta(ge=0)]


# The ranges are shown here and checked by the database, so that one message states them.
Links = Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 4, "maximum": 64})]
Candidates = Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 4, "maximum": 2_000})]


class HnswParams(msgspec.Struct, omit_defaults=True):
    """The graph's parameters. `m` links a layer (twice that on layer 0); `ef_construct` candidates
    while inserting; below `full_scan_threshold` kilobytes of vectors there is no graph."""

    m: Links | None = None
    ef_construct: Candidates | None = None
    full_scan_threshold: Count | None = None
    max_indexing_threads: Count | None = None
    on_disk: bool | None = None
    payload_m: Count | None = None


class VectorParams(msgspec.Struct):
    """One named vector of a collection: its dimension and its metric."""

    size: Annotated[int, msgspec.Meta(ge=1, le=limits.DIMENSION_MAX)]
    distance: Distance
    hnsw_config: HnswParams | None = None
    on_disk: bool | None = None
    datatype: str | None = None
    quantization_config: QuantizationConfig = None
    multivector_config: Any = None


_VECTORS_SCHEMA = msgspec.Meta(
    description="Parameters of the one unnamed vector, or a map of names to parameters",
    extra_json_schema={
        "anyOf": [
            {"$ref": "#/components/schemas/VectorParams"},
            {
                "type": "object",
                "additionalProperties": {"$ref": "#/components/schemas/VectorParams"},
            },
        ]
    },
)


class CreateCollection(msgspec.Struct):
    """A new collection. `vectors` holds the parameters of the unnamed vector or a map by name."""

    vectors: Annotated[Any, _VECTORS_SCHEMA] = None
    hnsw_config: HnswParams | None = None
    optimizers_config: dict[str, Any] | None = None
    wal_config: dict[str, Any] | None = None
    strict_mode_config: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    shard_number: Count | None = None
    replication_factor: Count | None = None
    write_consistency_factor: Count | None = None
    on_disk_payload: bool | None = None
    sharding_method: str | None = None
    sparse_vectors: dict[str, Any] | None = None
    quantization_config: QuantizationConfig = None
    quantization: QuantizationConfig = None


class UpdateCollection(msgspec.Struct):
    """New parameters for a collection that exists; what is absent stays."""

    hnsw_config: HnswParams | None = None
    vectors: dict[str, Any] | None = None
    optimizers_config: dict[str, Any] | None = None
    params: dict[str, Any] | None = None
    strict_mode_config: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    sparse_vectors: dict[str, Any] | None = None
    quantization_config: QuantizationConfig = None


IndexKind = Literal["keyword", "integer", "float", "bool"]
INDEX_KINDS: tuple[IndexKind, ...] = ("keyword", "integer", "float", "bool")

_SCHEMA_SCHEMA = msgspec.Meta(
    description="The type of the field's values, or an object with a `type`",
    extra_json_schema={
        "anyOf": [
            {"enum": ["keyword", "integer", "float", "bool"]},
            {
                "type": "object",
                "properties": {"type": {"enum": ["keyword", "integer", "float", "bool"]}},
                "required": ["type"],
            },
        ]
    },
)


class CreateFieldIndex(msgspec.Struct):
    """Make a payload key a typed column that filters read."""

    field_name: Annotated[str, msgspec.Meta(min_length=1, max_length=limits.NAME_CHARACTERS_MAX)]
    field_schema: Annotated[Any, _SCHEMA_SCHEMA] = None
    field_type: Any = None


def vectors_of(request: CreateCollection) -> dict[str, VectorParams]:
    """The named vectors of a new collection; the unnamed one has the name "".

    Raises `InvalidInput` naming the key that breaks a rule.
    """
    if request.sparse_vectors:
        raise InvalidInput("sparse_vectors", "is not supported")
    if request.sharding_method not in (None, "auto"):
        raise InvalidInput("sharding_method", "must be auto")
    vectors = as_object(request.vectors)
    if not vectors:
        raise InvalidInput("vectors", "must be {size, distance}, or a map of names to that")
    if "size" in vectors and as_object(vectors["size"]) is None:
        return {"": _vector_params(vectors, "vectors")}
    return {
        name: _vector_params(params, f"vectors.{name}" if name else "vectors")
        for name, params in vectors.items()
    }


def collection_quantization(request: CreateCollection) -> Quantization | None:
    """The quantisation of a new collection, by either of its keys; None: as usual."""
    chosen = quantization_of(request.quantization_config, "quantization_config")
    return chosen or quantization_of(request.quantization, "quantization")


def vector_quantizations(request: UpdateCollection) -> dict[str, Quantization]:
    """What an update says of the quantisation of single vectors, by name."""
    said: dict[str, Quantization] = {}
    for name, value in (request.vectors or {}).items():
        field = f"vectors.{name}"
        params = as_object(value)
        if params is None:
            raise InvalidInput(field, "must be an object")
        config = params.get("quantization_config")
        chosen = quantization_of(config, f"{field}.quantization_config")
        if chosen is not None:
            said[name] = chosen
    return said


def check_update(request: UpdateCollection) -> None:
    """Refuse the parts of an update that would change answers and are not served."""
    if request.sparse_vectors:
        raise InvalidInput("sparse_vectors", "is not supported")


def index_kind(request: CreateFieldIndex) -> IndexKind:
    """The type of a new payload index: a bare name, or the `type` of an object."""
    schema = request.field_schema if request.field_schema is not None else request.field_type
    members = as_object(schema)
    kind = members.get("type") if members is not None else schema
    for known in INDEX_KINDS:
        if kind == known:
            return known
    raise InvalidInput("field_schema", f"must be keyword, integer, float or bool, not {kind!r}")


def _vector_params(value: object, field: str) -> VectorParams:
    members = as_object(value)
    metric = None if members is None else members.get("distance")
    if isinstance(metric, str) and metric not in DISTANCES:
        raise InvalidInput(
            f"{field}.distance", f"must be one of {', '.join(DISTANCES)}, not {metric!r:.40}"
        )
    params = convert(value, VectorParams, field)
    quantization_of(params.quantization_config, f"{field}.quantization_config")
    if params.multivector_config:
        raise InvalidInput(f"{field}.multivector_config", "is not supported")
    if params.datatype not in (None, "float32"):
        raise InvalidInput(f"{field}.datatype", "must be float32")
    return params
