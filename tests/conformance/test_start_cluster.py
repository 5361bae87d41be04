"""`./start_cluster.sh` as a user runs it, with real nodes."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from balsadb.cli.local_cluster import LocalCluster
from balsadb.client import Client

SCRIPT = Path(__file__).resolve().parents[2] / "start_cluster.sh"
NODE = re.compile(r"^node (\d)  (http://127\.0\.0\.1:\d+)  pid (\d+)  (.+)$", re.MULTILINE)

pytestmark = pytest.mark.skipif(
    not (SCRIPT.parent / ".venv" / ".installed").exists(), reason="made by `make setup`"
)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder for a cluster; nothing of it runs afterwards."""
    yield tmp_path / "data"
    script(tmp_path / "data", "--stop")


def script(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(SCRIPT), *arguments, "--data", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def nodes(done: subprocess.CompletedProcess[str]) -> dict[str, tuple[str, str, str]]:
    """Number -> (url, pid, state) as printed."""
    assert done.returncode == 0, done.stderr
    return {number: (url, pid, state) for number, url, pid, state in NODE.findall(done.stdout)}


def test_the_whole_life_of_a_cluster(folder: Path) -> None:
    first = nodes(script(folder, "3", "--free-ports"))
    assert [state for _, _, state in first.values()] == ["started"] * 3
    with Client([url for url, _, _ in first.values()]) as client:
        client.create_collection("kept", {"size": 2, "distance": "Dot"})
        client.upsert("kept", [{"id": 1, "vector": [1.0, 2.0]}])

    assert nodes(script(folder)) == {
        number: (url, pid, "already running") for number, (url, pid, _) in first.items()
    }

    cluster = LocalCluster.open(folder)
    for node in cluster.nodes[:2]:
        node.kill()
    again = nodes(script(folder, "3"))
    assert [state for _, _, state in again.values()] == ["started", "started", "already running"]
    for url, _, _ in again.values():
        with Client(url) as client:
            assert client.count("kept") == 1

    refused = script(folder, "2")
    assert refused.returncode == 2
    assert "--reset" in refused.stderr
    assert all(node.pid for node in cluster.nodes)

    for wrong in (["1000"], ["2", "--port", "65530"], ["--port", "7", "--free-ports"]):
        assert script(folder, *wrong, "--reset").returncode == 2
    other = script(folder, "--port", "7000")
    assert (other.returncode, "--reset" in other.stderr) == (2, True)
    assert all(node.pid for node in cluster.nodes)

    fewer = nodes(script(folder, "1", "--reset", "--free-ports"))
    assert list(fewer) == ["1"]
    with Client(fewer["1"][0]) as client:
        assert client.collections() == []
    assert not (folder / "node2").exists()

    assert script(folder, "1", "--stop").stdout == "stopped node 1\n"
    assert (folder / "node1").is_dir()
    stopped = script(folder, "--stop", "--reset")
    assert not list(folder.iterdir())
    assert (stopped.returncode, stopped.stdout) == (0, "no node runs\n")


def test_help_and_nonsense(folder: Path) -> None:
    shown = subprocess.run([str(SCRIPT), "--help"], capture_output=True, text=True, check=True)
    assert "--reset" in shown.stdout
    assert script(folder, "many").returncode == 2
    assert script(folder, "0").returncode == 2
    assert script(folder, "--nonsense").returncode == 2
    assert script(folder, "--stop", "--nonsense").returncode == 2


def test_an_impossible_folder_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for impossible in (file, file / "data"):
        for arguments in (["1"], ["--stop"]):
            said = script(impossible, *arguments)
            assert said.returncode == 2
            assert said.stderr.startswith("balsadb: --data: ")
            assert said.stderr.count("\n") == 1


def test_a_checkout_with_spaces_through_a_link(tmp_path: Path) -> None:
    checkout = tmp_path / "my check out"
    checkout.mkdir()
    shutil.copy(SCRIPT, checkout)
    (checkout / ".venv").symlink_to(SCRIPT.parent / ".venv")
    link = tmp_path / "start"
    link.symlink_to(checkout / SCRIPT.name)

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(link), *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path
        )

    assert "--reset" in call("--help").stdout
    try:
        assert len(nodes(call("1", "--free-ports"))) == 1
        assert (checkout / "data" / "node1").is_dir()
        assert [state for _, _, state in nodes(call()).values()] == ["already running"]
    finally:
        stopped = call("--stop", "--reset")
    assert stopped.stdout == "stopped node 1\n"
    assert not (checkout / "data" / "node1").exists()
