"""What the query string and the headers of a request say: waiting, time, consistency, session.

Headers of ours
    `Balsa-Session`, `Balsa-Sequence`   a write's identity, chosen by the client: a 128-bit number
        as 32 hexadecimal digits (hyphens allowed) and an increasing unsigned 64-bit integer. A
        repeat of both is applied at most once and gets the first result. Both or neither.
    `Balsa-Request-Id`   in every answer; taken from the request if it has one, else made up.
"""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Literal
from urllib.parse import parse_qsl

import msgspec

from balsadb.api import limits
from balsadb.errors import InvalidInput, LimitExceeded

SESSION_HEADER = "balsa-session"
SEQUENCE_HEADER = "balsa-sequence"
REQUEST_ID_HEADER = "balsa-request-id"
API_KEY_HEADER = "api-key"

U64_MAX = (1 << 64) - 1
_SESSION = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_REQUEST_ID = re.compile(r"[!-~]{1,128}")
_STRONG = frozenset({"linearizable", "majority", "quorum", "all"})
_KNOWN = ("wait", "timeout", "consistency", "ordering")
_ORDERINGS = frozenset({"weak", "medium", "strong"})


class Session(msgspec.Struct, frozen=True):
    """A client's write: `session` are 16 bytes, `sequence` counts its writes."""

    session: bytes
    sequence: int


class Options(msgspec.Struct, frozen=True):
    """The parsed query string and headers of one request.

    `timeout_s` None means the node's default. `local` asks for this node's state as it is.
    """

    wait: bool = False
    timeout_s: float | None = None
    local: bool = False
    session: Session | None = None


DEFAULT_OPTIONS = Options()


def parse_options(query: str, session: str | None, sequence: str | None) -> Options:
    """Options of a request from its raw query string and its two session headers.

    Unknown parameters are ignored; `ordering` is accepted and has no effect, since the log orders
    all writes. Raises `InvalidInput` naming the parameter or header.
    """
    if session is None and sequence is None:
        return _plain_options(query) if query else DEFAULT_OPTIONS
    return msgspec.structs.replace(_plain_options(query), session=parse_session(session, sequence))


def require_known(query: str) -> None:
    """InvalidInput for a parameter that says nothing here. Only where nobody's dialect has others
    and a misunderstanding is dear: `?force=true` beside a body without it."""
    for name, _ in parse_qsl(query, keep_blank_values=True):
        if name not in _KNOWN:
            raise InvalidInput(
                name, "is no parameter of the query string here; what a call asks for is its body"
            )


@lru_cache(maxsize=1024)
def _plain_options(query: str) -> Options:
    """Options of a query string. Cached: clients send the same few over and over, and taking one
    apart costs as much as the rest of a request's decoding."""
    values = dict(parse_qsl(query, keep_blank_values=True))
    ordering = values.get("ordering")
    if ordering is not None and ordering not in _ORDERINGS:
        raise InvalidInput("ordering", "must be weak, medium or strong")
    return Options(
        wait=_boolean(values, "wait"),
        timeout_s=_timeout(values),
        local=is_local(values.get("consistency")),
    )


def is_local(consistency: str | None) -> bool:
    """Whether a `consistency` parameter asks for a read of this node's state as it is.

    `1` and `local` do. Absent, `majority`, `quorum`, `all`, `linearizable` and other counts mean
    the one other guarantee there is: linearizable.
    """
    if consistency is None or consistency in _STRONG:
        return False
    if consistency == "local":
        return True
    if consistency.isascii() and consistency.isdigit() and int(consistency) > 0:
        return int(consistency) == 1
    raise InvalidInput(
        "consistency",
        "must be a positive number, local, majority, quorum, all or linearizable",
    )


def parse_session(session: str | None, sequence: str | None) -> Session | None:
    """The write's identity that the two headers carry, None if there are none."""
    if session is None and sequence is None:
        return None
    if session is None or not _SESSION.fullmatch(session):
        raise InvalidInput("Balsa-Session", "must be 32 hexadecimal digits, with Balsa-Sequence")
    if sequence is None or not (sequence.isascii() and sequence.isdigit()):
        raise InvalidInput("Balsa-Sequence", "must be an unsigned integer, with Balsa-Session")
    if len(sequence) > 20 or int(sequence) > U64_MAX:
        raise InvalidInput("Balsa-Sequence", "must be below 2^64")
    return Session(bytes.fromhex(session.replace("-", "")), int(sequence))


def session_headers(session: Session) -> dict[str, str]:
    """The headers that carry `session`: the inverse of `parse_session`."""
    return {SESSION_HEADER: session.session.hex(), SEQUENCE_HEADER: str(session.sequence)}


def usable_request_id(value: str | None) -> str | None:
    """A client's request id if it is printable ASCII of at most 128 characters, else None."""
    return value if value is not None and _REQUEST_ID.fullmatch(value) else None


def header_map(pairs: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers as a dictionary with lower-case names; the last of a repeated name wins."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in pairs}


def _boolean(values: Mapping[str, str], name: Literal["wait"]) -> bool:
    value = values.get(name)
    if value is None or value == "false":
        return False
    if value == "true":
        return True
    raise InvalidInput(name, "must be true or false")


def _timeout(values: Mapping[str, str]) -> float | None:
    value = values.get("timeout")
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and int(value[:10]) >= 1):
        raise InvalidInput("timeout", "must be a whole number of seconds, at least 1")
    if len(value) > 10 or int(value) > limits.TIMEOUT_S_MAX:
        raise LimitExceeded("timeout", f"must be at most {limits.TIMEOUT_S_MAX} seconds")
    return float(value)
