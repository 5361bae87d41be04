"""The barrier that concurrent reads share."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any, cast

import pytest

from balsadb.cluster.effects import Answer, Failed, ReadReady
from balsadb.cluster.service import ClusterService
from balsadb.cluster.settings import NodeSettings
from balsadb.cluster.workers import Pulse
from balsadb.errors import QuorumLost
from balsadb.types import LogIndex


class FakeShell:
    """Keeps the barriers it was asked for; the test answers them."""

    def __init__(self) -> None:
        self.asked: list[Future[Answer]] = []
        self.on_ready: Callable[[], None] = lambda: None
        self.driver = SimpleNamespace(removed="")

    def read(self, before: Callable[[], None], timeout_s: float) -> Future[Answer]:
        del before, timeout_s
        self.asked.append(Future())
        return self.asked[-1]


def service_on(shell: FakeShell) -> ClusterService:
    service = ClusterService(NodeSettings(), Pulse())
    service.bind(cast("Any", shell), cast("Any", None), cast("Any", None))
    service.attach(asyncio.get_running_loop())
    return service


async def several_turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_a_patient_read_outlives_the_deadline_of_the_one_it_joined() -> None:
    async def scenario() -> None:
        shell = FakeShell()
        service = service_on(shell)
        hasty = asyncio.create_task(service._read_barrier(5.0))
        patient = asyncio.create_task(service._read_barrier(60.0))
        await several_turns()
        (shared,) = shell.asked
        shared.set_result(Failed(QuorumLost("the first one's time is up")))
        await several_turns()
        with pytest.raises(QuorumLost):
            await hasty
        assert len(shell.asked) == 2, "the patient one asks for itself"
        shell.asked[1].set_result(ReadReady(LogIndex(1)))
        await patient
        service.close()

    asyncio.run(scenario())
