"""Which Readies are still on their way to the disk, and what each one proves when it arrives.

A write may complete after the log it wrote was truncated and grown again (the ABA hazard of
asynchronous storage). So a truncation lowers what every outstanding write may attest; a completed
write then proves exactly the prefix that is still in the log.
"""

from collections import deque

from balsadb.raft.messages import Message
from balsadb.types import LogIndex, Term


class _Write:
    __slots__ = ("last_index", "number", "self_messages", "term")

    def __init__(
        self, number: int, term: Term, last_index: LogIndex, self_messages: list[Message]
    ) -> None:
        self.number = number
        self.term = term
        self.last_index = last_index
        self.self_messages = self_messages


class Writes:
    """Outstanding Readies, oldest first."""

    def __init__(self, durable_term: Term) -> None:
        self.durable_term = durable_term
        """The newest term that a restart would find again, with the vote cast in it."""
        self._outstanding: deque[_Write] = deque()

    def begin(
        self, number: int, term: Term, last_index: LogIndex, self_messages: list[Message]
    ) -> None:
        """Ready `number` goes to the disk. `last_index`: its last entry, or 0 without entries.
        `self_messages`: what this node tells itself once the Ready is durable (its own vote)."""
        self._outstanding.append(_Write(number, term, last_index, self_messages))

    def truncate(self, index: LogIndex) -> None:
        """The log was cut from `index` on: no outstanding write proves anything from there."""
        for write in self._outstanding:
            write.last_index = min(write.last_index, LogIndex(index - 1))

    def complete(self, number: int) -> tuple[LogIndex, list[Message]]:
        """All Readies up to `number` are durable: the highest index they prove (0: none), and what
        this node may now tell itself."""
        proven = LogIndex(0)
        messages: list[Message] = []
        while self._outstanding and self._outstanding[0].number <= number:
            write = self._outstanding.popleft()
            self.durable_term = max(self.durable_term, write.term)
            proven = max(proven, write.last_index)
            messages.extend(write.self_messages)
        return proven, messages
