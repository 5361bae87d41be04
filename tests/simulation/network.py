"""A network that loses, delays, repeats, reorders, holds, cuts, for each ordered pair of nodes."""

import random
from collections import Counter
from collections.abc import Callable


class Network:
    """Decides the fate of each frame. Times in microseconds."""

    def __init__(
        self, rng: random.Random, schedule: Callable[..., None], deliver: Callable[..., None]
    ) -> None:
        self._rng = rng
        self._schedule = schedule
        self._deliver = deliver
        self._cut: set[tuple[int, int]] = set()
        self._clogged: dict[tuple[int, int], list[tuple[bytes, int]]] = {}
        self.loss = 0.0
        self.repeat = 0.0
        self.delay_us = 1000
        self.sent = 0
        self.faults: Counter[str] = Counter()
        """What befell frames, by kind."""
        self._latest: dict[tuple[int, int], int] = {}

    def send(self, source: int, target: int, data: bytes) -> None:
        """Maybe deliver, later, perhaps twice, in no order."""
        self.sent += 1
        rng = self._rng
        if (source, target) in self._cut:
            self.faults["frame cut off"] += 1
            return
        if self.loss and rng.random() < self.loss:
            self.faults["frame lost"] += 1
            return
        delay = 100 + int(rng.random() * 2 * self.delay_us)
        self._schedule(delay, self._arrive, source, target, data, self.sent)
        if self.repeat and rng.random() < self.repeat:
            self.faults["frame repeated"] += 1
            delay += int(rng.random() * 50_000)
            self._schedule(delay, self._arrive, source, target, data, self.sent)

    def cut(self, source: int, target: int) -> None:
        """Nothing goes from source to target any more, what is under way included."""
        self._cut.add((source, target))

    def split(self, side: set[int], other: set[int]) -> None:
        """Cut both ways between two sets."""
        for one in sorted(side):
            for two in sorted(other):
                self.cut(one, two)
                self.cut(two, one)

    def clog(self, source: int, target: int) -> None:
        """What goes from source to target is held from now on."""
        self._clogged.setdefault((source, target), [])

    def unclog(self, source: int, target: int) -> None:
        """What was held arrives, all at once."""
        for data, number in self._clogged.pop((source, target), []):
            self._schedule(0, self._arrive, source, target, data, number)

    def heal(self) -> None:
        """No cuts."""
        self._cut.clear()

    def perfect(self) -> None:
        """No cuts, losses or repeats; short delays."""
        self.heal()
        for source, target in list(self._clogged):
            self.unclog(source, target)
        self.loss = self.repeat = 0.0
        self.delay_us = 500

    def _arrive(self, source: int, target: int, data: bytes, number: int) -> None:
        link = source, target
        if link in self._cut:
            self.faults["frame cut off"] += 1
            return
        held = self._clogged.get(link)
        if held is not None:
            self.faults["frame held"] += 1
            held.append((data, number))
            return
        if number < self._latest.get(link, 0):
            self.faults["frame overtaken"] += 1
        else:
            self._latest[link] = number
        self._deliver(target, data)
