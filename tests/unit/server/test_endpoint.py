"""Bodies within bounds, and figures of what passed."""

import asyncio

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.requests import ClientDisconnect

from balsadb.api.limits import (
    ARRIVING_BYTES_FREE,
    ARRIVING_BYTES_MAX,
    BODIES_BYTES_MAX,
    BODY_BYTES_MAX,
    REQUESTS_MAX,
)
from balsadb.api.routes import BY_OPERATION
from balsadb.errors import BodyTooLarge, BodyTooSlow, Overloaded
from balsadb.server.admission import Admission
from balsadb.server.endpoint import read_body
from balsadb.server.metrics import Metrics
from tests.conformance.local_service import LocalService


def receiving(*messages):
    waiting = list(messages)

    async def receive():
        return waiting.pop(0)

    return receive, waiting


def read(receive, headers, admission=None, timeout_s=10.0):
    """What `read_body` returns; whatever comes of it, nothing may stay counted."""
    admission = admission or Admission()
    before = admission.arriving_bytes
    try:
        return asyncio.run(read_body(receive, headers, admission, timeout_s))
    finally:
        assert admission.arriving_bytes == before


def part(body, more=True):
    return {"type": "http.request", "body": body, "more_body": more}


def test_parts_are_joined():
    receive, _ = receiving(part(b"a"), part(b""), part(b"bc"), part(b"d", more=False))
    assert read(receive, {}) == b"abcd"


def test_an_announced_excess_is_refused_unread():
    receive, waiting = receiving(part(b"x", more=False))
    with pytest.raises(BodyTooLarge):
        read(receive, {"content-length": str(BODY_BYTES_MAX + 1)})
    assert len(waiting) == 1


def test_an_unannounced_excess_is_refused_at_the_limit():
    piece = bytes(BODY_BYTES_MAX // 2 + 1)
    receive, waiting = receiving(part(piece), part(piece), part(piece, more=False))
    with pytest.raises(BodyTooLarge):
        read(receive, {})
    assert len(waiting) == 1
    receive, _ = receiving(part(bytes(BODY_BYTES_MAX + 1), more=False))
    with pytest.raises(BodyTooLarge):
        read(receive, {})


def test_a_body_of_exactly_the_maximum_passes():
    receive, _ = receiving(part(bytes(BODY_BYTES_MAX), more=False))
    assert len(read(receive, {})) == BODY_BYTES_MAX


@pytest.mark.parametrize("before", [[], [part(b"x")]])
def test_a_client_that_left(before):
    receive, _ = receiving(*before, {"type": "http.disconnect"})
    with pytest.raises(ClientDisconnect):
        read(receive, {})


def test_admission_is_bounded_in_requests_and_bytes():
    admission = Admission()
    for _ in range(REQUESTS_MAX):
        admission.enter(0)
    with pytest.raises(Overloaded) as caught:
        admission.enter(0)
    assert caught.value.retry_after_s >= 1
    admission.leave(0)
    admission.enter(0)

    admission = Admission()
    whole = BODIES_BYTES_MAX // BODY_BYTES_MAX
    for _ in range(whole):
        admission.enter(BODY_BYTES_MAX)
    with pytest.raises(Overloaded, match="bodies"):
        admission.enter(1)
    assert (admission.requests, admission.body_bytes) == (whole, whole * BODY_BYTES_MAX)
    for _ in range(whole):
        admission.leave(BODY_BYTES_MAX)
    assert (admission.requests, admission.body_bytes) == (0, 0)


def never(*messages):
    """Receives these messages; then the client sends nothing, for ever."""
    waiting = list(messages)

    async def receive():
        if not waiting:
            await asyncio.Event().wait()
        return waiting.pop(0)

    return receive


@pytest.mark.parametrize("before", [[], [part(b"{")], [part(bytes(1 << 20))] * 3])
def test_a_body_that_does_not_come_ends_at_its_deadline(before, monkeypatch):
    with pytest.raises(BodyTooSlow, match="within 0.01 seconds") as caught:
        read(never(*before), {"content-length": "5000000"}, timeout_s=0.01)
    assert caught.value.field == "body"
    # A patient request has no longer than anybody else.
    monkeypatch.setattr("balsadb.server.endpoint.BODY_READ_TIMEOUT_S", 0.02)
    with pytest.raises(BodyTooSlow, match="within 0.02 seconds"):
        read(never(*before), {}, timeout_s=3600)


def test_arriving_bytes_are_bounded_but_small_bodies_pass():
    admission = Admission()
    counted = admission.arrived(0, 1000)
    assert counted == 0
    counted = admission.arrived(counted, ARRIVING_BYTES_FREE + 5)
    assert counted == admission.arriving_bytes == 5
    counted = admission.arrived(counted, ARRIVING_BYTES_FREE + ARRIVING_BYTES_MAX)
    assert counted == admission.arriving_bytes == ARRIVING_BYTES_MAX
    with pytest.raises(Overloaded, match="unfinished"):
        admission.arrived(0, ARRIVING_BYTES_FREE + 1)
    assert admission.arriving_bytes == ARRIVING_BYTES_MAX

    half = bytes(ARRIVING_BYTES_FREE // 2)
    receive, _ = receiving(part(half), part(half), part(b"x", more=False))
    assert len(read(receive, {}, admission)) == ARRIVING_BYTES_FREE + 1
    receive, _ = receiving(part(half), part(half), part(b"x"))
    with pytest.raises(Overloaded):
        read(receive, {}, admission)
    admission.stop_counting(counted)
    assert admission.arriving_bytes == 0


def test_metrics_are_well_formed_and_count_requests():
    metrics = Metrics("1.2.3")
    route = BY_OPERATION["query_points"]
    metrics.observe(route, 200, 0.003)
    metrics.observe(route, 200, 0.5)
    metrics.observe(route, 404, 0.001)

    service = LocalService()
    status = {
        "node": 1,
        "role": "leader",
        "term": 3,
        "commit": 9,
        "applied": 7,
        "log_bytes": 100,
        "peers": {2: {"lag": 4}, 3: {"lag": 0}},
        "addresses": {"2": "a:1", "3": "b:2"},
        "queues": {"wal": 2},
        "checkpoint": {"index": 5, "written": 1},
        "disk": {"free_bytes": 1 << 30, "stalled_s": 2.5},
        "longest_lock_hold": {"longest_ms": 12.5},
        "unheard_of": {"x": []},
    }

    async def figures():
        return status

    service.status = figures
    text = asyncio.run(metrics.render(service)).decode()
    found = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found["cluster_term",] == 3
    assert found["cluster_pending_operations_total",] == 2
    assert found["cluster_peers_total",] == 3
    assert found["balsadb_peer_lag", ("peer", "2")] == 4
    assert found["balsadb_queue_depth", ("queue", "wal")] == 2
    assert found["balsadb_checkpoint_index",] == 5
    assert found["balsadb_disk_free_bytes",] == 1 << 30
    assert found["balsadb_disk_stalled_seconds",] == 2.5
    assert found["balsadb_lock_hold_longest_milliseconds",] == 12.5
    assert found["balsadb_distances_total",] == 0
    key = (
        "rest_responses_duration_seconds_count",
        ("endpoint", route.path),
        ("method", "POST"),
        ("status", "200"),
    )
    assert found[key] == 2
