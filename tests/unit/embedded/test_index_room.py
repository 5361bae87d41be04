"""A bare index that is full, or whose disk is, says so before it changes anything."""

import subprocess
import sys

import numpy as np
import pytest

import balsadb
from balsadb.columns import ColumnSet
from balsadb.errors import LimitExceeded
from balsadb.index import IndexOptions, Metric
from tests.chaos.test_disks import no_tmpfs

DIM = 4


def test_dead_rows_take_room_until_a_delete_frees_them():
    index = balsadb.Index(DIM, "Euclid")
    options = IndexOptions(DIM, Metric.EUCLID, rows_max=600, graph_rows_min=1)
    index._open(options, ColumnSet(), 1)
    values = np.random.default_rng(0).normal(size=(600, DIM)).astype(np.float32)
    index.add(values[:500])
    index.add(values[500:], ids=np.arange(100))  # in place of others
    before = index._columns.digest()
    with pytest.raises(LimitExceeded, match="vectors"):
        index.add(values[:1])
    assert index._columns.digest() == before
    assert len(index) == 500
    assert index.check() == []
    index.delete(np.arange(400, 450))
    index.add(values[:50])
    assert len(index) == 500


ON_A_SMALL_DISK = """
import os, sys
import numpy as np
import balsadb
from balsadb.errors import DiskFailed, DiskFull

disk = sys.argv[1]
vectors = np.random.default_rng(0).normal(size=(3_000, 256)).astype(np.float32)
index = balsadb.Index(256, vectors_on_disk=disk, threads=1)
index.add(vectors[:1_500])
found = index.search(vectors[:9], 5)
before = index._columns.digest()
for more, ids in ((vectors, None), (vectors[:1_600], range(1_600)), (vectors[1_400:], None)):
    try:
        index.add(more, ids)
    except DiskFull as error:
        assert disk in str(error), error
    else:
        raise SystemExit("3 MiB hold more than 3 MiB")
    assert index._columns.digest() == before
try:
    index.save(f"{disk}/saved")
except DiskFailed as error:
    assert f"{disk}/saved" in str(error), error
else:
    raise SystemExit("3 MiB hold more than 3 MiB")
assert os.listdir(disk) == []
index.save(f"{disk}.saved")
try:
    balsadb.Index.load(f"{disk}.saved", vectors_on_disk=disk)
except DiskFull as error:
    assert disk in str(error), error
else:
    raise SystemExit("3 MiB hold more than 3 MiB")
assert os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize >= 1 << 20
assert all(map(np.array_equal, index.search(vectors[:9], 5), found))
index.delete(range(700))
index.optimize()
index.add(vectors[1_500:2_000])
assert len(index) == 1_300 and index.check() == []
print("held")
"""


def test_a_full_disk_is_an_error_and_changes_nothing(tmp_path):
    if why := no_tmpfs():
        pytest.skip(why)
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f'mount -t tmpfs -o size=3m none {disk} && exec {sys.executable} -c "$0" {disk}'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", mount, ON_A_SMALL_DISK],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "held\n"), done.stderr
