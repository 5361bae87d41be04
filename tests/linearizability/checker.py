"""The search of Wing & Gong (1993) with Lowe's memory of what was tried (2017).

The calls and returns of a history form a list in order of time. An operation may come next if its
call stands before the first return in the list. The search takes one whose result the model allows
in the present state, takes its call and return out of the list, and goes on; where nothing fits, it
puts the last one back. A set of operations and a state that were reached once need not be tried
again, whatever the order: that is what makes long histories decidable.

An operation whose outcome is unknown has no return: it may take effect at any time after its call,
or never. So the history is linearizable as soon as everything that did return is placed.
"""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Final, NamedTuple, Protocol

UNKNOWN: Final = object()
"""In place of a result that nobody saw: the model must allow whatever it may have been."""


class Operation(NamedTuple):
    """One operation. Times order events and have no unit; `returned` is infinity if the outcome is
    unknown, and then `result` is `UNKNOWN`."""

    process: int
    called: float
    returned: float
    request: Any
    result: Any

    @property
    def is_known(self) -> bool:
        """Whether it returned."""
        return self.returned != math.inf


class Model(Protocol):
    """A sequential machine. States are hashable, equal if no operation can tell them apart."""

    def init(self) -> Hashable:
        """The state before everything."""
        ...

    def step(self, state: Any, request: Any, result: Any) -> tuple[bool, Hashable]:
        """Whether `request` may give `result` in `state`, and the state after it."""
        ...

    def partition(self, history: Sequence[Operation]) -> Iterable[Sequence[Operation]]:
        """Parts that may be checked one by one: no operation of one says anything of another."""
        ...


class Undecided(Exception):
    """The time was up."""


class Violation(NamedTuple):
    """A part of a history with no explanation, and the most of it that has one, in that order."""

    part: Sequence[Operation]
    longest: Sequence[Operation]


def check(
    model: Model, history: Sequence[Operation], *, seconds: float = math.inf
) -> Violation | None:
    """None if the history is linearizable. Undecided if that takes longer than `seconds`."""
    deadline = time.monotonic() + seconds
    for part in model.partition(history):
        longest = _Search(model, part, deadline).run()
        if longest is not None:
            return Violation(part, longest)
    return None


def by_key(
    history: Iterable[Operation], key: Callable[[Operation], Hashable]
) -> list[list[Operation]]:
    """Parts by key, in order of first use."""
    parts: defaultdict[Hashable, list[Operation]] = defaultdict(list)
    for operation in history:
        parts[key(operation)].append(operation)
    return list(parts.values())


class _Event:
    """A call (with its return) or a return, in a doubly linked list."""

    __slots__ = ("after", "before", "number", "returns")

    def __init__(self, number: int) -> None:
        self.number = number
        self.returns: _Event | None = None
        """Of a call: its return. None: this is one."""
        self.before: _Event = self
        self.after: _Event | None = None

    def unlink(self) -> None:
        self.before.after = self.after
        if self.after is not None:
            self.after.before = self.before

    def relink(self) -> None:
        self.before.after = self
        if self.after is not None:
            self.after.before = self


class _Search:
    """Operations that returned are in the list; those that did not, in `_unknown`, in order of
    their calls. They are tried last: most histories need none of them at most places, and the
    fewer are spent, the more may come later. So of two ways to one state by the same known
    operations, one that spent a subset of the other's unknown ones makes the other superfluous."""

    def __init__(self, model: Model, part: Sequence[Operation], deadline: float) -> None:
        self._model = model
        self._part = part
        self._deadline = deadline
        self._head, self._open = _list_of(part)
        numbers = [number for number, one in enumerate(part) if not one.is_known]
        self._unknown = sorted(numbers, key=lambda number: part[number].called)
        self._known_mask = sum(1 << number for number, one in enumerate(part) if one.is_known)
        self._tried: dict[tuple[int, Hashable], list[int]] = {}
        self._taken: list[tuple[_Event | int, Hashable]] = []
        self._placed = 0
        self._state: Hashable = model.init()
        self._longest: list[int] = []

    def run(self) -> list[Operation] | None:
        """None if the part is linearizable, else the longest explanation found."""
        place: _Event | int | None = self._head.after
        steps = 0
        while self._open:
            steps += 1
            if steps % 1024 == 0 and time.monotonic() > self._deadline:
                raise Undecided
            taken, place = self._take_from(place)
            if taken:
                continue
            if len(self._taken) > len(self._longest):
                self._longest = [self._number(call) for call, _ in self._taken]
            if not self._taken:
                return [self._part[number] for number in self._longest]
            place = self._put_last_back()
        return None

    def _take_from(self, place: _Event | int | None) -> tuple[bool, _Event | int | None]:
        """Take the next operation that fits, from a place in the list, or in `_unknown`, on;
        whether there was one. Then the search goes on from the front."""
        while isinstance(place, _Event):
            if place.returns is None:
                break
            if self._fits(place.number):
                self._accept(place)
                place.unlink()
                place.returns.unlink()
                self._open -= 1
                return True, self._head.after
            place = place.after
        first = 0 if not isinstance(place, int) else place
        until = self._part[self._first_return()].returned
        for at in range(first, len(self._unknown)):
            number = self._unknown[at]
            if self._part[number].called > until:
                break
            if not self._placed >> number & 1 and self._fits(number):
                self._accept(at)
                return True, self._head.after
        return False, None

    def _first_return(self) -> int:
        event = self._head.after
        while event is not None and event.returns is not None:
            event = event.after
        assert event is not None
        return event.number

    def _number(self, call: _Event | int) -> int:
        return call.number if isinstance(call, _Event) else self._unknown[call]

    def _fits(self, number: int) -> bool:
        """Whether the operation may come next and leads to where the search has not been; if so,
        `_next` is the state after it."""
        operation = self._part[number]
        fits, self._next = self._model.step(self._state, operation.request, operation.result)
        if not fits:
            return False
        reached = self._placed | 1 << number
        spent = reached & ~self._known_mask
        ways = self._tried.setdefault((reached & self._known_mask, self._next), [])
        if any(way & ~spent == 0 for way in ways):
            return False
        ways.append(spent)
        return True

    def _accept(self, call: _Event | int) -> None:
        self._taken.append((call, self._state))
        self._state = self._next
        self._placed |= 1 << self._number(call)

    def _put_last_back(self) -> _Event | int | None:
        """Undo the last step; the place behind it."""
        call, self._state = self._taken.pop()
        self._placed &= ~(1 << self._number(call))
        if isinstance(call, int):
            return call + 1
        assert call.returns is not None
        call.returns.relink()
        call.relink()
        self._open += 1
        return call.after


def _list_of(part: Sequence[Operation]) -> tuple[_Event, int]:
    """The list of calls and returns of what returned, in order, and how many. Of equal times calls
    come first: operations that touch are concurrent."""
    events: list[tuple[float, int, int, _Event]] = []
    for number, operation in enumerate(part):
        if operation.is_known:
            call, end = _Event(number), _Event(number)
            call.returns = end
            events.append((operation.called, 0, number, call))
            events.append((operation.returned, 1, number, end))
    head = last = _Event(-1)
    for *_, event in sorted(events, key=lambda entry: entry[:3]):
        event.before, last.after = last, event
        last = event
    return head, len(events) // 2
