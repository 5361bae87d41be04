"""Figures for Prometheus: the dialect's names where it has them, `balsadb_*` for ours.

Gauges are read from the service when they are asked for; only requests are counted as they pass.
"""

from collections.abc import Iterable, Mapping
from typing import Any, cast

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from balsadb.api.route import Route
from balsadb.database.database import Database
from balsadb.embedded.service import Service
from balsadb.index import compilations

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS = (
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0,
)  # fmt: skip

_GAUGES = (
    ("cluster_term", "The current election's number", ("term",)),
    (
        "cluster_commit",
        "Log index up to which the log is committed, as this node knows",
        ("commit",),
    ),
    ("balsadb_applied_index", "Log index up to which this node has applied", ("applied",)),
    ("balsadb_log_bytes", "Bytes of the log in memory", ("log_bytes",)),
    ("balsadb_uncommitted_bytes", "Bytes proposed and not committed", ("uncommitted_bytes",)),
    ("balsadb_checkpoint_index", "Log index of the newest checkpoint", ("checkpoint", "index")),
    ("balsadb_points", "Points of all collections", ("points",)),
    ("balsadb_linked_vectors", "Vectors in the graphs", ("linked",)),
    (
        "balsadb_distances_at_ready",
        "Distances computed between the start of the process and its being ready",
        ("distances_at_ready",),
    ),
    ("balsadb_tail_vectors", "Vectors not linked yet, which are scanned", ("tail",)),
    ("balsadb_code_rows", "Rows that are to have 8-bit codes", ("codes", "rows")),
    (
        "balsadb_coded_rows",
        "Rows that have codes of the present quantiser",
        ("codes", "coded"),
    ),
    (
        "balsadb_quantisers",
        "Decisions on quantisers, of the present collections",
        ("codes", "epoch"),
    ),
    (
        "balsadb_disk_free_bytes",
        "Bytes free where the data directory lies, as last measured",
        ("disk", "free_bytes"),
    ),
    (
        "balsadb_disk_stalled_seconds",
        "How long a sync of the log has hung; 0 unless it hangs",
        ("disk", "stalled_s"),
    ),
    (
        "balsadb_lock_hold_longest_milliseconds",
        "Longest hold of the interpreter lock since the start",
        ("longest_lock_hold", "longest_ms"),
    ),
)
_COUNTERS = (
    ("balsadb_checkpoints", "Checkpoints written", ("checkpoint", "written")),
    ("balsadb_snapshots_received", "Snapshots installed", ("snapshot", "received")),
    ("balsadb_link_plans", "Graph edits planned", ("linker", "plans")),
    ("balsadb_frames_foreign", "Frames of another cluster, refused", ("frames", "foreign")),
)


class Metrics:
    """One node's figures."""

    def __init__(self, version: str) -> None:
        self._version = version
        self._registry = CollectorRegistry()
        self._durations = Histogram(
            "rest_responses_duration_seconds",
            "Time from the request's headers to the answer's last byte",
            ("method", "endpoint", "status"),
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._cells: dict[tuple[str, int], Histogram] = {}

    def observe(self, route: Route, status: int, seconds: float) -> None:
        """Count one answered request."""
        key = (route.operation, status)
        cell = self._cells.get(key)
        if cell is None:
            cell = self._durations.labels(route.method, route.path, str(status))
            self._cells[key] = cell
        cell.observe(seconds)

    async def render(self, service: Service) -> bytes:
        """All figures in Prometheus' text format."""
        status = await service.status()
        state = await service.read(_state, local=True, timeout_s=1.0)
        snapshot = CollectorRegistry()
        snapshot.register(_Snapshot(self._version, status, state))
        return generate_latest(snapshot) + generate_latest(self._registry)


class _State:
    """What the metrics want to know of the database."""

    def __init__(self, collections: list[str], points: list[int], distances: int) -> None:
        self.collections = collections
        self.points = points
        self.distances = distances


def _state(database: Database) -> _State:
    names = database.collections()
    return _State(names, [database.count(name) for name in names], database.distances_total)


class _Snapshot(Collector):
    """The service's figures at one moment."""

    def __init__(self, version: str, status: Mapping[str, Any], state: _State) -> None:
        self._version = version
        self._status = status
        self._state = state

    def collect(self) -> Iterable[Metric]:
        """Every family once."""
        status, state = self._status, self._state
        about = GaugeMetricFamily("app_info", "Name and version", labels=("name", "version"))
        about.add_metric(("balsadb", self._version), 1)
        yield about
        yield GaugeMetricFamily("collections_total", "Collections", value=len(state.collections))
        sizes = GaugeMetricFamily("collection_points", "Points of a collection", labels=("id",))
        for name, count in zip(state.collections, state.points, strict=True):
            sizes.add_metric((name,), count)
        yield sizes
        yield from self._cluster()
        for name, text, path in _GAUGES:
            value = _at(status, path)
            if value is not None:
                yield GaugeMetricFamily(name, text, value=value)
        for name, text, path in _COUNTERS:
            value = _at(status, path)
            if value is not None:
                yield CounterMetricFamily(name, text, value=value)
        yield CounterMetricFamily(
            "balsadb_distances", "Distances computed by this process", value=state.distances
        )
        yield CounterMetricFamily(
            "balsadb_kernel_compilations",
            "Kernel specialisations compiled by this process",
            value=compilations(),
        )

    def _cluster(self) -> Iterable[Metric]:
        status = self._status
        peers: Mapping[Any, Any] = status.get("peers") or {}
        addresses: Mapping[Any, Any] = status.get("addresses") or {}
        yield GaugeMetricFamily("cluster_enabled", "Always 1: one node is a cluster too", value=1)
        yield GaugeMetricFamily("cluster_peers_total", "Members", value=1 + len(addresses))
        votes = float(status.get("voter", True))
        yield GaugeMetricFamily("cluster_voter", "Whether this node votes", value=votes)
        leads = float(status.get("role") == "leader")
        yield GaugeMetricFamily("balsadb_leader", "Whether this node leads", value=leads)
        pending = max(0, int(status.get("commit", 0)) - int(status.get("applied", 0)))
        yield GaugeMetricFamily(
            "cluster_pending_operations_total", "Entries committed, not applied", value=pending
        )
        lags = GaugeMetricFamily(
            "balsadb_peer_lag", "Entries a peer lacks, as the leader knows", labels=("peer",)
        )
        for peer, figures in peers.items():
            lags.add_metric((str(peer),), float(figures.get("lag", 0)))
        yield lags
        queues = GaugeMetricFamily("balsadb_queue_depth", "Work waiting", labels=("queue",))
        depths: Mapping[str, Any] = status.get("queues") or {}
        for name, depth in depths.items():
            queues.add_metric((name,), float(depth))
        yield queues


def _at(status: Mapping[str, Any], path: tuple[str, ...]) -> float | None:
    value: Any = status
    for key in path:
        if not isinstance(value, Mapping):
            return None
        value = cast("Mapping[str, Any]", value).get(key)
    return float(value) if isinstance(value, int | float) else None
