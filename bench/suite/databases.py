"""Peers that are the engines of databases: VSAG and Qdrant's.

The same links and care for all (`Shape`); quantised ones re-score with float32.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import msgspec
import numpy as np

from bench.suite.engines import RESCORED, Answer, Engine, Ids, Vectors


class Vsag(Engine):
    """HNSW, float32. It has no call for many queries: a loop in Python."""

    name = "vsag"
    package = "pyvsag"
    kind: ClassVar[str] = "hnsw"

    def _graph_params(self) -> dict[str, Any]:
        return {
            "hnsw": {"max_degree": self.shape.m, "ef_construction": self.shape.ef_construct},
        }

    def params(self) -> Mapping[str, Any]:
        """With what is told to VSAG; threads do not matter to the graph's care."""
        return {**asdict(self.shape), **self._graph_params()}

    def _empty(self, threads: int) -> Any:
        import pyvsag

        pyvsag.set_logger_off()
        wanted = {
            "dtype": "float32",
            "metric_type": "l2" if self.shape.euclid else "ip",
            "dim": self.shape.dim,
            **self._graph_params(),
        }
        if "index_param" in wanted:
            wanted["index_param"]["build_thread_count"] = threads
        return pyvsag.Index(self.kind, msgspec.json.encode(wanted).decode())

    def build(self, vectors: Vectors, threads: int) -> None:
        """One thread for `hnsw`, whatever is asked."""
        self.index = self._empty(threads)
        self.index.build(
            vectors=np.ascontiguousarray(vectors).ravel(),
            ids=np.arange(len(vectors)),
            num_elements=len(vectors),
            dim=self.shape.dim,
        )

    def save(self, folder: Path) -> None:
        """One file."""
        self.index.save(str(folder / "index"))

    def load(self, folder: Path) -> None:
        """The same file, into an index of the same parameters."""
        self.index = self._empty(1)
        self.index.load(str(folder / "index"))

    def search(self, queries: Vectors, k: int, ef: int) -> Ids:
        """A call for each query."""
        search = self.index.knn_search
        wanted = msgspec.json.encode({self.kind: {"ef_search": ef}}).decode()
        return np.stack([search(vector=query, k=k, parameters=wanted)[0] for query in queries])


class VsagHGraph(Vsag):
    """Its own graph over 8-bit codes, re-scored with float32."""

    name = "vsag-hgraph-sq8"
    kind = "hgraph"
    quantized = True
    codes: ClassVar[str] = "sq8"

    def _graph_params(self) -> dict[str, Any]:
        return {
            "index_param": {
                "base_quantization_type": self.codes,
                "use_reorder": True,
                "precise_quantization_type": "fp32",
                "max_degree": self.shape.degree,
                "ef_construction": self.shape.ef_construct,
            },
        }


class VsagHGraphUniform(VsagHGraph):
    """With one scale for all dimensions, which its fastest integer kernels need."""

    name = "vsag-hgraph-sq8u"
    codes = "sq8_uniform"


class Qdrant(Engine):
    """Qdrant's engine in this process, without payloads, log or network; one segment, float32."""

    name = "qdrant"
    package = "qdrant-edge-py"
    batch_rows: ClassVar[int] = 1_000

    def _config(self, threads: int) -> Any:
        import qdrant_edge as edge

        euclid = self.shape.euclid
        graph = edge.HnswIndexConfig(
            m=self.shape.m,
            ef_construct=self.shape.ef_construct,
            full_scan_threshold=10,
            max_indexing_threads=threads,
        )
        return edge.EdgeConfig(
            vectors=edge.EdgeVectorParams(
                size=self.shape.dim,
                distance=edge.Distance.Euclid if euclid else edge.Distance.Dot,
            ),
            hnsw_config=graph,
            quantization_config=self._codes(),
            optimizers=edge.EdgeOptimizersConfig(
                default_segment_number=1, indexing_threshold=10, max_segment_size=1 << 40
            ),
            max_search_threads=1,
            wal_enabled=False,
        )

    def _codes(self) -> Any:
        return None

    def build(self, vectors: Vectors, threads: int) -> None:
        """Upserts, then its optimizer; in a temporary folder that `save` copies."""
        import qdrant_edge as edge

        self._folder = TemporaryDirectory(prefix="bench-qdrant-")
        self.index = edge.EdgeShard.create(self._folder.name, self._config(threads))
        for first in range(0, len(vectors), self.batch_rows):
            part = vectors[first : first + self.batch_rows].tolist()
            points = [edge.Point(first + place, vector) for place, vector in enumerate(part)]
            self.index.update(edge.UpdateOperation.upsert_points(points))
        self.index.optimize()

    def save(self, folder: Path) -> None:
        """Closes it: its folder is the file."""
        self.index.flush()
        self.index.close()
        copytree(self._folder.name, folder, dirs_exist_ok=True)
        self._folder.cleanup()

    def load(self, folder: Path) -> None:
        """A copy, for it writes into its folder."""
        import qdrant_edge as edge

        self._folder = TemporaryDirectory(prefix="bench-qdrant-")
        copytree(folder, self._folder.name, dirs_exist_ok=True)
        self.index = edge.EdgeShard.load(self._folder.name, self._config(1))

    def prepare(self, queries: Vectors, k: int, ef: int) -> Answer:
        """Its request objects are made before the clock runs; reading ids off answers is timed."""
        import qdrant_edge as edge

        params = edge.SearchParams(hnsw_ef=ef, quantization=self._rescoring())
        batch = edge.QueryBatchRequest(
            [
                edge.QueryRequest(limit=k, query=edge.Query.Nearest(query), params=params)
                for query in queries.tolist()
            ]
        )
        return lambda: np.array(
            [[point.id for point in found] for found in self.index.query_batch(batch)]
        )

    def _rescoring(self) -> Any:
        return None

    def search(self, queries: Vectors, k: int, ef: int) -> Ids:
        """One batch."""
        return self.prepare(queries, k, ef)()


class QdrantInt8(Qdrant):
    """With scalar quantisation in memory, re-scored."""

    name = "qdrant-int8"
    quantized = True

    def params(self) -> Mapping[str, Any]:
        """With what is re-scored."""
        return {**asdict(self.shape), "quantile": 0.99, "rescored": RESCORED}

    def _codes(self) -> Any:
        import qdrant_edge as edge

        return edge.ScalarQuantizationConfig(
            type=edge.ScalarType.Int8, quantile=0.99, memory=edge.Memory.Pinned
        )

    def _rescoring(self) -> Any:
        import qdrant_edge as edge

        return edge.QuantizationSearchParams(rescore=True, oversampling=float(RESCORED))
