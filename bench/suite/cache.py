"""A graph is built once and kept, with the seconds its build took.

A folder for each engine, version, data set and parameters under `<cache>/graphs`. What is searched
is always what was loaded, so that a run that builds measures the same as one that does not.
"""

import os
import shutil
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from time import perf_counter

import msgspec

from bench.suite.datasets import Dataset
from bench.suite.engines import Engine, Shape
from bench.suite.report import say

VERSIONS_KEPT = 3
"""Graphs of one engine, data set and parameters, made by different versions."""


class Built(msgspec.Struct):
    """What is known about a kept graph. `build_s`: seconds by number of threads."""

    engine: str
    version: str
    dataset: str
    params: dict[str, object]
    build_s: dict[str, float]
    bytes: int
    """Of its files."""


@dataclass
class Opened:
    """An engine that is ready to search."""

    engine: Engine
    built: Built
    graph: Path
    """The folder it was loaded from."""


def open_engine(kind: type[Engine], dataset: Dataset, shape: Shape, threads: list[int]) -> Opened:
    """Load, after building it (once with each of `threads`; the first one's graph is kept) if it is
    not there. Missing if it cannot run here."""
    engine = kind(shape)
    folder = _folder(engine, dataset)
    noted = folder / "built.json"
    if not noted.exists():
        _build(kind, dataset, shape, threads)
    engine.load(folder / "graph")
    built = msgspec.json.decode(noted.read_bytes(), type=Built)
    return Opened(engine, built, folder / "graph")


def _folder(engine: Engine, dataset: Dataset) -> Path:
    params = msgspec.json.encode(engine.params(), order="sorted")
    digest = blake2b(params, digest_size=4).hexdigest()
    return dataset.cache / "graphs" / f"{engine.name}-{engine.version()}-{dataset.key}-{digest}"


def _build(kind: type[Engine], dataset: Dataset, shape: Shape, threads: list[int]) -> None:
    """Into a folder that gets its name when all of it is there."""
    target = _folder(kind(shape), dataset)
    partial = target.with_name(f"{target.name}.{os.getpid()}")
    (partial / "graph").mkdir(parents=True)
    seconds: dict[str, float] = {}
    for count in threads:
        engine = kind(shape)
        seconds[str(count)] = timed_build(engine, dataset, count)
        say(
            f"built {engine.name} over {dataset.name}, {count} threads: {seconds[str(count)]:.1f} s"
        )
        if count == threads[0]:
            engine.save(partial / "graph")
    size = sum(path.stat().st_size for path in partial.rglob("*") if path.is_file())
    built = Built(engine.name, engine.version(), dataset.name, dict(engine.params()), seconds, size)
    (partial / "built.json").write_bytes(msgspec.json.format(msgspec.json.encode(built), indent=1))
    if target.exists():  # left by a run that ended before it noted anything
        shutil.rmtree(target)
    partial.rename(target)
    _prune(target, engine)


def _prune(target: Path, engine: Engine) -> None:
    """Forget graphs of the same kind that older versions made: ours change with every edit."""
    same = target.name.replace(engine.version(), "*")
    found = sorted(target.parent.glob(same), key=lambda folder: folder.stat().st_mtime)
    for folder in found[:-VERSIONS_KEPT]:
        shutil.rmtree(folder)


def timed_build(engine: Engine, dataset: Dataset, threads: int) -> float:
    """Seconds to build it."""
    began = perf_counter()
    engine.build(dataset.base, threads)
    return perf_counter() - began
