"""A process that stood still, with a clock of the test's own."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from balsadb.cluster.ticker import DRAIN_ROUNDS_MAX, STANDSTILL_PERIODS, Ticker
from balsadb.raft import Heartbeat
from balsadb.types import LogIndex
from tests.unit.cluster.test_driver import Host, message

PERIOD = 0.05


class Stopped(Exception):
    """The script has ended."""


class Machine:
    """Time, and the frames that wait in the sockets: each sleep delivers at most a few, as a loop
    does that reads a little at a time."""

    def __init__(self, host: Host | None = None, frames_a_sleep: int = 10) -> None:
        self.now = 100.0
        self.host = host
        self.frames_a_sleep = frames_a_sleep
        self.waiting: deque[Any] = deque()
        self.arrived = 0
        self.events: list[str] = []
        self.ticked = False
        self.script: deque[Callable[[], None]] = deque()
        self.ticker = Ticker(PERIOD, lambda: self.now, self.sleep)

    async def sleep(self, seconds: float) -> None:
        """The first one after a tick follows the script; in the others frames are read."""
        self.now += seconds
        if self.ticked:
            self.ticked = False
            if not self.script:
                raise Stopped
            self.script.popleft()()
            return
        for _ in range(min(self.frames_a_sleep, len(self.waiting))):
            frame = self.waiting.popleft()
            self.arrived += 1
            self.events.append("frame")
            if self.host is not None:
                self.host.driver.receive(frame)
                self.host.settle()

    def tick(self) -> None:
        self.events.append("tick")
        self.ticked = True
        if self.host is not None:
            self.host.driver.tick()
            self.host.settle()

    def woke(self) -> None:
        self.events.append("woke")
        if self.host is not None:
            self.host.driver.stood_still()

    def pause(self, seconds: float, frames: int = 0, frame: Any = None) -> Callable[[], None]:
        """The process stands still, while frames pile up."""

        def step() -> None:
            self.now += seconds
            self.waiting.extend([frame] * frames)

        return step

    def run(self) -> None:
        with pytest.raises(Stopped):
            asyncio.run(self.ticker.run(self.tick, self.woke, lambda: self.arrived))


def test_all_that_waited_comes_before_the_tick() -> None:
    machine = Machine()
    calm = machine.pause(0.0)
    machine.script.extend([calm, machine.pause(3.0, frames=35), calm])
    machine.run()
    assert machine.events == ["tick"] * 2 + ["frame"] * 35 + ["woke", "tick", "tick"]
    assert machine.ticker.standstills == 1


def test_a_tick_that_is_a_little_late_is_only_a_tick() -> None:
    machine = Machine()
    machine.script.extend([machine.pause(0.9 * STANDSTILL_PERIODS * PERIOD)] * 5)
    machine.run()
    assert machine.events == ["tick"] * 6
    assert machine.ticker.standstills == 0


def test_lost_ticks_are_not_made_up_for() -> None:
    machine = Machine()
    calm = machine.pause(0.0)
    machine.script.extend([calm, machine.pause(60.0), calm])
    machine.run()
    assert machine.events == ["tick", "tick", "woke", "tick", "tick"]


def test_a_busy_node_does_not_drain_for_ever() -> None:
    machine = Machine(frames_a_sleep=1)
    machine.script.append(machine.pause(3.0, frames=1000))
    machine.run()
    assert machine.events.count("frame") == DRAIN_ROUNDS_MAX
    assert machine.events[-2:] == ["woke", "tick"]


@pytest.mark.parametrize("heartbeats", [0, 20])
def test_a_paused_follower_does_not_campaign_when_it_wakes(heartbeats: int) -> None:
    """Its timer was about to fire when it was paused; the leader's heartbeats wait in the socket,
    or were dropped by a sender that gave up."""
    host = Host(voters=3)
    beat = message(Heartbeat(LogIndex(0)))
    host.driver.receive(beat)
    host.settle()
    machine = Machine(host, frames_a_sleep=3)
    silence = host.driver.raft._role._timeout - 2  # type: ignore[attr-defined]
    machine.script.extend([machine.pause(0.0)] * silence)
    machine.script.append(machine.pause(3.0, heartbeats, beat))
    machine.script.extend([machine.pause(0.0)] * silence)
    machine.run()
    assert machine.ticker.standstills == 1
    assert machine.events.count("frame") == heartbeats
    status = host.driver.raft.status()
    assert (status.role, status.term, status.leader) == ("follower", 1, 2)
