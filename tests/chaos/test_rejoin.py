"""A node whose data directory is damaged or gone comes back under a new id, as the messages say."""

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from balsadb.cli.failover import Writer
from balsadb.cli.local_cluster import LocalCluster, NodeProcess
from balsadb.client import Client
from balsadb.errors import Unavailable
from tests.chaos.clusters import (
    Newcomer,
    figures,
    leader_of,
    missing_on,
    running,
    vectors,
    wait_for,
)

pytestmark = pytest.mark.chaos

NAME = "things"
COUNT = 3_000
DATA = vectors(COUNT, 128)


def command(line: str) -> tuple[int, str]:
    """Run a command as it was printed: exit code and output."""
    program, *arguments = shlex.split(line)
    assert program == "balsadb"
    done = subprocess.run(
        [sys.executable, "-m", "balsadb.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "COLUMNS": "500"},
    )
    return done.returncode, done.stdout + done.stderr


def damage(node: NodeProcess, kind: str) -> None:
    if kind == "emptied":
        shutil.rmtree(node.data)
        return
    segment = min((node.data / "wal").iterdir())
    raw = bytearray(segment.read_bytes())
    raw[700] ^= 0x10
    segment.write_bytes(raw)


def say_why(node: NodeProcess) -> str:
    """Start the node and let it say why it does not run."""
    said_before = len(node.log_file.read_text())
    node.start()
    wait_for(lambda: node.pid is None, 150)
    return node.log_file.read_text()[said_before:]


class Returned(Newcomer):
    """The node under its new id, started by the command that was printed."""

    def __init__(self, cluster: LocalCluster, old: NodeProcess, number: int) -> None:
        super().__init__(cluster, number, old.peer_port)
        self.port, self.data = old.port, old.data
        self.config_file = old.config_file
        self.started: subprocess.Popen[bytes] | None = None

    def run(self, line: str) -> None:
        with self.log_file.open("ab") as log:
            self.started = subprocess.Popen(
                [sys.executable, "-m", "balsadb.cli", *shlex.split(line)[1:]],
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def kill(self) -> None:
        if self.started is not None:
            self.started.kill()
            self.started.wait()


@pytest.mark.parametrize(("kind", "role"), [("rotten", "follower"), ("emptied", "leader")])
def test_a_node_comes_back_under_a_new_id(tmp_path: Path, kind: str, role: str) -> None:
    with running(tmp_path, 3) as cluster, contextlib.ExitStack() as stack:
        leader = leader_of(cluster)
        node = leader if role == "leader" else next(n for n in cluster.nodes if n is not leader)
        others = [other for other in cluster.nodes if other is not node]
        with Client([one.url for one in cluster.nodes]) as client:
            client.create_collection(NAME, {"size": 128, "distance": "Cosine"})
            client.upload(NAME, DATA)
        known = lambda one: all(figures(one).get("members", {"": False}).values())  # noqa: E731
        wait_for(lambda: all(map(known, others)), 20)
        node.kill()
        damage(node, kind)
        said = say_why(node)
        assert "balsadb node rejoin --new-id N" in said, said
        assert "new node" in said

        writer = Writer([other.url for other in others], NAME, DATA)
        config, member = shlex.quote(str(node.config_file)), others[0].url
        rejoin = f"balsadb node rejoin --config {config} --member {member} --new-id"
        code, out = command(f"{rejoin} {others[1].number}")
        assert code == 1, out
        assert "is a member already" in out
        code, out = command(f"{rejoin} 4")
        assert code == 0, out
        print(out)
        aside = node.data.with_name(f"{node.data.name}.node{node.number}-set-aside")
        assert aside.is_dir()
        assert not node.data.exists()
        lines = [line.strip() for line in out.splitlines()]
        serve = next(line for line in lines if line.startswith("balsadb serve"))
        promote = next(line for line in lines if line.startswith("balsadb cluster promote"))
        returned = Returned(cluster, node, 4)
        stack.callback(returned.kill)
        returned.run(serve)
        wait_for(returned.is_ready, 150)

        def promoted() -> bool:
            code, out = command(promote)
            assert code in (0, 3), out
            return code == 0

        wait_for(promoted, 60)
        written = writer.stop()
        assert written.errors == []
        with Client([other.url for other in others]) as client:
            roles = {one["id"]: one["role"] for one in client.members()}
            assert roles == dict.fromkeys([*(other.number for other in others), 4], "voter")
            commit = max(figures(other)["commit"] for other in others)
            wait_for(lambda: figures(returned)["applied"] >= commit, 60)
            assert missing_on(returned, NAME, [*range(COUNT), *writer.written]) == []
            assert client.verify()["equal"]
            # The new member is a full one: one of the two others may go.
            others[1].kill()
            wait_for(lambda: serves(client), 20)


def serves(client: Client) -> bool:
    try:
        client.upsert_batch(NAME, [1], DATA[:1])
    except Unavailable:
        return False
    return True
