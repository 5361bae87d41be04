"""The index: HNSW over columns."""

from balsadb.index.metrics import Metric, larger_is_better, prepare_vector
from balsadb.index.options import IndexOptions
from balsadb.index.vector_index import VectorIndex


def compile_all() -> None:
    """Compile, or load from the cache, every kernel a node may need."""


def compilations() -> int:
    """Kernel specialisations compiled in this process so far."""
    return 0


__all__ = [
    "IndexOptions",
    "Metric",
    "VectorIndex",
    "compilations",
    "compile_all",
    "larger_is_better",
    "prepare_vector",
]
