"""Starting, counting and ending node processes, with a small program in a node's place."""

import fcntl
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
from typer.testing import CliRunner

from balsadb.cli import local_cluster
from balsadb.cli.app import app
from balsadb.cli.local_cluster import ClusterPlan, LocalCluster, exclusive
from balsadb.errors import AlreadyExists, InvalidInput, NotReady, StorageError

PROGRAM = """
import http.server, sys, tomllib
settings = tomllib.load(open(sys.argv[-1], "rb"))
if settings.get("node", 1) == 3 and BROKEN:
    sys.exit("no disk")
class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/readyz" else 404)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", settings["port"]), Ready).serve_forever()
"""


def fake_node(folder: Path, *, broken: bool = False) -> str:
    """An interpreter that runs the small program instead of `balsadb serve`."""
    program = folder / "node.py"
    program.write_text(PROGRAM.replace("BROKEN", str(broken)))
    script = folder / "python"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} {program} "$@"\n')
    script.chmod(0o755)
    return str(script)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalCluster]:
    monkeypatch.setattr(sys, "executable", fake_node(tmp_path))
    plan = ClusterPlan.on_free_ports(3)
    made = LocalCluster.create_or_open(tmp_path / "data", plan)
    yield made
    made.stop()


def pids(cluster: LocalCluster) -> list[int | None]:
    return [node.pid for node in cluster.nodes]


def test_ports_step_by_ten() -> None:
    plan = ClusterPlan.numbered(3)
    assert plan.ports == (6333, 6343, 6353)
    assert plan.peer_ports == (6335, 6345, 6355)
    assert len({ClusterPlan.numbered(1).secret for _ in range(5)}) == 5


def test_free_ports_are_distinct() -> None:
    plan = ClusterPlan.on_free_ports(4)
    assert len({*plan.ports, *plan.peer_ports}) == 8


def test_starting_twice_starts_only_what_does_not_run(cluster: LocalCluster) -> None:
    assert cluster.start() == [1, 2, 3]
    cluster.wait_ready(20)
    before = pids(cluster)
    assert None not in before
    cluster.nodes[1].kill()
    assert cluster.nodes[1].pid is None
    # A second command sees the same processes through their files alone.
    again = LocalCluster.create_or_open(cluster.folder, None)
    assert again.start() == [2]
    again.wait_ready(20)
    after = pids(again)
    assert (after[0], after[2]) == (before[0], before[2])
    assert after[1] not in (None, before[1])
    assert again.start() == []
    assert again.stop() == [1, 2, 3]
    assert pids(cluster) == [None, None, None]
    assert cluster.stop() == []


def test_another_number_of_nodes_is_refused(cluster: LocalCluster) -> None:
    with pytest.raises(InvalidInput, match="holds a cluster of 3 nodes; use --reset"):
        LocalCluster.create_or_open(cluster.folder, ClusterPlan.numbered(5))
    same = LocalCluster.create_or_open(cluster.folder, ClusterPlan.numbered(3))
    assert same.plan == cluster.plan


def test_reset_deletes_only_what_the_cluster_made(cluster: LocalCluster) -> None:
    mine = cluster.folder / "notes.txt"
    mine.write_text("keep me")
    cluster.start()
    running = pids(cluster)
    cluster.nodes[0].data.mkdir()
    local_cluster.reset(cluster.folder)
    assert [path.name for path in cluster.folder.iterdir()] == ["notes.txt"]
    assert pids(cluster) == [None] * 3 != running
    local_cluster.reset(cluster.folder)


def test_a_deleted_cluster_leaves_neither_lock_nor_what_was_set_aside(
    cluster: LocalCluster,
) -> None:
    for name in ("node1", "node1.node1-set-aside", "node1.node12-set-aside-2"):
        (cluster.folder / name / "checkpoints").mkdir(parents=True)
    mine = {"node1.mine-set-aside", "node7.node7-set-aside", "node1.node1-set-aside-copy"}
    for name in mine:
        (cluster.folder / name).mkdir()
    data = ["--data", str(cluster.folder)]
    done = CliRunner().invoke(app, ["cluster", "stop", "--reset", *data])
    assert done.exit_code == 0, done.output
    assert {path.name for path in cluster.folder.iterdir()} == mine


def test_a_lock_that_was_deleted_meanwhile_does_not_count(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(file: IO[str], operation: int) -> None:
        """Another command resets between the opening and the locking."""
        (cluster.folder / "cluster.lock").unlink()
        flock(file, operation)

    flock = fcntl.flock
    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", late)
        with pytest.raises(NotReady, match="another command"), exclusive(cluster.folder):
            pytest.fail("nobody else would see the lock")
    with exclusive(cluster.folder):
        pass


def test_what_cannot_be_deleted_is_told(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    cluster.nodes[0].data.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", refuse)
        with pytest.raises(StorageError, match="cannot delete .*node1: Permission denied"):
            local_cluster.reset(cluster.folder)
    # The plan stays: the same command can be repeated.
    local_cluster.reset(cluster.folder)
    assert not list(cluster.folder.iterdir())


def test_a_stale_number_of_another_process_is_not_ours(cluster: LocalCluster) -> None:
    import os

    cluster.nodes[0].pid_file.write_text(f"{os.getpid()}\n")
    assert cluster.nodes[0].pid is None
    cluster.nodes[0].send(signal.SIGKILL)
    cluster.nodes[0].pid_file.write_text("nonsense")
    assert cluster.nodes[0].pid is None


def test_a_node_that_ends_is_reported_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", fake_node(tmp_path, broken=True))
    made = LocalCluster.create_or_open(tmp_path / "data", ClusterPlan.on_free_ports(3))
    made.start()
    try:
        with pytest.raises(NotReady, match=r"node 3 ended:\nno disk"):
            made.wait_ready(20)
    finally:
        made.stop()


def test_a_taken_port_is_named(cluster: LocalCluster) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", cluster.nodes[0].peer_port))
        listener.listen()
        with pytest.raises(AlreadyExists, match=str(cluster.nodes[0].peer_port)):
            cluster.start()


def test_what_tells_nodes_apart_is_not_taken_from_the_environment(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BALSADB_PORT", "1")
    monkeypatch.setenv("BALSADB_TICK_MS", "70")
    cluster.start()
    cluster.wait_ready(20)
    environment = Path(f"/proc/{cluster.nodes[0].pid}/environ").read_bytes().split(b"\0")
    assert b"BALSADB_TICK_MS=70" in environment
    assert b"BALSADB_PORT=1" not in environment


def test_files_with_secrets_are_private(cluster: LocalCluster) -> None:
    cluster.start()
    for file in (cluster.folder / "cluster.json", cluster.nodes[0].config_file):
        assert cluster.plan.secret in file.read_text()
        assert file.stat().st_mode & 0o077 == 0


def test_two_commands_at_once_are_refused(tmp_path: Path) -> None:
    with (
        local_cluster.exclusive(tmp_path),
        pytest.raises(NotReady, match="another command is changing this cluster"),
        local_cluster.exclusive(tmp_path),
    ):
        pass


@pytest.mark.parametrize("text", ["{", '{"nodes": 2, "ports": [1], "peer_ports": [2]}'])
def test_a_damaged_plan_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "cluster.json").write_text(text)
    with pytest.raises(InvalidInput, match="is damaged"):
        LocalCluster.open(tmp_path)


@pytest.mark.parametrize("nodes", [0, 10])
def test_an_odd_number_of_nodes_is_refused(nodes: int) -> None:
    with pytest.raises(InvalidInput, match="nodes"):
        ClusterPlan.numbered(nodes)


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", fake_node(tmp_path))
    data = ["--data", str(tmp_path / "data")]
    runner = CliRunner()
    try:
        first = runner.invoke(app, ["cluster", "start", "2", "--free-ports", *data])
        assert first.exit_code == 0, first.output
        assert first.stdout.count("http://127.0.0.1:") == 2
        second = runner.invoke(app, ["cluster", "start", *data])
        assert second.stdout.count("already running") == 2
        refused = runner.invoke(app, ["cluster", "start", "3", *data])
        assert isinstance(refused.exception, InvalidInput)
        assert local_cluster.exit_code(refused.exception) == 2
        reset = runner.invoke(app, ["cluster", "start", "1", "--reset", "--free-ports", *data])
        assert reset.stdout.count("started") == 1
    finally:
        stopped = runner.invoke(app, ["cluster", "stop", *data])
    assert stopped.stdout == "stopped node 1\n"
    assert runner.invoke(app, ["cluster", "stop", *data]).stdout == "no node runs\n"
