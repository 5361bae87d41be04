"""The client for an event loop. What an operation sends and returns is in `requests`."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from os import PathLike
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from balsadb.api.results import Record
from balsadb.client import requests
from balsadb.client.client import DEFAULT_URL
from balsadb.client.exchange import AsyncTransport, Exchange, Options, Sessions
from balsadb.client.http import AsyncHttpTransport
from balsadb.client.requests import Call, Filter
from balsadb.client.surface import async_method
from balsadb.client.uploads import UploadOptions, UploadResult, parts
from balsadb.errors import BalsaError, InvalidInput

T = TypeVar("T")


class AsyncClient:
    """A cluster at one or more addresses, or a database in a folder of this machine.

    Like `Client`; every method is awaited. Close it, or use it in an `async with` statement.
    """

    def __init__(
        self,
        url: str | Sequence[str] | None = None,
        *,
        path: str | PathLike[str] | None = None,
        options: Options | None = None,
        transport: AsyncTransport | None = None,
    ) -> None:
        if sum(where is not None for where in (url, path, transport)) > 1:
            raise InvalidInput("path", "url, path and transport exclude one another")
        self._transport: AsyncTransport
        if transport is not None:
            self._transport = transport
        elif path is not None:
            from balsadb.client.local import AsyncLocalTransport

            self._transport = AsyncLocalTransport(path)
        else:
            self._transport = AsyncHttpTransport(DEFAULT_URL if url is None else url)
        self._options = options or Options()
        self._sessions = Sessions()

    def with_options(self, **changes: object) -> Self:
        """A client over the same connections with other options (see `Options`)."""
        return type(self)(transport=self._transport, options=self._options.but(changes))

    async def close(self) -> None:
        """Let go of connections; a database in a folder is closed."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self.close()

    async def call(self, call: Call[T]) -> T:
        """Send a call made by a function of `requests`; its result."""
        session = self._sessions.take() if call.is_write else None
        exchange = Exchange(call, self._options, session, time.monotonic())
        finished = False
        try:
            while True:
                try:
                    answer = await self._transport.send(exchange.request(time.monotonic()))
                    result = exchange.result(answer)
                    finished = True
                    return result
                except BalsaError as error:
                    finished = True
                    pause_s = exchange.pause_s(error, time.monotonic())
                    finished = False
                    await asyncio.sleep(pause_s)
        finally:
            # A cancelled write may still take effect: its session is not used again.
            if session is not None and finished and not exchange.outcome_unknown:
                self._sessions.give_back(session)

    create_collection = async_method(requests.create_collection)
    collections = async_method(requests.collections)
    get_collection = async_method(requests.get_collection)
    collection_exists = async_method(requests.collection_exists)
    update_collection = async_method(requests.update_collection)
    delete_collection = async_method(requests.delete_collection)
    create_payload_index = async_method(requests.create_payload_index)
    delete_payload_index = async_method(requests.delete_payload_index)
    upsert = async_method(requests.upsert)
    upsert_batch = async_method(requests.upsert_batch)
    delete = async_method(requests.delete)
    set_payload = async_method(requests.set_payload)
    overwrite_payload = async_method(requests.overwrite_payload)
    delete_payload = async_method(requests.delete_payload)
    clear_payload = async_method(requests.clear_payload)
    retrieve = async_method(requests.retrieve)
    get = async_method(requests.get)
    scroll = async_method(requests.scroll)
    count = async_method(requests.count)
    query = async_method(requests.query)
    query_batch = async_method(requests.query_batch)
    cluster = async_method(requests.cluster)
    verify = async_method(requests.verify)
    members = async_method(requests.members)
    add_member = async_method(requests.add_member)
    move_member = async_method(requests.move_member)
    promote_member = async_method(requests.promote_member)
    remove_member = async_method(requests.remove_member)
    transfer = async_method(requests.transfer)

    async def upload(
        self, collection: str, vectors: Any, **options: Unpack[UploadOptions]
    ) -> UploadResult:
        """Store many points: `vectors` is a two-dimensional buffer, or any iterable of vectors.

        See `UploadOptions`. Points of earlier calls stay stored when a later call fails.
        """
        done = UploadResult(0, 0)
        for part in parts(collection, vectors, options):
            result = await self.call(part.call)
            done = UploadResult(done.points + part.points, result.operation_id)
            if "on_progress" in options:
                options["on_progress"](done.points)
        return done

    async def scroll_all(
        self, collection: str, *, filter: Filter | None = None, page: int = 1000
    ) -> AsyncIterator[Record]:
        """Every point that matches, in the order of ids, a page at a time."""
        offset = None
        while True:
            found = await self.call(
                requests.scroll(collection, limit=page, offset=offset, filter=filter)
            )
            for point in found.points:
                yield point
            offset = found.next_page_offset
            if offset is None:
                return
