"""Answers that carry an error, as errors of `balsadb.errors`."""

from collections.abc import Iterator, Mapping

import msgspec

from balsadb.api.envelope import ErrorAnswer, ErrorStatus
from balsadb.api.options import REQUEST_ID_HEADER
from balsadb.api.statuses import code_of_status
from balsadb.errors import BalsaError

_TEXT_CHARACTERS_MAX = 500


class UnexpectedAnswer(BalsaError):
    """The answer is none of a node's: another service, or a proxy, listens at the address."""

    code = "unexpected_answer"


def _tree(base: type[BalsaError]) -> Iterator[type[BalsaError]]:
    yield base
    for leaf in base.__subclasses__():
        yield from _tree(leaf)


def classes() -> dict[str, type[BalsaError]]:
    """Code -> the class nearest to the root that has it (leaves may share their parent's code)."""
    found: dict[str, type[BalsaError]] = {}
    for leaf in _tree(BalsaError):
        found.setdefault(leaf.code, leaf)
    return found


def error_of(status: int, headers: Mapping[str, str], body: bytes, *, is_write: bool) -> BalsaError:
    """The error that an answer with `status` stands for. `headers` have lower-case names.

    An answer without our facts (a proxy's 502) gets the most general code of its status; a write
    that met one has an unknown outcome unless the status says that it was refused.
    """
    try:
        facts = msgspec.json.decode(body, type=ErrorAnswer).status
    except msgspec.DecodeError:
        text = body.decode("utf-8", "replace").strip()[:_TEXT_CHARACTERS_MAX]
        facts = ErrorStatus(error=text or f"HTTP status {status}")
    code = facts.code or code_of_status(status)
    kind = classes().get(code, BalsaError)
    refused = 400 <= status < 500 and status != 408
    outcome = facts.outcome or ("unknown" if is_write and not refused else "failed")
    error = kind.__new__(kind)
    BalsaError.__init__(error, facts.message or facts.error)
    vars(error).update(
        code=code,
        outcome=outcome,
        retryable=facts.retryable or kind.retryable or status in {502, 504},
        status_code=status,
        request_id=facts.request_id or headers.get(REQUEST_ID_HEADER, ""),
        field=facts.field,
        rule=facts.rule,
        leader=facts.leader,
        retry_after_s=_retry_after_s(facts, headers),
        name="",
    )
    return error


def _retry_after_s(facts: ErrorStatus, headers: Mapping[str, str]) -> int:
    text = headers.get("retry-after", "")
    return facts.retry_after_s or (int(text) if text.isascii() and text.isdigit() else 1)
