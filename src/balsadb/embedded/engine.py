"""A single node in this process, without sockets: what `balsadb.open(path)` runs on.

The same node, log and checkpoints as a served one, as a cluster of one member; a directory written
here can be served later, and the other way round, but not both at once (`DataDirInUse`). Requests
are those of the REST interface, run by the same dispatcher on a thread and event loop of the
engine's own; they may come from any thread and any event loop.
"""

import asyncio
import atexit
import os
import tempfile
import threading
from collections.abc import Mapping
from concurrent.futures import CancelledError, Future

from balsadb.cluster.node import Node
from balsadb.cluster.settings import NodeSettings
from balsadb.embedded.dispatcher import Dispatcher, Reply
from balsadb.embedded.operations import About, Operations
from balsadb.errors import InvalidInput, NotReady, OutcomeUnknown, StorageError
from balsadb.types import VERSION

MEMORY = ":memory:"
"""As a path: a database that ends with the engine (in a temporary directory)."""
READY_TIMEOUT_S = 60.0
"""How long `Engine.open` waits for the log to be applied."""
FINISH_TIMEOUT_S = 2.0
"""How long `Engine.close` waits for requests that are running, once the node is stopped."""


class Engine:
    """An open database directory. `open` and `close`, or a `with` statement."""

    def __init__(self, settings: NodeSettings, scratch: tempfile.TemporaryDirectory[str] | None):
        self._scratch = scratch
        self._fatal: BaseException | None = None
        self._node = Node.open(settings, self._on_fatal)
        about = About(VERSION, settings.dialect_version, settings.data, settings.request_timeout_s)
        self._dispatcher = Dispatcher(Operations(self._node.service, about))
        self._loop = asyncio.new_event_loop()
        self._closing = threading.Lock()
        self._submitting = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run_loop, name="balsadb-engine", daemon=True)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "Engine":
        """Open the database in the directory `path` (created if missing; `:memory:` for none) and
        wait until it can serve.

        Raises `InvalidInput` for an empty path, the `StorageError` tree for the directory,
        `NotReady` if it cannot serve in time.
        """
        path = os.fspath(path)
        if not path.strip():
            raise InvalidInput("path", f"must not be empty; {MEMORY!r} needs no directory")
        scratch = None
        if path == MEMORY:
            scratch = tempfile.TemporaryDirectory(prefix="balsadb-")
            path = scratch.name
        try:
            engine = cls(NodeSettings(data=path), scratch)
        except BaseException:
            if scratch is not None:
                scratch.cleanup()
            raise
        engine._start()
        return engine

    def request(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes = b""
    ) -> Reply:
        """Run one request (`target`: path and query; header names in lower case) and wait."""
        try:
            return self._submit(method, target, headers, body).result()
        except CancelledError:
            raise OutcomeUnknown(
                "the database was closed before this request was answered"
            ) from None

    async def request_async(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes = b""
    ) -> Reply:
        """`request` for an event loop."""
        return await asyncio.wrap_future(self._submit(method, target, headers, body))

    def close(self) -> None:
        """Stop in order and give the directory free. Safe to call again, and from any thread."""
        with self._closing:
            with self._submitting:
                if self._closed:
                    return
                self._closed = True
            self._node.stop()
            # Who still waits for an answer must get one before the loop ends.
            asyncio.run_coroutine_threadsafe(self._finish(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            if self._scratch is not None:
                self._scratch.cleanup()
        atexit.unregister(self.close)

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _start(self) -> None:
        self._node.service.attach(self._loop)
        self._thread.start()
        atexit.register(self.close)
        started = asyncio.run_coroutine_threadsafe(self._begin(), self._loop)
        if not started.result():
            reason = self._node.service.ready()[1]
            self.close()
            raise NotReady(f"the database did not become ready: {reason}")

    async def _begin(self) -> bool:
        self._node.start()
        return await self._node.wait_ready(READY_TIMEOUT_S)

    async def _finish(self) -> None:
        """Let the requests that are running end: the node is stopped, so nothing holds them long.
        Those that do not end in time are cancelled."""
        running = asyncio.all_tasks() - {asyncio.current_task()}
        if running:
            _, late = await asyncio.wait(running, timeout=FINISH_TIMEOUT_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _submit(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> Future[Reply]:
        if self._fatal is not None:
            raise StorageError(
                f"this database failed and must be opened anew: {self._fatal}"
            ) from self._fatal
        with self._submitting:
            if self._closed:
                raise NotReady("this database is closed")
            return asyncio.run_coroutine_threadsafe(
                self._dispatcher.request(method, target, headers, body), self._loop
            )

    def _on_fatal(self, error: BaseException) -> None:
        # A server ends its process here. This one belongs to somebody else, so the engine refuses
        # everything from now on instead.
        if self._fatal is None:
            self._fatal = error
