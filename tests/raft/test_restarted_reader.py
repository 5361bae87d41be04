"""A follower that asked for a read index, died and came back within the same term: answers meant
for its earlier life must not serve reads of this one. Incarnations are random, so the earlier one
may be the larger number."""

import pytest

from balsadb.raft import AppendResponse, Heartbeat, HeartbeatResponse, ReadIndexRequest
from balsadb.raft import ReadIndexResponse as Answer
from balsadb.types import LogIndex, Term
from tests.raft.solo import Solo, bodies, log_of

EARLIER, LATER = 7, 3


def restarted(incarnation: int) -> Solo:
    solo = Solo(hard_state=(1, 0, 0), entries=log_of(1, 1), incarnation=incarnation)
    solo.receive(2, Heartbeat(LogIndex(2)), 1)
    return solo


@pytest.mark.parametrize(("before", "now"), [(EARLIER, LATER), (LATER, EARLIER)])
def test_an_answer_to_an_earlier_life_serves_no_read_of_this_one(before: int, now: int) -> None:
    old = restarted(before)
    earlier_read = old.raft.read_index()
    solo = restarted(now)
    read_id = solo.raft.read_index()
    solo.drain()
    solo.receive(2, Answer(earlier_read, LogIndex(1)))
    assert solo.reads == []
    solo.receive(2, Answer(read_id, LogIndex(2)))
    assert solo.reads == [(read_id, 2)]


@pytest.mark.parametrize(("before", "now"), [(EARLIER, LATER), (LATER, EARLIER)])
def test_a_leader_answers_the_new_life_of_a_follower_that_came_back(before: int, now: int) -> None:
    """The old request still waits for a round when the new life's first one arrives."""
    solo = Solo()
    solo.lead(acknowledge=False)
    solo.receive(2, ReadIndexRequest(before << 32 | 9))
    solo.receive(2, ReadIndexRequest(now << 32 | 1))
    solo.receive(2, AppendResponse(LogIndex(1)))
    answers = bodies(solo.receive(3, HeartbeatResponse(1)), Answer)
    assert Answer(now << 32 | 1, LogIndex(1)) in answers
    assert solo.status.term == Term(1)
