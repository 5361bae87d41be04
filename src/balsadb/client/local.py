"""The engine in this process as a transport: the same requests and answers, without a socket.

The engine (and with it NumPy and the kernels) is imported when a database is opened.
"""

import asyncio
from os import PathLike
from typing import TYPE_CHECKING

from balsadb.client.exchange import WireAnswer, WireRequest

if TYPE_CHECKING:
    from balsadb.embedded.dispatcher import Reply
    from balsadb.embedded.engine import Engine


class LocalTransport:
    """A database in a folder; may be shared by threads."""

    def __init__(self, path: str | PathLike[str]) -> None:
        self._engine = _open(path)

    def send(self, request: WireRequest) -> WireAnswer:
        """Run the request in the engine."""
        target = f"{request.path}?{request.query}"
        reply = self._engine.request(request.method, target, request.headers, request.body)
        return _answer(reply)

    def close(self) -> None:
        """Close the database."""
        self._engine.close()


class AsyncLocalTransport:
    """`LocalTransport` for an event loop. The database is opened by the first request, on a thread:
    opening reads the log and must not hold the loop."""

    def __init__(self, path: str | PathLike[str]) -> None:
        self._path = path
        self._engine: Engine | None = None
        self._opening = asyncio.Lock()

    async def send(self, request: WireRequest) -> WireAnswer:
        """Run the request in the engine."""
        async with self._opening:
            if self._engine is None:
                self._engine = await asyncio.to_thread(_open, self._path)
        target = f"{request.path}?{request.query}"
        reply = await self._engine.request_async(
            request.method, target, request.headers, request.body
        )
        return _answer(reply)

    async def close(self) -> None:
        """Close the database."""
        if self._engine is not None:
            await asyncio.to_thread(self._engine.close)


def _open(path: str | PathLike[str]) -> "Engine":
    from balsadb.embedded.engine import Engine

    return Engine.open(path)


def _answer(reply: "Reply") -> WireAnswer:
    headers = {name.lower(): value for name, value in reply.headers.items()}
    return WireAnswer(reply.status, headers, reply.content)
