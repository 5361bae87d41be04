"""The first thing every request meets: its id, and whether it may come in.

Plain ASGI, because a middleware that wraps requests and responses in objects and tasks costs more
than a search.
"""

import hmac
import itertools
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

from balsadb.api.options import API_KEY_HEADER, REQUEST_ID_HEADER, header_map, usable_request_id
from balsadb.api.routes import OPEN_PATHS

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

CONTEXT = "balsadb.context"
FORWARDED = "balsadb.forwarded"
"""Keys of the ASGI scope. A server fills a scope from the connection; only code of this process
can add these."""


class Context(msgspec.Struct):
    """What the gate found out about a request. Header names are lower case."""

    request_id: str
    headers: dict[str, str]
    forwarded: bool


class Gate:
    """ASGI middleware: names the request, checks the API key, adds the request id to the answer."""

    def __init__(self, app: App, api_key: str) -> None:
        self._app = app
        self._key = api_key.encode()
        self._prefix = os.urandom(4).hex()
        self._numbers = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or answer 401."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = header_map(scope["headers"])
        forwarded = scope.get(FORWARDED) is True
        given = usable_request_id(headers.get(REQUEST_ID_HEADER))
        request_id = given or f"{self._prefix}-{next(self._numbers)}"
        scope[CONTEXT] = Context(request_id, headers, forwarded)
        named = (b"balsa-request-id", request_id.encode())

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), named]
            await send(message)

        if self._key and not forwarded and not self._admits(scope["path"], headers):
            await send_text(
                send_named, 401, "Must provide an API key or an Authorization bearer token"
            )
            return
        await self._app(scope, receive, send_named)

    def _admits(self, path: str, headers: dict[str, str]) -> bool:
        """Whether the path is open or the request carries the key. Takes the same time for any
        wrong key of the same length."""
        if path in OPEN_PATHS:
            return True
        key = headers.get(API_KEY_HEADER)
        if key is None:
            scheme, _, key = headers.get("authorization", "").partition(" ")
            if scheme.lower() != "bearer":
                return False
        return hmac.compare_digest(key.strip().encode(), self._key)


async def send_text(send: Send, status: int, text: str, media: str = "text/plain") -> None:
    """Answer with a text."""
    content = text.encode()
    extra = [(b"www-authenticate", b"Bearer")] if status == 401 else []
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                (b"content-type", f"{media}; charset=utf-8".encode()),
                (b"content-length", str(len(content)).encode()),
                *extra,
            ],
        }
    )
    await send({"type": "http.response.body", "body": content})
