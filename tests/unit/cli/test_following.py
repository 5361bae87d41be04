"""A local cluster whose members come, move and go, with a small program in a node's place."""

import json
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from balsadb.cli import following, local_cluster
from balsadb.cli.app import app
from balsadb.cli.clusters import addresses
from balsadb.cli.following import News
from balsadb.cli.local_cluster import ClusterPlan, LocalCluster
from balsadb.errors import AlreadyExists, InvalidInput, NotReady

PROGRAM = """
import http.server, json, pathlib, sys, tomllib
config = pathlib.Path(sys.argv[-1])
settings = tomllib.load(config.open("rb"))
node, folder = settings.get("node", 1), config.parent
if node == 6:
    sys.exit("not taken in")
pathlib.Path(settings["data"]).mkdir(exist_ok=True)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        news = json.loads((folder / "news.json").read_text())
        removed = self.path == "/readyz" and node in news["removed"]
        result = {"balsadb": {"role": "leader", **news}}
        if self.path.startswith("/cluster/members"):
            at = news["member_addresses"]
            result = [{"id": int(node), "address": at[node]} for node in at]
        body = json.dumps({"result": result}).encode()
        self.send_response(503 if removed else 200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_POST(self):
        body = json.dumps({"status": {"error": f"node {node} says why", "code": "not_ready"}})
        self.send_response(503)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())
    do_PUT = do_POST
    def log_message(self, *_):
        pass
http.server.HTTPServer(("127.0.0.1", settings["port"]), Handler).serve_forever()
"""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalCluster]:
    program = tmp_path / "node.py"
    program.write_text(PROGRAM)
    script = tmp_path / "python"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} {program} "$@"\n')
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    monkeypatch.setattr(local_cluster, "LOOK_AGAIN_S", 0.1)
    made = LocalCluster.create_or_open(tmp_path / "data", ClusterPlan.on_free_ports(3))
    tell(made)
    yield made
    local_cluster.reset(made.folder)


def tell(cluster: LocalCluster, *removed: int, **addresses: str) -> None:
    """What the nodes know from now on: who was removed, and where nodes are (`n4="host:port"`)."""
    at = {str(n): f"127.0.0.1:{cluster.plan.ports_of(n)[1]}" for n in cluster.plan.numbers}
    at |= {name.removeprefix("n"): address for name, address in addresses.items()}
    news = {
        "applied": 9,
        "removed": sorted(removed),
        "member_addresses": {n: address for n, address in at.items() if int(n) not in removed},
    }
    (cluster.folder / "news.json").write_text(json.dumps(news))


def nothing(_text: str) -> None:
    pass


def run(cluster: LocalCluster, *arguments: str) -> str:
    done = CliRunner().invoke(app, ["cluster", *arguments, "--data", str(cluster.folder)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.stdout


def test_a_node_that_was_removed_is_stopped_and_stays_so(cluster: LocalCluster) -> None:
    following.bring_up(cluster, 20, nothing)
    tell(cluster, 2)
    said: list[str] = []
    now = following.follow(cluster, said.append)
    assert said == ["node 2 was removed from the cluster: stopping it"]
    assert [node.number for node in now.nodes] == [1, 3]
    assert cluster.nodes[1].pid is None
    assert run(cluster, "start").count("already running") == 2
    assert cluster.nodes[1].pid is None
    # It is known when nothing runs that could tell.
    assert run(cluster, "stop") == "stopped node 1, 3\n"
    assert run(cluster, "start").count("started") == 2
    assert cluster.nodes[1].pid is None
    local_cluster.reset(cluster.folder)
    assert not list(cluster.folder.glob("node*"))


def test_start_does_not_wait_for_who_was_removed_while_nothing_ran(cluster: LocalCluster) -> None:
    tell(cluster, 3)
    now, started = following.bring_up(cluster, 20, nothing)
    assert started == [1, 2, 3]
    assert [node.number for node in now.nodes] == [1, 2]
    assert cluster.nodes[2].pid is None


def test_who_moved_is_started_at_the_new_place(cluster: LocalCluster) -> None:
    following.bring_up(cluster, 20, nothing)
    before = [node.pid for node in cluster.nodes]
    port = ClusterPlan.on_free_ports(1).ports[0]
    tell(cluster, n2=f"127.0.0.1:{port}")
    now, started = following.bring_up(LocalCluster.open(cluster.folder), 20, nothing)
    assert started == [2]
    assert now.nodes[1].peer_port == port
    assert f"peer_port = {port}" in now.nodes[1].config_file.read_text()
    # The first members' words are those of the first start.
    assert f"127.0.0.1:{cluster.plan.peer_ports[1]}" in now.nodes[1].config_file.read_text()
    assert [node.pid for node in now.nodes][::2] == before[::2]
    assert following.bring_up(now, 20, nothing)[1] == []


def test_one_more_node_joins_and_is_kept(cluster: LocalCluster) -> None:
    following.bring_up(cluster, 20, nothing)
    assert f"node 4  http://127.0.0.1:{cluster.plan.ports[0] + 30}" in run(cluster, "add", "4")
    grown = LocalCluster.open(cluster.folder)
    assert [node.number for node in grown.nodes] == [1, 2, 3, 4]
    settings = grown.nodes[3].config_file.read_text()
    assert "initial_members" not in settings
    assert f"127.0.0.1:{cluster.plan.peer_ports[0]}," in settings
    for number in ("2", "4"):
        with pytest.raises(InvalidInput, match=r"never used again; 5 is free"):
            run(cluster, "add", number)
    assert run(grown, "stop") == "stopped node 1, 2, 3, 4\n"


@pytest.mark.parametrize(
    ("number", "said"),
    [
        ("0", "number: must be 1 to 999999999, not 0"),
        ("1000000000", "number: must be 1 to 999999999, not 1000000000"),
        ("1", "node 1 is or was a node of this folder, .* 4 is free"),
        ("7", "node 7 was removed from this cluster, .* 10 is free"),
        ("9", "node 9 is a member, at 10.0.0.9:7, .* 10 is free"),
    ],
)
def test_a_number_that_cannot_be_is_refused_before_anything_is_touched(
    cluster: LocalCluster, number: str, said: str
) -> None:
    following.bring_up(cluster, 20, nothing)
    tell(cluster, 2, 7, n9="10.0.0.9:7")
    told: list[str] = []
    with pytest.raises(InvalidInput, match=said):
        following.grow(LocalCluster.open(cluster.folder), int(number), told.append)
    assert told == []
    assert cluster.nodes[1].pid is not None  # it was removed, and that is not our question
    assert LocalCluster.open(cluster.folder).plan == cluster.plan


def test_a_number_that_was_taken_in_before_its_start_joins(cluster: LocalCluster) -> None:
    following.bring_up(cluster, 20, nothing)
    tell(cluster, n4=f"127.0.0.1:{cluster.plan.grown(4).ports_of(4)[1]}")
    assert run(cluster, "add", "4").startswith("node 4  http://127.0.0.1:")


def test_a_node_that_is_not_taken_in_is_forgotten(cluster: LocalCluster) -> None:
    following.bring_up(cluster, 20, nothing)
    with pytest.raises(NotReady, match=r"node 6 ended:\nnot taken in"):
        run(cluster, "add", "6")
    assert LocalCluster.open(cluster.folder).plan == cluster.plan
    assert not list(cluster.folder.glob("node6*"))


def test_status_shows_the_members_of_now(cluster: LocalCluster) -> None:
    following.bring_up(cluster, 20, nothing)
    tell(cluster, 1, n9="10.0.0.9:7")
    lines = run(cluster, "status").splitlines()[1:]
    assert [line.split("  ")[0] for line in lines] == [
        cluster.nodes[1].url,
        cluster.nodes[2].url,
        "node 9 at 10.0.0.9:7",
    ]
    assert "elsewhere" in lines[2]
    # To look changes nothing.
    assert LocalCluster.open(cluster.folder).plan == cluster.plan


def test_only_addresses_of_this_machine_move_its_nodes() -> None:
    plan = ClusterPlan.numbered(3)
    news = News(1, {2: "10.0.0.2:7", 3: "127.0.0.1:6355", 4: "127.0.0.1:8"}, frozenset({1, 5}))
    now = following.followed(plan, news)
    assert (now.moved, now.gone) == ({}, (1,))
    assert news.elsewhere(plan) == {4: "127.0.0.1:8"}


def test_nobody_who_runs_tells_nothing(cluster: LocalCluster) -> None:
    assert following.ask(cluster) is None
    assert following.follow(cluster, nothing).plan == cluster.plan


def test_an_address_that_a_node_has_is_refused_by_its_name(cluster: LocalCluster) -> None:
    following.bring_up(cluster, 20, nothing)
    first, second, third = cluster.nodes
    tell(cluster, n9="127.0.0.1:9")
    peer, clients = f"127.0.0.1:{first.peer_port}", f"127.0.0.1:{second.port}"
    with pytest.raises(AlreadyExists, match=f"{peer} already exists: node 1 has it"):
        run(cluster, "move", "3", peer)
    with pytest.raises(AlreadyExists, match="127.0.0.1:9 already exists: node 9 has it"):
        run(cluster, "move", "3", "127.0.0.1:9")
    with pytest.raises(AlreadyExists, match=f"{clients} already exists: the clients of node 2"):
        run(cluster, "move", "3", clients)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with pytest.raises(AlreadyExists, match="stop it or choose another address"):
            run(cluster, "move", "3", f"127.0.0.1:{listener.getsockname()[1]}")
    assert third.pid is not None
    free = ClusterPlan.on_free_ports(1).ports[0]
    tell(cluster, n3=f"127.0.0.1:{free}")
    with pytest.raises(
        NotReady, match="says why"
    ):  # it was moved there before: the cluster is asked
        run(cluster, "move", "3", f"127.0.0.1:{free}")


def test_nodes_that_do_not_answer_are_not_asked(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = cluster.nodes
    assert addresses(cluster.folder, None) == [first.url, second.url, third.url]
    following.bring_up(cluster, 20, nothing)
    assert addresses(cluster.folder, None) == [first.url, second.url, third.url]
    assert addresses(cluster.folder, None, about=1) == [second.url, third.url, first.url]
    second.kill()
    assert addresses(cluster.folder, None, about=1) == [third.url, first.url]
    monkeypatch.setattr(local_cluster, "ANSWER_TIMEOUT_S", 0.5)
    first.send(signal.SIGSTOP)
    try:
        assert addresses(cluster.folder, None) == [third.url]
    finally:
        first.send(signal.SIGCONT)
    assert addresses(cluster.folder, "http://b:1", about=1) == ["http://b:1"]


@pytest.mark.parametrize(
    "command", ["promote 2", "transfer 2", "remove 2", "move 2 10.0.0.2:7", "add 2 10.0.0.2:7"]
)
def test_the_reason_is_told_not_that_a_dead_node_does_not_answer(
    cluster: LocalCluster, command: str
) -> None:
    following.bring_up(cluster, 20, nothing)
    cluster.nodes[1].kill()
    with pytest.raises(NotReady, match=r"node [13] says why"):
        run(cluster, *command.split())


def test_addresses_are_checked_before_anything_else(cluster: LocalCluster) -> None:
    with pytest.raises(InvalidInput, match="ADDRESS: must be host:port"):
        run(cluster, "move", "2", "127.0.0.1:99999")
    with pytest.raises(InvalidInput, match="ADDRESS: must be given with --url"):
        run(cluster, "add", "4", "--url", "http://127.0.0.1:1")
