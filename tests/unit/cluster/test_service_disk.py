"""What callers of a node see of its disk: readiness, and which requests need room."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast, get_args

import pytest

from balsadb.cluster.disk_watch import DiskWatch
from balsadb.cluster.options import DriverOptions
from balsadb.cluster.service import SHRINKING, ClusterService
from balsadb.cluster.settings import NodeSettings
from balsadb.cluster.workers import Pulse
from balsadb.database import Request
from balsadb.types import ClusterId, DiskId, NodeId


@pytest.fixture
def service() -> Iterator[ClusterService]:
    made = ClusterService(NodeSettings(tick_ms=100), Pulse())
    yield made
    made.close()


def test_a_node_whose_disk_hangs_is_not_ready_until_a_sync_returns(service: ClusterService) -> None:
    options = DriverOptions(
        node=NodeId(1), cluster=ClusterId(7), disk=DiskId(11), seed=1, disk_stall_ticks=20
    )
    disk = DiskWatch(options)
    driver = SimpleNamespace(removed="", is_ready=True, disk=disk)
    service.bind(
        cast("Any", SimpleNamespace(driver=driver, refusals={})),
        cast("Any", None),
        cast("Any", None),
    )
    for _ in range(20):
        disk.tick(syncing=True)
        assert service.ready() == (True, "all shards are ready")
    for _ in range(10):
        disk.tick(syncing=True)
    assert service.ready() == (False, "the disk hangs: a sync has been under way for 2.9 s")
    disk.synced()
    assert service.ready()[0]


def test_every_request_that_adds_data_needs_room() -> None:
    growing = {kind.__name__ for kind in get_args(Request)} - {k.__name__ for k in SHRINKING}
    assert growing == {
        "CreateCollection",
        "UpdateCollection",
        "CreatePayloadIndex",
        "UpsertPoints",
        "SetPayload",
        "OverwritePayload",
    }
