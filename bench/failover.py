"""How long writes stand still when a leader is killed, paused or stopped: BalsaDB beside etcd.

    python bench/failover.py [--rounds 20] [--out bench/results/failover.json]

Three nodes of each on this machine, with the settings they come with; etcd only if it is on the
PATH (Debian's package is etcd-server). Faults come in turns: one of BalsaDB, one of etcd.

    kill    SIGKILL to the leader
    pause   SIGSTOP to the leader, until the others write again and half a second more
    stop    SIGTERM to the leader: somebody planned it

The client is the same for both: one thread, one write after the other, over HTTP, on kept-alive
connections. A write that is not acknowledged within `--attempt-s` is given up; after that, and
after any error, the client waits `--pause-s` and asks the next node. It starts at the leader and
the two others in turn. It knows nothing of either system but how to write a record.

Gap: from the last write that was acknowledged before the fault to the first acknowledged one that
was begun after it. A node that was asked to stop still serves for a moment, so there it is the
longest time without an acknowledgement between the signal and the end of the process and half a
second more. Return: the longest such time while the node comes back.

All of it shares the machine's cores: on a busy one every figure grows, so the load is noted too.

Exits with 1 if a figure that must hold (`MOST_MS`, and etcd's medians) does not.
"""

import os
import random
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import httpx2

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.suite import report
from bench.suite.clusters import NODES, Balsa, Etcd, System

SIGNALS = {"kill": signal.SIGKILL, "pause": signal.SIGSTOP, "stop": signal.SIGTERM}
KINDS = tuple(SIGNALS)
MOST_MS = {"kill": 1000.0, "stop": 100.0}
"""Medians must be below; those of `kill` and `pause` below etcd's too."""
WARM_UP_S = (0.5, 1.0)
WARM_UP_WRITES = 20
SETTLE_S = 0.5
RECOVERY_TIMEOUT_S = 60.0


class Ack(NamedTuple):
    """An acknowledged write: when its attempt was begun and when it was answered (monotonic)."""

    begun: float
    done: float


class Round(NamedTuple):
    """What one fault did. `asked`: whom the client wrote to before it."""

    system: str
    kind: str
    asked: str
    gap_ms: float
    return_ms: float
    writes: int


class Client(NamedTuple):
    """How the client behaves: the same for every system."""

    attempt_s: float
    pause_s: float


class Writer:
    """A thread that writes one record after another to whichever node answers."""

    def __init__(self, system: System, first: int, how: Client) -> None:
        self.acks: list[Ack] = []
        self._system = system
        self._node = first
        self._how = how
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the attempt that is under way."""
        self._stop.set()
        self._thread.join()

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Return when the condition holds."""
        deadline = time.monotonic() + RECOVERY_TIMEOUT_S
        while not condition():
            assert time.monotonic() < deadline, f"{self._system.name}: {what}"
            time.sleep(0.005)

    def _run(self) -> None:
        turn = 0
        with httpx2.Client(timeout=self._how.attempt_s, trust_env=False) as client:
            while not self._stop.is_set():
                begun = time.monotonic()
                if self._attempt(client, turn):
                    self.acks.append(Ack(begun, time.monotonic()))
                    turn += 1
                else:
                    self._node = (self._node + 1) % NODES
                    time.sleep(self._how.pause_s)

    def _attempt(self, client: httpx2.Client, turn: int) -> bool:
        write = self._system.write(turn)
        url = self._system.urls[self._node] + write.path
        headers = {"content-type": "application/json"}
        try:
            answer = client.request(write.method, url, content=write.body, headers=headers)
        except httpx2.HTTPError:
            return False
        return answer.status_code == httpx2.codes.OK


def gap_s(acks: Sequence[Ack], fault: float) -> float:
    """From the last acknowledgement before the fault to the first of a write begun after it."""
    before = max(ack.done for ack in acks if ack.done <= fault)
    return min(ack.done for ack in acks if ack.begun > fault) - before


def silence_s(acks: Sequence[Ack], since: float, until: float) -> float:
    """The longest time without an acknowledgement that overlaps the given one."""
    times = [ack.done for ack in acks] + [until]
    return max(
        later - earlier
        for earlier, later in pairwise(times)
        if later > since and earlier < until and later > earlier
    )


def one_round(system: System, kind: str, asked: int, how: Client, warm_up_s: float) -> Round:
    """Write, harm the leader, go on writing until the cluster is whole again."""
    leader = system.wait_whole()
    writer = Writer(system, (leader + asked) % NODES, how)
    acks = writer.acks
    try:
        time.sleep(warm_up_s)
        writer.wait(lambda: len(acks) >= WARM_UP_WRITES, "writes nothing before the fault")
        sent = time.monotonic()
        system.send(leader, SIGNALS[kind])
        fault = time.monotonic()
        writer.wait(lambda: bool(acks) and acks[-1].begun > fault, "does not write again")
        if kind == "stop":
            writer.wait(lambda: system.is_gone(leader), "does not stop")
        time.sleep(SETTLE_S)
        ended = time.monotonic()
        if kind == "pause":
            system.send(leader, signal.SIGCONT)
        else:
            system.restart(leader)
        system.wait_whole()
        time.sleep(SETTLE_S)
    finally:
        writer.stop()
    gap = silence_s(acks, sent, ended) if kind == "stop" else gap_s(acks, fault)
    back = silence_s(acks, ended, acks[-1].done)
    name = "leader" if asked == 0 else "follower"
    return Round(system.name, kind, name, gap * 1e3, back * 1e3, len(acks))


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, quartiles and the worst."""
    if len(values) == 1:
        values = [values[0]] * 2
    lower, middle, upper = statistics.quantiles(values, n=4, method="inclusive")
    found = {"median": middle, "lower": lower, "upper": upper, "worst": max(values)}
    return {name: round(value, 1) for name, value in found.items()}


def summary(rounds: Sequence[Round], names: Sequence[str], kinds: Sequence[str]) -> dict[str, Any]:
    """By kind and system; `ratio` is etcd's median gap over BalsaDB's."""
    found: dict[str, Any] = {}
    for kind in kinds:
        here: dict[str, Any] = {}
        for name in names:
            those = [one for one in rounds if (one.system, one.kind) == (name, kind)]
            gaps = [round(one.gap_ms, 1) for one in those]
            here[name] = {
                "gap_ms": spread(gaps),
                "return_ms": spread([one.return_ms for one in those]),
                "gaps_ms": gaps,
            }
        if len(names) == 2:
            ours, theirs = (here[name]["gap_ms"]["median"] for name in names)
            here["ratio"] = round(theirs / ours, 2)
        found[kind] = here
    return found


def holds(kinds: dict[str, Any]) -> bool:
    """Whether every figure that must hold does."""
    fine = True
    for kind, found in kinds.items():
        fine &= found["balsadb"]["gap_ms"]["median"] < MOST_MS.get(kind, float("inf"))
        fine &= kind == "stop" or found.get("ratio", 2.0) > 1.0
    return fine


def measure(
    systems: Sequence[System], kinds: Sequence[str], rounds: int, how: Client
) -> list[Round]:
    """All rounds: kinds and systems take turns."""
    chance = random.Random(1)
    done: list[Round] = []
    for number in range(rounds):
        for kind in kinds:
            warm_up_s = chance.uniform(*WARM_UP_S)
            for system in systems if number % 2 else systems[::-1]:
                one = one_round(system, kind, number % NODES, how, warm_up_s)
                report.say(
                    f"{number + 1:3} {kind:6}{system.name:9}{one.gap_ms:7.0f} ms, "
                    f"return {one.return_ms:5.0f} ms, asked a {one.asked}, {one.writes} writes"
                )
                done.append(one)
    return done


def main() -> int:
    """Start, harm, report."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="of each kind, for each system")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--attempt-s", type=float, default=0.2, help="patience of an attempt")
    parser.add_argument("--pause-s", type=float, default=0.01, help="between two attempts")
    parser.add_argument("--without-etcd", action="store_true")
    given = report.arguments(parser)
    how = Client(given.attempt_s, given.pause_s)
    with_etcd = shutil.which("etcd") is not None and not given.without_etcd
    with tempfile.TemporaryDirectory(prefix="balsadb-bench-") as name:
        folder = Path(name)
        systems: list[System] = [Balsa(folder), *([Etcd(folder)] if with_etcd else [])]
        try:
            for system in systems:
                system.start()
            load = [os.getloadavg()[0]]
            rounds = measure(systems, given.kinds, given.rounds, how)
            load.append(os.getloadavg()[0])
        finally:
            for system in systems:
                system.stop()
    kinds = summary(rounds, [system.name for system in systems], given.kinds)
    result = {
        "machine": report.machine(),
        "versions": {system.name: system.version for system in systems},
        "rounds": given.rounds,
        "client": how._asdict(),
        "load_average": [round(one, 1) for one in load],
        "kinds": kinds,
    }
    report.write(result, given.out)
    for kind, found in kinds.items():
        for system in systems:
            at = found[system.name]["gap_ms"]
            report.say(
                f"{kind:6}{system.name:9} median {at['median']:7.0f} ms, quartiles "
                f"{at['lower']:.0f} to {at['upper']:.0f}, worst {at['worst']:.0f}"
            )
        if "ratio" in found:
            report.say(f"{kind:6}etcd's median is {found['ratio']:g} times BalsaDB's")
    return 0 if holds(kinds) else 1


if __name__ == "__main__":
    sys.exit(main())
