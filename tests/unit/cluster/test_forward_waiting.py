"""A request for the leader that waits for one."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from balsadb.cluster import service as services
from balsadb.cluster.rpc import KIND_HTTP, RawRequest, RawResponse
from balsadb.cluster.service import ClusterService
from balsadb.cluster.settings import NodeSettings
from balsadb.cluster.workers import Pulse
from balsadb.errors import NotLeader, QuorumLost

REQUEST = RawRequest("PUT", "/collections/things", "", {}, b"{}")
DONE = RawResponse(200, {}, b"done")


class FakeShell:
    """Knows a leader, who answers or cannot be reached."""

    def __init__(self) -> None:
        self.on_ready: Callable[[], None] = lambda: None
        self.on_leader: Callable[[], None] = lambda: None
        self.driver = SimpleNamespace(removed="", leader=0)
        self.reached: set[int] = set()
        self.asked: list[int] = []

    def call(self, target: int, kind: str, payload: bytes, timeout_s: float) -> Future[bytes]:
        assert (kind, msgspec.msgpack.decode(payload, type=RawRequest)) == (KIND_HTTP, REQUEST)
        self.asked.append(target)
        answer: Future[bytes] = Future()
        if target in self.reached:
            answer.set_result(msgspec.msgpack.encode(DONE))
        else:
            answer.set_exception(NotLeader(target))
        return answer


def service_on(shell: FakeShell) -> ClusterService:
    service = ClusterService(NodeSettings(), Pulse())
    service.bind(cast("Any", shell), cast("Any", None), cast("Any", None))
    service.attach(asyncio.get_running_loop())
    return service


async def several_turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_it_is_sent_as_soon_as_another_node_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at the next look: the pause between looks is longer than this test may take."""
    monkeypatch.setattr(services, "LEADER_POLL_S", 1000.0)

    async def scenario() -> None:
        shell = FakeShell()
        service = service_on(shell)
        waiting = [asyncio.create_task(service.forward(REQUEST, 60.0)) for _ in range(2)]
        await several_turns()
        assert shell.asked == []
        shell.driver.leader = 2  # known, and not reached: the lane to it is down
        shell.on_leader()
        await several_turns()
        assert shell.asked == [2, 2]
        assert not any(task.done() for task in waiting)
        shell.driver.leader = 3
        shell.reached.add(3)
        shell.on_leader()
        assert await asyncio.gather(*waiting) == [DONE, DONE]
        service.close()

    asyncio.run(scenario())


def test_it_looks_again_by_itself_and_gives_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same leader may be reached again: nobody tells of that."""
    monkeypatch.setattr(services, "LEADER_POLL_S", 0.001)

    async def scenario() -> None:
        shell = FakeShell()
        service = service_on(shell)
        with pytest.raises(QuorumLost, match="was not sent"):
            await service.forward(REQUEST, 0.02)
        shell.driver.leader = 2
        waiting = asyncio.create_task(service.forward(REQUEST, 60.0))
        while len(shell.asked) < 3:
            await asyncio.sleep(0.001)
        shell.reached.add(2)
        assert await waiting == DONE
        service.close()

    asyncio.run(scenario())


def test_news_after_the_loop_has_ended_are_nobodys() -> None:
    shell = FakeShell()

    async def scenario() -> None:
        service_on(shell).close()

    asyncio.run(scenario())
    shell.on_leader()
