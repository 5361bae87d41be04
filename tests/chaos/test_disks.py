"""Disks of running nodes: one gets full, one says that a sync failed, one flips a bit meanwhile.

The other two nodes serve on; nothing acknowledged is lost; the node says why it ended or does not
start, and comes back when its disk is in order again.
"""

import errno
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

import pytest

from balsadb.cli.local_cluster import LocalCluster, NodeProcess
from balsadb.client import Options
from tests.chaos.clusters import client_of, figures, leader_of, missing_on, running, wait_for
from tests.chaos.load import THINGS, Writer, create

pytestmark = pytest.mark.chaos

DISK_MB = 64
PAYLOAD_BYTES = 20_000
BACK_S = 120.0


@pytest.fixture
def small_disks(tmp_path: Path) -> Generator[Callable[[LocalCluster], None]]:
    """What gives every node of a cluster a disk of its own, of 64 MB of memory."""
    reason = no_tmpfs()
    if reason:
        pytest.skip(reason)
    mounted: list[Path] = []

    def mount(cluster: LocalCluster) -> None:
        for node in cluster.nodes:
            disk = tmp_path / f"disk{node.number}"
            disk.mkdir()
            words = ["-t", "tmpfs", "-o", f"size={DISK_MB}m", "none", str(disk)]
            subprocess.run(["mount", *words], check=True)
            mounted.append(disk)
            node.data = disk / "data"

    try:
        yield mount
    finally:
        for disk in mounted:
            subprocess.run(["umount", "--lazy", str(disk)], check=True)


def no_tmpfs() -> str:
    """Why no small disk can be made here; empty if one can."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        return "a small disk (tmpfs) needs root and the command mount"
    command = "mkdir m && mount -t tmpfs -o size=1m none m && umount m && rmdir m"
    tried = subprocess.run(
        ["unshare", "--mount", "sh", "-c", f"cd $(mktemp -d) && {command}"],
        capture_output=True,
        text=True,
        check=False,
    )
    return f"no tmpfs here: {tried.stderr.strip()}" if tried.returncode else ""


def no_strace() -> str:
    """Why no process can be traced here; empty if one can."""
    if shutil.which("strace") is None:
        return "injecting a failed fsync needs strace"
    with subprocess.Popen(["sleep", "60"]) as other:
        try:
            tried = subprocess.run(
                ["timeout", "1", "strace", "-f", "-p", str(other.pid), "-e", "trace=fdatasync"],
                capture_output=True,
                text=True,
                check=False,
            )
        finally:
            other.kill()
    return "" if "attached" in tried.stderr else f"strace may not attach: {tried.stderr.strip()}"


def fill(disk: Path) -> Path:
    """A file that takes all that is left."""
    file = disk / "filler"
    with file.open("wb", buffering=0) as filler:
        for block in (1 << 20, 4096):
            try:
                while True:
                    filler.write(bytes(block))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
    return file


def chosen(cluster: LocalCluster, role: str) -> tuple[NodeProcess, list[NodeProcess]]:
    """The leader or a follower, and the others."""
    leader = leader_of(cluster)
    node = leader if role == "leader" else next(n for n in cluster.nodes if n is not leader)
    return node, [other for other in cluster.nodes if other is not node]


def comes_back(cluster: LocalCluster, node: NodeProcess, writer: Writer) -> None:
    """The node starts and catches up; nobody lacks anything, and all hold the same."""
    if node.pid is None:
        node.start()
    wait_for(node.is_ready, BACK_S)
    writer.stop()
    assert len(writer.written) > 20
    with client_of(cluster.nodes, Options(timeout_s=BACK_S)) as client:
        found = client.verify()
        assert found["equal"], found["differing"]
        assert len(found["nodes"]) == len(cluster.nodes)
    for one in cluster.nodes:
        assert missing_on(one, THINGS, writer.written) == []


def log_since(node: NodeProcess, size: int) -> str:
    """What the node wrote into its log after it was so long."""
    return node.log_file.read_text(errors="replace")[size:]


@pytest.mark.parametrize("role", ["follower", "leader"])
def test_a_disk_gets_full_and_the_others_serve_on(
    tmp_path: Path,
    small_disks: Callable[[LocalCluster], None],
    monkeypatch: pytest.MonkeyPatch,
    role: str,
) -> None:
    # Where nodes look at what is left: a quarter of these disks is enough for them.
    monkeypatch.setenv("BALSADB_DISK_LOW_BYTES", str(DISK_MB << 18))
    monkeypatch.setenv("BALSADB_DISK_FULL_BYTES", str(DISK_MB << 17))
    with running(tmp_path, 3, small_disks) as cluster:
        create(cluster.nodes)
        victim, others = chosen(cluster, role)
        size = len(victim.log_file.read_text())
        filler = fill(victim.data.parent)
        # More than the log zeroes ahead, so that it must grow.
        writer = Writer(others, payload_bytes=PAYLOAD_BYTES)
        try:
            wait_for(lambda: len(writer.written) > 150, 120)
            wait_for(lambda: victim.pid is None or is_behind(victim, others), 60)
            ended = victim.pid is None
            if ended:
                assert "No space left on device" in log_since(victim, size)
            before = len(writer.written)
            wait_for(lambda: len(writer.written) > before + 20, 60)
            filler.unlink()
        except BaseException:
            writer.stop()
            raise
        print(f"full disk of the {role}: the process {'ended' if ended else 'takes nothing'}")
        comes_back(cluster, victim, writer)


def is_behind(node: NodeProcess, others: Sequence[NodeProcess]) -> bool:
    """Whether the node lives and takes no more of the log."""
    most = max(figures(other).get("applied", 0) for other in others)
    return most - figures(node).get("applied", most) > 100


@pytest.mark.parametrize("role", ["follower", "leader"])
def test_a_sync_fails_and_the_process_ends(tmp_path: Path, role: str) -> None:
    reason = no_strace()
    if reason:
        pytest.skip(reason)
    with running(tmp_path, 3) as cluster:
        create(cluster.nodes)
        victim, others = chosen(cluster, role)
        size = len(victim.log_file.read_text())
        writer = Writer([victim, *others])
        try:
            wait_for(lambda: len(writer.written) > 20, 60)
            inject = ["-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO:when=5"]
            trace = ["strace", "-f", "-q", "-o", str(tmp_path / "trace"), *inject]
            with subprocess.Popen([*trace, "-p", str(victim.pid)], stderr=subprocess.DEVNULL):
                assert victim.wait_gone(60), "the sync failed and the process goes on"
            assert "EIO" in (tmp_path / "trace").read_text()
            told = log_since(victim, size)
            assert re.search(r"fatal: fdatasync .*: Input/output error", told), told[-2000:]
            before = len(writer.written)
            wait_for(lambda: len(writer.written) > before + 20, 60)
        except BaseException:
            writer.stop()
            raise
        comes_back(cluster, victim, writer)


def test_a_flipped_bit_is_found_at_the_start(tmp_path: Path) -> None:
    with running(tmp_path, 3) as cluster:
        create(cluster.nodes)
        victim, _ = chosen(cluster, "follower")
        writer = Writer(cluster.nodes, pause_s=0.01)
        try:
            wait_for(lambda: len(writer.written) > 200, 120)
            victim.kill()
            log = max((victim.data / "wal").glob("*.wal"))
            whole = log.read_bytes()
            used = len(whole.rstrip(b"\0"))
            for at in (used // 4, used // 2):
                size = len(victim.log_file.read_text())
                flipped = bytearray(whole)
                flipped[at] ^= 0x10
                log.write_bytes(flipped)
                victim.start()
                before = len(writer.written)
                wait_for(lambda: victim.pid is None, 60)
                told = log_since(victim, size)
                assert re.search(rf"{log.name}, offset \d+: ", told), told[-2000:]
                assert bytes(flipped) == log.read_bytes(), "it must leave the evidence alone"
                wait_for(lambda since=before: len(writer.written) > since + 20, 60)
            log.write_bytes(whole)
        except BaseException:
            writer.stop()
            raise
        comes_back(cluster, victim, writer)


def test_the_checks_of_this_machine_can_say_no() -> None:
    """A reason to skip is a sentence, and there is none where the thing can be done."""
    code = "import tests.chaos.test_disks as d, tests.chaos.network as n, os;"
    code += "os.environ['PATH'] = ''; print(n.why_not() or 'none', '|', d.no_strace() or 'none')"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "need" in ended.stdout.split("|")[0]
    assert "strace" in ended.stdout.split("|")[1]
