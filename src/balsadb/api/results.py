"""What successful answers hold: the shape of `result`, for the documentation and for clients.

The server encodes what the database returns and does not build these; a conformance test holds the
two against each other. The dialect's clients refuse unknown keys inside vector, HNSW and index
parameters, so those carry only keys of the dialect.
"""

from typing import Annotated, Any

import msgspec

PointIdOutput = int | str

_VECTOR = msgspec.Meta(
    description="The unnamed vector, or a map of names to vectors; in msgpack `bin` float32",
    extra_json_schema={
        "anyOf": [
            {"type": "array", "items": {"type": "number"}},
            {
                "type": "object",
                "additionalProperties": {"type": "array", "items": {"type": "number"}},
            },
            {"type": "null"},
        ]
    },
)
VectorOutput = Annotated[Any, _VECTOR]


class UpdateResult(msgspec.Struct):
    """A write's log index, and whether it was applied (`completed`) or only committed
    (`acknowledged`)."""

    operation_id: int
    status: str


class Record(msgspec.Struct):
    """A stored point."""

    id: PointIdOutput
    payload: dict[str, Any] | None = None
    vector: VectorOutput = None


class ScoredPoint(msgspec.Struct):
    """A found point; `version` is the log index of its last change."""

    id: PointIdOutput
    version: int
    score: float
    payload: dict[str, Any] | None = None
    vector: VectorOutput = None


class ScrollResult(msgspec.Struct):
    """A page of points and the id where the next one starts (null: the end)."""

    points: list[Record]
    next_page_offset: PointIdOutput | None = None


class CountResult(msgspec.Struct):
    """A number of points."""

    count: int


class QueryResult(msgspec.Struct):
    """The found points, best first."""

    points: list[ScoredPoint]


class CollectionDescription(msgspec.Struct):
    """A collection's name."""

    name: str


class CollectionsResult(msgspec.Struct):
    """All collections."""

    collections: list[CollectionDescription]


class CollectionExistence(msgspec.Struct):
    """Whether a collection exists."""

    exists: bool


class PayloadIndexInfo(msgspec.Struct):
    """A payload key's type and the number of points that have it."""

    data_type: str
    points: int
    params: dict[str, Any] | None = None


class VectorParamsInfo(msgspec.Struct, omit_defaults=True):
    """The dimension and metric of a named vector."""

    size: int
    distance: str
    hnsw_config: dict[str, Any] | None = None
    on_disk: bool | None = None
    quantization_config: dict[str, Any] | None = None


_VECTORS = msgspec.Meta(
    description="Parameters of the one unnamed vector, or a map of names to parameters",
    extra_json_schema={
        "anyOf": [
            {"$ref": "#/components/schemas/VectorParamsInfo"},
            {
                "type": "object",
                "additionalProperties": {"$ref": "#/components/schemas/VectorParamsInfo"},
            },
        ]
    },
)
VectorsInfo = Annotated[Any, _VECTORS]


class CollectionParams(msgspec.Struct):
    """What a collection was created with."""

    vectors: VectorsInfo = None
    shard_number: int = 1
    replication_factor: int = 1
    write_consistency_factor: int = 1
    on_disk_payload: bool = False


class HnswInfo(msgspec.Struct):
    """The graph's parameters."""

    m: int
    ef_construct: int
    full_scan_threshold: int


class OptimizerInfo(msgspec.Struct):
    """Required by the dialect; there is one segment and no optimiser."""

    default_segment_number: int = 1
    flush_interval_sec: int = 0
    indexing_threshold: int | None = None


class CollectionConfig(msgspec.Struct):
    """A collection's configuration."""

    params: CollectionParams
    hnsw_config: HnswInfo
    optimizer_config: OptimizerInfo
    wal_config: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    quantization_config: dict[str, Any] | None = None


class VectorState(msgspec.Struct):
    """One vector name, in figures of ours. `quantization`: int8 or none. Searches walk by codes if
    there are `code_rows` and all are `coded_rows` (`quantisers`: decisions on one so far, the last
    maybe for none); they walk through `linked` rows and scan `tail`."""

    quantization: str
    quantisers: int
    code_rows: int
    coded_rows: int
    linked: int
    tail: int
    graph_version: int


class CollectionState(msgspec.Struct):
    """What the dialect has no place for: the state of each vector by name."""

    vectors: dict[str, VectorState]


class CollectionInfo(msgspec.Struct):
    """State and configuration of a collection. `yellow` means that vectors wait to be linked or
    coded."""

    status: str
    optimizer_status: str
    segments_count: int
    config: CollectionConfig
    payload_schema: dict[str, PayloadIndexInfo]
    points_count: int = 0
    indexed_vectors_count: int = 0
    balsadb: CollectionState | None = None


class Aliases(msgspec.Struct):
    """Aliases of collections; there are none yet."""

    aliases: list[dict[str, str]]


class ServiceInfo(msgspec.Struct):
    """`GET /`: the dialect's version, which its clients compare with their own, and ours."""

    title: str
    version: str
    commit: str | None
    balsadb: str
