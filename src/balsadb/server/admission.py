"""How much a node takes on at a time: requests, and bytes of bodies. Over it, 429.

A request takes its place among those worked on only when its body is here: a client that sends
slowly, or not at all, keeps nobody else out. Until then only what has arrived of the body counts,
against a maximum of its own, and a deadline frees it. A refusal comes long before the log, so it is
certain that nothing happened; the dialect's clients wait as long as `Retry-After` says and send
again.
"""

from balsadb.api.limits import (
    ARRIVING_BYTES_FREE,
    ARRIVING_BYTES_MAX,
    BODIES_BYTES_MAX,
    REQUESTS_MAX,
)
from balsadb.errors import Overloaded

RETRY_AFTER_S = 1


class Admission:
    """Counts what is being worked on and what arrives; belongs to one event loop."""

    def __init__(self) -> None:
        self.requests = 0
        self.body_bytes = 0
        self.arriving_bytes = 0

    def check(self) -> None:
        """`Overloaded` if no request could be taken on now. Takes nothing: it spares a full node
        the reading of a body."""
        if self.requests >= REQUESTS_MAX:
            raise Overloaded(f"{REQUESTS_MAX} requests are being worked on", RETRY_AFTER_S)

    def enter(self, body_bytes: int) -> None:
        """Take on a request whose body is here; `Overloaded` if that is too many or too much."""
        self.check()
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

    def arrived(self, counted: int, body_bytes: int) -> int:
        """`body_bytes` are here of a body of which `counted` bytes are counted already; how many
        are now. `Overloaded`, and nothing changed, if all arriving bodies together are too much."""
        due = max(0, body_bytes - ARRIVING_BYTES_FREE)
        if self.arriving_bytes + due - counted > ARRIVING_BYTES_MAX:
            raise Overloaded(
                f"{self.arriving_bytes} bytes of unfinished bodies are held, at most "
                f"{ARRIVING_BYTES_MAX}",
                RETRY_AFTER_S,
            )
        self.arriving_bytes += due - counted
        return due

    def stop_counting(self, counted: int) -> None:
        """The body is whole, or given up."""
        self.arriving_bytes -= counted
