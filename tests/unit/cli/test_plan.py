"""What is refused before a cluster on this machine is touched, and what the commands say."""

import http.server
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from click.testing import Result
from typer.testing import CliRunner

from balsadb import __version__
from balsadb.cli import local_cluster
from balsadb.cli.app import app
from balsadb.cli.local_cluster import LocalCluster
from balsadb.cli.plan import ClusterPlan, Wish, is_taken
from balsadb.errors import AlreadyExists, InvalidInput, NotReady
from tests.unit.cli.test_local_cluster import fake_node


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for clusters of the small program; nothing of it runs afterwards."""
    monkeypatch.setattr(sys, "executable", fake_node(tmp_path))
    yield tmp_path / "data"
    if (tmp_path / "data").is_dir() and local_cluster.read_plan(tmp_path / "data"):
        LocalCluster.open(tmp_path / "data").stop()


def cluster(command: str, folder: Path | str, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["cluster", command, *arguments, "--data", str(folder)])


def refusal(done: Result) -> str:
    """What a refused command says; its exit code is 2."""
    if isinstance(done.exception, InvalidInput):
        assert local_cluster.exit_code(done.exception) == 2
        return done.exception.message
    assert done.exit_code == 2, (done.output, done.exception)
    return done.output


# ------------------------------------------------------------------------------- ports


@pytest.mark.parametrize(
    ("nodes", "port", "peer_port", "said"),
    [
        (1, 0, 6335, "--port: node 1 would get port 0"),
        (1, -5, 6335, "--port: node 1 would get port -5"),
        (3, 65520, 6335, "--port: node 3 would get port 65540"),
        (2, 6333, 65530, "--peer-port: node 2 would get port 65540"),
        (1, 6333, 6333, "--peer-port: node 1 would get port 6333, which node 1"),
        (2, 6333, 6323, "--peer-port: node 2 would get port 6333, which node 1"),
        (1000, 6333, 6335, "nodes: must be 1 to 9"),
        (-1, 6333, 6335, "nodes: must be 1 to 9"),
    ],
)
def test_ports_that_cannot_be_are_refused(nodes: int, port: int, peer_port: int, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        ClusterPlan.numbered(nodes, port, peer_port)
    assert caught.value.message.startswith(said)


def test_the_last_ports_are_allowed() -> None:
    assert ClusterPlan.numbered(2, 65525, 1).ports == (65525, 65535)


@pytest.mark.parametrize("port", [65536, 1 << 40, -1])
def test_what_is_no_port_is_not_free(port: int) -> None:
    assert is_taken("127.0.0.1", port)


def test_a_bad_plan_is_not_stored(tmp_path: Path) -> None:
    plan = ClusterPlan(1, ports=(70000,), peer_ports=(6335,))
    with pytest.raises(InvalidInput, match="--port"):
        LocalCluster.create_or_open(tmp_path, plan)
    assert not list(tmp_path.iterdir())


def test_a_bad_plan_of_before_is_refused_and_can_be_reset(folder: Path) -> None:
    folder.mkdir()
    plan = ClusterPlan(1, ports=(70000,), peer_ports=(6335,))
    (folder / "cluster.json").write_bytes(msgspec.json.encode(plan))
    assert "70000" in refusal(cluster("start", folder))
    assert cluster("start", folder, "1", "--reset", "--free-ports").exit_code == 0


# ------------------------------------------------------------------------------- reset


@pytest.mark.parametrize(
    "arguments",
    [
        ["1000"],
        ["0"],
        ["2", "--port", "65530"],
        ["2", "--port", "65536"],
        ["2", "--peer-port", "6333"],
        ["2", "--port", "7000", "--free-ports"],
        ["2", "--free-ports", "--timeout", "nan"],
    ],
)
def test_a_reset_that_is_refused_changes_nothing(folder: Path, arguments: list[str]) -> None:
    assert cluster("start", folder, "1", "--free-ports").exit_code == 0
    (node,) = LocalCluster.open(folder).nodes
    node.data.mkdir()
    before = (node.pid, (folder / "cluster.json").read_bytes())
    refusal(cluster("start", folder, *arguments, "--reset"))
    assert (node.pid, (folder / "cluster.json").read_bytes()) == before
    assert node.data.exists()


def test_a_reset_to_what_the_nodes_would_refuse_changes_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cluster("start", folder, "1", "--free-ports").exit_code == 0
    (node,) = LocalCluster.open(folder).nodes
    before = node.pid
    monkeypatch.setenv("BALSADB_TICK_MS", "0")
    said = refusal(cluster("start", folder, "1", "--free-ports", "--reset"))
    assert said.startswith("BALSADB_TICK_MS: must be")
    assert node.pid == before


def test_a_reset_to_a_port_of_another_program_changes_nothing(folder: Path) -> None:
    assert cluster("start", folder, "1", "--free-ports").exit_code == 0
    (node,) = LocalCluster.open(folder).nodes
    before = node.pid
    free = ClusterPlan.on_free_ports(1)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", free.ports[0]))
        listener.listen()
        ports = ["--port", str(free.ports[0]), "--peer-port", str(free.peer_ports[0])]
        done = cluster("start", folder, "1", "--reset", *ports)
    assert isinstance(done.exception, AlreadyExists)
    assert node.pid == before
    # Its own ports are no obstacle.
    own = ["--port", str(node.port), "--peer-port", str(node.peer_port)]
    assert cluster("start", folder, "1", "--reset", *own).exit_code == 0
    assert node.pid not in (None, before)


def test_a_start_that_is_refused_leaves_no_plan(folder: Path) -> None:
    free = ClusterPlan.on_free_ports(1)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", free.ports[0]))
        listener.listen()
        done = cluster("start", folder, "1", "--port", str(free.ports[0]))
    assert isinstance(done.exception, AlreadyExists)
    assert local_cluster.read_plan(folder) is None


# ------------------------------------------------------------------------------- the same cluster


def test_other_ports_than_the_folder_has_are_refused(folder: Path) -> None:
    first = ClusterPlan.on_free_ports(1)
    LocalCluster.create_or_open(folder, first)
    (port,), (peer_port,) = first.ports, first.peer_ports
    Wish().check_same(first, folder)
    Wish(1, port, peer_port).check_same(first, folder)
    assert "use --reset" in refusal(cluster("start", folder, "--port", str(port + 1)))
    said = refusal(cluster("start", folder, "--peer-port", str(peer_port + 1)))
    assert said.startswith("--peer-port: ")
    assert str(peer_port) in said


def test_stop_and_reset_deletes_the_data(folder: Path) -> None:
    assert cluster("start", folder, "2", "--free-ports").exit_code == 0
    (folder / "node1").mkdir()
    done = cluster("stop", folder, "--reset")
    assert (done.exit_code, done.stdout) == (0, "stopped node 1, 2\n")
    assert not list(folder.iterdir())
    assert cluster("stop", folder, "--reset").stdout == "no node runs\n"


def test_stopping_nothing_makes_no_folder(folder: Path) -> None:
    assert cluster("stop", folder).stdout == "no node runs\n"
    assert not folder.exists()


# ------------------------------------------------------------------------------- the folder


@pytest.mark.parametrize("command", ["start", "stop", "status", "verify"])
@pytest.mark.parametrize("kind", ["file", "below a file", "too long", "empty"])
def test_an_impossible_folder_is_a_wrong_use(tmp_path: Path, command: str, kind: str) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    paths = {"file": file, "below a file": file / "data", "too long": tmp_path / ("x" * 300)}
    said = refusal(cluster(command, paths.get(kind, "")))
    assert "--data" in said
    assert file.read_text() == "x"


def test_a_folder_has_one_name(folder: Path, tmp_path: Path) -> None:
    assert cluster("start", folder, "1", "--free-ports").exit_code == 0
    (tmp_path / "link").symlink_to(folder)
    assert "already running" in cluster("start", tmp_path / "link").stdout


def test_a_second_command_at_the_same_time(folder: Path) -> None:
    with local_cluster.exclusive(folder):
        done = cluster("start", folder, "1", "--free-ports")
    assert isinstance(done.exception, NotReady)
    assert done.exception.message.startswith("another command is changing this cluster")


# ------------------------------------------------------------------------------- what is shown


class Figures(http.server.BaseHTTPRequestHandler):
    """A node with large figures."""

    def do_GET(self) -> None:
        own = {
            "role": "follower",
            "leader": 3,
            "term": 17,
            "commit": 1234567,
            "applied": 1234567,
            "points": 1000000,
            "linked": 1000000,
            "tail": 32768,
        }
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        answer = {"status": "ok", "time": 0.0, "result": {"balsadb": own}}
        self.wfile.write(msgspec.json.encode(answer))

    def log_message(self, *_: object) -> None:
        """Be quiet."""


@pytest.fixture
def url() -> Iterator[str]:
    with http.server.HTTPServer(("127.0.0.1", 0), Figures) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_the_status_fits_into_80_columns(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = cluster("status", ".", "--url", url).stdout.splitlines()
    assert lines[0].split()[:3] == ["url", "role", "leader"]
    assert lines[1].split() == [
        *(url, "follower", "3", "17", "1234567", "1234567", "1000000", "32768")
    ]
    assert max(len(line) for line in lines) <= 80


def test_the_status_as_json(url: str) -> None:
    shown = cluster("status", ".", "--url", url, "--json").stdout
    assert shown == cluster("status", ".", "--url", url, "-o", "json").stdout
    (node,) = msgspec.json.decode(shown)
    assert (node["url"], node["linked"]) == (url, 1000000)


def test_the_version() -> None:
    for arguments in (["--version"], ["version"]):
        assert CliRunner().invoke(app, arguments).stdout == f"{__version__}\n"


def test_no_command_shows_the_help() -> None:
    assert "cluster" in CliRunner().invoke(app, []).output
