"""The node's clock: one tick a period, and what a process does that stood still.

A process may be paused (a signal, a collector, a laptop that slept) for longer than an election
timeout. Heartbeats wait in its sockets then, and its timers are due at the same time: it takes in
what waits first, or an election would overrule a leader that never went away (LogCabin 200). Lost
ticks are not made up for, and a follower's timer begins anew: what it did not hear it could not.
"""

from collections.abc import Awaitable, Callable

STANDSTILL_PERIODS = 4
"""A tick that comes so many periods late tells of a standstill."""
DRAIN_ROUNDS_MAX = 8
"""Half periods for what waits: until one brings nothing, and no more than this many on a busy
node."""


class Ticker:
    """Ticks until it is cancelled. `now` and `sleep` are the loop's, or a test's."""

    def __init__(
        self,
        period_s: float,
        now: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._period_s = period_s
        self._now = now
        self._sleep = sleep
        self.standstills = 0
        """How often the process stood still."""

    async def run(
        self, tick: Callable[[], None], woke: Callable[[], None], arrived: Callable[[], int]
    ) -> None:
        """Call `tick` once a period. After a standstill: `woke`, once all that waited is taken in
        (`arrived` counts what came), then one tick."""
        period_s = self._period_s
        due = self._now() + period_s
        while True:
            await self._sleep(max(0.0, due - self._now()))
            if self._now() - due > STANDSTILL_PERIODS * period_s:
                self.standstills += 1
                await self._drain(arrived)
                woke()
            # Lost ticks are not made up for: a late tick is one tick.
            due = self._now() + period_s
            tick()

    async def _drain(self, arrived: Callable[[], int]) -> None:
        for _ in range(DRAIN_ROUNDS_MAX):
            before = arrived()
            await self._sleep(self._period_s / 2)
            if arrived() == before:
                return
