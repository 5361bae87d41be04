"""Sequential models: what an operation may answer, and what it leaves."""

import math
import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from tests.linearizability.checker import UNKNOWN, Operation, Violation, by_key, check


class Ask(NamedTuple):
    """A request to a register: "read", "write" (`value`), "cas" (`value` if it is `expected`)."""

    kind: str
    key: Any = None
    value: Any = None
    expected: Any = None


class Register:
    """Registers by key, each None at first. A read gives the value; a write, anything; a
    compare-and-set, whether it was done."""

    def init(self) -> Any:
        """Nothing was written."""
        return None

    def step(self, state: Any, request: Ask, result: Any) -> tuple[bool, Any]:
        """See the class."""
        if request.kind == "read":
            return result is UNKNOWN or result == state, state
        if request.kind == "write":
            return True, request.value
        done = state == request.expected
        return result is UNKNOWN or result == done, request.value if done else state

    def partition(self, history: Sequence[Operation]) -> Iterable[Sequence[Operation]]:
        """By key."""
        return by_key(history, lambda operation: operation.request.key)


class Points(NamedTuple):
    """A request to a collection of points: "upsert" (`version` of point `key`), "insert" (only if
    it is not there) and "update" (only if it is), "delete", "retrieve"; "count" and "search" are of
    all points of the `collection`, `key` None."""

    kind: str
    key: Any = None
    version: Any = None
    collection: Any = None


class Collection:
    """Points with versions. The state is the set of (key, version), so that operations on all
    points can be checked with those on one.

    Results: of a retrieve the version or None; of a count the number; of a search the set of (key,
    version) that is visible to it; of a write nothing that could be wrong.
    """

    def init(self) -> frozenset[tuple[Any, Any]]:
        """Empty."""
        return frozenset()

    def step(
        self, state: frozenset[tuple[Any, Any]], request: Points, result: Any
    ) -> tuple[bool, frozenset[tuple[Any, Any]]]:
        """See the class."""
        kind = request.kind
        if kind in ("count", "search"):
            right = len(state) if kind == "count" else state
            return result is UNKNOWN or result == right, state
        held = next((version for key, version in state if key == request.key), None)
        if kind == "retrieve":
            return result is UNKNOWN or result == held, state
        writes = {"upsert": True, "insert": held is None, "update": held is not None}
        rest = frozenset(pair for pair in state if pair[0] != request.key)
        if kind == "delete":
            return True, rest
        return True, rest | {(request.key, request.version)} if writes[kind] else state

    def partition(self, history: Sequence[Operation]) -> Iterable[Sequence[Operation]]:
        """By collection, and by key where no operation is of all points."""
        for part in by_key(history, lambda operation: operation.request.collection):
            if any(operation.request.key is None for operation in part):
                yield part
            else:
                yield from by_key(part, lambda operation: operation.request.key)


def check_recorded(history: Sequence[Operation], *, seconds: float = math.inf) -> Violation | None:
    """What `check` says of a history of registers (`Ask`) and of collections (`Points`), which know
    nothing of one another."""
    deadline = time.monotonic() + seconds
    for model, kind in ((Register(), Ask), (Collection(), Points)):
        part = [operation for operation in history if isinstance(operation.request, kind)]
        violation = check(model, part, seconds=deadline - time.monotonic())
        if violation is not None:
            return violation
    return None
