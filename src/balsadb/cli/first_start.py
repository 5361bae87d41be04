"""The first start on a machine compiles the kernels: once, however many nodes start together."""

import fcntl
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

MESSAGE = "compiling kernels: the first start on this machine takes up to half a minute"
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
        _compile()
        marker.touch()
        print(f"kernels compiled in {time.monotonic() - began:.1f} s", flush=True)


def _compile() -> None:
    """On two processors: half of the kernels in a process of its own, which leaves them in the
    cache. Whatever it did not do, because it failed, is done here."""
    from balsadb.index import compile_all, compile_links

    code = "from balsadb.index import compile_others; compile_others()"
    quiet = subprocess.DEVNULL
    with (
        suppress(OSError),  # no room for another process
        subprocess.Popen(  # noqa: S603 - our own interpreter, and the code above
            [sys.executable, "-c", code], stdin=quiet, stdout=quiet, stderr=quiet
        ),
    ):
        compile_links()
    compile_all()
