"""How much a node takes on at a time: requests, and bytes of bodies. Over it, 429.

A refusal here comes before the body is read and long before the log, so it is certain that nothing
happened; the dialect's clients wait as long as `Retry-After` says and send again.
"""

from balsadb.api.limits import BODIES_BYTES_MAX, BODY_BYTES_MAX, REQUESTS_MAX
from balsadb.errors import Overloaded

RETRY_AFTER_S = 1


class Admission:
    """Counts what is being worked on; belongs to one event loop."""

    def __init__(self) -> None:
        self.requests = 0
        self.body_bytes = 0

    def enter(self, body_bytes: int) -> None:
        """Take a request on; `Overloaded` if that is too many, or its body too much."""
        if self.requests >= REQUESTS_MAX:
            raise Overloaded(f"{REQUESTS_MAX} requests are being worked on", RETRY_AFTER_S)
        if self.body_bytes + body_bytes > BODIES_BYTES_MAX:
            raise Overloaded(
                f"bodies of {self.body_bytes} bytes are being worked on, at most "
                f"{BODIES_BYTES_MAX}",
                RETRY_AFTER_S,
            )
        self.requests += 1
        self.body_bytes += body_bytes

    def leave(self, body_bytes: int) -> None:
        """The request is answered."""
        self.requests -= 1
        self.body_bytes -= body_bytes


def announced_bytes(content_length: str | None, transfer_encoding: str | None) -> int:
    """What a body may come to hold: the announced length, or the maximum if none is announced."""
    if content_length is not None and content_length.isdigit():
        return min(int(content_length), BODY_BYTES_MAX)
    return 0 if transfer_encoding is None else BODY_BYTES_MAX
