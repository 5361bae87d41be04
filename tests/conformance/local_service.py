"""A service without a log: the real database, applied directly. And a live server over it."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import uvicorn

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
    service: LocalService


@contextlib.contextmanager
def serve(settings: NodeSettings | None = None) -> Iterator[LiveServer]:
    """Uvicorn on a thread of its own."""
    service = LocalService()
    app = create_app(service, settings or NodeSettings())
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app, http="httptools", lifespan="off", log_config=None, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + 10
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.005)
    try:
        yield LiveServer(f"http://127.0.0.1:{listening.getsockname()[1]}", service)
    finally:
        server.should_exit = True
        thread.join(10)
        listening.close()
