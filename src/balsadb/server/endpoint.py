"""A route as an ASGI application: read the body, run or forward, answer.

This is where errors become answers: the tree's own in the dialect's shape, anything else as a 500
with the request's id, and its traceback in the log.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from urllib.parse import unquote

from starlette.requests import ClientDisconnect

from balsadb.api.envelope import internal_failure
from balsadb.api.limits import BODY_BYTES_MAX, BODY_READ_TIMEOUT_S
from balsadb.api.options import REQUEST_ID_HEADER, SEQUENCE_HEADER, SESSION_HEADER, parse_options
from balsadb.api.route import Route
from balsadb.cluster.http_limits import BODY_IS_HERE
from balsadb.cluster.rpc import RawRequest, RawResponse
from balsadb.embedded.dispatcher import (
    CODE_HEADER,
    Dispatcher,
    Reply,
    body_too_large,
    failed,
    refuse,
)
from balsadb.errors import BalsaError, BodyTooSlow, NotLeader
from balsadb.server.admission import Admission
from balsadb.server.gate import CONTEXT, FORWARDED, App, Context, Message, Receive, Scope, Send
from balsadb.server.metrics import Metrics

FORWARDED_HEADERS = (
    "content-type",
    "accept",
    SESSION_HEADER,
    SEQUENCE_HEADER,
    REQUEST_ID_HEADER,
)
"""What the leader needs to know of a request; the key and the connection stay here."""

RETRY_FIRST_S = 0.004
RETRY_S = 0.02
"""Pause before a request that met no leader is sent again, at first and at last."""

_log = logging.getLogger("balsadb.server")


class Endpoint:
    """One route of one node."""

    def __init__(
        self, route: Route, dispatcher: Dispatcher, metrics: Metrics, admission: Admission
    ) -> None:
        self._route = route
        self._admission = admission
        self._dispatcher = dispatcher
        self._service = dispatcher.operations.service
        self._timeout_s = dispatcher.operations.about.timeout_s
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        started = time.perf_counter()
        context: Context = scope[CONTEXT]
        try:
            reply = await self._admitted(scope, context, receive)
        except BalsaError as error:
            reply = refuse(
                error, context.headers, context.request_id, time.perf_counter() - started
            )
            if isinstance(error, BodyTooSlow):
                # The rest of the body is still to come: nothing else can be read from here.
                reply.headers["Connection"] = "close"
        except ClientDisconnect:
            return
        except Exception as error:
            # A defect of ours must not take the node down, nor hang the client.
            _log.exception("request %s failed", context.request_id)
            outcome = "unknown" if self._route.changes else "failed"
            found = internal_failure(
                error, context.request_id, outcome, time.perf_counter() - started
            )
            reply = failed(found, context.headers)
        await send_reply(send, reply)
        self._metrics.observe(self._route, reply.status, time.perf_counter() - started)

    async def _admitted(self, scope: Scope, context: Context, receive: Receive) -> Reply:
        query = scope["query_string"].decode("latin-1")
        body = b""
        if self._route.method != "GET":
            self._admission.check()
            timeout_s = None
            if BODY_IS_HERE not in scope:
                timeout_s = parse_options(query, None, None).timeout_s or self._timeout_s
            body = await read_body(receive, context.headers, self._admission, timeout_s)
        self._admission.enter(len(body))
        try:
            return await self._reply(scope, context, query, body)
        finally:
            self._admission.leave(len(body))

    async def _reply(self, scope: Scope, context: Context, query: str, body: bytes) -> Reply:
        route = self._route
        here = not route.leader_only or context.forwarded or self._service.is_leader()
        if here:
            try:
                return await self._dispatcher.run(
                    route, scope["path_params"], query, context.headers, body
                )
            except NotLeader:
                # Leadership was lost before anything was proposed: as good as never having had it.
                if not route.leader_only or context.forwarded:
                    raise
        return await self._forward(scope, context, query, body)

    async def _forward(self, scope: Scope, context: Context, query: str, body: bytes) -> Reply:
        """Hand the request to the leader as it came. What a node refused because it does not lead
        was certainly not done and is sent again while there is time."""
        headers = {
            name: context.headers[name] for name in FORWARDED_HEADERS if name in context.headers
        }
        headers[REQUEST_ID_HEADER] = context.request_id
        raw_path: bytes = scope.get("raw_path") or scope["path"].encode()
        path = raw_path.partition(b"?")[0].decode("latin-1")
        request = RawRequest(scope["method"], path, query, headers, body)
        options = parse_options(query, None, None)
        timeout_s = options.timeout_s or self._timeout_s
        began = time.monotonic()
        deadline = began + timeout_s
        while True:
            left_s = max(0.001, deadline - time.monotonic())
            response = await self._service.forward(request, left_s)
            refused = response.headers.get(CODE_HEADER) == NotLeader.code
            if not refused or time.monotonic() + RETRY_S >= deadline:
                return _reply_of(response)
            # Leadership is handed over in a few round trips; an election takes longer.
            waited_s = time.monotonic() - began
            await asyncio.sleep(min(RETRY_S, RETRY_FIRST_S + waited_s / 4))


async def read_body(
    receive: Receive, headers: Mapping[str, str], admission: Admission, timeout_s: float | None
) -> bytes:
    """The whole body.

    `BodyTooLarge` as soon as it is known to exceed its maximum, `BodyTooSlow` if it is not here
    within `timeout_s` or `BODY_READ_TIMEOUT_S`, `Overloaded` if too much arrives at a time. A
    `timeout_s` of None means that it is here already.
    """
    length = headers.get("content-length")
    if length is not None and length.isdigit() and int(length) > BODY_BYTES_MAX:
        raise body_too_large()
    if timeout_s is None:
        return await _all_parts(receive, admission)
    limit_s = min(timeout_s, BODY_READ_TIMEOUT_S)
    try:
        async with asyncio.timeout(limit_s):
            return await _all_parts(receive, admission)
    except TimeoutError:
        raise BodyTooSlow("body", f"must arrive within {limit_s:g} seconds") from None


async def _all_parts(receive: Receive, admission: Admission) -> bytes:
    parts: list[bytes] = []
    size = counted = 0
    try:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > BODY_BYTES_MAX:
                raise body_too_large()
            if not message.get("more_body"):
                return parts[0] if len(parts) == 1 else b"".join(parts)
            counted = admission.arrived(counted, size)
    finally:
        admission.stop_counting(counted)


async def send_reply(send: Send, reply: Reply) -> None:
    """Send an answer."""
    headers = [
        (b"content-type", reply.media.encode()),
        (b"content-length", str(len(reply.content)).encode()),
    ]
    headers.extend((name.lower().encode(), value.encode()) for name, value in reply.headers.items())
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.content})


async def run_forwarded(app: App, request: RawRequest) -> RawResponse:
    """Run a request that another node handed on through `app`, marked as forwarded."""
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": unquote(request.path),
        "raw_path": request.path.encode("latin-1"),
        "query_string": request.query.encode("latin-1"),
        "root_path": "",
        "headers": [
            (name.encode("latin-1"), value.encode("latin-1"))
            for name, value in request.headers.items()
        ],
        "client": None,
        "server": None,
        "state": {},
        FORWARDED: True,
    }
    sent: list[Message] = []
    incoming = [{"type": "http.request", "body": request.body, "more_body": False}]

    async def receive() -> Message:
        return incoming.pop() if incoming else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    headers = {
        name.decode("latin-1"): value.decode("latin-1") for name, value in sent[0]["headers"]
    }
    content = b"".join(message.get("body", b"") for message in sent[1:])
    return RawResponse(sent[0]["status"], headers, content)


def _reply_of(response: RawResponse) -> Reply:
    """Another node's answer as ours; headers that are set here anew are left out."""
    dropped = {"content-length", "content-type", REQUEST_ID_HEADER, "connection", "date"}
    extra = {name: value for name, value in response.headers.items() if name not in dropped}
    media = response.headers.get("content-type", "application/json")
    return Reply(response.status, response.body, media, extra)
