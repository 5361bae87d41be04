"""A call on its way: its tries, its pauses, its deadline and its session. No I/O, no clock.

Both clients drive an `Exchange` in the same loop: `request` gives what to send, `result` reads the
answer or raises, `pause_s` says how long to wait before the next try or raises for good.
"""

import random
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Generic, NamedTuple, Protocol, TypeVar
from urllib.parse import urlencode

import msgspec

from balsadb.api.codec import encode
from balsadb.api.options import API_KEY_HEADER, Session, session_headers
from balsadb.client.failures import UnexpectedAnswer, error_of
from balsadb.client.requests import Call
from balsadb.errors import BalsaError, InvalidInput, Overloaded

T = TypeVar("T")

PAUSE_FIRST_S = 0.05
DOUBLINGS_MAX = 32
"""Of the first pause: past every deadline by far, and short of what a float can hold."""
GRACE_S = 1.0
"""How much longer than the node's own time-out the client listens, to hear what it has to say."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How calls are made.

    `timeout_s` bounds a whole call; `tries_max` counts all tries but those answered 429, between
    which at most `pause_max_s` pass; `local` reads the asked node's state as it is; `wait` False
    answers writes at commit.
    """

    api_key: str = ""
    timeout_s: float = 30.0
    tries_max: int = 5
    pause_max_s: float = 2.0
    local: bool = False
    wait: bool = True
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        if not 0 < self.timeout_s <= 3600:
            raise InvalidInput("timeout_s", "must be over 0 and at most 3600 seconds")
        if self.tries_max < 1:
            raise InvalidInput("tries_max", "must be 1 or larger")

    def but(self, changes: Mapping[str, object]) -> "Options":
        """These options with some changed; `InvalidInput` for an unknown name."""
        try:
            return replace(self, **changes)  # pyright: ignore[reportArgumentType]
        except TypeError:
            unknown = sorted(set(changes) - set(self.__dataclass_fields__))
            raise InvalidInput(", ".join(unknown), "is not an option") from None


class WireRequest(NamedTuple):
    """One HTTP request without its address; `timeout_s` is how long to wait for the answer."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    timeout_s: float
    changes: bool


class WireAnswer(NamedTuple):
    """One HTTP answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport(Protocol):
    """Carries one request and brings its answer. Raises `Unavailable` when nobody answered, and
    `OutcomeUnknown` when a write was sent and its answer did not come."""

    def send(self, request: WireRequest) -> WireAnswer:
        """Send and wait for the answer."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


class AsyncTransport(Protocol):
    """`Transport` for an event loop."""

    async def send(self, request: WireRequest) -> WireAnswer:
        """Send and wait for the answer."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


class Sessions:
    """Hands out sessions to writes: each one in flight has one for itself, so that a node needs to
    remember only the last write of each. Appending to a list is atomic, so threads may share it."""

    def __init__(self) -> None:
        self._idle: list[Session] = []

    def take(self) -> Session:
        """A session with a sequence that it has not used."""
        try:
            last = self._idle.pop()
        except IndexError:
            return Session(uuid.uuid4().bytes, 1)
        return Session(last.session, last.sequence + 1)

    def give_back(self, session: Session) -> None:
        """The write has ended, and its outcome is known."""
        self._idle.append(session)


class _Envelope(msgspec.Struct, Generic[T]):
    result: T


class Exchange(Generic[T]):
    """The tries of one call. Times are seconds of any one monotonic clock."""

    def __init__(
        self, call: Call[T], options: Options, session: Session | None, now: float
    ) -> None:
        self._call = call
        self._options = options
        self._deadline = now + options.timeout_s
        self._tries = 0
        self._outcome_unknown = False
        self._body = b"" if call.body is None else encode(call.body, call.format)
        self._headers = {"accept": "application/json", **options.headers}
        if call.body is not None:
            self._headers["content-type"] = call.format.value
        if options.api_key:
            self._headers[API_KEY_HEADER] = options.api_key
        if session is not None:
            self._headers.update(session_headers(session))

    def request(self, now: float) -> WireRequest:
        """What to send for the next try."""
        self._tries += 1
        left_s = max(0.0, self._deadline - now)
        query = {"timeout": str(max(1, int(left_s)))}
        if self._call.is_write:
            query["wait"] = "true" if self._options.wait else "false"
        elif self._options.local:
            query["consistency"] = "local"
        return WireRequest(
            self._call.method,
            self._call.path,
            urlencode(query),
            self._headers,
            self._body,
            left_s + GRACE_S,
            self._call.changes,
        )

    def result(self, answer: WireAnswer) -> T:
        """What the answer holds; raises the error that it stands for."""
        if answer.status >= 300:
            raise error_of(answer.status, answer.headers, answer.body, is_write=self._call.changes)
        try:
            envelope = msgspec.json.decode(answer.body, type=_Envelope[self._call.result])
        except msgspec.DecodeError as error:
            raise UnexpectedAnswer(
                f"{self._call.path} answered what no node does: {error}"
            ) from None
        return self._call.pick(envelope.result)

    def pause_s(self, error: BalsaError, now: float) -> float:
        """Seconds until the next try; raises `error` if there is to be none.

        Jitter spreads clients that failed together: half of an exponential pause, and up to as much
        again by chance.
        """
        self._outcome_unknown |= error.outcome == "unknown"
        if isinstance(error, Overloaded):
            self._tries -= 1
            pause_s = float(error.retry_after_s) + random.uniform(0, PAUSE_FIRST_S)
        else:
            doublings = min(self._tries - 1, DOUBLINGS_MAX)
            pause_s = min(self._options.pause_max_s, PAUSE_FIRST_S * 2**doublings)
            pause_s = pause_s / 2 + random.uniform(0, pause_s / 2)
        over = self._tries >= self._options.tries_max or now + pause_s >= self._deadline
        if over or not error.retryable:
            if self._outcome_unknown:
                vars(error)["outcome"] = "unknown"
            raise error
        return pause_s

    @property
    def outcome_unknown(self) -> bool:
        """Whether a try may still take effect: then its session is not used again."""
        return self._outcome_unknown
