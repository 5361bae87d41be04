"""A service without a log (the real database, applied directly), and live servers over it and over
a real node."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import uvicorn

from balsadb.cluster.http_limits import BoundedHttpProtocol
from balsadb.cluster.node import Node
from balsadb.cluster.rpc import RawRequest, RawResponse
from balsadb.cluster.settings import NodeSettings
from balsadb.database import NO_SESSION, Database, Request, SessionKey
from balsadb.errors import NotLeader
from balsadb.server.app import create_app
from balsadb.types import LogIndex

T = TypeVar("T")


class Written(NamedTuple):
    operation_id: int
    value: Any


class LocalService:
    """One node that always leads. `failing` is raised by the next write or read, once."""

    def __init__(self) -> None:
        self.database = Database()
        self.last_index = 0
        self.leads = True
        self.failing: BaseException | None = None
        self.reads: list[bool] = []
        self.on_forwarded: Any = None
        self.leader: Callable[[RawRequest], Any] | None = None

    async def write(
        self, request: Request, *, wait: bool, timeout_s: float, session: SessionKey | None
    ) -> Written:
        self._fail()
        if not self.leads:
            raise NotLeader(0)
        value: Any = None
        for data in self.database.prepare(request, session or NO_SESSION):
            self.last_index += 1
            result = self.database.apply(LogIndex(self.last_index), data)
            value = result.unwrap()
        self._link()
        return Written(self.last_index, value)

    async def read(
        self,
        function: Callable[[Database], T],
        *,
        local: bool,
        timeout_s: float,
        heavy: bool = False,
    ) -> T:
        self._fail()
        self.reads.append(local)
        if heavy:
            return await asyncio.to_thread(function, self.database)
        return function(self.database)

    def is_leader(self) -> bool:
        return self.leads

    async def forward(self, request: RawRequest, timeout_s: float) -> RawResponse:
        assert self.leader is not None
        return await self.leader(request)

    async def status(self) -> dict[str, Any]:
        return {"node": 1, "role": "leader", "leader": 1, "term": 1, "commit": self.last_index}

    async def verify(self, timeout_s: float) -> dict[str, Any]:
        return {"index": self.last_index, "equal": True}

    def ready(self) -> tuple[bool, str]:
        return self.leads, "ready" if self.leads else "no leader is known"

    def _fail(self) -> None:
        failing, self.failing = self.failing, None
        if failing is not None:
            raise failing

    def _link(self) -> None:
        while (work := self.database.link_work()) is not None:
            edit = self.database.plan(work, 1024)
            if edit is None:
                return
            self.last_index += 1
            self.database.apply(LogIndex(self.last_index), edit).unwrap()


class LiveServer(NamedTuple):
    """A server on a free port of the loopback, and what it serves."""

    url: str
    service: Any

    def state(self) -> object:
        """A value that changes with anything the database remembers, if it is in this process."""
        return self.service and self.service.database.columns.digest()


@contextlib.contextmanager
def serve(settings: NodeSettings | None = None) -> Iterator[LiveServer]:
    """The database without a log, behind Uvicorn on a thread of its own."""
    service = LocalService()

    async def begin() -> None:
        pass

    with _listening(service, settings or NodeSettings(), begin) as url:
        yield LiveServer(url, service)


@contextlib.contextmanager
def serve_node(data: str) -> Iterator[LiveServer]:
    """A real node, a cluster of one, behind Uvicorn on a thread of its own."""
    settings = NodeSettings(data=data)
    failures: list[BaseException] = []
    node = Node.open(settings, failures.append)

    async def begin() -> None:
        node.service.attach(asyncio.get_running_loop())
        node.start()
        assert await node.wait_ready(30)

    try:
        with _listening(node.service, settings, begin) as url:
            yield LiveServer(url, node.service)
    finally:
        node.stop()
    assert failures == []


def loopback_socket() -> socket.socket:
    """A listening socket on a free port. Its protocol is named, because the event loop switches
    Nagle's algorithm off (40 ms an answer) only where it is."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    return listening


@contextlib.contextmanager
def _listening(
    service: Any, settings: NodeSettings, begin: Callable[[], Awaitable[None]]
) -> Iterator[str]:
    config = uvicorn.Config(
        create_app(service, settings),
        http=BoundedHttpProtocol,
        lifespan="off",
        log_config=None,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    listening = loopback_socket()

    async def main() -> None:
        await begin()
        await server.serve(sockets=[listening])

    thread = threading.Thread(target=asyncio.run, args=(main(),), daemon=True)
    thread.start()
    deadline = time.monotonic() + 40
    while not server.started and thread.is_alive() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert server.started
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listening.close()
