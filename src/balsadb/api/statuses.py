"""Error code <-> HTTP status, in one table.

The dialect's clients match on some of these texts and statuses, so the prefix is part of the
contract: `Not found: Collection `x` doesn't exist!`, `Wrong input: ...`, and "already exists" with
409. A retryable state is 503; only back-pressure is 429, because clients sleep on it.
"""

from typing import NamedTuple


class WireError(NamedTuple):
    """How one error code looks on the wire: `status`, and the `prefix` before the message."""

    status: int
    prefix: str


STATUSES: dict[str, WireError] = {
    "internal": WireError(500, "Service internal error: "),
    "invalid_input": WireError(400, "Wrong input: "),
    "malformed_body": WireError(400, "Format error in body: "),
    "limit_exceeded": WireError(422, "Validation error in request: "),
    "body_too_large": WireError(413, "Wrong input: "),
    "body_too_slow": WireError(408, "Request timeout: "),
    "damaged_file": WireError(400, "Wrong input: "),
    "not_found": WireError(404, "Not found: "),
    "not_supported": WireError(404, "Not found: "),
    "already_exists": WireError(409, "Wrong input: "),
    "collection_replaced": WireError(409, "Conflict: "),
    "session_expired": WireError(409, "Conflict: "),
    "unauthorized": WireError(401, ""),
    "unavailable": WireError(503, "Service unavailable: "),
    "not_leader": WireError(503, "Service unavailable: "),
    "quorum_lost": WireError(503, "Service unavailable: "),
    "overloaded": WireError(429, "Too many requests: "),
    "disk_full": WireError(503, "Service unavailable: "),
    "not_ready": WireError(503, "Service unavailable: "),
    "outcome_unknown": WireError(503, "Service unavailable: "),
    "storage": WireError(500, "Service internal error: "),
    "data_dir_in_use": WireError(500, "Service internal error: "),
    "foreign_data_dir": WireError(500, "Service internal error: "),
    "newer_format": WireError(500, "Service internal error: "),
    "emptied_disk": WireError(500, "Service internal error: "),
    "corruption": WireError(500, "Service internal error: "),
    "disk_failed": WireError(500, "Service internal error: "),
    "method_not_allowed": WireError(405, ""),
}
"""Every `code` of `balsadb.errors`, and `method_not_allowed`, which only the wire knows."""


def wire_error(code: str) -> WireError:
    """The line of `code`; an unknown code counts as internal."""
    return STATUSES.get(code, STATUSES["internal"])


def code_of_status(status: int) -> str:
    """The most general code of an HTTP status: what a client falls back to when the body does not
    carry one (a proxy answered)."""
    general = {
        400: "invalid_input",
        401: "unauthorized",
        403: "unauthorized",
        404: "not_found",
        405: "method_not_allowed",
        408: "body_too_slow",
        409: "already_exists",
        413: "body_too_large",
        422: "limit_exceeded",
        429: "overloaded",
        503: "unavailable",
    }
    return general.get(status, "internal")
