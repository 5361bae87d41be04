"""What the clients saw is judged by itself, and a stale read in it is found."""

from collections.abc import Callable
from typing import Any

import pytest

from balsadb.cluster.driver import Driver
from balsadb.cluster.effects import ReadReady
from balsadb.cluster.pending import Reads
from balsadb.types import LogIndex
from tests.linearizability.models import Ask
from tests.simulation.checker import Violation
from tests.simulation.history import History
from tests.simulation.knobs import reads_knobs
from tests.simulation.register import KEYS, Command
from tests.simulation.world import run_seed


def write(history: History, key: int, value: int, called: int, returned: int | None) -> None:
    """A write by client 0 whose sequence is its value."""
    command = Command(0, value, key, value, b"")
    history.write_called(called, command)
    if returned is not None:
        history.write_returned(returned, command)


def read(history: History, key: int, value: int | None, called: int, returned: int) -> None:
    """A read that sees nothing of the other keys."""
    values: list[int | None] = [None] * KEYS
    values[key] = value
    history.read(1, called, returned, values)


def test_a_read_of_what_was_overwritten_is_found() -> None:
    history = History()
    write(history, 3, 1, 0, 10)
    write(history, 3, 2, 20, 30)
    read(history, 3, 2, 25, 40)
    history.check()
    read(history, 3, 1, 50, 60)
    with pytest.raises(Violation, match="linearizable history"):
        history.check()


def test_a_read_may_see_a_write_under_way_and_none_may_then_miss_it() -> None:
    history = History()
    write(history, 3, 1, 0, None)
    read(history, 3, None, 5, 6)
    read(history, 3, 1, 10, 20)
    history.check()
    read(history, 3, None, 30, 40)
    with pytest.raises(Violation, match="linearizable history"):
        history.check()


def test_a_write_given_up_may_come_at_any_time_or_never() -> None:
    for seen in (None, 1):
        history = History()
        write(history, 3, 1, 0, None)
        write(history, 3, 2, 10, 20)
        read(history, 3, seen or 2, 1000, 1010)
        history.check()


def test_a_write_that_was_acknowledged_and_is_nowhere_is_found() -> None:
    history = History()
    write(history, 3, 1, 0, 10)
    read(history, 3, None, 20, 30)
    with pytest.raises(Violation, match="linearizable history"):
        history.check()


def test_each_read_of_a_seed_counts() -> None:
    """Any read of an old value, put in the place of a true one, is found."""
    history = run_seed(7).history
    history.check()
    writes = [one for one in history.operations if one.request.kind == "write"]
    found = 0
    for at, one in enumerate(history.operations):
        if one.request.kind == "read" and one.result is not None and at % 5 == 0:
            older = [
                before
                for before in writes
                if before.request.key == one.request.key and before.returned < one.called
            ]
            if len(older) < 2 or older[0].request.value == one.result:
                continue
            doctored = History()
            doctored.operations = [*history.operations]
            doctored.operations[at] = one._replace(result=older[0].request.value)
            with pytest.raises(Violation, match="linearizable history"):
                doctored.check()
            found += 1
    assert found > 20


@pytest.fixture
def reads_without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A read is answered as soon as its index is known, applied or not."""
    serve: Callable[[Reads, LogIndex], None] = Reads.serve
    monkeypatch.setattr(Reads, "serve", lambda self, _: serve(self, LogIndex(1 << 60)))


@pytest.fixture
def reads_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A read is answered from what the node happens to have."""

    def at_once(self: Driver, token: int, *, deadline_ticks: int) -> None:
        del deadline_ticks
        self._answers.append((token, ReadReady(self.applied)))

    monkeypatch.setattr(Driver, "read", at_once)


def seeds_to_find(expected: str) -> int:
    """How many seeds pass before one shows what the clients saw."""
    for count in range(40):
        try:
            run_seed(count, reads_knobs(count))
        except Violation as violation:
            assert expected in str(violation)  # noqa: PT017
            return count
    return 40


@pytest.mark.sim
@pytest.mark.parametrize("mutant", ["reads_without_waiting", "reads_at_once"])
def test_mutant_stale_reads_are_caught_by_the_history(
    mutant: str, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue(mutant)
    assert seeds_to_find("linearizable history") < 40


def test_a_seed_asks_and_answers_enough() -> None:
    history = run_seed(7).history
    kinds: list[Any] = [one.request for one in history.operations]
    assert sum(ask.kind == "write" for ask in kinds) > 30
    assert {ask.key for ask in kinds if ask.kind == "read"} == set(range(KEYS))
    assert all(isinstance(ask, Ask) for ask in kinds)
