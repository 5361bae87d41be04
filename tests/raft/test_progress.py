"""A follower as its leader sees it: the three states, and the window."""

import pytest

from balsadb.raft.progress import Inflights, Progress
from balsadb.types import LogIndex


def progress(
    match: int, following: int, *, messages_max: int = 3, bytes_max: int = 100
) -> Progress:
    made = Progress(LogIndex(following), Inflights(messages_max, bytes_max))
    made.match = LogIndex(match)
    return made


def test_inflights_are_full_by_messages_or_by_bytes():
    window = Inflights(2, 100)
    window.add(LogIndex(1), 10)
    assert not window.is_full
    window.add(LogIndex(2), 10)
    assert window.is_full
    window.release_to(LogIndex(1))
    assert not window.is_full
    window.add(LogIndex(3), 90)
    assert window.is_full
    window.release_to(LogIndex(3))
    assert len(window) == 0
    window.add(LogIndex(4), 1000)
    assert window.is_full


def test_inflights_refuse_more_than_the_limit():
    window = Inflights(1, 100)
    window.add(LogIndex(1), 1)
    with pytest.raises(AssertionError, match="limit"):
        window.add(LogIndex(2), 1)


def test_probe_sends_one_append_at_a_time():
    peer = progress(0, 5)
    assert not peer.is_paused
    peer.sent(2, 10, LogIndex(0))
    assert peer.is_paused
    assert peer.next == 5


def test_replicate_runs_ahead_until_the_window_is_full():
    peer = progress(4, 5, messages_max=2)
    peer.become_replicate()
    peer.sent(3, 10, LogIndex(0))
    assert (peer.next, peer.is_paused) == (8, False)
    peer.sent(1, 10, LogIndex(0))
    assert (peer.next, peer.is_paused) == (9, True)


def test_acknowledge_never_goes_back():
    peer = progress(4, 9)
    assert not peer.acknowledge(LogIndex(3))
    assert not peer.acknowledge(LogIndex(4))
    assert peer.acknowledge(LogIndex(10))
    assert (peer.match, peer.next) == (10, 11)


@pytest.mark.parametrize(
    ("rejected", "hint", "known", "following"),
    [(4, 4, False, 10), (5, 0, True, 6), (9, 9, True, 6)],
)
def test_reject_while_replicating_falls_back_to_match(rejected, hint, known, following):
    peer = progress(5, 10)
    peer.state = "replicate"
    assert peer.reject(LogIndex(rejected), LogIndex(hint)) is (rejected > 5)
    assert peer.next == (following if rejected > 5 else 10)


@pytest.mark.parametrize(
    ("rejected", "hint", "known", "following"),
    [
        (8, 8, False, 10),  # stale: not what was asked last
        (9, 9, True, 9),
        (9, 2, True, 3),
        (9, 0, True, 1),
    ],
)
def test_reject_while_probing_jumps_to_the_hint(rejected, hint, known, following):
    peer = progress(0, 10)
    peer.paused = True
    assert peer.reject(LogIndex(rejected), LogIndex(hint)) is known
    assert (peer.next, peer.paused) == (following, not known)


def test_probe_after_a_snapshot_asks_behind_it():
    peer = progress(1, 5)
    peer.become_snapshot(LogIndex(20))
    assert peer.is_paused
    peer.become_probe()
    assert (peer.next, peer.match, peer.state) == (21, 1, "probe")


def test_can_bump_commit_only_up_to_what_was_sent():
    peer = progress(4, 5)
    peer.become_replicate()
    assert peer.can_bump_commit(LogIndex(3))
    peer.sent(0, 0, LogIndex(4))
    assert not peer.can_bump_commit(LogIndex(4))
    assert not peer.can_bump_commit(LogIndex(9))
