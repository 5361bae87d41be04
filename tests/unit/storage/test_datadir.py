"""Whose data directory it is; first starts cut short; identities that went missing."""

import contextlib
import random
import zlib

import pytest

from balsadb.errors import (
    Corruption,
    DataDirInUse,
    EmptiedDisk,
    ForeignDataDir,
    NewerFormat,
)
from balsadb.storage import DataDir, RealFiles, Wal, WalBatch, WalOptions, cluster_id
from balsadb.types import HardState
from tests.simulation.disk import SimDisk, SimulatedCrash

OPTIONS = WalOptions(segment_bytes=4096, zeroed_bytes=0)
MEMBERS = {1: "a:1", 2: "b:1", 3: "c:1"}
CLUSTER = cluster_id("films", MEMBERS)


def open_dir(files, node: int = 1, cluster: int = CLUSTER, disk_id: int = 42) -> DataDir:
    return DataDir.open(files, node, cluster, lambda: disk_id, OPTIONS)


def test_first_start_then_the_same_identity():
    disk = SimDisk()
    first = open_dir(disk)
    assert first.is_new
    assert first.disk_id == 42
    first.close()
    disk.crash(random.Random(1))
    again = open_dir(disk, disk_id=43)
    assert not again.is_new
    assert again.identity == first.identity
    wal, _ = Wal.create_or_open(disk, "wal", again.wal_header, OPTIONS)
    wal.close()


def test_one_process_at_a_time(tmp_path):
    for files in (SimDisk(), RealFiles(str(tmp_path / "node"))):
        held = open_dir(files)
        with pytest.raises(DataDirInUse, match="in use"):
            open_dir(files)
        held.close()
        open_dir(files).close()


def test_a_refused_open_releases_the_lock(tmp_path):
    for files in (SimDisk(), RealFiles(str(tmp_path / "node"))):
        open_dir(files).close()
        with pytest.raises(ForeignDataDir, match="node 1, this is node 2"):
            open_dir(files, node=2)
        with pytest.raises(ForeignDataDir, match="initial members differ"):
            open_dir(files, cluster=cluster_id("other", MEMBERS))
        open_dir(files).close()


def test_a_directory_of_a_newer_format_is_refused():
    disk = SimDisk()
    open_dir(disk).close()
    body = b'{"format":2,"cluster":"words now","more":[1]}'
    disk.replace("IDENTITY", b'{"identity":%b,"crc32":%d}' % (body, zlib.crc32(body)))
    with pytest.raises(NewerFormat, match="format 2"):
        open_dir(disk)


def test_every_flipped_bit_of_the_identity_is_corruption():
    disk = SimDisk()
    open_dir(disk).close()
    for bit in range(len(disk.content("IDENTITY")) * 8):
        disk.flip_bit("IDENTITY", bit)
        with pytest.raises(Corruption, match="IDENTITY"):
            open_dir(disk)
        disk.flip_bit("IDENTITY", bit)
    open_dir(disk)


def test_a_log_without_identity_is_corruption():
    disk = SimDisk()
    open_dir(disk).close()
    disk.remove("IDENTITY")
    with pytest.raises(Corruption, match="no IDENTITY"):
        open_dir(disk)


def test_an_identity_without_its_log_is_an_emptied_disk():
    disk = SimDisk()
    open_dir(disk).close()
    disk.remove("wal/0000000000000001.wal")
    with pytest.raises(EmptiedDisk, match="join as a new node"):
        open_dir(disk)


def test_an_emptied_directory_gets_another_disk_id():
    disk = SimDisk()
    open_dir(disk)
    disk.wipe()
    again = open_dir(disk, disk_id=77)
    assert again.is_new
    assert again.disk_id == 77


def test_a_first_start_cut_at_any_operation_is_finished_by_the_next():
    disk = SimDisk()
    open_dir(disk)
    for at in range(1, disk.operations + 1):
        for seed in range(20):
            disk = SimDisk()
            disk.crash_at(at)
            with pytest.raises(SimulatedCrash):
                open_dir(disk)
            rng = random.Random(f"{at} {seed}")
            disk.crash(rng)
            disk.crash_at(rng.randrange(1, 12))
            with contextlib.suppress(SimulatedCrash):
                open_dir(disk, disk_id=43)
            disk.crash(rng)
            opened = open_dir(disk, disk_id=44)
            wal, _ = Wal.create_or_open(disk, "wal", opened.wal_header, OPTIONS)
            wal.write(WalBatch(HardState(1, 1, 0)))
            wal.sync()
            disk.crash(rng)
            opened = open_dir(disk)
            assert not opened.is_new
            _, state = Wal.create_or_open(disk, "wal", opened.wal_header, OPTIONS)
            assert state.hard_state == HardState(1, 1, 0)


def test_the_cluster_id_depends_on_name_and_members_not_on_their_order():
    assert cluster_id("films", dict(reversed(MEMBERS.items()))) == CLUSTER
    assert 0 < CLUSTER < 1 << 63
    others = [
        cluster_id("film", MEMBERS),
        cluster_id("films", {1: "a:1", 2: "b:1"}),
        cluster_id("films", {**MEMBERS, 3: "c:2"}),
        cluster_id("films", {1: "a:1", 2: "b:1", 4: "c:1"}),
    ]
    assert len({CLUSTER, *others}) == 5


def test_the_cluster_id_is_the_same_in_every_version():
    assert cluster_id("films", {1: "127.0.0.1:6335"}) == 4845915620298386682
