"""Digests at markers: whoever waits for one gets an answer, or learns that there will be none."""

from concurrent.futures import Future

import pytest

from balsadb.cluster.replicas import MARKERS_KEPT, Digests, ReplicaDigests, compare
from balsadb.columns import ColumnSet
from balsadb.errors import NotReady
from balsadb.types import LogIndex, NodeId


def test_a_marker_that_is_never_applied_here_leaves_nobody_waiting() -> None:
    """A snapshot may jump over it."""
    digests = ReplicaDigests(lambda error: pytest.fail(str(error)))
    skipped = digests.at(LogIndex(1))
    for index in range(2, 2 + MARKERS_KEPT):
        digests.at(LogIndex(index))
    with pytest.raises(NotReady):
        skipped.result(0)


def test_a_waiter_that_gives_up_spoils_nothing_for_the_others() -> None:
    failures: list[BaseException] = []
    digests = ReplicaDigests(failures.append)
    digests.start()
    waiting: Future[Digests] = digests.at(LogIndex(5))
    waiting.cancel()
    digests.take(LogIndex(5), ColumnSet())
    assert digests.at(LogIndex(5)).result(10.0) == {}
    digests.stop()
    assert failures == []


def test_who_gave_no_digests_is_not_compared_and_does_not_differ() -> None:
    one, other = {"ids": "aa", "links": "bb"}, {"ids": "aa", "links": "cc"}
    index = LogIndex(9)
    nobody = compare(index, {NodeId(1): one, NodeId(2): one})
    assert (nobody["equal"], nobody["differing"], nobody["not_compared"]) == (True, [], [])
    down = compare(index, {NodeId(3): "not reached", NodeId(1): one, NodeId(2): one})
    assert (down["equal"], down["differing"], down["not_compared"]) == (False, [], [3])
    both = compare(index, {NodeId(1): one, NodeId(2): other, NodeId(3): "not reached"})
    assert (both["equal"], both["differing"], both["not_compared"]) == (False, ["links"], [3])
