"""The seam: the real disk and the simulated one answer alike; errors say what failed."""

import errno
import os
import random
import subprocess
import sys

import pytest

from balsadb.errors import DataDirInUse, DiskFailed
from balsadb.storage import Files, RealFiles
from tests.simulation.disk import SimDisk, SimulatedCrash


@pytest.fixture(params=["real", "simulated"])
def files(request, tmp_path) -> Files:
    return RealFiles(str(tmp_path / "a" / "b")) if request.param == "real" else SimDisk()


def test_files_grow_are_cut_and_read_as_written(files):
    file = files.open("x", create=True)
    file.pwrite(b"abc", 5)
    file.pwrite(memoryview(b"__Z__")[2:3], 6)
    assert file.pread(100, 0) == b"\0\0\0\0\0aZc"
    assert file.pread(2, 6) == b"Zc"
    assert file.pread(5, 8) == b""
    file.truncate(6)
    file.truncate(7)
    assert file.pread(100, 0) == b"\0\0\0\0\0a\0"
    assert file.size() == 7
    file.sync()
    file.close()


def test_names(files):
    files.mkdir("d/e")
    files.mkdir("d")
    files.open("d/e/y", create=True).close()
    files.open("d/x", create=True).close()
    assert files.listdir("") == ["d"]
    assert files.listdir("d") == ["e", "x"]
    files.rename("d/x", "d/z")
    files.open("d/x", create=True).close()
    files.rename("d/x", "d/z")
    files.sync_dir("d")
    files.sync_dir("")
    assert not files.exists("d/x")
    assert files.exists("d/z")
    files.remove("d/z")
    files.remove_tree("d/e")
    files.remove_tree("d/e")
    assert files.listdir("d") == []


def test_what_is_absent(files):
    for action in (
        lambda: files.open("no"),
        lambda: files.open("no/x"),
        lambda: files.open("no/x", create=True),
        lambda: files.listdir("no"),
        lambda: files.remove("no"),
    ):
        with pytest.raises(FileNotFoundError):
            action()
    with pytest.raises(DiskFailed, match="rename"):
        files.rename("no", "yes")
    assert not files.exists("no/x")


@pytest.mark.parametrize("path", ["../x", "a/../../x"])
def test_nobody_leaves_the_root(files, path):
    with pytest.raises(ValueError, match="root"):
        files.open(path, create=True)


def test_a_lock_is_held_once(files):
    held = files.lock("LOCK")
    with pytest.raises(DataDirInUse):
        files.lock("LOCK")
    held.release()
    held.release()
    files.lock("LOCK").release()


def test_a_lock_dies_with_its_process(tmp_path):
    code = (
        "import os, sys; from balsadb.storage import RealFiles;"
        f"RealFiles({str(tmp_path)!r}).lock('LOCK'); print('held', flush=True);"
        "sys.stdin.read()"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    owner = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    )
    with owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"held\n"
        with pytest.raises(DataDirInUse, match=f"process {owner.pid}"):
            RealFiles(str(tmp_path)).lock("LOCK")
        owner.kill()
        owner.wait()
        RealFiles(str(tmp_path)).lock("LOCK").release()


def test_errors_of_the_real_disk_are_disk_failures(tmp_path):
    files = RealFiles(str(tmp_path))
    file = files.open("x", create=True)
    descriptor = os.open("/dev/full", os.O_WRONLY)
    os.dup2(descriptor, file._descriptor)
    os.close(descriptor)
    with pytest.raises(DiskFailed, match=r"write .*No space left"):
        file.pwrite(b"x", 0)
    with pytest.raises(DiskFailed, match="fdatasync"):
        file.sync()
    with pytest.raises(DiskFailed, match="truncate"):
        file.truncate(3)
    file.close()
    file.close()


def test_short_reads_and_writes_of_the_system_are_gone_on_with(tmp_path, monkeypatch):
    """The system may do less than it was asked for; 7 bytes at a time here."""
    pread, pwrite = os.pread, os.pwrite
    monkeypatch.setattr(os, "pread", lambda fd, length, at: pread(fd, min(length, 7), at))
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, bytes(data[:7]), at))
    file = RealFiles(str(tmp_path)).open("x", create=True)
    data = bytes(range(100))
    file.pwrite(memoryview(data), 3)
    file.pwrite(b"short", 200)
    assert file.pread(100, 3) == data
    assert file.pread(50, 90) == data[87:] + bytes(37)
    assert file.pread(1000, 195) == bytes(5) + b"short"
    assert file.pread(10, 500) == b""
    file.close()


def test_a_directory_where_a_file_is_needed_is_a_disk_failure(tmp_path):
    files = RealFiles(str(tmp_path))
    assert files.root == str(tmp_path)
    files.mkdir("d")
    for action, text in (
        (lambda: files.open("d"), "open .*d: Is a directory"),
        (lambda: files.lock("d"), "open .*d: Is a directory"),
        (lambda: files.remove("d"), "remove .*d"),
        (lambda: files.sync_dir("nowhere"), "fsync directory .*nowhere: No such file"),
    ):
        with pytest.raises(DiskFailed, match=text):
            action()
    files.open("f", create=True).close()
    with pytest.raises(DiskFailed, match="mkdir"):
        files.mkdir("f/below")
    with pytest.raises(DiskFailed, match="fsync directory"):
        files.sync_dir("f")


def test_a_lock_that_fails_otherwise_is_a_disk_failure(tmp_path, monkeypatch):
    def no_locks(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    with pytest.raises(DiskFailed, match="lock .*: No locks available"):
        RealFiles(str(tmp_path)).lock("LOCK")


# --- what only the simulated disk can do ---


def crashed(prepare, seeds: int = 60) -> list[SimDisk]:
    """Disks after `prepare` and a power cut, one a seed."""
    disks = []
    for seed in range(seeds):
        disk = SimDisk()
        prepare(disk)
        disk.crash(random.Random(seed))
        disks.append(disk)
    return disks


def written(disk: SimDisk, name: str, data: bytes, synced: bool) -> None:
    file = disk.open(name, create=True)
    file.pwrite(data, 0)
    if synced:
        file.sync()


def test_unsynced_names_may_be_lost_and_synced_ones_not():
    def prepare(disk: SimDisk) -> None:
        written(disk, "kept", b"k", synced=True)
        disk.sync_dir("")
        written(disk, "maybe", b"m", synced=True)

    found = {tuple(disk.listdir("")) for disk in crashed(prepare)}
    assert found == {("kept",), ("kept", "maybe")}


def test_a_rename_is_atomic():
    def prepare(disk: SimDisk) -> None:
        written(disk, "old", b"o", synced=True)
        written(disk, "new", b"n", synced=True)
        disk.sync_dir("")
        disk.rename("new", "old")

    found = {(tuple(disk.listdir("")), disk.content("old")) for disk in crashed(prepare)}
    assert found == {(("new", "old"), b"o"), (("old",), b"n")}


def test_unsynced_writes_tear_at_sectors_and_arrive_out_of_order():
    def prepare(disk: SimDisk) -> None:
        written(disk, "x", b"0" * 1024, synced=True)
        disk.sync_dir("")
        file = disk.open("x")
        file.pwrite(b"1" * 1024, 0)
        file.pwrite(b"2" * 512, 512)

    found = set()
    for disk in crashed(prepare, seeds=200):
        content = disk.content("x")
        found.add(content[::512])
        assert content == content[:1] * 512 + content[-1:] * 512
    assert found == {b"00", b"01", b"02", b"10", b"11", b"12"}


def test_a_lost_write_beyond_the_end_reads_as_zero_or_not_at_all():
    def prepare(disk: SimDisk) -> None:
        written(disk, "x", b"1" * 1536, synced=False)
        disk.sync_dir("")

    sizes = {len(disk.content("x")) for disk in crashed(prepare)}
    assert sizes == {0, 512, 1024, 1536}
    assert {bytes(set(disk.content("x"))) for disk in crashed(prepare)} >= {b"1", b"", b"\x001"}


def test_a_failed_sync_loses_the_data_even_if_the_next_one_works():
    disk = SimDisk()
    disk.open("x", create=True)
    disk.sync_dir("")
    disk.fail_at(2)
    with pytest.raises(DiskFailed):
        written(disk, "x", b"data", synced=True)
    file = disk.open("x")
    file.sync()
    assert file.pread(9, 0) == b"data"
    disk.crash(random.Random(0))
    assert disk.content("x") == b""


def test_after_a_power_cut_nothing_answers_until_the_restart():
    disk = SimDisk()
    file = disk.open("x", create=True)
    disk.sync_dir("")
    disk.crash_at(1)
    with pytest.raises(SimulatedCrash):
        file.sync()
    for action in (lambda: disk.listdir(""), lambda: file.pread(1, 0), lambda: disk.open("x")):
        with pytest.raises(SimulatedCrash):
            action()
    disk.crash(random.Random(0))
    assert disk.open("x").size() == 0
    with pytest.raises(ValueError, match="before a crash"):
        file.size()


def test_the_same_seed_gives_the_same_disk():
    def prepare(disk: SimDisk) -> None:
        disk.mkdir("d")
        for name in "abcdef":
            written(disk, f"d/{name}", name.encode() * 3000, synced=False)

    def bytes_of(disk: SimDisk) -> list[tuple[str, bytes]]:
        if not disk.exists("d"):
            return []
        return [(name, disk.content(f"d/{name}")) for name in disk.listdir("d")]

    first, second = crashed(prepare), crashed(prepare)
    assert [bytes_of(disk) for disk in first] == [bytes_of(disk) for disk in second]
    assert len({str(bytes_of(disk)) for disk in first}) > 20
