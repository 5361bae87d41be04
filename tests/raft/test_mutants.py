"""Tests of the tests: known bugs are put back, and the network must notice.

The first part are directed scenarios: the same script passes on the real core and fails on the
mutant. The second part lets seeds find the bug.
"""

from collections.abc import Callable

import pytest

from balsadb.raft import (
    AppendRequest,
    AppendResponse,
    HeartbeatResponse,
    Message,
    RaftOptions,
    VoteRequest,
    VoteResponse,
)
from balsadb.raft.core import Core
from balsadb.raft.log import Log
from balsadb.raft.quorum import VoteResult, joint_commit
from balsadb.raft.reads import ReadRounds
from balsadb.raft.roles.follower import Follower
from balsadb.raft.roles.leader import Leader
from balsadb.types import LogIndex, NodeId
from tests.raft.network import Network
from tests.raft.simulation import Simulation

SEEDS_MAX = 100


def plain_options(node: int, incarnation: int) -> RaftOptions:
    """One entry an append; no pre-vote and no lease, so that elections are as in the paper."""
    return RaftOptions(
        node=NodeId(node),
        election_timeout=lambda term: 10 + node,
        message_bytes_max=1,
        pre_vote=False,
        check_quorum=False,
        incarnation=incarnation,
    )


def figure_8(network: Network) -> int:
    """Raft figure 8, (a) to (c); returns the commit index that S1 believes in at (c)."""
    network.elect(1)
    network.isolate(1, 2)
    network.propose(1, b"old")
    network.pump()  # (a) 2@1 is on S1 and S2
    network.crash(1)
    network.heal()
    network.cut = {(5, 2)}
    network.drop = lambda message: isinstance(message.body, AppendRequest)
    network.elect(5)
    assert network[5].status().role == "leader"
    network.crash(5)  # (b) S5 led term 2; 2@2 is on S5 only
    network.restart(1)
    network.drop = lambda message: (
        message.target != 5
        and isinstance(message.body, AppendRequest)
        and any(entry.index > 2 for entry in message.body.entries)
        and network.hosts[message.target].core.log.last_index >= 2
    )
    network.elect(1)  # its term is old ...
    network.elect(1)
    assert network[1].status().role == "leader"
    # (c) S1 brought 2@1 to S3 and S4, but the entry of its new term, 3@3, to nobody.
    assert all(network.hosts[node].core.log.term(LogIndex(2)) == 1 for node in (1, 2, 3, 4))
    assert [network.hosts[node].core.log.last_index for node in (1, 2, 3, 4)] == [3, 2, 2, 2]
    return network[1].status().commit


def end_of_figure_8(network: Network) -> None:
    """(d) S1 crashes and S5 wins with votes of S2 to S4, and overwrites 2@1 everywhere."""
    network.crash(1)
    network.cut.clear()
    network.drop = lambda message: False
    network.restart(5)
    network.elect(5)  # its term is old ...
    network.elect(5)
    assert network[5].status().role == "leader"
    network.restart(1)
    for _ in range(3):
        network.tick(5, 2)
        network.pump()
    network.invariants.check_all()
    assert network[1].status().commit == network[5].status().commit >= 3
    assert network.hosts[1].core.log.term(LogIndex(2)) == 2


def test_figure_8_no_old_entry_is_committed_by_counting():
    network = Network(range(1, 6), plain_options)
    assert figure_8(network) == 1
    end_of_figure_8(network)


def test_mutant_commits_an_old_entry_by_counting(monkeypatch):
    def advance_commit(self: Leader) -> None:
        progress = self.progress
        index = joint_commit(self.core.members, lambda node: progress[node].match)
        if index > self.core.log.commit:
            self.core.log.commit_to(index)
            self._replicator.broadcast()

    monkeypatch.setattr(Leader, "_advance_commit", advance_commit)
    network = Network(range(1, 6), plain_options)
    with pytest.raises(AssertionError, match="lacks committed 2@1|committed to"):
        assert figure_8(network) == 2
        end_of_figure_8(network)


def vote_and_forget(network: Network) -> None:
    """S2 votes for S1, crashes before its fsync, and is asked by S3 in the same term."""
    network[1].campaign()
    network._settle(1)
    network.persist(1)
    (request,) = [m for m in network.wire if m.target == 2]
    network.wire.clear()
    network.deliver(request)
    answers, network.wire = list(network.wire), type(network.wire)()
    network.crash(2)
    network.restart(2)
    for message in answers:
        network.deliver(message)
    network.wire.clear()
    network[3].campaign()
    network._settle(3)
    network.pump(only=[2, 3])


def release_votes(monkeypatch, kind: type) -> None:
    """Put such messages among those that may leave before the fsync."""
    real = Core.send

    def send(self, target, body, term=None):
        real(self, target, body, term)
        later = self.messages_after_persist
        if later and isinstance(later[-1].body, kind):
            self.messages.append(later.pop())

    monkeypatch.setattr(Core, "send", send)


def test_a_vote_is_durable_before_it_is_told():
    network = Network([1, 2, 3], plain_options)
    vote_and_forget(network)
    assert network[1].status().role == "candidate"
    assert network[3].status().role == "leader"


def test_mutant_tells_its_vote_before_the_fsync(monkeypatch):
    release_votes(monkeypatch, VoteResponse)
    with pytest.raises(AssertionError, match="left before its term was durable"):
        vote_and_forget(Network([1, 2, 3], plain_options))


def test_mutant_tells_its_vote_before_the_fsync_and_two_leaders_follow(monkeypatch):
    release_votes(monkeypatch, VoteResponse)
    network = Network([1, 2, 3], plain_options)
    monkeypatch.setattr(network.invariants, "sent", lambda host, message: None)
    with pytest.raises(AssertionError, match="two leaders in term 1"):
        vote_and_forget(network)


def test_mutant_asks_for_votes_before_the_fsync(monkeypatch):
    """vote_before_persist_crash: A campaigns with an unsynced log and term, crashes, and campaigns
    in the same term again with a shorter log; a late vote for the longer one would count."""
    release_votes(monkeypatch, VoteRequest)
    network = Network([1, 2, 3], plain_options)
    with pytest.raises(AssertionError, match="left before its term was durable"):
        network.elect(1)


def read_on_a_deposed_leader(network: Network) -> int:
    """S1 is asked for a read after S2 was elected and acknowledged a write, unknown to S1. What
    reaches S1 late is S3's answer to a heartbeat of an earlier read. How many such came late."""
    network.elect(1)
    late: list[Message] = []

    def drop(message: Message) -> bool:
        if message.source == 3 and isinstance(message.body, HeartbeatResponse):
            late.append(message)
            return True
        return False

    network.drop = drop
    network.read(1)
    network.pump()
    assert not network.hosts[1].read_floors
    network.drop = lambda message: False
    network.isolate(1)
    network.elect(2)
    network.propose(2, b"acknowledged")
    network.pump()
    assert network.acknowledged
    assert network[1].status().role == "leader"
    read_id = network.read(1)
    for message in late:
        network.deliver(message)
    network.pump()
    assert read_id in network.hosts[1].read_floors, "answered without asking anybody"
    network.heal()
    network.tick(2, 2)
    network.pump()
    assert not network.hosts[1].read_floors  # dropped: S1 follows now
    return len(late)


def test_a_deposed_leader_answers_no_read():
    assert read_on_a_deposed_leader(Network([1, 2, 3], plain_options)) == 1


def test_mutant_answers_reads_without_a_quorum(monkeypatch):
    monkeypatch.setattr("balsadb.raft.reads.joint_vote", lambda members, confirmed: VoteResult.WON)
    with pytest.raises(AssertionError, match="stale read"):
        read_on_a_deposed_leader(Network([1, 2, 3], plain_options))


def test_mutant_uses_a_round_number_twice(monkeypatch):
    def start(self, commit):
        started = real(self, commit)
        self.round = 1
        return started

    real = ReadRounds.start
    monkeypatch.setattr(ReadRounds, "start", start)
    with pytest.raises(AssertionError, match="stale read"):
        read_on_a_deposed_leader(Network([1, 2, 3], plain_options))


def long_old_log(network: Network) -> None:
    """S1, cut off, piles up entries of term 1; S2 commits one of term 2; then S1 wants to lead."""
    network.elect(1)
    network.isolate(1)
    network.propose(1, *[b"never committed"] * 5)
    network.pump()
    network.elect(2)
    network.propose(2, b"committed")
    network.pump()
    network.heal()
    network.crash(1)
    network.restart(1)
    network.drop = lambda message: not isinstance(message.body, VoteRequest | VoteResponse)
    for _ in range(3):
        network.elect(1)
    assert not network.is_leader(1)


def test_a_longer_log_with_an_older_last_term_loses():
    long_old_log(Network([1, 2, 3], plain_options))


def test_mutant_compares_logs_by_length(monkeypatch):
    monkeypatch.setattr(
        Log,
        "is_up_to_date",
        lambda self, index, term: (index, term) >= (self.last_index, self.last_term),
    )
    with pytest.raises(AssertionError, match="leader 1 of term 3 lacks committed 2@2"):
        long_old_log(Network([1, 2, 3], plain_options))


# ------------------------------------------------------------------------- found by the seeds


def acknowledge_before_the_fsync(monkeypatch) -> None:
    release_votes(monkeypatch, AppendResponse)


def truncate_on_every_append(monkeypatch) -> None:
    def merge(self, entries):
        if not entries or entries[0].index > self.last_index:
            self.append(entries)
            return None
        self.truncate(entries[0].index)
        self.append(entries)
        return entries[0].index

    monkeypatch.setattr(Log, "merge", merge)


def read_before_own_term_commit(monkeypatch) -> None:
    def flush(self):
        if self._reads.is_waiting:
            self._start_read_round()
        real(self)

    real = Leader.flush
    monkeypatch.setattr(Leader, "flush", flush)


def accept_without_looking_at_the_previous_entry(monkeypatch) -> None:
    def append(self, leader, request):
        if request.previous_index <= self.core.log.last_index:
            term = self.core.log.term(request.previous_index)
            request = AppendRequest(
                request.previous_index, term or 0, request.commit, request.entries
            )
        real(self, leader, request)

    real = Follower._append
    monkeypatch.setattr(Follower, "_append", append)


def commit_by_half(monkeypatch) -> None:
    monkeypatch.setattr("balsadb.raft.quorum.quorum_size", lambda voters: (len(voters) + 1) // 2)


@pytest.mark.sim
@pytest.mark.parametrize(
    "mutate",
    [
        acknowledge_before_the_fsync,
        truncate_on_every_append,
        read_before_own_term_commit,
        accept_without_looking_at_the_previous_entry,
        commit_by_half,
    ],
    ids=lambda mutate: mutate.__name__,
)
def test_seeds_find(mutate: Callable[[pytest.MonkeyPatch], None], monkeypatch):
    mutate(monkeypatch)
    for seed in range(SEEDS_MAX):
        try:
            Simulation(seed).run()
        except AssertionError:
            return
    pytest.fail("no seed noticed")
