"""Peers that are libraries: faiss, usearch and SVS, each as its makers mean it.

The same links and care for all (`Shape`). Quantised ones re-score with float32 where they can.
Cosine is the inner product (or, for SVS, the distance) of unit vectors.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from bench.suite.engines import RESCORED, Answer, Engine, Ids, Missing, Shape, Vectors


class Faiss(Engine):
    """HNSW, float32."""

    name = "faiss"
    package = "faiss-cpu"

    def _empty(self) -> Any:
        import faiss

        metric = faiss.METRIC_L2 if self.shape.euclid else faiss.METRIC_INNER_PRODUCT
        return faiss.IndexHNSWFlat(self.shape.dim, self.shape.m, metric)

    def build(self, vectors: Vectors, threads: int) -> None:
        """Threads are OpenMP's."""
        import faiss

        faiss.omp_set_num_threads(threads)
        self.index = self._empty()
        self._graph().hnsw.efConstruction = self.shape.ef_construct
        self.index.train(vectors)
        self.index.add(vectors)

    def _graph(self) -> Any:
        return self.index

    def save(self, folder: Path) -> None:
        """One file."""
        import faiss

        faiss.write_index(self.index, str(folder / "index"))

    def load(self, folder: Path) -> None:
        """The same file."""
        import faiss

        self.index = faiss.read_index(str(folder / "index"))

    def search(self, queries: Vectors, k: int, ef: int) -> Ids:
        """One call for all queries."""
        import faiss

        faiss.omp_set_num_threads(1)
        return self.index.search(queries, k, params=self._search_params(ef))[1]

    def _search_params(self, ef: int) -> Any:
        import faiss

        return faiss.SearchParametersHNSW(efSearch=ef)


class FaissSQ8(Faiss):
    """HNSW over 8-bit codes, re-scored."""

    name = "faiss-sq8"
    quantized = True

    def params(self) -> Mapping[str, Any]:
        """With what is re-scored."""
        return {**asdict(self.shape), "rescored": RESCORED}

    def _empty(self) -> Any:
        import faiss

        metric = faiss.METRIC_L2 if self.shape.euclid else faiss.METRIC_INNER_PRODUCT
        codes = faiss.ScalarQuantizer.QT_8bit
        self._base = faiss.IndexHNSWSQ(self.shape.dim, codes, self.shape.m, metric)
        return faiss.IndexRefineFlat(self._base)

    def _graph(self) -> Any:
        return self._base

    def _search_params(self, ef: int) -> Any:
        import faiss

        inner = faiss.SearchParametersHNSW(efSearch=ef)
        return faiss.IndexRefineSearchParameters(k_factor=RESCORED, base_index_params=inner)


class Usearch(Engine):
    """HNSW, float32."""

    name = "usearch"
    package = "usearch"
    dtype: ClassVar[str] = "f32"

    def build(self, vectors: Vectors, threads: int) -> None:
        """Keys are the ids."""
        from usearch.index import Index

        self.index = Index(
            ndim=self.shape.dim,
            metric="l2sq" if self.shape.euclid else "ip",
            dtype=self.dtype,
            connectivity=self.shape.m,
            expansion_add=self.shape.ef_construct,
        )
        self._train(vectors)
        self.index.add(np.arange(len(vectors)), self._codes(vectors), threads=threads)

    def _train(self, vectors: Vectors) -> None:
        """Learn what `_codes` needs."""

    def _codes(self, vectors: Vectors) -> Any:
        return vectors

    def save(self, folder: Path) -> None:
        """One file."""
        self.index.save(str(folder / "index"))

    def load(self, folder: Path) -> None:
        """The same file."""
        from usearch.index import Index

        self.index = Index.restore(str(folder / "index"))

    def prepare(self, queries: Vectors, k: int, ef: int) -> Answer:
        """Codes are made before the clock runs."""
        codes = self._codes(queries)
        return lambda: self._search(codes, k, ef)

    def search(self, queries: Vectors, k: int, ef: int) -> Ids:
        """One call for all queries."""
        return self._search(self._codes(queries), k, ef)

    def _search(self, codes: Any, k: int, ef: int) -> Ids:
        self.index.expansion_search = ef
        return self.index.search(codes, k, threads=1).keys


class UsearchI8(Usearch):
    """HNSW over 8-bit integers; nothing re-scores them, so its recall has a ceiling.

    The codes are ours: usearch's own conversion normalises each vector, which is wrong for Euclid
    and leaves 128 dimensions some 20 steps each. One scale for all, 99.9 % of the values within.
    """

    name = "usearch-i8"
    dtype = "i8"
    quantized = True

    def _train(self, vectors: Vectors) -> None:
        sample = vectors[:: max(1, len(vectors) // 10_000)]
        self._scale = 127 / float(np.quantile(np.abs(sample), 0.999))

    def _codes(self, vectors: Vectors) -> Any:
        return np.clip(np.rint(vectors * self._scale), -127, 127).astype(np.int8)

    def save(self, folder: Path) -> None:
        """The scale in a second file."""
        super().save(folder)
        np.save(folder / "scale.npy", self._scale)

    def load(self, folder: Path) -> None:
        """Both files."""
        super().load(folder)
        self._scale = float(np.load(folder / "scale.npy"))


class Svs(Engine):
    """Intel's Vamana, built and searched over float32."""

    name = "svs"
    package = "scalable-vs"
    alpha: ClassVar[float] = 1.2
    dtype: ClassVar[Any] = np.float32

    def params(self) -> Mapping[str, Any]:
        """With alpha; the degree is that of an HNSW's layer 0."""
        return {**asdict(self.shape), "degree": self.shape.degree, "alpha": self.alpha}

    def build(self, vectors: Vectors, threads: int) -> None:
        """By L2: the order of unit vectors is the same, and alpha above 1 is refused for others."""
        import svs

        wanted = svs.VamanaBuildParameters(
            alpha=self.alpha,
            graph_max_degree=self.shape.degree,
            window_size=self.shape.ef_construct,
        )
        data = vectors.astype(self.dtype, copy=False)
        self.index = svs.Vamana.build(wanted, data, svs.DistanceType.L2, num_threads=threads)
        self.index.num_threads = 1

    def save(self, folder: Path) -> None:
        """Three folders."""
        self.index.save(*(str(folder / part) for part in ("config", "graph", "data")))

    def load(self, folder: Path) -> None:
        """The same folders."""
        import svs

        self.index = svs.Vamana(
            str(folder / "config"),
            svs.GraphLoader(str(folder / "graph")),
            self._data(folder / "data"),
            svs.DistanceType.L2,
            num_threads=1,
        )

    def _data(self, folder: Path) -> Any:
        import svs

        kind = svs.DataType.float32 if self.dtype is np.float32 else svs.DataType.float16
        return svs.VectorDataLoader(str(folder), kind)

    def search(self, queries: Vectors, k: int, ef: int) -> Ids:
        """One call for all queries; its window is the ef of others."""
        self.index.search_window_size = ef
        return self.index.search(queries, k)[0]


class SvsHalf(Svs):
    """The same over float16: the smallest it offers on every processor."""

    name = "svs-f16"
    dtype = np.float16


class SvsLvq(Svs):
    """The same graph over 8-bit LVQ codes. Intel processors only: others end the process."""

    name = "svs-lvq8"
    quantized = True

    def __init__(self, shape: Shape) -> None:
        """Missing on other processors."""
        super().__init__(shape)
        cpuinfo = Path("/proc/cpuinfo")
        if not cpuinfo.exists() or "GenuineIntel" not in cpuinfo.read_text(encoding="utf-8"):
            raise Missing("LVQ runs on Intel processors only")

    def _data(self, folder: Path) -> Any:
        import svs

        return svs.LVQLoader(super()._data(folder), primary=8, residual=0)
