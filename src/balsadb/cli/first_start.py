"""The first start on a machine compiles the kernels: once, however many nodes start together."""

import fcntl
import time
from pathlib import Path

MESSAGE = "compiling kernels: the first start on this machine takes up to 30 s"
"""Printed by the node that compiles; `cluster start` looks for it in the nodes' output."""


def compile_once() -> None:
    """Return when the kernels are in the cache: compiled here, or by another node meanwhile.

    Later starts find the marker and go on at once. Three nodes that compiled the same kernels at
    the same time would take three times as long.
    """
    from balsadb.index.kernel_cache import directory

    marker = Path(directory()) / "complete"
    if marker.exists():
        return
    with marker.with_name("lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if marker.exists():
            return
        print(MESSAGE, flush=True)
        began = time.monotonic()
        from balsadb.index import compile_all

        compile_all()
        marker.touch()
        print(f"kernels compiled in {time.monotonic() - began:.1f} s", flush=True)
