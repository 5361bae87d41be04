"""What was done to a world, step by step; and the same done again, or some of it.

Whoever breaks or changes things (an *actor*) first chooses, with all the chance that takes, then
acts. Between the two it asks the script. A script that records keeps the choice, and how the
actor's chance stands after it. A script that replays gives the choice of an earlier run, at the
time of that run, and puts chance where it stood: so all the steps together are that run again, and
some of them are as near to it as can be.
"""

import random
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

Choice = tuple[str, tuple[Any, ...] | None]
"""What to do and with what; None: nothing can be done."""


class Step(NamedTuple):
    """One choice of an actor. `chance`: the state of its chance after it chose."""

    at: int
    actor: str
    name: str
    arguments: tuple[Any, ...] | None
    chance: Any

    def __str__(self) -> str:
        words = ", ".join(map(str, self.arguments or ()))
        return f"{self.at / 1e6:9.3f} s  {self.name}{f': {words}' if words else ''}"


class Script:
    """Records; or replays `steps`, and of them does those numbered in `keep` (None: all).

    `variant` 0 puts chance where it stood at each step; others leave it where it is.
    """

    def __init__(
        self,
        steps: Sequence[Step] = (),
        keep: Collection[int] | None = None,
        variant: int = 0,
    ) -> None:
        self.steps: list[Step] = []
        self._replays = bool(steps)
        self._keep = frozenset(range(len(steps)) if keep is None else keep)
        self._variant = variant
        self._next: dict[str, deque[tuple[int, Step]]] = {}
        for number, step in enumerate(steps):
            self._next.setdefault(step.actor, deque()).append((number, step))

    def choose(
        self, actor: str, now: int, chance: random.Random, choice: Callable[[], Choice]
    ) -> Choice:
        """The actor's next step: its own choice, or that of the run before."""
        if not self._replays:
            name, arguments = choice()
            self.steps.append(Step(now, actor, name, arguments, chance.getstate()))
            return name, arguments
        coming = self._next.get(actor)
        if not coming:
            return "nothing", None
        number, step = coming.popleft()
        if self._variant == 0:
            chance.setstate(step.chance)
        return step.name, step.arguments if number in self._keep else None

    def delay(self, actor: str, now: int, drawn: int) -> int:
        """How long the actor waits: what it drew, or as long as in the run before."""
        coming = self._next.get(actor)
        return max(coming[0][1].at - now, 0) if coming else drawn
