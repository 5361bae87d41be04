"""Where compiled kernels are kept between runs, and how many were compiled in this one.

Numba invalidates a cached kernel when its own file changes, but not when a function it calls in
another file does. So the directory is named by a digest of all kernel sources, Numba's version
and the processor: whatever could change the machine code changes the directory; and by where the
sources lie and when they were written, which Numba insists on.

This is the one module of the index that looks at the environment and the file system
(`BALSADB_CACHE_DIR`, else `XDG_CACHE_HOME/balsadb`, else `~/.cache/balsadb`, else a directory of
the user's in the system's temporary folder).
"""

import os
import sys
from collections.abc import Callable, Sequence
from functools import cache
from hashlib import blake2b
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import llvmlite
import llvmlite.binding as llvm
import numba
from numba import config, njit, types
from numba.core import event

from balsadb.index.part_compiler import PartCompiler

SOURCES = (
    "part_compiler.py",
    "intrinsics.py",
    "code_kernels.py",
    "distance_kernels.py",
    "walk_kernels.py",
    "search_kernels.py",
    "quantise_kernels.py",
    "plan_kernels.py",
    "group_kernels.py",
    "edit_kernels.py",
    "repair_kernels.py",
)
"""The files of this package whose text decides the machine code."""


class _CompilationCount(event.Listener):
    """Counts compilations; a kernel that is loaded from the cache is none."""

    def __init__(self) -> None:
        self.total = 0

    def on_start(self, event: event.Event) -> None:  # noqa: ARG002  the listener's signature
        self.total += 1

    def on_end(self, event: event.Event) -> None:
        pass


_count = _CompilationCount()
event.register("numba:compile", _count)


def compilations() -> int:
    """Kernel specialisations compiled by Numba in this process so far, whoever asked for them."""
    return _count.total


def instructions_wanted() -> str:
    """`BALSADB_KERNELS`: "vnni", "avx2" or "plain" to choose the instructions by hand, where the
    processor has them (`balsadb.index.code_kernels`); empty: the best."""
    return os.environ.get("BALSADB_KERNELS", "")


@cache
def directory() -> str:
    """The cache directory of this version on this processor; made if it does not exist."""
    digest = blake2b(digest_size=12)
    here = Path(__file__).parent
    for name in SOURCES:
        digest.update((here / name).read_bytes())
        # Numba looks at these too: what another checkout compiled is of no use to this one.
        digest.update(f"{here / name} {(here / name).stat().st_mtime_ns}\0".encode())
    for part in (
        sys.version,
        numba.__version__,
        llvmlite.__version__,
        llvm.get_host_cpu_name(),
        llvm.get_host_cpu_features().flatten(),
        instructions_wanted(),
    ):
        digest.update(part.encode() + b"\0")
    for root in _roots():
        path = root / "kernels" / digest.hexdigest()
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(path, os.W_OK):
            return str(path)
    raise OSError("no directory for compiled kernels: set BALSADB_CACHE_DIR to a writable one")


def _roots() -> Sequence[Path]:
    chosen = os.environ.get("BALSADB_CACHE_DIR")
    if chosen:
        return [Path(chosen)]
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return [home / "balsadb", Path(gettempdir()) / f"balsadb-{os.getuid()}"]


# Kernels allocate nothing, so they do without Numba's reference counts: with them, every call that
# passes arrays costs a pair of atomic operations for each.
_PLAIN: dict[str, Any] = {"_nrt": False}


def kernel(function: Callable[..., Any]) -> Any:
    """`njit` for a function that Python calls: releases the interpreter lock, is cached, must not
    allocate.

    Numba reads its cache directory from a global when a function is decorated: set for that moment
    only, so that other users of Numba in the process keep theirs.
    """
    before = config.CACHE_DIR
    config.CACHE_DIR = directory()
    try:
        return njit(cache=True, nogil=True, **_PLAIN)(function)
    finally:
        config.CACHE_DIR = before


def part(function: Callable[..., Any]) -> Any:
    """`njit` for a function that only kernels call: compiled with them, stored with them.

    Numba compiles a function anew for every constant it is called with; here a constant is a number
    like any other, which halves the time that compiling takes.
    """
    options: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, **_PLAIN}
    options["pipeline_class"] = PartCompiler
    compiled: Any = njit(nogil=True, **options)(function)
    if config.DISABLE_JIT:
        return compiled
    find = compiled.get_call_template

    def find_plain(arguments: Sequence[Any], keywords: dict[str, Any]) -> Any:
        return find(tuple(types.unliteral(one) for one in arguments), keywords)

    compiled.get_call_template = find_plain
    return compiled
