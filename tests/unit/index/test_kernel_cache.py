"""Compiled kernels: where they are kept, and that none is compiled late."""

import os
import subprocess
import sys

import numpy as np
import pytest
from numba import config

import balsadb.index.kernel_cache as cache
from balsadb.columns import ColumnSet
from balsadb.index import (
    IndexOptions,
    Metric,
    VectorIndex,
    compilations,
    compile_all,
    prepare_vector,
)


@pytest.mark.parametrize("metric", list(Metric))
def test_nothing_is_compiled_after_compile_all(metric):
    compile_all()
    before = compilations()
    index = VectorIndex(ColumnSet(), "v", IndexOptions(33, metric, rows_max=900, graph_rows_min=1))
    vectors = prepare_vector(metric, np.random.default_rng(0).normal(size=(700, 33)))
    index.add(np.arange(700, dtype=np.uint32), vectors)
    for slices in (1, 2, 3):
        index.apply(index.plan(200, slices=slices))
    index.tombstone(np.arange(5, dtype=np.uint32))
    mask = np.arange(700) % 2 == 0
    for slots in (None, mask, mask[::-1], np.zeros(0, np.bool_)):
        for exact in (False, True):
            index.search(vectors[3], 10, ef=20, slots=slots, exact=exact)
            index.search_many(vectors[:9:2], 10, ef=20, slots=slots, exact=exact)
    index.search(vectors[3], 5_000, ef=20)
    index.check()
    assert compilations() == before


def test_a_compilation_is_counted():
    before = compilations()
    assert cache.part(lambda value: value) is not None
    assert compilations() == before, "decorating compiles nothing"
    assert cache.njit(lambda value: value + 1)(1) == 2
    assert compilations() > before


def test_a_part_has_no_machine_code_of_its_own():
    alone = cache.njit(lambda value: value * 2)
    part = cache.part(lambda value: value * 2)
    assert cache.njit(lambda value: alone(value) + part(value))(3) == 12
    for function, defined in ((alone, True), (part, False)):
        (compiled,) = function.overloads.values()
        engine = compiled.library._codegen._engine
        assert engine.is_symbol_defined(compiled.fndesc.mangled_name) is defined


def test_numba_keeps_the_cache_directory_of_others():
    before = config.CACHE_DIR
    cache.kernel(lambda value: value)
    assert before == config.CACHE_DIR


def test_the_directory_is_chosen_by_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("BALSADB_CACHE_DIR", str(tmp_path))
    chosen = cache.directory.__wrapped__()
    assert chosen.startswith(str(tmp_path))
    assert os.path.isdir(chosen)
    monkeypatch.delenv("BALSADB_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    other = cache.directory.__wrapped__()
    assert other.startswith(str(tmp_path / "xdg" / "balsadb"))
    assert os.path.basename(other) == os.path.basename(chosen)


def test_the_directory_depends_on_every_kernel_source(tmp_path, monkeypatch):
    monkeypatch.setenv("BALSADB_CACHE_DIR", str(tmp_path))
    names = [cache.directory.__wrapped__()]
    for count in range(len(cache.SOURCES)):
        monkeypatch.setattr(cache, "SOURCES", cache.SOURCES[1:] or cache.SOURCES[:0])
        names.append(cache.directory.__wrapped__())
        assert len(set(names)) == count + 2


def test_every_kernel_file_is_in_the_digest():
    folder = os.path.dirname(cache.__file__)
    kernels = {name for name in os.listdir(folder) if name.endswith("kernels.py")}
    assert kernels | {"intrinsics.py"} <= set(cache.SOURCES)


def test_a_second_process_compiles_nothing():
    compile_all()
    program = "import balsadb.index as i; i.compile_all(); raise SystemExit(i.compilations())"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
