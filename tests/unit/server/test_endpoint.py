"""Bodies within bounds, and figures of what passed."""

import asyncio

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.requests import ClientDisconnect

from balsadb.api.limits import BODIES_BYTES_MAX, BODY_BYTES_MAX, REQUESTS_MAX
from balsadb.api.routes import BY_OPERATION
from balsadb.errors import BodyTooLarge, Overloaded
from balsadb.server.admission import Admission, announced_bytes
from balsadb.server.endpoint import read_body
from balsadb.server.metrics import Metrics
from tests.conformance.local_service import LocalService


def receiving(*messages):
    waiting = list(messages)

    async def receive():
        return waiting.pop(0)

    return receive, waiting


def part(body, more=True):
    return {"type": "http.request", "body": body, "more_body": more}


def test_parts_are_joined():
    receive, _ = receiving(part(b"a"), part(b""), part(b"bc"), part(b"d", more=False))
    assert asyncio.run(read_body(receive, {})) == b"abcd"


def test_an_announced_excess_is_refused_unread():
    receive, waiting = receiving(part(b"x", more=False))
    with pytest.raises(BodyTooLarge):
        asyncio.run(read_body(receive, {"content-length": str(BODY_BYTES_MAX + 1)}))
    assert len(waiting) == 1


def test_an_unannounced_excess_is_refused_at_the_limit():
    piece = bytes(BODY_BYTES_MAX // 2 + 1)
    receive, waiting = receiving(part(piece), part(piece), part(piece, more=False))
    with pytest.raises(BodyTooLarge):
        asyncio.run(read_body(receive, {}))
    assert len(waiting) == 1
    receive, _ = receiving(part(bytes(BODY_BYTES_MAX + 1), more=False))
    with pytest.raises(BodyTooLarge):
        asyncio.run(read_body(receive, {}))


def test_a_body_of_exactly_the_maximum_passes():
    receive, _ = receiving(part(bytes(BODY_BYTES_MAX), more=False))
    assert len(asyncio.run(read_body(receive, {}))) == BODY_BYTES_MAX


@pytest.mark.parametrize("before", [[], [part(b"x")]])
def test_a_client_that_left(before):
    receive, _ = receiving(*before, {"type": "http.disconnect"})
    with pytest.raises(ClientDisconnect):
        asyncio.run(read_body(receive, {}))


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


def test_what_a_body_may_come_to():
    assert announced_bytes("12", None) == 12
    assert announced_bytes(str(1 << 40), None) == BODY_BYTES_MAX
    assert announced_bytes(None, "chunked") == BODY_BYTES_MAX
    assert announced_bytes(None, None) == 0


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
    assert found["balsadb_lock_hold_longest_milliseconds",] == 12.5
    assert found["balsadb_distances_total",] == 0
    key = (
        "rest_responses_duration_seconds_count",
        ("endpoint", route.path),
        ("method", "POST"),
        ("status", "200"),
    )
    assert found[key] == 2
