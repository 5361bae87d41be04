"""The first start on a machine compiles the kernels: once, however many nodes start together."""

import fcntl
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

MESSAGE: Final = "compiling kernels: the first start on this machine takes up to half a minute"
"""Printed by the node that compiles; `cluster start` looks for it in the nodes' output."""
WAITING: Final = "another process is compiling the kernels: waiting for it"
"""Printed by a node that finds one at it."""


def compile_once() -> None:
    """Return when the kernels are in the cache: compiled here, or by another node meanwhile.

    Later starts find the marker and go on at once. Three nodes that compiled the same kernels at
    the same time would take three times as long.
    """
    from balsadb.index import kernel_cache

    marker = Path(kernel_cache.directory()) / "complete"
    if marker.exists():
        return
    began = time.monotonic()
    with marker.with_name("lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(WAITING, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        if not marker.exists():
            print(MESSAGE, flush=True)
            _compile()
            marker.touch()
        # Whoever waits for this node counts its time from here on.
        print(f"kernels compiled in {time.monotonic() - began:.1f} s", flush=True)


def is_compiling(log: str) -> bool:
    """Whether a node whose output ends with `log` compiles, or waits for another that does."""
    last = log.rstrip().rpartition("\n")[2]
    return last in (MESSAGE, WAITING)


def compile_for_parent() -> None:
    """The other process: its half of the kernels. Ends at once if the process that started it does,
    however that may be: its end of the pipe, our standard input, is closed then."""

    def watch() -> None:
        sys.stdin.buffer.read()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    from balsadb.index import compile_others

    compile_others()
    os._exit(0)  # the other thread reads, and would not let go of its file


def _compile() -> None:
    """On two processors: half of the kernels in a process of its own, which leaves them in the
    cache. Whatever it did not do, because it failed, is done here."""
    from balsadb.index import compile_all, compile_links

    other: subprocess.Popen[bytes] | None = None
    with suppress(OSError):  # no room for another process
        other = subprocess.Popen(  # noqa: S603 - our own interpreter, and the code below
            [sys.executable, "-c", _OTHER],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    try:
        compile_links()
        if other is not None:
            other.wait()
    finally:
        if other is not None:
            other.kill()
            other.communicate()
    compile_all()


_OTHER: Final = "from balsadb.cli import first_start; first_start.compile_for_parent()"
