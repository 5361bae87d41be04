"""The blocking client. What an operation sends and returns is in `requests`."""

import time
from collections.abc import Iterator, Sequence
from os import PathLike
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from balsadb.api.results import Record
from balsadb.client import requests
from balsadb.client.exchange import Exchange, Options, Sessions, Transport
from balsadb.client.http import HttpTransport
from balsadb.client.requests import Call, Filter
from balsadb.client.surface import method
from balsadb.client.uploads import UploadOptions, UploadResult, parts
from balsadb.errors import BalsaError, InvalidInput

T = TypeVar("T")

DEFAULT_URL = "http://127.0.0.1:6333"


class Client:
    """A cluster at one or more addresses, or a database in a folder of this machine.

    `Client()`, `Client("http://host:6333")`, `Client([url, url, url])`, `Client(path="films")`.
    Thread-safe. Close it, or use it in a `with` statement.
    """

    def __init__(
        self,
        url: str | Sequence[str] | None = None,
        *,
        path: str | PathLike[str] | None = None,
        options: Options | None = None,
        transport: Transport | None = None,
    ) -> None:
        if sum(where is not None for where in (url, path, transport)) > 1:
            raise InvalidInput("path", "url, path and transport exclude one another")
        self._transport: Transport
        if transport is not None:
            self._transport = transport
        elif path is not None:
            from balsadb.client.local import LocalTransport

            self._transport = LocalTransport(path)
        else:
            self._transport = HttpTransport(DEFAULT_URL if url is None else url)
        self._options = options or Options()
        self._sessions = Sessions()

    def with_options(self, **changes: object) -> Self:
        """A client over the same connections with other options (`timeout_s`, `local`, `wait`,
        `tries_max`, `api_key`, `headers`)."""
        return type(self)(transport=self._transport, options=self._options.but(changes))

    def close(self) -> None:
        """Let go of connections; a database in a folder is closed."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def call(self, call: Call[T]) -> T:
        """Send a call made by a function of `requests`; its result."""
        session = self._sessions.take() if call.is_write else None
        exchange = Exchange(call, self._options, session, time.monotonic())
        try:
            while True:
                try:
                    answer = self._transport.send(exchange.request(time.monotonic()))
                    return exchange.result(answer)
                except BalsaError as error:
                    time.sleep(exchange.pause_s(error, time.monotonic()))
        finally:
            if session is not None and not exchange.outcome_unknown:
                self._sessions.give_back(session)

    create_collection = method(requests.create_collection)
    collections = method(requests.collections)
    get_collection = method(requests.get_collection)
    collection_exists = method(requests.collection_exists)
    update_collection = method(requests.update_collection)
    delete_collection = method(requests.delete_collection)
    create_payload_index = method(requests.create_payload_index)
    delete_payload_index = method(requests.delete_payload_index)
    upsert = method(requests.upsert)
    upsert_batch = method(requests.upsert_batch)
    delete = method(requests.delete)
    set_payload = method(requests.set_payload)
    overwrite_payload = method(requests.overwrite_payload)
    delete_payload = method(requests.delete_payload)
    clear_payload = method(requests.clear_payload)
    retrieve = method(requests.retrieve)
    get = method(requests.get)
    scroll = method(requests.scroll)
    count = method(requests.count)
    query = method(requests.query)
    query_batch = method(requests.query_batch)
    cluster = method(requests.cluster)
    verify = method(requests.verify)
    members = method(requests.members)
    add_member = method(requests.add_member)
    move_member = method(requests.move_member)
    promote_member = method(requests.promote_member)
    remove_member = method(requests.remove_member)
    transfer = method(requests.transfer)

    def upload(
        self, collection: str, vectors: Any, **options: Unpack[UploadOptions]
    ) -> UploadResult:
        """Store many points: `vectors` is a two-dimensional buffer, or any iterable of vectors.

        See `UploadOptions`. Points of earlier calls stay stored when a later call fails.
        """
        done = UploadResult(0, 0)
        for part in parts(collection, vectors, options):
            result = self.call(part.call)
            done = UploadResult(done.points + part.points, result.operation_id)
            if "on_progress" in options:
                options["on_progress"](done.points)
        return done

    def scroll_all(
        self, collection: str, *, filter: Filter | None = None, page: int = 1000
    ) -> Iterator[Record]:
        """Every point that matches, in the order of ids, a page at a time."""
        offset = None
        while True:
            found = self.call(requests.scroll(collection, limit=page, offset=offset, filter=filter))
            yield from found.points
            offset = found.next_page_offset
            if offset is None:
                return


def open_path(path: str | PathLike[str], *, options: Options | None = None) -> Client:
    """The database in the folder `path`, in this process: the same engine without sockets.

    Raises `DataDirInUse` if another process has it open.
    """
    return Client(path=path, options=options)
