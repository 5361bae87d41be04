"""`balsadb demo`: the main job, in the order in which a user would ask for it.

Three real node processes on this machine, in a folder and on ports of their own: load all films
over REST; ask each node for similar films and hold the answers against one another, bit by bit;
measure recall; kill the leader under load; bring it back and compare every column of every node.
"""

import contextlib
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from balsadb.api.results import ScoredPoint
from balsadb.cli.failover import PATIENT, Searcher, Writer
from balsadb.cli.films import COLLECTION, Films, load
from balsadb.cli.local_cluster import ClusterPlan, LocalCluster, NodeProcess
from balsadb.cli.report import Report
from balsadb.client import Client
from balsadb.client.requests import Search
from balsadb.errors import BalsaError, NotReady

NODES = 3
ASKED = (("Rocky III", 1982), ("Jaws", 1975), ("Alien", 1979))
NEAREST = 6
RECALL_QUERIES = 300
RECALL_MIN = 0.97
EF = 64
LATENCY_QUERIES = 300
LOAD_BEFORE_KILL_S = 2.0
LOAD_AFTER_KILL_S = 4.0
GAP_MAX_MS = 10_000
LINK_TIMEOUT_S = 120.0
CATCH_UP_TIMEOUT_S = 60.0
GONE_TIMEOUT_S = 5.0
POLL_S = 0.1


def run(*, as_json: bool, keep: bool) -> int:
    """Run the demo; 0 only if every check held. Nothing is left running."""
    console = Console(stderr=True)
    report = Report()
    began = time.monotonic()
    with _cluster(console, keep=keep) as cluster:
        try:
            Demo(cluster, report, console).run()
        except BalsaError as error:
            report.check("the demo ran to its end", False, error.message)
            _show_logs(cluster, console)
    report.figures["total_s"] = round(time.monotonic() - began, 1)
    left = _left_running(cluster)
    text = f"processes {', '.join(map(str, left))}" if left else "no process"
    report.check("nothing is left running", not left, text)
    if as_json:
        print(report.to_json())
    else:
        report.show(Console())
        print(f"total {report.figures['total_s']} s")
    return 0 if report.ok else 1


def load_into(url: str) -> None:
    """Load the films into a cluster that runs, replacing what it has under that name."""
    console = Console(stderr=True)
    with Client(url) as client:
        client.delete_collection(COLLECTION)
        load_films(client, load(), console)


@contextlib.contextmanager
def _cluster(console: Console, *, keep: bool) -> Generator[LocalCluster, None, None]:
    """A cluster in a folder of its own; on leaving it is stopped and the folder deleted."""
    folder = Path(tempfile.mkdtemp(prefix="balsadb-demo-"))
    cluster = LocalCluster.create_or_open(folder, ClusterPlan.on_free_ports(NODES))
    previous = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield cluster
    finally:
        cluster.stop()
        signal.signal(signal.SIGTERM, previous)
        if keep:
            console.print(f"data and logs: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _left_running(cluster: LocalCluster) -> list[int]:
    """Processes of the nodes, or children of theirs, that do not end."""
    deadline = time.monotonic() + GONE_TIMEOUT_S
    while True:
        left = [pid for node in cluster.nodes for pid in node.left_running()]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(POLL_S)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    """Leave by an exception, so that the nodes are stopped on the way out."""
    del frame
    sys.exit(128 + number)


def _show_logs(cluster: LocalCluster, console: Console) -> None:
    for node in cluster.nodes:
        console.print(f"--- end of node {node.number}'s log", markup=False)
        console.print(node.last_log_lines(), markup=False)


def load_films(client: Client, films: Films, console: Console) -> float:
    """Create the collection and store all films, with a progress bar; seconds it took."""
    client.create_collection(COLLECTION, {"size": films.vectors.shape[1], "distance": "Cosine"})
    client.create_payload_index(COLLECTION, "year", "integer")
    client.create_payload_index(COLLECTION, "genres", "keyword")
    columns = (TextColumn("loading films"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    began = time.monotonic()
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=len(films.vectors))
        client.upload(
            COLLECTION,
            films.vectors,
            payloads=films.payloads,
            on_progress=lambda done: progress.update(task, completed=done),
        )
    return time.monotonic() - began


class Demo:
    """The steps; each adds its checks and figures to the report."""

    def __init__(self, cluster: LocalCluster, report: Report, console: Console) -> None:
        self.cluster = cluster
        self.report = report
        self.console = console
        self.films = load()

    def run(self) -> None:
        """All steps in order."""
        self.start()
        with contextlib.ExitStack() as stack:
            urls = [node.url for node in self.cluster.nodes]
            clients = [stack.enter_context(Client(url, options=PATIENT)) for url in urls]
            self.load(clients)
            self.ask_all(clients)
            self.measure_recall(clients)
            self.measure_latency(clients)
            killed, written = self.kill_leader(clients)
            self.bring_back(killed, clients)
            self.prove(clients, written)

    def start(self) -> None:
        """Three processes, ready."""
        began = time.monotonic()
        self.console.print(f"starting {NODES} nodes")
        self.cluster.start()
        self.cluster.wait_ready(on_event=self.console.print)
        seconds = time.monotonic() - began
        self.report.figures["start_s"] = round(seconds, 2)
        pids = ", ".join(str(node.pid) for node in self.cluster.nodes)
        self.report.check("three nodes are ready", True, f"{seconds:.1f} s (processes {pids})")

    def load(self, clients: Sequence[Client]) -> None:
        """All films over REST; then wait until the graph has them all."""
        seconds = load_films(clients[0], self.films, self.console)
        count = len(self.films.vectors)
        counts = [client.count(COLLECTION) for client in clients]
        self.report.figures["load_s"] = round(seconds, 2)
        rate = count / seconds
        self.report.check(
            "every film is on every node",
            counts == [count] * len(clients),
            f"{count:,} films in {seconds:.1f} s ({rate:,.0f}/s)",
        )
        began = time.monotonic()
        with self.console.status("linking the graph"):
            self._wait(clients, "tail", 0, LINK_TIMEOUT_S)
        linked_s = time.monotonic() - began
        self.report.figures["linked_after_s"] = round(linked_s, 2)
        self.report.check("the graph has every film", True, f"{linked_s:.1f} s after the load")

    def ask_all(self, clients: Sequence[Client]) -> None:
        """The same questions to each node; the answers must be the same to the last bit."""
        for title, year in ASKED:
            row = self.films.find(title, year)
            answers = [client.query(COLLECTION, row, limit=NEAREST) for client in clients]
            same = all(_bits(answer) == _bits(answers[0]) for answer in answers)
            table = Table("score", "film", title=f"nearest to {title} ({year})")
            for point in answers[0]:
                payload = point.payload or {}
                table.add_row(f"{point.score:.6f}", f"{payload['title']} ({payload['year']})")
            self.console.print(table)
            best = (answers[0][0].payload or {}).get("title", "")
            self.report.check(
                f"three answers alike: {title}",
                same and len(answers[0]) == NEAREST,
                f"{NEAREST} films, first {best}; ids and scores equal to the last bit"
                if same
                else "the answers differ",
            )

    def measure_recall(self, clients: Sequence[Client]) -> None:
        """Recall@10 of the graph against the exact search, asked of different nodes."""
        step = len(self.films.vectors) // RECALL_QUERIES
        rows = range(0, RECALL_QUERIES * step, step)
        vectors = [self.films.vectors[row] for row in rows]
        walked = _answers(clients[-1], vectors, exact=False)
        exact = _answers(clients[0], vectors, exact=True)
        hits = [len(found & true) / 10 for found, true in zip(walked, exact, strict=True)]
        recall = statistics.mean(hits)
        self.report.figures["recall_at_10"] = round(recall, 4)
        self.report.check(
            "recall@10 against exact search",
            recall >= RECALL_MIN,
            f"{recall:.4f} at ef {EF} (at least {RECALL_MIN}), {RECALL_QUERIES} queries",
        )

    def measure_latency(self, clients: Sequence[Client]) -> None:
        """Median of one search over REST, on the leader and on a follower."""
        leader = self._leader(clients)
        follower = (leader + 1) % len(clients)
        shown: list[str] = []
        for name, client in (
            ("leader", clients[leader]),
            ("follower", clients[follower]),
            ("local", clients[follower].with_options(local=True)),
        ):
            times: list[float] = []
            for row in range(LATENCY_QUERIES):
                began = time.perf_counter()
                client.query(COLLECTION, self.films.vectors[row], limit=10, with_payload=False)
                times.append(time.perf_counter() - began)
            median_ms = round(statistics.median(times) * 1e3, 2)
            self.report.figures[f"search_p50_ms_{name}"] = median_ms
            shown.append(f"{name} {median_ms} ms")
        self.report.note("one search over REST, median", ", ".join(shown))

    def kill_leader(self, clients: Sequence[Client]) -> tuple[NodeProcess, list[int]]:
        """SIGKILL the leader while writing and searching; the node, and the acknowledged ids."""
        victim = self._leader(clients)
        node = self.cluster.nodes[victim]
        others = [other.url for other in self.cluster.nodes if other is not node]
        vectors = self.films.vectors
        writer = Writer(others, COLLECTION, vectors)
        searchers = [Searcher(url, COLLECTION, vectors) for url in others]
        local = Searcher(others[0], COLLECTION, vectors, local=True)
        time.sleep(LOAD_BEFORE_KILL_S)
        self.console.print(f"killing node {node.number}, the leader, with SIGKILL")
        killed_at = time.monotonic()
        node.kill()
        time.sleep(LOAD_AFTER_KILL_S)
        written = writer.stop()
        searched = [searcher.stop() for searcher in searchers]
        searched_locally = local.stop()
        self._check_gap("writes", writer.outcome.gap_ms(killed_at), killed_at, [written])
        gap_ms = max(outcome.gap_ms(killed_at) for outcome in searched)
        self._check_gap("searches", gap_ms, killed_at, searched)
        gap_ms = searched_locally.gap_ms(killed_at)
        self._check_gap("local searches", gap_ms, killed_at, [searched_locally])
        return node, writer.written

    def _check_gap(self, what: str, gap_ms: float, killed_at: float, seen: Sequence[Any]) -> None:
        errors = [error for outcome in seen for error in outcome.errors]
        after = sum(outcome.count_after(killed_at) for outcome in seen)
        self.report.figures[f"gap_ms_{what.replace(' ', '_')}"] = round(gap_ms)
        text = f"gap {gap_ms:,.0f} ms, {after:,} after the kill, {len(errors)} errors"
        if errors:
            text += f" ({errors[0]})"
        name = f"{what} survive the leader's death"
        self.report.check(name, gap_ms < GAP_MAX_MS and not errors, text)

    def bring_back(self, killed: NodeProcess, clients: Sequence[Client]) -> None:
        """Start the killed node again and wait until it has applied what the others have."""
        began = time.monotonic()
        self.cluster.start()
        self.cluster.wait_ready()
        ready_s = time.monotonic() - began
        commit = max(_figures(client)["commit"] for client in clients)
        back = clients[killed.number - 1]
        deadline = time.monotonic() + CATCH_UP_TIMEOUT_S
        while _figures(back)["applied"] < commit:
            if time.monotonic() > deadline:
                raise NotReady(f"node {killed.number} did not catch up to log index {commit}")
            time.sleep(POLL_S)
        seconds = time.monotonic() - began
        self.report.figures["restart_ready_s"] = round(ready_s, 2)
        self.report.figures["caught_up_s"] = round(seconds, 2)
        self.report.check(
            "the killed node is back",
            True,
            f"ready after {ready_s:.1f} s, caught up {seconds:.1f} s",
        )

    def prove(self, clients: Sequence[Client], written: Sequence[int]) -> None:
        """Nothing acknowledged is lost, and every replica holds the same bytes."""
        missing = 0
        for client in clients:
            local = client.with_options(local=True)
            for first in range(0, len(written), 1000):
                ids = written[first : first + 1000]
                missing += len(ids) - len(local.retrieve(COLLECTION, ids, with_payload=False))
        self.report.figures["acknowledged_under_load"] = len(written)
        self.report.check(
            "every acknowledged write is on every node",
            missing == 0 and bool(written),
            f"{len(written):,} written under load, {missing} missing",
        )
        found = clients[0].with_options(timeout_s=60.0).verify()
        self.report.figures["verified_index"] = found["index"]
        nodes = len(found["nodes"])
        text = f"{found['columns']} columns of {nodes} nodes at log index {found['index']}"
        if not found["equal"]:
            text += f"; different: {', '.join(found['differing']) or 'a node gave none'}"
        every = nodes == NODES
        self.report.check("all digests are equal", found["equal"] and every, text)

    def _leader(self, clients: Sequence[Client]) -> int:
        """The position of the leader."""
        deadline = time.monotonic() + CATCH_UP_TIMEOUT_S
        while time.monotonic() < deadline:
            for position, client in enumerate(clients):
                if _figures(client)["role"] == "leader":
                    return position
            time.sleep(POLL_S)
        raise NotReady("no node leads")

    def _wait(self, clients: Sequence[Client], figure: str, value: int, timeout_s: float) -> None:
        """Return when every node's figure has the value."""
        deadline = time.monotonic() + timeout_s
        while any(_figures(client)[figure] != value for client in clients):
            if time.monotonic() > deadline:
                found = [_figures(client)[figure] for client in clients]
                raise NotReady(f"{figure} is {found} after {timeout_s:g} s, not {value}")
            time.sleep(POLL_S)


def _figures(client: Client) -> dict[str, Any]:
    """What a node says of itself."""
    return client.cluster()["balsadb"]


def _bits(points: Sequence[ScoredPoint]) -> list[tuple[int | str, str]]:
    """Ids and scores, the scores to the last bit."""
    return [(point.id, float(point.score).hex()) for point in points]


def _answers(client: Client, vectors: Sequence[Any], *, exact: bool) -> list[set[int | str]]:
    """The ten nearest of each vector."""
    options: Search = {"query": None, "limit": 10, "with_payload": False, "ef": EF, "exact": exact}
    found: list[set[int | str]] = []
    for first in range(0, len(vectors), 100):
        searches: list[Search] = [
            {**options, "query": vector} for vector in vectors[first : first + 100]
        ]
        answers = client.query_batch(COLLECTION, searches)
        found += [{point.id for point in points} for points in answers]
    return found
