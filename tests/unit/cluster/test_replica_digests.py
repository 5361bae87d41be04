"""Digests at markers: whoever waits for one gets an answer, or learns that there will be none."""

from concurrent.futures import Future

import pytest

from balsadb.cluster.replicas import MARKERS_KEPT, Digests, ReplicaDigests
from balsadb.columns import ColumnSet
from balsadb.errors import NotReady
from balsadb.types import LogIndex


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
