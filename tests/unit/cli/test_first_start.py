"""The first compilation: who waits for whom, and that nobody is left at it."""

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from balsadb.cli import first_start, local_cluster
from balsadb.cli.local_cluster import ClusterPlan, LocalCluster, NodeProcess
from balsadb.errors import NotReady

COMPILE = "from balsadb.cli.first_start import compile_once; compile_once()"


def wait_for(holds: Callable[[], object], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


@pytest.fixture
def node(tmp_path: Path) -> NodeProcess:
    [node] = LocalCluster(tmp_path, ClusterPlan.on_free_ports(1)).nodes
    return node


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_other_process_ends_with_the_one_that_started_it(
    node: NodeProcess, tmp_path: Path, how: signal.Signals
) -> None:
    environment = os.environ | {"BALSADB_CACHE_DIR": str(tmp_path / "cache")}
    with (
        node.log_file.open("wb") as log,
        subprocess.Popen(
            [sys.executable, "-c", COMPILE], env=environment, stdout=log, start_new_session=True
        ) as parent,
    ):
        node.sessions.append(parent.pid)
        try:
            wait_for(lambda: len(node.left_running()) == 2)
            assert first_start.is_compiling(node.last_log_lines())
            [child] = set(node.left_running()) - {parent.pid}
            time.sleep(1)  # in the middle of it
            assert set(node.left_running()) == {child, parent.pid}
        finally:
            parent.send_signal(how)
        parent.wait()
        wait_for(lambda: not node.left_running(), 5)
    assert not list((tmp_path / "cache").glob("kernels/*/complete"))


def test_who_finds_another_at_it_says_so_and_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def compiles() -> None:
        raise AssertionError("it was compiled already")

    monkeypatch.setattr("balsadb.index.kernel_cache.directory", lambda: str(tmp_path))
    monkeypatch.setattr(first_start, "_compile", compiles)
    said: list[str] = []

    def has_said(text: str) -> bool:
        said.append(capfd.readouterr().out)
        return text in "".join(said)

    with (tmp_path / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = threading.Thread(target=first_start.compile_once)
        waiting.start()
        wait_for(lambda: has_said(first_start.WAITING))
        assert first_start.is_compiling("".join(said))
        (tmp_path / "complete").touch()
    waiting.join(10)
    assert not waiting.is_alive()
    assert has_said("kernels compiled in")
    assert not first_start.is_compiling("".join(said))
    assert first_start.MESSAGE not in "".join(said)


class Compiling(NodeProcess):
    """A node that runs, and is ready after some time."""

    def __init__(self, folder: Path, lines: list[tuple[float, str]], ready_after_s: float) -> None:
        super().__init__(folder, ClusterPlan.on_free_ports(1), 1)
        self.began = time.monotonic()
        self.lines = lines
        self.ready_after_s = ready_after_s

    @property
    def pid(self) -> int | None:
        return os.getpid()

    def is_ready(self) -> bool:
        return time.monotonic() > self.began + self.ready_after_s

    def last_log_lines(self) -> str:
        passed = time.monotonic() - self.began
        return "\n".join(text for after_s, text in self.lines if passed >= after_s) + "\n"


@pytest.mark.parametrize("line", [first_start.MESSAGE, first_start.WAITING])
def test_the_time_to_get_ready_begins_after_compiling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    lines = [(0.0, line), (2.0, "kernels compiled in 2.0 s")]
    local_cluster.wait_ready([Compiling(tmp_path, lines, 2.2)], 1.0)
    with pytest.raises(NotReady, match="not ready after 1 s"):
        local_cluster.wait_ready([Compiling(tmp_path, lines, 60.0)], 1.0)
    # A line of an earlier start is none of this one.
    began = time.monotonic()
    with pytest.raises(NotReady, match="not ready after 1 s"):
        local_cluster.wait_ready([Compiling(tmp_path, [(0, line), (0, "serving")], 60.0)], 1.0)
    assert time.monotonic() - began < 2
    monkeypatch.setattr(local_cluster, "COMPILE_TIMEOUT_S", 1.0)
    with pytest.raises(NotReady, match="not ready after 1 s"):
        local_cluster.wait_ready([Compiling(tmp_path, [(0.0, line)], 60.0)], 1.0)
