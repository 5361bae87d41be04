"""Uvicorn's HTTP protocol with a bound on what it gathers before the application sees a request.

Neither Uvicorn nor its parser bounds the request line, the headers or the trailers; they would
gather them, from anyone, until memory ends. Used by the REST port and the peer port.
"""

from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES_MAX = 65_536
"""Bytes of a request line and its headers, and of what follows a chunked body; over it, 431."""

BODY_IS_HERE = "balsadb.body_is_here"
"""Key of the ASGI scope, set when the whole body has arrived: whoever reads it then waits for
nothing and needs no timer, which would cost 10 us."""

_TEXT = f"The request line and its headers must be at most {HEAD_BYTES_MAX} bytes.".encode()
_REFUSAL = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-type: text/plain; charset=utf-8\r\n"
    b"content-length: %d\r\n"
    b"connection: close\r\n"
    b"\r\n" % len(_TEXT)
) + _TEXT


class _HeadTooLarge(Exception):
    """Stops the parser."""


class BoundedHttpProtocol(HttpToolsProtocol):
    """One connection. A head over `HEAD_BYTES_MAX` is answered with 431 and the connection closed.

    A complete head is measured exactly. An incomplete one by the bytes received since the parser
    last handed on a head, a piece of body or an end of a request: what arrived in the same read
    before that is not the head's, what came behind it in that read (256 KB or less) is not counted.
    """

    _gathered_bytes = 0
    _is_over = False

    def data_received(self, data: bytes) -> None:
        """Bytes of the connection, in order."""
        self._gathered_bytes += len(data)
        super().data_received(data)
        if self._gathered_bytes > HEAD_BYTES_MAX and not self.transport.is_closing():
            self._refuse()

    def on_headers_complete(self) -> None:
        """The parser has a head."""
        head_bytes = len(self.url)
        for name, value in self.headers:
            head_bytes += len(name) + len(value) + 4
        if head_bytes > HEAD_BYTES_MAX:
            self._is_over = True
            raise _HeadTooLarge
        self._gathered_bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """The parser has a piece of a body."""
        self._gathered_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The parser has the end of a request."""
        self._gathered_bytes = 0
        cast("dict[str, Any]", self.scope)[BODY_IS_HERE] = True
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """The parser gave up: on bytes that are no HTTP, or because we told it to."""
        if self._is_over:
            self._refuse()
        else:
            super().send_400_response(msg)

    def _refuse(self) -> None:
        # Between the bytes of an answer under way, a second one would be taken for a part of it.
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(_REFUSAL)
        self.transport.close()
