"""Disks that fill up: real nodes on file systems of 64 MB."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from balsadb.cli.local_cluster import ClusterPlan, LocalCluster, NodeProcess
from balsadb.client import Client, Options
from balsadb.errors import DiskFull, Unavailable
from tests.chaos.clusters import figures, leader_of, missing_on, vectors, wait_for

pytestmark = pytest.mark.chaos

SIZE = 128
BATCH = 500
PATIENCE_S = 12.0
"""Longer than the time between two hurried checkpoints."""
ONCE = Options(timeout_s=20.0, tries_max=1)
LIMITS = {
    "DISK_LOW_BYTES": 24 << 20,
    "DISK_FULL_BYTES": 8 << 20,
    "WAL_SEGMENT_BYTES": 2 << 20,
    "CHECKPOINT_LOG_BYTES": 2 << 20,
    "LOG_TAIL_BYTES": 256 << 10,
    "LOG_BYTES_MAX": 64 << 20,
}
DATA = vectors(60_000, SIZE)


@contextmanager
def small_disk(folder: Path, megabytes: int = 64) -> Iterator[None]:
    """A file system of its own on the folder; the test is skipped where that is not permitted."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=700", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no file system can be mounted here: {error}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def cluster_on(tmp_path: Path, nodes: int, small: list[int]) -> Iterator[LocalCluster]:
    """A running cluster of which some nodes have a small disk each."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in LIMITS.items():
            patch.setenv(f"BALSADB_{name}", str(value))
        folder = tmp_path / "cluster"
        cluster = LocalCluster.create_or_open(folder, ClusterPlan.on_free_ports(nodes))
        disks = [small_disk(cluster.nodes[number - 1].data) for number in small]
        for disk in disks:
            disk.__enter__()
        try:
            cluster.start()
            cluster.wait_ready()
            yield cluster
        finally:
            cluster.stop()
            for disk in disks:
                disk.__exit__(None, None, None)


def free_of(node: NodeProcess) -> int:
    found = os.statvfs(node.data)
    return found.f_bavail * found.f_frsize


def fill(client: Client, name: str, first: int) -> tuple[list[int], DiskFull]:
    """Write until it is refused for good (a checkpoint may still give back some of the log): the
    ids acknowledged, and the error."""
    written: list[int] = []
    start, refused_at = first, 0.0
    while start < len(DATA):
        ids = list(range(start, start + BATCH))
        texts = [{"text": f"{point} " + "x" * 700} for point in ids]
        try:
            client.upsert_batch(name, ids, DATA[start : start + BATCH], payloads=texts)
        except DiskFull as error:
            refused_at = refused_at or time.monotonic()
            if time.monotonic() - refused_at > PATIENCE_S:
                return written, error
            time.sleep(0.2)
        else:
            written += ids
            start, refused_at = start + BATCH, 0.0
    pytest.fail("the disk never filled")


def writes_go_on(client: Client, name: str, point: int) -> bool:
    try:
        client.upsert_batch(name, [point], DATA[:1])
    except Unavailable:
        return False
    return True


def disk_of(node: NodeProcess) -> dict[str, Any]:
    return figures(node).get("disk", {})


def test_a_full_disk_refuses_data_and_serves_the_rest(tmp_path: Path) -> None:
    with cluster_on(tmp_path, 1, small=[1]) as cluster:
        [node] = cluster.nodes
        with Client(node.url, options=ONCE) as client:
            for name in ("keep", "drop"):
                client.create_collection(name, {"size": SIZE, "distance": "Cosine"})
            kept = list(range(3_000))
            client.upload("keep", DATA[: len(kept)])
            dropped, error = fill(client, "drop", 0)
            print(f"{len(dropped)} points, then: {error.message}")
            assert dropped
            assert (error.code, error.outcome, error.retryable) == ("disk_full", "failed", True)
            for words in ("node 1", str(node.data), "MiB free", "delete points"):
                assert words in error.message
            assert disk_of(node)["space"] in ("low", "full")

            # Reads are served, deletes and other writes that add nothing are taken.
            assert client.count("keep") == len(kept)
            assert client.query("drop", DATA[7].tolist(), limit=1)[0].id == 7
            with pytest.raises(DiskFull):
                client.create_collection("more", {"size": 4, "distance": "Dot"})
            with pytest.raises(DiskFull):
                client.set_payload("keep", {"a": 1}, [1])
            client.delete("keep", kept[:500])
            kept = kept[500:]
            assert node.is_ready()

            # kill -9 on the full disk: all that was acknowledged is there.
            node.kill()
            node.start()
            cluster.wait_ready()
            assert client.count("keep") == len(kept)
            assert missing_on(node, "keep", kept) == []
            assert missing_on(node, "drop", dropped) == []

            # What is dropped makes room, and writes go on by themselves.
            before = free_of(node)
            client.delete_collection("drop")
            wait_for(lambda: writes_go_on(client, "keep", 50_000), 90)
            print(f"free: {before >> 20} MiB, after the drop {free_of(node) >> 20} MiB")
            node.kill()
            node.start()
            cluster.wait_ready()
            assert missing_on(node, "keep", [*kept, 50_000]) == []


def test_a_leader_without_space_hands_over_and_the_others_go_on(tmp_path: Path) -> None:
    with cluster_on(tmp_path, 3, small=[1]) as cluster:
        small, *others = cluster.nodes
        ballast = small.data / "ballast"
        with Client([node.url for node in cluster.nodes]) as client:
            client.create_collection("things", {"size": SIZE, "distance": "Cosine"})
            client.upload("things", DATA[:2_000])
            client.transfer(1)
            assert leader_of(cluster) is small
            # Another program fills the disk: to below the threshold, then to the brim.
            ballast.write_bytes(bytes(free_of(small) - (16 << 20)))
            wait_for(lambda: leader_of(cluster) is not small, 20)
            client.upload("things", DATA[2_000:4_000], ids=range(2_000, 4_000))
            with ballast.open("ab") as file:
                file.write(bytes(max(0, free_of(small) - (2 << 20))))
            wait_for(lambda: disk_of(small)["space"] == "full", 20)
            client.upload("things", DATA[4_000:20_000], ids=range(4_000, 20_000))
            leader = leader_of(cluster)
            assert leader is not small
            assert small.pid is not None, small.last_log_lines()
            assert disk_of(leader)["trouble"]["1"]["space"] == "full"
            assert figures(small)["applied"] < figures(leader)["applied"]
            with Client(small.url, options=Options(local=True)) as there:
                assert there.get("things", 7).id == 7
            ballast.unlink()
            wait_for(lambda: figures(small)["applied"] >= figures(leader)["applied"], 60)
            assert missing_on(small, "things", range(20_000)) == []
            assert client.verify()["equal"]
        assert all(node.pid is not None for node in others)
