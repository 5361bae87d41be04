"""Who waits for what the driver will answer: tokens on one side, futures on the other."""

import itertools
from concurrent.futures import Future
from typing import NamedTuple

from balsadb.cluster.effects import Answer, Failed
from balsadb.errors import BalsaError


class Waiter(NamedTuple):
    """Who waits for a token, and what it means that the node stops before there is an answer: a
    proposal is in the log already, so its outcome is unknown; a read has failed."""

    future: Future[Answer]
    at_stop: type[BalsaError]


class Waiters:
    """All of them, by token; used on the shell's loop. The driver bounds their number."""

    def __init__(self) -> None:
        self._waiting: dict[int, Waiter] = {}
        self._numbers = itertools.count(1)

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def add(self, waiter: Waiter) -> int:
        """A fresh token for it."""
        token = next(self._numbers)
        self._waiting[token] = waiter
        return token

    def settle(self, token: int, answer: Answer) -> None:
        """Pass the answer on."""
        waiter = self._waiting.pop(token, None)
        if waiter is not None:
            waiter.future.set_result(answer)

    def stop(self) -> None:
        """The node stops: nothing will be answered any more."""
        for waiter in self._waiting.values():
            waiter.future.set_result(Failed(waiter.at_stop("the node is shutting down")))
        self._waiting.clear()
