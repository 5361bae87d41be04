"""The log against a naive model, and its marks one by one."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from balsadb.raft.log import ENTRY_OVERHEAD_BYTES, Log, entries_bytes
from balsadb.types import Entry, LogIndex, Term
from tests.raft.solo import entries_at, log_of, meta


class LogMachine(RuleBasedStateMachine):
    """Random operations on a log and on a dict from index to entry."""

    def __init__(self):
        super().__init__()
        self.log = Log(LogIndex(0), Term(0), [])
        self.model: dict[int, Entry] = {}
        self.anchor = (0, 0)
        self.commit = self.handed = self.applied = self.persisted = self.written = 0

    @property
    def last(self) -> int:
        return max(self.model, default=self.anchor[0])

    @rule(count=st.integers(1, 4), newer=st.booleans(), size=st.integers(0, 30))
    def append(self, count, newer, size):
        term = Term(self.log.last_term + newer)
        entries = [Entry(LogIndex(self.last + 1 + k), term, 0, bytes(size)) for k in range(count)]
        self.log.append(entries)
        self.model.update({entry.index: entry for entry in entries})

    @precondition(lambda self: self.last > self.commit)
    @rule(data=st.data())
    def merge_conflicting_suffix(self, data):
        first = data.draw(st.integers(self.commit + 1, self.last))
        keep = data.draw(st.integers(self.commit + 1, first))
        same = [self.model[index] for index in range(keep, first)]
        term = Term(self.log.last_term + 1)
        cut = self.log.merge([*same, Entry(LogIndex(first), term, 0, b"new")])
        assert cut == first
        self.model = {index: e for index, e in self.model.items() if index < first}
        self.model[first] = Entry(LogIndex(first), term, 0, b"new")
        self.written, self.persisted = min(self.written, first - 1), min(self.persisted, first - 1)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def merge_what_is_there(self, data):
        first = data.draw(st.integers(min(self.model), self.last))
        stop = data.draw(st.integers(first, self.last))
        assert self.log.merge([self.model[i] for i in range(first, stop + 1)]) is None

    @rule()
    def write(self):
        entries = self.log.take_unwritten()
        assert [e.index for e in entries] == list(range(self.written + 1, self.last + 1))
        self.written = self.last

    @rule(data=st.data())
    def persist(self, data):
        index = data.draw(st.integers(0, self.written))
        assert self.log.persisted_to(LogIndex(index)) == (index > self.persisted)
        self.persisted = max(self.persisted, index)

    @rule(data=st.data())
    def commit_to(self, data):
        index = data.draw(st.integers(0, self.last))
        assert self.log.commit_to(LogIndex(index)) == (index > self.commit)
        self.commit = max(self.commit, index)

    @rule(limit=st.integers(1, 200))
    def hand(self, limit):
        could = self.log.can_hand(limit)
        entries = self.log.take_committed(limit)
        assert bool(entries) == could
        for entry in entries:
            assert entry.index == self.handed + 1
            assert entry == self.model[entry.index]
            self.handed += 1
        assert self.handed <= min(self.commit, self.persisted)
        assert len(entries) <= 1 or self.log.handed_bytes <= limit

    @rule(data=st.data())
    def apply(self, data):
        index = data.draw(st.integers(self.applied, self.handed))
        self.log.applied_to(LogIndex(index))
        self.applied = index

    @rule(data=st.data())
    def compact(self, data):
        index = data.draw(st.integers(0, self.applied))
        self.log.compact(LogIndex(index))
        if index > self.anchor[0]:
            self.anchor = (index, self.model[index].term)
            self.model = {i: e for i, e in self.model.items() if i > index}

    @rule(jump=st.integers(1, 5))
    def restore(self, jump):
        index, term = self.commit + jump, self.log.last_term + 1
        self.log.restore(meta(index, term))
        self.model, self.anchor = {}, (index, term)
        self.commit = self.handed = self.persisted = self.written = index
        # The host installs a snapshot before it applies anything after it.
        self.log.applied_to(LogIndex(index))
        self.applied = index

    @invariant()
    def equal(self):
        log = self.log
        log.check()
        assert (log.anchor_index, log.anchor_term) == self.anchor
        assert (log.commit, log.handed, log.applied) == (self.commit, self.handed, self.applied)
        assert (log.persisted, log.written) == (self.persisted, self.written)
        assert log.last_index == self.last
        assert log.log_bytes == entries_bytes(list(self.model.values()))
        for index in range(self.anchor[0] - 1, self.last + 2):
            expected = self.model[index].term if index in self.model else None
            if index == self.anchor[0]:
                expected = self.anchor[1]
            assert log.term(LogIndex(index)) == expected


TestLogMachine = LogMachine.TestCase
TestLogMachine.settings = settings(
    max_examples=120, stateful_step_count=40, deadline=None, derandomize=True
)


def log_at(*terms: int) -> Log:
    return Log(LogIndex(0), Term(0), log_of(*terms))


def test_a_gap_is_refused():
    with pytest.raises(AssertionError, match="gap"):
        log_at(1, 1).append(entries_at(4, 1))


def test_terms_never_decrease_along_the_log():
    with pytest.raises(AssertionError, match="term"):
        log_at(2, 2).append(entries_at(3, 1))


def test_committed_entries_are_never_truncated():
    log = log_at(1, 1, 1)
    log.commit_to(LogIndex(2))
    with pytest.raises(AssertionError, match="committed"):
        log.truncate(LogIndex(2))
    log.truncate(LogIndex(3))
    assert log.last_index == 2


def test_commit_past_the_end_is_refused():
    with pytest.raises(AssertionError, match="past the end"):
        log_at(1).commit_to(LogIndex(2))


def test_compaction_stops_at_what_is_applied():
    log = log_at(1, 1, 1)
    log.commit_to(LogIndex(3))
    with pytest.raises(AssertionError, match="applied"):
        log.compact(LogIndex(1))


@pytest.mark.parametrize(
    ("last", "expected"),
    [((4, 2), True), ((3, 2), True), ((2, 2), False), ((9, 1), False), ((1, 3), True)],
)
def test_up_to_date_compares_the_last_term_first_then_the_length(last, expected):
    """Raft 5.4.1: our log is 1@1 2@2 3@2."""
    assert log_at(1, 2, 2).is_up_to_date(LogIndex(last[0]), Term(last[1])) is expected


@pytest.mark.parametrize(
    ("index", "term", "expected"),
    [
        (5, 4, (5, 4)),
        (5, 3, (3, 2)),
        (5, 2, (3, 2)),
        (5, 1, (1, 1)),
        (5, 0, (0, 0)),
        (2, 9, (2, 2)),
        (9, 4, (5, 4)),
    ],
)
def test_find_by_term_skips_whole_terms(index, term, expected):
    assert log_at(1, 2, 2, 4, 4).find_by_term(LogIndex(index), Term(term)) == expected


def test_slice_is_bounded_by_bytes_but_never_empty():
    log = log_at(1, 1, 1)
    one = len(b"1@1") + ENTRY_OVERHEAD_BYTES
    for limit, count in [(0, 1), (one, 1), (2 * one - 1, 1), (2 * one, 2), (10 * one, 3)]:
        assert len(log.slice(LogIndex(1), LogIndex(4), limit)) == count


def test_entry_data_is_never_copied():
    data = bytes(1000)
    log = Log(LogIndex(0), Term(0), [])
    log.append([Entry(LogIndex(1), Term(1), 0, data)])
    log.commit_to(LogIndex(1))
    assert log.take_unwritten()[0].data is data
    assert log.slice(LogIndex(1), LogIndex(2), 10)[0].data is data


def test_a_snapshot_may_overtake_entries_still_being_applied():
    log = log_at(1, 1, 1)
    log.commit_to(LogIndex(3))
    assert len(log.take_committed(1000)) == 3
    log.restore(meta(10, 2))
    log.applied_to(LogIndex(2))
    log.applied_to(LogIndex(10))
    log.check()
