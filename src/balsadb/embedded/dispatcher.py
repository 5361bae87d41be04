"""Bytes in, bytes out: the one way from a request to its operation.

The REST server calls `run` with the route it found; the in-process engine calls `request`, which
finds the route itself. Errors of the tree become answers here; anything else is a defect and goes
up to whoever hosts the dispatcher.
"""

import time
from collections.abc import Mapping
from typing import Any

import msgspec

from balsadb.api.codec import Format, answer_format, decode, encode, request_format
from balsadb.api.envelope import Answer, Failure, failure
from balsadb.api.limits import BODY_BYTES_MAX
from balsadb.api.options import SEQUENCE_HEADER, SESSION_HEADER, parse_options, require_known
from balsadb.api.routes import Route, match
from balsadb.api.slices import cut_upsert
from balsadb.embedded.operations import Call, Operations
from balsadb.errors import BalsaError, BodyTooLarge, MalformedBody, NotFound

CODE_HEADER = "balsa-code"
"""In an answer that is an error: its code, so that a proxy need not read the body."""


class Reply(msgspec.Struct, frozen=True):
    """An answer as bytes. `headers` has what is special to it; the content type is `media`."""

    status: int
    content: bytes
    media: str = Format.JSON.value
    headers: dict[str, str] = {}


class Dispatcher:
    """Runs requests against one node's operations."""

    def __init__(self, operations: Operations) -> None:
        self.operations = operations

    async def request(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> Reply:
        """Run a request given by its method and target (path and query); never raises a
        `BalsaError`. Header names are lower case."""
        started = time.perf_counter()
        path, _, query = target.partition("?")
        try:
            found = match(method, path)
            if len(body) > BODY_BYTES_MAX:
                raise body_too_large()
            return await self.run(found.route, found.values, query, headers, body)
        except BalsaError as error:
            return refuse(error, headers, time_s=time.perf_counter() - started)

    async def run(
        self,
        route: Route,
        values: dict[str, str],
        query: str,
        headers: Mapping[str, str],
        body: bytes,
    ) -> Reply:
        """Decode, run the route's operation, encode. Raises the operation's `BalsaError`."""
        started = time.perf_counter()
        if route.path.startswith("/cluster/") and route.method != "GET":
            require_known(query)
        options = parse_options(query, headers.get(SESSION_HEADER), headers.get(SEQUENCE_HEADER))
        decoded = decode_body(route, headers, body)
        operation = getattr(self.operations, route.operation, None)
        if operation is None:
            raise NotFound(f"{route.path} is answered by a server only")
        result = await operation(Call(values, options, decoded))
        format_ = answer_format(headers.get("accept"))
        answer = result
        if route.enveloped:
            answer = Answer(result, time=time.perf_counter() - started)
        return Reply(200, encode(answer, format_), format_.value)


def decode_body(route: Route, headers: Mapping[str, str], body: bytes) -> Any:
    """The body as the route wants it; None if it takes none."""
    if route.body is None:
        return None
    if not body:
        if route.body_required:
            raise MalformedBody("body", "is required")
        return route.body()
    format_ = request_format(headers.get("content-type"))
    if route.sliced:
        return cut_upsert(body, format_)
    return decode(body, route.body, format_)


def refuse(
    error: BalsaError, headers: Mapping[str, str], request_id: str = "", time_s: float = 0.0
) -> Reply:
    """The answer to a request that failed with `error`."""
    return failed(failure(error, request_id, time_s), headers)


def failed(found: Failure, headers: Mapping[str, str]) -> Reply:
    """A failure, encoded as the client asked."""
    format_ = answer_format(headers.get("accept"))
    extra = {**found.headers, CODE_HEADER: found.answer.status.code}
    return Reply(found.status, encode(found.answer, format_), format_.value, extra)


def body_too_large() -> BodyTooLarge:
    """The error for a body over its maximum."""
    return BodyTooLarge(
        "body", f"must be at most {BODY_BYTES_MAX} bytes ({BODY_BYTES_MAX >> 20} MiB)"
    )
