"""Sentences of the Raft paper (extended version, 2014), one test each."""

import pytest

from balsadb.errors import NotLeader
from balsadb.raft import (
    AppendRequest,
    AppendResponse,
    Heartbeat,
    VoteRequest,
    VoteResponse,
)
from balsadb.types import LogIndex, NodeId, Term
from tests.raft.network import Network
from tests.raft.solo import Solo, bodies, entries_at, log_of, to


def append(previous: tuple[int, int], commit: int = 0, *terms: int) -> AppendRequest:
    """Entries of these terms right after `previous` (index, term)."""
    return AppendRequest(
        LogIndex(previous[0]),
        Term(previous[1]),
        LogIndex(commit),
        entries_at(previous[0] + 1, *terms),
    )


def vote(last: tuple[int, int]) -> VoteRequest:
    return VoteRequest(LogIndex(last[0]), Term(last[1]))


# ------------------------------------------------------------------------------------- 5.1


@pytest.mark.parametrize("role", ["follower", "candidate", "leader"])
def test_5_1_if_a_servers_term_is_smaller_it_updates_to_the_larger_value(role):
    solo = Solo()
    if role == "candidate":
        solo.raft.campaign()
        solo.drain()
    if role == "leader":
        solo.lead()
    assert solo.status.role == role
    solo.receive(2, append((0, 0)), term=9)
    assert (solo.status.term, solo.status.role, solo.status.leader) == (9, "follower", 2)


def test_5_1_a_server_rejects_a_request_with_a_stale_term_number():
    solo = Solo(hard_state=(5, 0, 0))
    solo.receive(2, append((0, 0), 0, 4), term=4)
    assert solo.log == []
    assert solo.status.leader == 0


# ------------------------------------------------------------------------------------- 5.2


def test_5_2_servers_begin_as_followers():
    assert Solo().status.role == "follower"


def test_5_2_the_leader_sends_heartbeats_to_all_followers():
    solo = Solo()
    solo.lead()
    messages = solo.tick(2)
    assert sorted(m.target for m in messages if isinstance(m.body, Heartbeat)) == [2, 3]


@pytest.mark.parametrize("role", ["follower", "candidate"])
def test_5_2_no_communication_over_the_election_timeout_starts_an_election(role):
    solo = Solo()
    if role == "candidate":
        solo.raft.campaign()
        solo.drain()
    term = solo.status.term
    assert not bodies(solo.tick(14), VoteRequest)
    messages = solo.tick()
    assert (solo.status.term, solo.status.role) == (term + 1, "candidate")
    assert solo.status.vote == 1
    assert [m.target for m in messages if isinstance(m.body, VoteRequest)] == [2, 3]


def test_5_2_the_candidate_votes_for_itself_and_asks_all_others():
    solo = Solo()
    solo.raft.campaign()
    messages = solo.drain()
    assert solo.status.vote == 1
    assert bodies(messages) == [vote((0, 0)), vote((0, 0))]


@pytest.mark.parametrize(
    ("voters", "granted", "role"),
    [
        (1, [], "leader"),
        (3, [2, 3], "leader"),
        (3, [2], "leader"),
        (5, [2, 3, 4, 5], "leader"),
        (5, [2, 3], "leader"),
        (5, [2], "candidate"),
        (3, [], "candidate"),
    ],
)
def test_5_2_a_candidate_wins_with_votes_from_a_majority(voters, granted, role):
    solo = Solo(tuple(range(1, voters + 1)))
    solo.raft.campaign()
    solo.drain()
    for node in granted:
        solo.receive(node, VoteResponse())
    assert solo.status.role == role


@pytest.mark.parametrize(
    ("vote_before", "candidate", "granted"),
    [(0, 1, True), (0, 2, True), (1, 1, True), (1, 3, False)],
)
def test_5_2_each_server_votes_for_at_most_one_candidate_first_come(
    vote_before, candidate, granted
):
    solo = Solo((1, 2, 3, 4), node=4, hard_state=(1, vote_before, 0))
    (answer,) = solo.receive(candidate, vote((0, 0)), term=1)
    assert answer.body == VoteResponse(rejected=not granted)


@pytest.mark.parametrize("ahead", [0, 1])
def test_5_2_a_candidate_that_hears_a_leader_of_its_term_or_later_becomes_follower(ahead):
    solo = Solo()
    solo.raft.campaign()
    solo.drain()
    solo.receive(2, append((0, 0)), term=solo.status.term + ahead)
    assert (solo.status.role, solo.status.leader) == ("follower", 2)


def test_5_2_a_candidate_ignores_a_leader_of_an_older_term():
    solo = Solo(hard_state=(3, 0, 0))
    solo.raft.campaign()
    solo.drain()
    solo.receive(2, append((0, 0)), term=3)
    assert (solo.status.role, solo.status.term) == ("candidate", 4)


def test_5_2_election_timeouts_are_what_the_host_draws_for_each_term():
    drawn: list[int] = []

    def draw(term: int) -> int:
        drawn.append(term)
        return 10 + len(drawn)

    solo = Solo(election_timeout=draw)
    for expected in (11, 12, 13):
        assert not bodies(solo.tick(expected - 1), VoteRequest)
        assert bodies(solo.tick(), VoteRequest)
    assert drawn == [0, 1, 2, 3]


# ------------------------------------------------------------------------------------- 5.3


def test_5_3_the_leader_appends_the_command_and_sends_it_to_all_in_parallel():
    solo = Solo()
    solo.lead()
    assert solo.raft.propose([b"x"]) == [(2, 1)]
    ready = solo.take()
    assert [entry.data for entry in ready.entries] == [b"x"]
    for message, target in zip(ready.messages, (2, 3), strict=True):
        assert message.target == target
        assert message.body == AppendRequest(LogIndex(1), Term(1), LogIndex(1), ready.entries)


def test_5_3_only_the_leader_takes_proposals():
    with pytest.raises(NotLeader):
        Solo().raft.propose([b"x"])


@pytest.mark.parametrize(
    ("voters", "acknowledged", "committed"),
    [
        (1, [], True),
        (3, [], False),
        (3, [2], True),
        (5, [2], False),
        (5, [2, 3], True),
        (5, [2, 3, 4, 5], True),
    ],
)
def test_5_3_an_entry_is_committed_once_it_is_on_a_majority(voters, acknowledged, committed):
    solo = Solo(tuple(range(1, voters + 1)))
    solo.lead()
    solo.raft.propose([b"x"])
    solo.drain()
    for node in acknowledged:
        solo.receive(node, AppendResponse(LogIndex(2)))
    assert (solo.status.commit == 2) is committed
    assert ([entry.data for entry in solo.committed] == [b"", b"x"]) is committed


def test_5_3_committing_commits_all_preceding_entries_even_of_earlier_leaders():
    solo = Solo(hard_state=(2, 0, 0), entries=log_of(1, 2))
    solo.lead(acknowledge=False)
    assert solo.status.commit == 0
    solo.receive(2, AppendResponse(LogIndex(3)))
    assert [(e.index, e.term) for e in solo.committed] == [(1, 1), (2, 2), (3, 3)]


def test_5_3_a_follower_learns_the_commit_index_from_appends_and_applies_in_order():
    solo = Solo()
    solo.receive(2, append((0, 0), 1, 1, 1), term=1)
    assert [entry.index for entry in solo.committed] == [1]
    solo.receive(2, append((2, 1), 2), term=1)
    assert [entry.index for entry in solo.committed] == [1, 2]


@pytest.mark.parametrize(
    ("previous", "rejected", "hint"),
    [
        ((0, 0), False, None),
        ((1, 1), False, None),
        ((2, 2), False, None),
        ((1, 2), True, (1, 1)),
        ((2, 1), True, (1, 1)),
        ((3, 3), True, (2, 2)),
        ((3, 1), True, (1, 1)),
    ],
)
def test_5_3_a_follower_refuses_entries_whose_predecessor_it_does_not_hold(
    previous, rejected, hint
):
    solo = Solo(hard_state=(2, 0, 0), entries=log_of(1, 2))
    (answer,) = solo.receive(2, append(previous), term=2)
    if rejected:
        assert answer.body == AppendResponse(
            LogIndex(previous[0]), True, LogIndex(hint[0]), Term(hint[1])
        )
    else:
        assert answer.body == AppendResponse(LogIndex(previous[0]))


@pytest.mark.parametrize(
    ("request_", "log"),
    [
        (append((2, 2), 0, 3), [(1, 1), (2, 2), (3, 3)]),
        (append((1, 1), 0, 3, 4), [(1, 1), (2, 3), (3, 4)]),
        (append((0, 0), 0, 1), [(1, 1), (2, 2)]),
        (append((0, 0), 0, 3), [(1, 3)]),
    ],
)
def test_5_3_a_conflicting_entry_and_all_that_follow_it_are_deleted(request_, log):
    solo = Solo(hard_state=(2, 0, 0), entries=log_of(1, 2))
    solo.receive(2, request_, term=4)
    assert solo.log == log


FIGURE_7 = {
    "a": (1, 1, 1, 4, 4, 5, 5, 6, 6),
    "b": (1, 1, 1, 4),
    "c": (1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6),
    "d": (1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7),
    "e": (1, 1, 1, 4, 4, 4, 4),
    "f": (1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3),
}


@pytest.mark.parametrize("case", FIGURE_7)
def test_5_3_figure_7_the_leader_brings_any_log_to_agree_with_its_own(case):
    network = Network([1, 2, 3], start=False)
    for node, terms in [(1, (1, 1, 1, 4, 4, 5, 5, 6, 6, 6)), (2, FIGURE_7[case]), (3, (1,))]:
        disk = network.hosts[node].disk
        disk.entries = log_of(*terms)
        disk.hard_state = type(disk.hard_state)(Term(7), NodeId(0), LogIndex(0))
        network.restart(node)
    network.elect(1)
    assert network.is_leader(1)
    network.invariants.check_all()
    logs = [
        [(e.index, e.term) for e in network.hosts[node].core.log._entries] for node in (1, 2, 3)
    ]
    assert logs[0] == logs[1] == logs[2]
    assert logs[0][-1] == (11, 8)


def test_5_3_back_off_skips_a_whole_term_in_one_rejection():
    """The paper's optimisation at the end of 5.3: case (f) needs one rejection, not seven."""
    follower = Solo(node=2, hard_state=(7, 0, 0), entries=log_of(*FIGURE_7["f"]))
    leader = Solo(hard_state=(7, 0, 0), entries=log_of(1, 1, 1, 4, 4, 5, 5, 6, 6, 6))
    requests = to(leader.lead(acknowledge=False), 2)[-1:]
    rejections = 0
    while True:
        (answer,) = follower.receive(1, requests[0], term=8)
        requests = to(leader.receive(2, answer.body), 2)
        if not answer.body.rejected:
            break
        rejections += 1
    assert rejections == 1
    assert follower.log == leader.log


# ----------------------------------------------------------------------------------- 5.4.1


@pytest.mark.parametrize(
    ("log", "last", "granted"),
    [
        ((1,), (1, 1), True),
        ((1,), (2, 1), True),
        ((1, 1), (1, 1), False),
        ((1,), (1, 2), True),
        ((1, 1), (1, 2), True),
        ((2,), (1, 1), False),
        ((2,), (9, 1), False),
    ],
)
def test_5_4_1_a_voter_denies_its_vote_if_its_own_log_is_more_up_to_date(log, last, granted):
    solo = Solo(hard_state=(2, 0, 0), entries=log_of(*log))
    (answer,) = solo.receive(2, vote(last), term=3)
    assert answer.body == VoteResponse(rejected=not granted)
    assert answer.term == 3


# ----------------------------------------------------------------------------------- 5.4.2


@pytest.mark.parametrize(("acknowledged", "commit"), [(1, 0), (2, 0), (3, 3)])
def test_5_4_2_only_entries_of_the_current_term_are_committed_by_counting(acknowledged, commit):
    solo = Solo(hard_state=(2, 0, 0), entries=log_of(1, 2))
    solo.lead(acknowledge=False)
    solo.receive(2, AppendResponse(LogIndex(acknowledged)))
    assert solo.status.commit == commit


# --------------------------------------------------------------------------------------- 8


def test_8_a_leader_commits_an_empty_entry_at_the_start_of_its_term():
    solo = Solo()
    solo.lead()
    assert [(e.index, e.term, e.data) for e in solo.committed] == [(1, 1, b"")]
