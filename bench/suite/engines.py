"""The protocol of an index under test, ours, and hnswlib, which every ratio is taken to.

All get the same vectors in the same order; the id of a vector is its place in them.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

import balsadb
from balsadb.index import compile_all

Vectors = NDArray[np.float32]
Ids = NDArray[Any]
Answer = Callable[[], Ids]
RESCORED = 2
"""Candidates a peer re-scores for each result wanted, where it lets one choose."""


@dataclass(frozen=True)
class Shape:
    """What is indexed, and how much care is taken.

    `m`: links of an HNSW (2 m on layer 0, the degree of single-layer graphs); `ef_construct`: width
    of the beam at insertion (the window of a Vamana build).
    """

    dim: int
    metric: str
    m: int = 16
    ef_construct: int = 200

    @property
    def degree(self) -> int:
        """Links of a row on layer 0."""
        return 2 * self.m

    @property
    def euclid(self) -> bool:
        """Euclid; otherwise Cosine over unit vectors."""
        return self.metric == "Euclid"


class Missing(Exception):
    """An engine that cannot run here: not installed, or not for this processor."""


class Engine(ABC):
    """One index. Made empty; then `build` or `load`, once; then searches on one thread."""

    name: ClassVar[str]
    package: ClassVar[str]
    """The distribution it comes from."""
    quantized: ClassVar[bool] = False
    """Walks over codes of a byte or less a dimension."""

    def __init__(self, shape: Shape) -> None:
        """Missing if it cannot run here."""
        try:
            version(self.package)
        except PackageNotFoundError:
            raise Missing(f"{self.package} is not installed") from None
        self.shape = shape

    def version(self) -> str:
        """Of the distribution."""
        return version(self.package)

    def params(self) -> Mapping[str, Any]:
        """Everything that the graph depends on."""
        return asdict(self.shape)

    @abstractmethod
    def build(self, vectors: Vectors, threads: int) -> None:
        """Index `vectors` (n, dim)."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the index into an empty folder."""

    @abstractmethod
    def load(self, folder: Path) -> None:
        """Read what `save` wrote."""

    @abstractmethod
    def search(self, queries: Vectors, k: int, ef: int) -> Ids:
        """Ids of the `k` nearest of each query, (q, k), on one thread."""

    def prepare(self, queries: Vectors, k: int, ef: int) -> Answer:
        """The call to be timed; what a peer needs beyond arrays is made before it."""
        return lambda: self.search(queries, k, ef)


@cache
def source_digest() -> str:
    """Of our code that makes and walks the graph: a cached graph is one of this very code."""
    package = Path(balsadb.__file__).parent
    digest = blake2b(digest_size=6)
    for part in ("columns", "index", "embedded"):
        for path in sorted((package / part).glob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


class Balsa(Engine):
    """`balsadb.Index` with its default quantisation."""

    name = "balsadb"
    package = "balsadb"
    quantization: ClassVar[Mapping[str, Any]] = {}
    """Arguments of the constructor, given only if it knows them."""

    def __init__(self, shape: Shape) -> None:
        """Never missing: it is what is measured. Its kernels are compiled before any clock runs."""
        self.shape = shape
        self.index: balsadb.Index
        compile_all()

    def version(self) -> str:
        """With a digest of the source, for the checkout changes between releases."""
        return f"{balsadb.__version__}+{source_digest()}"

    def options(self) -> dict[str, Any]:
        """Arguments of the constructor that this checkout knows."""
        known = inspect.signature(balsadb.Index).parameters
        return {name: value for name, value in self.quantization.items() if name in known}

    def params(self) -> Mapping[str, Any]:
        """The shape, and the quantisation where it can be chosen."""
        return {**asdict(self.shape), **self.options()}

    def build(self, vectors: Vectors, threads: int) -> None:
        """Add, and link everything."""
        shape = self.shape
        self.index = balsadb.Index(
            shape.dim,
            shape.metric,
            m=shape.m,
            ef_construct=shape.ef_construct,
            threads=threads,
            **self.options(),
        )
        self.index.add(vectors)
        finish(self.index)

    def save(self, folder: Path) -> None:
        """One file."""
        self.index.save(folder / "index")

    def load(self, folder: Path) -> None:
        """The same file."""
        self.index = balsadb.Index.load(folder / "index")

    def search(self, queries: Vectors, k: int, ef: int) -> Ids:
        """One call for all queries."""
        return self.index.search(queries, k, ef=ef, threads=1)[0]


class BalsaFloat(Balsa):
    """`balsadb.Index` over float32 alone."""

    name = "balsadb-f32"
    quantization: ClassVar[Mapping[str, Any]] = {"quantization": None}

    def __init__(self, shape: Shape) -> None:
        """Missing while the constructor offers no choice: it would be `balsadb` twice."""
        super().__init__(shape)
        if not self.options():
            raise Missing("this version does not quantise: the same as balsadb")


def finish(index: balsadb.Index) -> None:
    """Link the rest of the tail, train, repair: whatever this checkout's `optimize` does."""
    optimize = getattr(index, "optimize", None)
    if optimize is not None:
        optimize()


class Hnswlib(Engine):
    """The authors' HNSW, float32."""

    name = "hnswlib"
    package = "hnswlib"

    def _empty(self) -> Any:
        import hnswlib

        return hnswlib.Index(space="l2" if self.shape.euclid else "ip", dim=self.shape.dim)

    def build(self, vectors: Vectors, threads: int) -> None:
        """Fixed seed of levels."""
        self.index = self._empty()
        self.index.init_index(
            max_elements=len(vectors),
            M=self.shape.m,
            ef_construction=self.shape.ef_construct,
            random_seed=1,
        )
        self.index.add_items(vectors, num_threads=threads)

    def save(self, folder: Path) -> None:
        """One file."""
        self.index.save_index(str(folder / "index"))

    def load(self, folder: Path) -> None:
        """The same file."""
        self.index = self._empty()
        self.index.load_index(str(folder / "index"))

    def search(self, queries: Vectors, k: int, ef: int) -> Ids:
        """One call for all queries."""
        self.index.set_ef(ef)
        return self.index.knn_query(queries, k, num_threads=1)[0]
