"""Clients that send slowly, or without end, harm nobody but themselves."""

import contextlib
import itertools
import json
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from balsadb.cluster.http_limits import HEAD_BYTES_MAX
from tests.conformance.conftest import Rest

QUERY = "/collections/films/points/query"
HEAD = f"POST {QUERY}?timeout=%d HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"
SENT_BYTES_MAX = 8 << 20
"""More than the sockets' own buffers hold: a server that never refuses lets it all pass."""


def connect(rest: Rest) -> socket.socket:
    address = urlsplit(rest.server.url)
    return socket.create_connection((address.hostname, address.port), timeout=20)


def everything(connection: socket.socket) -> bytes:
    """What the node sends until it closes the connection."""
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(1 << 16):
            found += piece
    return found


@pytest.fixture(autouse=True)
def films(rest: Rest) -> Iterator[None]:
    rest.fresh()
    yield
    assert rest.ok("POST", QUERY, {"limit": 1}) == {"points": []}


def test_idle_bodies_keep_nobody_out(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("balsadb.server.admission.REQUESTS_MAX", 4)
    with contextlib.ExitStack() as held:
        for announced in [100] * 12 + [31 << 20] * 12:
            idle = held.enter_context(connect(rest))
            idle.sendall((HEAD % (600, announced)).encode() + b"{")
        for _ in range(20):
            rest.ok("POST", QUERY, {"limit": 1})
            rest.ok("GET", "/collections")


def test_large_bodies_that_stay_unfinished_keep_no_search_out(
    rest: Rest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("balsadb.server.admission.ARRIVING_BYTES_MAX", 1 << 20)
    with contextlib.ExitStack() as held:
        idle = [held.enter_context(connect(rest)) for _ in range(2)]
        for connection in idle:
            connection.sendall((HEAD % (600, 4 << 20)).encode() + bytes(3 << 19))
        # At least the second of them is too much.
        answers = []
        for connection in idle:
            connection.settimeout(2)
            with contextlib.suppress(TimeoutError):
                answers.append(connection.recv(12))
        assert answers
        assert set(answers) == {b"HTTP/1.1 429"}
        rest.ok("POST", QUERY, {"limit": 1})


def test_a_body_that_does_not_come_is_answered_and_closed(rest: Rest) -> None:
    with connect(rest) as idle:
        idle.sendall((HEAD % (1, 100)).encode() + b"{")
        head, _, content = everything(idle).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in head.lower()
    status = json.loads(content)["status"]
    assert (status["code"], status["outcome"], status["field"]) == (
        "body_too_slow",
        "failed",
        "body",
    )
    assert status["request_id"].encode() in head


FOREVER = {
    "headers": (b"GET / HTTP/1.1\r\n", b"a: " + b"b" * 1000 + b"\r\n"),
    "short headers": (b"GET / HTTP/1.1\r\n", b"a:\r\n" * 1000),
    "value": (b"GET / HTTP/1.1\r\na: ", b"b" * 1000),
    "name": (b"GET / HTTP/1.1\r\n", b"a" * 1000),
    "path": (b"GET /", b"a" * 1000),
    "second request": (b"GET /livez HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\na: ", b"b" * 1000),
    "trailers": (
        (HEAD % (600, 0)).replace("content-length: 0", "transfer-encoding: chunked").encode()
        + b"1\r\n{\r\n0\r\n",
        b"a: " + b"b" * 1000 + b"\r\n",
    ),
}


def send_forever(connection: socket.socket, start: bytes, again: bytes) -> tuple[bytes, int]:
    """Send until the node closes or `SENT_BYTES_MAX`; what it answered, and the bytes sent."""
    connection.sendall(start)
    sent = len(start)
    with contextlib.suppress(ConnectionError):
        for _ in itertools.count():
            if sent > SENT_BYTES_MAX:
                return b"", sent
            connection.sendall(again)
            sent += len(again)
    found = b""
    with contextlib.suppress(ConnectionError):
        found = everything(connection)
    return found, sent


@pytest.mark.parametrize(("start", "again"), FOREVER.values(), ids=FOREVER)
def test_a_head_without_end_is_cut_off(rest: Rest, start: bytes, again: bytes) -> None:
    with connect(rest) as connection:
        _, sent = send_forever(connection, start, again)
    assert sent < SENT_BYTES_MAX


def test_a_head_over_the_maximum_is_answered(rest: Rest) -> None:
    within = b"GET /livez HTTP/1.1\r\nhost: x\r\na: " + b"b" * (HEAD_BYTES_MAX - 200)
    with connect(rest) as connection:
        connection.sendall(within + b"\r\nconnection: close\r\n\r\n")
        assert everything(connection).startswith(b"HTTP/1.1 200 ")
    with connect(rest) as connection:
        connection.sendall(within + b"b" * 400)
        assert connection.recv(1000).startswith(b"HTTP/1.1 431 ")
    with connect(rest) as connection:
        connection.sendall(within + b"b" * 400 + b"\r\n\r\n")
        answer = everything(connection)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert str(HEAD_BYTES_MAX).encode() in answer


def test_large_bodies_are_no_heads(rest: Rest) -> None:
    """Whole, in small chunks, and with the next request right behind."""
    body = b'{"limit": 1' + b" " * (4 * HEAD_BYTES_MAX) + b"}"
    one = (HEAD % (60, len(body))).encode() + body
    chunked = (HEAD % (60, 0)).replace("content-length: 0", "transfer-encoding: chunked")
    pieces = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    last = b"GET /livez HTTP/1.1\r\nconnection: close\r\n\r\n"
    with connect(rest) as connection:
        connection.sendall(one + one + chunked.encode() + pieces + last)
        assert everything(connection).count(b"HTTP/1.1 200 ") == 4
