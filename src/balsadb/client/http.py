"""HTTP for the two clients: the only module of the client that knows an HTTP library.

Several addresses are one cluster: the address that answered last is asked first; one that does not
answer is passed over at the next try.
"""

import contextlib
import ipaddress
from collections.abc import Generator, Sequence
from urllib.parse import urlsplit

import httpx2

from balsadb.client.exchange import WireAnswer, WireRequest
from balsadb.errors import InvalidInput, OutcomeUnknown, Unavailable

CONNECT_TIMEOUT_S = 2.0
CONNECTIONS_MAX = 100

_LIMITS = httpx2.Limits(max_connections=CONNECTIONS_MAX, max_keepalive_connections=CONNECTIONS_MAX)
_NOT_SENT = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.UnsupportedProtocol,
)


class Addresses:
    """The base addresses of one cluster, and which is asked next."""

    def __init__(self, urls: str | Sequence[str]) -> None:
        self._urls = [urls] if isinstance(urls, str) else list(urls)
        if not self._urls:
            raise InvalidInput("url", "must be an address or a list of them")
        for url in self._urls:
            parts = urlsplit(url)
            if parts.scheme not in {"http", "https"} or not parts.hostname:
                raise InvalidInput("url", f"must be http://host:port, not {url!r}")
        self._urls = [url.rstrip("/") for url in self._urls]
        self._current = 0

    def url(self, request: WireRequest) -> str:
        """The whole address of a request."""
        base = self._urls[self._current % len(self._urls)]
        return f"{base}{request.path}?{request.query}" if request.query else base + request.path

    def turn(self) -> None:
        """Ask the next address from now on."""
        self._current += 1

    @property
    def are_local(self) -> bool:
        """Whether all are on this machine; then no proxy of the environment is asked."""
        return all(_is_loopback(urlsplit(url).hostname or "") for url in self._urls)


class HttpTransport:
    """Requests over kept-alive connections; may be shared by threads."""

    def __init__(self, urls: str | Sequence[str]) -> None:
        self._addresses = Addresses(urls)
        self._client = httpx2.Client(limits=_LIMITS, trust_env=not self._addresses.are_local)

    def send(self, request: WireRequest) -> WireAnswer:
        """Send and wait for the answer."""
        with _failures(request, self._addresses):
            answer = self._client.request(
                request.method,
                self._addresses.url(request),
                headers=request.headers,
                content=request.body,
                timeout=_timeout(request),
            )
        return _answer(answer, self._addresses)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


class AsyncHttpTransport:
    """`HttpTransport` for an event loop."""

    def __init__(self, urls: str | Sequence[str]) -> None:
        self._addresses = Addresses(urls)
        self._client = httpx2.AsyncClient(limits=_LIMITS, trust_env=not self._addresses.are_local)

    async def send(self, request: WireRequest) -> WireAnswer:
        """Send and wait for the answer."""
        with _failures(request, self._addresses):
            answer = await self._client.request(
                request.method,
                self._addresses.url(request),
                headers=request.headers,
                content=request.body,
                timeout=_timeout(request),
            )
        return _answer(answer, self._addresses)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def _timeout(request: WireRequest) -> httpx2.Timeout:
    connect_s = min(CONNECT_TIMEOUT_S, request.timeout_s)
    return httpx2.Timeout(request.timeout_s, connect=connect_s)


def _answer(answer: httpx2.Response, addresses: Addresses) -> WireAnswer:
    if answer.status_code == httpx2.codes.SERVICE_UNAVAILABLE:
        addresses.turn()  # another node may be on the better side
    headers = {name.lower(): value for name, value in answer.headers.items()}
    return WireAnswer(answer.status_code, headers, answer.content)


@contextlib.contextmanager
def _failures(request: WireRequest, addresses: Addresses) -> Generator[None, None, None]:
    """Failures of the connection, as what they mean for the request."""
    try:
        yield
    except httpx2.HTTPError as error:
        url = addresses.url(request).partition("?")[0]
        text = f"{request.method} {url}: {type(error).__name__}: {error}"
        addresses.turn()
        if request.changes and not isinstance(error, _NOT_SENT):
            raise OutcomeUnknown(text) from error
        raise Unavailable(text) from error


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
