"""The bodies of answers.

    200     {"result": ..., "status": "ok", "time": seconds}
    error   {"status": {"error": text, "code": ..., "outcome": ..., "retryable": ...,
                        "request_id": ..., "field": ..., "rule": ..., ...}, "time": seconds}

The dialect's clients read `status.error` only; the other keys of `status` are ours. `outcome` says
what became of a write: `failed` (certainly not applied) or `unknown` (safe to repeat with the same
session and sequence).
"""

from typing import Any

import msgspec

from balsadb.api.statuses import WireError, wire_error
from balsadb.errors import BalsaError, InvalidInput, NotLeader, Overloaded


class Answer(msgspec.Struct, frozen=True, gc=False):
    """A successful answer. `time` is in seconds."""

    result: Any
    status: str = "ok"
    time: float = 0.0


class ErrorStatus(msgspec.Struct, frozen=True, omit_defaults=True):
    """What went wrong. `error` is the dialect's text, prefix included; `message` is without it."""

    error: str
    code: str = ""
    outcome: str = ""
    retryable: bool = False
    request_id: str = ""
    message: str = ""
    field: str = ""
    rule: str = ""
    leader: int = 0
    retry_after_s: int = 0


class ErrorAnswer(msgspec.Struct, frozen=True):
    """An answer that carries an error; it never has a result."""

    status: ErrorStatus
    time: float = 0.0


class Failure(msgspec.Struct, frozen=True):
    """An error ready for the wire: the HTTP status, the body, and the headers it needs."""

    status: int
    answer: ErrorAnswer
    headers: dict[str, str] = {}


def failure(error: BalsaError, request_id: str = "", time_s: float = 0.0) -> Failure:
    """How `error` is answered."""
    line = wire_error(error.code)
    status = ErrorStatus(
        error=line.prefix + error.message,
        code=error.code,
        outcome=error.outcome,
        retryable=error.retryable,
        request_id=request_id,
        message=error.message,
        field=error.field if isinstance(error, InvalidInput) else "",
        rule=error.rule if isinstance(error, InvalidInput) else "",
        leader=error.leader if isinstance(error, NotLeader) else 0,
        retry_after_s=error.retry_after_s if isinstance(error, Overloaded) else 0,
    )
    return Failure(line.status, ErrorAnswer(status, time_s), _headers(error))


def internal_failure(error: BaseException, request_id: str, outcome: str, time_s: float) -> Failure:
    """How a defect of ours is answered. A write that met one may have been applied (`outcome`)."""
    line: WireError = wire_error("internal")
    text = f"{type(error).__name__} (see the log of this node, request {request_id})"
    status = ErrorStatus(
        error=line.prefix + text,
        code="internal",
        outcome=outcome,
        request_id=request_id,
        message=text,
    )
    return Failure(line.status, ErrorAnswer(status, time_s))


def _headers(error: BalsaError) -> dict[str, str]:
    if isinstance(error, Overloaded):
        return {"Retry-After": str(max(1, int(error.retry_after_s)))}
    if error.code == "unauthorized":
        return {"WWW-Authenticate": "Bearer"}
    return {}
