"""The shell with real threads, alone: what its callers do to their futures must not hurt it."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from threading import Event
from typing import Any

import pytest

from balsadb.cluster.boot import Boot
from balsadb.cluster.driver import Driver
from balsadb.cluster.effects import Answer, Committed, Failed
from balsadb.cluster.executors import Parts
from balsadb.cluster.options import DriverOptions
from balsadb.cluster.performers import JobRunner
from balsadb.cluster.settings import NodeSettings
from balsadb.cluster.shell import Body, Shell
from balsadb.errors import DiskFailed, MalformedBody
from balsadb.storage import WalHeader
from balsadb.types import ClusterId, DiskId, LogIndex, NodeId
from tests.simulation.disk import SimDisk
from tests.simulation.register import Command, Register, encode_command

CLUSTER = ClusterId(7)


class HeldRegister(Register):
    """Applies commands only while the gate is open."""

    gate: Event

    def apply(self, index: LogIndex, data: bytes, /) -> Any:
        self.gate.wait(10.0)
        return super().apply(index, data)


async def no_calls(_kind: str, _payload: bytes) -> bytes:
    raise AssertionError("nobody calls")


@contextmanager
def shell_of_one(
    errors: list[BaseException], free_bytes: Callable[[], int] | None = None
) -> Iterator[tuple[Shell, Event]]:
    """A running shell of a cluster of one, and the gate of its state machine (open)."""
    gate = Event()
    gate.set()

    def machine(columns: Any) -> HeldRegister:
        register = HeldRegister(columns)
        register.gate = gate
        return register

    header = WalHeader(CLUSTER, NodeId(1), DiskId(11))
    boot = Boot.recover(SimDisk(), header, [NodeId(1)], machine)
    options = DriverOptions(node=NodeId(1), cluster=CLUSTER, disk=DiskId(11), seed=3)
    parts = Parts(boot.wal, boot.applier, JobRunner(boot.store, boot.applier), free_bytes)
    body = Body(
        driver=Driver(options, boot),
        parts=parts,
        cluster=CLUSTER,
        peers={},
        address="here:1",
        peer_socket=None,
    )
    shell = Shell(NodeSettings(tick_ms=10), body, no_calls, errors.append)
    ready = Event()
    shell.on_ready = ready.set
    shell.start()
    try:
        assert ready.wait(10.0)
        yield shell, gate
    finally:
        shell.stop()


def write(shell: Shell, number: int) -> Future[Answer]:
    return shell.propose([encode_command(Command(0, number, 0, number, b""))], 30.0)


def test_a_caller_that_gives_up_does_not_end_the_node() -> None:
    """An awaiting coroutine that is cancelled, or timed out, cancels the future it waits for."""
    errors: list[BaseException] = []
    with shell_of_one(errors) as (shell, gate):
        gate.clear()
        abandoned, abandoned_read = write(shell, 1), shell.read(lambda: None, 30.0)
        abandoned.cancel()
        abandoned_read.cancel()
        gate.set()
        assert isinstance(write(shell, 2).result(10.0), Committed)
    assert errors == []


def test_a_write_that_a_stop_overtakes_is_unknown() -> None:
    """It is in the log: to call it failed would be a lie. A read has no effect, so it failed."""
    errors: list[BaseException] = []
    with shell_of_one(errors) as (shell, gate):
        gate.clear()
        applied = shell.driver.applied
        pending = write(shell, 1)
        while shell.status().result(10.0)["commit"] == applied:
            pass
        read = shell.read(lambda: None, 30.0)
        pending.add_done_callback(lambda _: gate.set())
    answer, nothing_read = pending.result(10.0), read.result(10.0)
    assert isinstance(answer, Failed)
    assert answer.error.outcome == "unknown"
    assert isinstance(nothing_read, Failed)
    assert nothing_read.error.outcome == "failed"
    assert errors == []


def test_a_malformed_frame_is_dropped_and_counted() -> None:
    errors: list[BaseException] = []
    with shell_of_one(errors) as (shell, _):
        for lane, payload in (("append", b"?"), ("control", b"R\x91\x01"), ("forward", b"?")):
            with pytest.raises(MalformedBody, match="frame: "):
                shell._on_frame(lane, NodeId(2), payload)
        assert shell.malformed_frames == 3
    assert errors == []


def test_a_stop_gives_the_log_back() -> None:
    """An embedded database is opened and closed many times in one process."""
    errors: list[BaseException] = []
    with shell_of_one(errors) as (shell, _):
        wal = shell._body.parts.wal
        assert isinstance(write(shell, 1).result(10.0), Committed)
    with pytest.raises(DiskFailed, match="closed"):
        wal.sync()
    assert errors == []


def test_free_space_is_measured_and_a_full_disk_refuses_writes() -> None:
    errors: list[BaseException] = []
    free = [1 << 40]
    with shell_of_one(errors, lambda: free[0]) as (shell, _):
        assert isinstance(write(shell, 1).result(10.0), Committed)
        for left, space in ((1000, "full"), (1 << 40, "enough")):
            free[0] = left
            while shell.status().result(10.0)["disk"]["space"] != space:
                pass
            answer = write(shell, 2).result(10.0)
            assert isinstance(answer, Failed) is (space == "full")
        assert shell.status().result(10.0)["disk"]["free_bytes"] == 1 << 40
    assert errors == []


def test_free_space_that_cannot_be_measured_ends_nothing() -> None:
    def broken() -> int:
        asked.set()
        raise DiskFailed("statvfs: broken")

    errors: list[BaseException] = []
    asked = Event()
    with shell_of_one(errors, broken) as (shell, _):
        assert asked.wait(10.0)
        assert isinstance(write(shell, 1).result(10.0), Committed)
        assert shell.status().result(10.0)["disk"]["free_bytes"] is None
    assert errors == []
