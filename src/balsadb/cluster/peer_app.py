"""Incoming lanes: a plain ASGI application on the peer port.

Each POST `/lane/<name>` is one lane from one peer; its body never ends while both live. A stream
without the cluster's secret, of another cluster, in another protocol, or from a node that was
removed is refused with a 4xx that names the field, before a byte of it is read. A frame that cannot
be read is dropped and the stream goes on: a newer node may say what this one does not know; the
answer at the stream's end tells of it. POST `/join` is the question of a node that has no cluster
yet (`balsadb.cluster.joining`); it needs the secret only. Runs on the shell's event loop.
"""

import hmac
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec
import uvicorn

from balsadb.cluster.http_limits import BoundedHttpProtocol
from balsadb.cluster.joining import JOIN_PATH, ErrorBody, Refusal
from balsadb.cluster.wire import (
    FRAME_BYTES_MAX,
    HEADER_ADDRESS,
    HEADER_CLUSTER,
    HEADER_NODE,
    HEADER_PROCESS,
    HEADER_PROTOCOL,
    HEADER_SECRET,
    PROTOCOL,
    FrameReader,
)
from balsadb.errors import InvalidInput, LimitExceeded, MalformedBody
from balsadb.types import ClusterId, NodeId

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
OnFrame = Callable[[str, NodeId, bytes], None]
TakeIn = Callable[[bytes], Awaitable[tuple[int, bytes]]]
"""From the body of a question to join to the status and the body of its answer."""

_NODE_DIGITS_MAX = 20


JOIN_BYTES_MAX = 4096
COMPLAINTS_MAX = 64
"""Different reasons for refusal that are logged."""

_log = logging.getLogger("balsadb.peer_port")


async def nobody_joins(body: bytes) -> tuple[int, bytes]:
    """The answer of a node that cannot take others in (yet)."""
    del body
    return 503, _error_body(Refusal(503, "path", "this node is starting; ask again"))


class PeerApp:
    """The ASGI application of the peer port.

    `refuses(node)` says why streams of a node are not taken; empty if they are.
    `on_frame(lane, source, payload)` is called for each frame in order and raises `MalformedBody`
    for one that it cannot read; `on_open(source, process, address)` and `on_close(source)` when a
    stream of that node starts and ends. `take_in(body)` answers who asks to join.
    """

    def __init__(
        self, cluster: ClusterId, secret: str, refuses: Callable[[NodeId], str], on_frame: OnFrame
    ) -> None:
        self._cluster = cluster
        self._secret = secret.encode()
        self._refuses = refuses
        self._on_frame = on_frame
        self.on_open: Callable[[NodeId, str, str], None] = lambda source, process, address: None
        self.on_close: Callable[[NodeId], None] = lambda source: None
        self.take_in: TakeIn = nobody_joins
        self.refused_count = 0
        self._complained: set[tuple[str, str]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection's request (ASGI)."""
        if scope["type"] != "http":
            return
        headers = {name.decode("latin-1"): value for name, value in scope["headers"]}
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            self.refused_count += 1
            self._complain(scope, refusal)
            await _answer(send, refusal)
            return
        if scope["path"] == JOIN_PATH:
            await self._join(receive, send)
            return
        lane = str(scope["path"]).removeprefix("/lane/")
        source = NodeId(int(headers[HEADER_NODE]))
        process, address = (
            headers.get(name, b"").decode("latin-1") for name in (HEADER_PROCESS, HEADER_ADDRESS)
        )
        self.on_open(source, process, address)
        try:
            await self._read(lane, source, receive)
        except InvalidInput as error:
            status = 413 if isinstance(error, LimitExceeded) else 400
            await _answer(send, Refusal(status, error.field, error.rule))
            return
        finally:
            self.on_close(source)
        await _answer(send, None)

    async def _join(self, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = bool(message.get("more_body", False))
            if len(body) > JOIN_BYTES_MAX:
                await _answer(send, Refusal(413, "body", f"at most {JOIN_BYTES_MAX} bytes"))
                return
        await _send(send, *await self.take_in(body))

    def _complain(self, scope: Scope, refusal: Refusal) -> None:
        """Say it once for each reason and place: a peer tries again many times a second."""
        client = scope.get("client")
        place = (str(client[0]) if client else "?", refusal.field)
        if place not in self._complained and len(self._complained) < COMPLAINTS_MAX:
            self._complained.add(place)
            _log.warning("refused a stream from %s: %s %s", place[0], refusal.field, refusal.rule)

    async def _read(self, lane: str, source: NodeId, receive: Receive) -> None:
        reader = FrameReader(FRAME_BYTES_MAX[lane])
        malformed: MalformedBody | None = None
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            for payload in reader.feed(message.get("body", b"")):
                try:
                    self._on_frame(lane, source, payload)
                except MalformedBody as error:
                    malformed = malformed or error
            more = bool(message.get("more_body", False))
        if malformed is not None:
            raise malformed
        if reader.held_bytes:
            raise MalformedBody("frame", f"ends early: the last {reader.held_bytes} bytes are cut")

    def _refusal(self, scope: Scope, headers: dict[str, bytes]) -> Refusal | None:
        secret = headers.get(HEADER_SECRET, b"")
        if not hmac.compare_digest(secret, self._secret):
            return Refusal(401, HEADER_SECRET, "must be the cluster's secret")
        if scope["path"] == JOIN_PATH and scope["method"] == "POST":
            return None
        if headers.get(HEADER_CLUSTER, b"") != str(self._cluster).encode():
            return Refusal(
                403, HEADER_CLUSTER, "must be this cluster's id: another cluster sent it"
            )
        spoken = headers.get(HEADER_PROTOCOL, b"1").decode("latin-1")
        if spoken != str(PROTOCOL):
            rule = f"must be {PROTOCOL}, not {spoken[:20]!r}: install versions that speak alike"
            return Refusal(400, HEADER_PROTOCOL, rule)
        node = headers.get(HEADER_NODE, b"")
        is_number = node.isdigit() and len(node) <= _NODE_DIGITS_MAX
        rule = self._refuses(NodeId(int(node))) if is_number else "must be a node's number"
        if rule:
            return Refusal(403, HEADER_NODE, rule)
        path = str(scope["path"])
        if scope["method"] != "POST" or path.removeprefix("/lane/") not in FRAME_BYTES_MAX:
            return Refusal(
                404, "path", "must be POST /lane/ and one of " + ", ".join(FRAME_BYTES_MAX)
            )
        return None


def peer_server(app: PeerApp) -> uvicorn.Server:
    """The server of the peer port; `serve` it on sockets that are bound already."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=BoundedHttpProtocol,
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=1,
        )
    )


async def _answer(send: Send, refusal: Refusal | None) -> None:
    if refusal is None:
        await _send(send, 200, b"{}")
    else:
        await _send(send, refusal.status, _error_body(refusal))


def _error_body(refusal: Refusal) -> bytes:
    return msgspec.json.encode(ErrorBody(refusal))


async def _send(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
