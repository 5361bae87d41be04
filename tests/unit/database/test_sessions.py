"""At most once: repeated, late, reordered and forgotten requests."""

from typing import Any

import pytest

from balsadb.columns import ColumnSet
from balsadb.database import (
    NO_SESSION,
    CreateCollection,
    DeleteCollection,
    DeletePoints,
    Marker,
    SessionKey,
    SetPayload,
    UpsertPoints,
    limits,
)
from balsadb.database.commands import Origin
from balsadb.database.results import Result, exception_of
from balsadb.database.sessions import Sessions, error_text
from balsadb.errors import AlreadyExists, CollectionNotFound, SessionExpired, Unavailable
from balsadb.types import LogIndex

A, B, C = (bytes([letter]) * 16 for letter in b"abc")


def _result(index: int, value: Any = None) -> Result:
    return Result(LogIndex(index), value)


@pytest.mark.parametrize(
    "result",
    [
        _result(7),
        _result(7, value=True),
        _result(7, value=False),
        _result(7, 0),
        _result(7, 256),
        Result(LogIndex(7), None, error_text("already_exists")),
    ],
)
def test_a_repeated_command_gets_the_first_answer(result: Result) -> None:
    columns = ColumnSet()
    sessions = Sessions(columns)
    origin = Origin(A, (1 << 64) - 1) if result.value == 256 else Origin(A, 5)
    if origin.sequence > limits.SESSION_WINDOW:
        sessions.record(Origin(A, 0), _result(1))
    assert sessions.recall(origin) is None
    sessions.record(origin, result)
    for again in (sessions, Sessions(columns)):
        assert again.recall(origin) == result
        assert type(again.recall(origin).value) is type(result.value)
        assert again.recall(Origin(B, 5)) is None


def test_sequences_out_of_order_are_each_applied_once() -> None:
    sessions = Sessions(ColumnSet())
    for sequence in (3, 1, 2, 0):
        assert sessions.recall(Origin(A, sequence)) is None
        sessions.record(Origin(A, sequence), _result(10 + sequence))
    for sequence in range(4):
        assert sessions.recall(Origin(A, sequence)) == _result(10 + sequence)


def test_a_sequence_that_left_the_window_is_expired() -> None:
    sessions = Sessions(ColumnSet())
    for sequence in range(limits.SESSION_WINDOW + 1):
        sessions.record(Origin(A, sequence), _result(1 + sequence))
    forgotten = sessions.recall(Origin(A, 0))
    assert forgotten is not None
    assert forgotten.error is not None
    assert isinstance(exception_of(*forgotten.error), SessionExpired)
    assert sessions.recall(Origin(A, 1)) == _result(2)


def test_the_session_used_longest_ago_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SESSIONS_MAX", 2)
    sessions = Sessions(ColumnSet())
    assert sessions.recall(Origin(A, 40)) is None, "nobody has been forgotten yet"
    sessions.record(Origin(A, 40), _result(1))
    sessions.record(Origin(B, 1), _result(2))
    sessions.record(Origin(A, 41), _result(3))
    sessions.record(Origin(C, 1), _result(4))
    assert sessions.recall(Origin(A, 40)) == _result(1)
    assert sessions.recall(Origin(B, 1)) is None
    sessions.record(Origin(B, 1), _result(5))
    assert sessions.recall(Origin(C, 1)) == _result(4)
    gone = sessions.recall(Origin(A, 40))
    assert gone is not None
    assert gone.error is not None
    assert gone.error[0] == "session_expired"


def test_parts_are_applied_once_and_in_order() -> None:
    sessions = Sessions(ColumnSet())
    parts = [Origin(A, 9, part, part == 2) for part in range(3)]
    refused = sessions.recall(parts[1])
    assert refused is not None
    assert isinstance(exception_of(*(refused.error or ("", ""))), Unavailable)
    for index, part in enumerate(parts, 1):
        assert sessions.recall(part) is None
        sessions.record(part, _result(index))
        assert sessions.recall(parts[0]) == _result(index)
    assert sessions.recall(parts[2]) == _result(3)


def test_a_failed_part_fails_the_rest() -> None:
    sessions = Sessions(ColumnSet())
    failed = Result(LogIndex(4), None, error_text("collection_replaced"))
    sessions.record(Origin(A, 1, 0, last=False), failed)
    assert sessions.recall(Origin(A, 1, 1)) == failed


def test_parts_computed_from_the_state_go_on_until_the_last() -> None:
    sessions = Sessions(ColumnSet())
    first = Origin(A, 1, 0, last=False, resolved=True)
    sessions.record(first, _result(1))
    assert sessions.recall(first) is None, "a retry may select other points"
    sessions.record(Origin(A, 1, 0, last=True, resolved=True), _result(2))
    assert sessions.recall(first) == _result(2)


def test_without_a_session_nothing_is_remembered() -> None:
    columns = ColumnSet()
    Sessions(columns).record(Origin(NO_SESSION.session, 0), _result(1))
    assert columns["sessions/key"].rows == 0


def test_a_repeated_request_changes_nothing(bench: Any) -> None:
    bench.create()
    key = SessionKey(A, 1)
    first = bench.do(UpsertPoints("films", list(range(600)), {}), key)
    assert [result.value for result in first] == [256, 256, 88]
    bench.do(DeletePoints("films", [0, 300, 599]))
    again = bench.do(UpsertPoints("films", list(range(600)), {}), key)
    assert again[-1] == first[-1]
    assert bench.database.count("films") == 597
    assert bench.do(Marker(), SessionKey(A, 2))[0].log_index == len(bench.log)


def test_a_late_delete_by_filter_spares_what_came_after(bench: Any) -> None:
    bench.create()
    bench.upsert([1, 2], [{"k": 1}, {"k": 1}])
    request = DeletePoints("films", filter={"must": [{"key": "k", "match": {"value": 1}}]})
    (late,) = bench.database.prepare(request, SessionKey(A, 1))
    bench.do(SetPayload("films", {"k": 2}, [2]))
    assert bench.propose(late).value == 1
    bench.upsert([1], [{"k": 1}])
    (repeated,) = bench.do(request, SessionKey(A, 1))
    assert repeated.value == 1
    assert bench.database.count("films") == 2


def test_a_race_for_one_name_has_one_winner_and_one_answer_each(bench: Any) -> None:
    request = CreateCollection("films", {})
    (one,) = bench.database.prepare(request, SessionKey(A, 1))
    (two,) = bench.database.prepare(request, SessionKey(B, 1))
    assert bench.propose(one).value is True
    lost = bench.propose(two)
    with pytest.raises(AlreadyExists, match="already exists"):
        lost.unwrap()
    assert bench.propose(two) == lost
    assert bench.propose(one).value is True


def test_a_repeated_request_that_became_impossible_gets_its_first_answer(bench: Any) -> None:
    """The answer was lost on its way; what was applied since must not turn it into a refusal."""
    create, key = CreateCollection("films", {}), SessionKey(A, 1)
    (first,) = bench.do(create, key)
    assert first.value is True
    assert bench.do(create, key) == [first]
    with pytest.raises(AlreadyExists):
        bench.do(create, SessionKey(A, 2))
    upsert = UpsertPoints("films", list(range(300)), {})
    answers = bench.do(upsert, SessionKey(A, 3))
    bench.do(DeleteCollection("films"), SessionKey(A, 4))
    assert bench.do(upsert, SessionKey(A, 3)) == [answers[-1]]
    with pytest.raises(CollectionNotFound):
        bench.do(upsert, SessionKey(B, 3))
    assert not bench.database.exists("films")


def test_a_request_that_was_applied_in_part_is_not_done() -> None:
    sessions = Sessions(ColumnSet())
    assert not sessions.is_done(A, 9)
    sessions.record(Origin(A, 9, 0, last=False), _result(1))
    assert not sessions.is_done(A, 9)
    sessions.record(Origin(A, 9, 1), _result(2))
    assert sessions.is_done(A, 9)
    assert not sessions.is_done(A, 9 + limits.SESSION_WINDOW)
    assert not sessions.is_done(NO_SESSION.session, 0)
