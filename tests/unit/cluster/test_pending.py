"""Proposals and reads: each token is answered once, by the right entry."""

from balsadb.cluster.effects import Answer, Committed, Failed, ReadReady
from balsadb.cluster.pending import Deadlines, Proposals, Reads
from balsadb.errors import NotLeader, OutcomeUnknown, Overloaded, QuorumLost
from balsadb.types import Entry, LogIndex, NodeId, Term


def positions(first: int, count: int, term: int) -> list[tuple[LogIndex, Term]]:
    return [(LogIndex(first + offset), Term(term)) for offset in range(count)]


def entry(index: int, term: int) -> Entry:
    return Entry(LogIndex(index), Term(term), 0, b"x")


class Table:
    """Proposals with what they answered."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, Answer]] = []
        self.deadlines = Deadlines()
        self.proposals = Proposals(self.deadlines, self.answers)


def test_a_proposal_is_answered_with_all_its_results() -> None:
    table = Table()
    table.proposals.add(5, positions(10, 3, 2), 0, wait_applied=True)
    table.proposals.committed([entry(10, 2), entry(11, 2), entry(12, 2)])
    table.proposals.applied([(LogIndex(9), "z"), (LogIndex(10), "a"), (LogIndex(11), "b")])
    assert table.answers == []
    table.proposals.applied([(LogIndex(12), "c")])
    assert table.answers == [(5, Committed(LogIndex(12), Term(2), ["a", "b", "c"]))]
    assert len(table.proposals) == 0


def test_without_waiting_for_apply_the_commit_answers() -> None:
    table = Table()
    table.proposals.add(5, positions(10, 2, 2), 0, wait_applied=False)
    table.proposals.committed([entry(10, 2)])
    assert table.answers == []
    table.proposals.committed([entry(11, 2)])
    assert table.answers == [(5, Committed(LogIndex(11), Term(2), ()))]
    table.proposals.applied([(LogIndex(10), "a"), (LogIndex(11), "b")])
    assert len(table.answers) == 1


def test_another_term_at_the_index_is_not_our_entry() -> None:
    table = Table()
    table.proposals.add(5, positions(10, 1, 2), 0, wait_applied=True)
    table.proposals.committed([entry(10, 3)])
    table.proposals.applied([(LogIndex(10), "somebody else's")])
    [(token, answer)] = table.answers
    assert token == 5
    assert isinstance(answer, Failed)
    assert isinstance(answer.error, OutcomeUnknown)


def test_lost_expired_and_cancelled_proposals() -> None:
    table = Table()
    for token in (1, 2, 3):
        table.proposals.add(token, positions(10 + token, 1, 2), 2, wait_applied=True)
    assert table.proposals.cancel(1)
    assert list(table.deadlines.tick()) == []
    for token in table.deadlines.tick():
        table.proposals.expire(token)
    table.proposals.lost("gone")
    assert [token for token, _ in table.answers] == [2, 3]
    assert all(isinstance(a, Failed) and a.error.outcome == "unknown" for _, a in table.answers)


class ReadTable:
    """Reads with a read index that counts, and may know no leader."""

    def __init__(self, reads_max: int = 100) -> None:
        self.answers: list[tuple[int, Answer]] = []
        self.deadlines = Deadlines()
        self.reads = Reads(self.deadlines, self.answers, reads_max)
        self.leader = True
        self.asked: list[int] = []

    def read_index(self) -> int:
        if not self.leader:
            raise NotLeader(0)
        self.asked.append(100 + len(self.asked))
        return self.asked[-1]


def test_reads_that_arrive_together_share_one_index() -> None:
    table = ReadTable()
    for token in range(5):
        table.reads.add(token, 0)
    table.reads.ask(table.read_index)
    table.reads.add(5, 0)
    table.reads.ask(table.read_index)
    assert table.asked == [100, 101]
    table.reads.answered(100, LogIndex(7))
    table.reads.serve(LogIndex(6))
    assert table.answers == []
    table.reads.serve(LogIndex(8))
    assert table.answers == [(token, ReadReady(LogIndex(8))) for token in range(5)]
    table.reads.answered(101, LogIndex(8))
    table.reads.serve(LogIndex(8))
    assert len(table.answers) == 6
    assert len(table.reads) == 0


def test_a_retry_has_a_fresh_id_and_the_old_answer_still_counts() -> None:
    table = ReadTable()
    table.reads.add(1, 0)
    table.reads.ask(table.read_index)
    for _ in range(3):
        table.deadlines.tick()
    table.reads.retry(table.read_index, 3)
    assert table.asked == [100, 101]
    table.reads.answered(100, LogIndex(4))
    table.reads.answered(101, LogIndex(9))
    table.reads.serve(LogIndex(4))
    assert table.answers == [(1, ReadReady(LogIndex(4)))]


def test_reads_wait_for_a_leader_and_fail_at_their_deadline() -> None:
    table = ReadTable()
    table.leader = False
    table.reads.add(1, 2)
    table.reads.add(2, 50)
    table.reads.ask(table.read_index)
    for _ in range(2):
        for token in table.deadlines.tick():
            table.reads.expire(token, NodeId(0))
    [(token, answer)] = table.answers
    assert token == 1
    assert isinstance(answer, Failed)
    assert isinstance(answer.error, QuorumLost)
    table.leader = True
    table.reads.ask(table.read_index)
    table.reads.answered(100, LogIndex(1))
    table.reads.serve(LogIndex(1))
    assert table.answers[1] == (2, ReadReady(LogIndex(1)))


def test_reads_without_a_leader_leave_nothing_behind() -> None:
    """A cluster without a quorum is polled for hours: what expired must not pile up."""
    table = ReadTable()
    table.leader = False
    asked = 0
    for token in range(50):
        table.reads.add(token, 1)
        table.reads.ask(table.read_index)
        asked = max(asked, table.reads.unasked)
        for expired in table.deadlines.tick():
            table.reads.expire(expired, NodeId(0))
    assert len(table.answers) == 50
    assert asked <= 2


def test_dropped_reads_are_asked_again() -> None:
    table = ReadTable()
    table.reads.add(1, 0)
    table.reads.ask(table.read_index)
    table.reads.dropped([100])
    table.reads.ask(table.read_index)
    table.reads.answered(100, LogIndex(1))
    table.reads.serve(LogIndex(9))
    assert table.answers == []
    table.reads.answered(101, LogIndex(2))
    table.reads.serve(LogIndex(9))
    assert table.answers == [(1, ReadReady(LogIndex(9)))]


def test_reads_are_bounded() -> None:
    table = ReadTable(reads_max=1)
    table.reads.add(1, 0)
    table.reads.add(2, 0)
    [(token, answer)] = table.answers
    assert token == 2
    assert isinstance(answer, Failed)
    assert isinstance(answer.error, Overloaded)
