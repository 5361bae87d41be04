"""The seam between BalsaDB and the disk: every byte that survives goes through these protocols.

`Files`, `File` and `Lock` say what the layers above may ask of a disk; `RealFiles` asks the
operating system, `tests.simulation.disk.SimDisk` is a disk in memory that loses, tears and fails.
This is the only module that opens files.

What a caller may rely on, and nothing more:

* bytes written are durable after `File.sync` returns, entries of a directory (a created, renamed
  or removed name) after `Files.sync_dir` of that directory; before that a crash may keep any
  subset of them;
* a 512-byte sector, aligned in the file, is written wholly or not at all;
* a rename inside one directory is atomic;
* bytes never written read as zero.

Any error of a write, an fsync, a truncate, a rename or a removal is `DiskFailed`: after a failed
fsync the page cache may have dropped the data and a second fsync would succeed without it
(Rebello et al., "Can Applications Recover from fsync Failures?", ATC 2020). Nobody retries; the
process ends and reads the disk anew.

Paths are strings, parts joined by "/", relative to the root; "" is the root itself.
"""

import contextlib
import errno
import fcntl
import mmap
import os
import shutil
import weakref
from collections.abc import Generator
from pathlib import Path
from typing import Protocol, TypeAlias

from balsadb.errors import DataDirInUse, DiskFailed, DiskFull

SECTOR_BYTES = 512
"""The unit that a disk is assumed to write wholly or not at all."""

FILLED_BYTES = 1 << 20
"""A file without a name takes disk in steps of this."""

FileBytes: TypeAlias = bytes | bytearray | memoryview


class File(Protocol):
    """An open file. Offsets and lengths are bytes. One thread at a time."""

    def pread(self, length: int, offset: int) -> bytes:
        """Up to `length` bytes at `offset`; fewer only where the file ends."""
        ...

    def pwrite(self, data: FileBytes, offset: int) -> None:
        """Write all of `data` at `offset`, growing the file if needed; volatile until `sync`."""
        ...

    def size(self) -> int:
        """Bytes in the file now."""
        ...

    def truncate(self, size: int) -> None:
        """Cut or grow (with zeros) to `size` bytes; volatile until `sync`."""
        ...

    def sync(self) -> None:
        """Make all that was written durable (fdatasync: data, and the size if it changed)."""
        ...

    def close(self) -> None:
        """Give the handle back. Does not sync."""
        ...


class Lock(Protocol):
    """A held lock; released by `release` or by the end of the process."""

    def release(self) -> None:
        """Let others take it. Further calls do nothing."""
        ...


class Files(Protocol):
    """A tree of files below one root."""

    def open(self, path: str, create: bool = False) -> File:
        """Open for reading and writing. `create`: make an empty file where there is none (the
        name is volatile until `sync_dir`). FileNotFoundError if absent and not `create`."""
        ...

    def exists(self, path: str) -> bool:
        """Whether a file or directory has this name."""
        ...

    def listdir(self, path: str) -> list[str]:
        """Names in a directory, sorted. FileNotFoundError if there is no such directory."""
        ...

    def mkdir(self, path: str) -> None:
        """Make a directory, and those above it; nothing happens if it is there."""
        ...

    def rename(self, source: str, target: str) -> None:
        """Give a file or directory another name, replacing a file of that name atomically."""
        ...

    def remove(self, path: str) -> None:
        """Remove a file. FileNotFoundError if absent."""
        ...

    def remove_tree(self, path: str) -> None:
        """Remove a directory and all below it; nothing happens if it is absent."""
        ...

    def sync_dir(self, path: str) -> None:
        """Make the entries of one directory durable."""
        ...

    def lock(self, path: str) -> Lock:
        """Take an exclusive lock named by a file, or raise `DataDirInUse` at once."""
        ...

    def free_bytes(self) -> int:
        """What may still be written on the file system of the root, about."""
        ...


@contextlib.contextmanager
def _disk_failure(action: str, path: str | Path) -> Generator[None]:
    """Turn any OSError into `DiskFailed` that says what was tried on what."""
    try:
        yield
    except OSError as error:
        raise DiskFailed(f"{action} {path}: {error.strerror or error}") from error


class RealFile:
    """`File` on a file descriptor."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self._descriptor = descriptor
        self._path = path

    def pread(self, length: int, offset: int) -> bytes:
        """See `File.pread`."""
        with _disk_failure("read", self._path):
            data = os.pread(self._descriptor, length, offset)
            if len(data) == length or not data:
                return data
            parts = [data]
            count = len(data)
            while count < length:
                data = os.pread(self._descriptor, length - count, offset + count)
                if not data:
                    break
                parts.append(data)
                count += len(data)
            return b"".join(parts)

    def pwrite(self, data: FileBytes, offset: int) -> None:
        """See `File.pwrite`."""
        with _disk_failure("write", self._path):
            written = os.pwrite(self._descriptor, data, offset)
            total = memoryview(data).nbytes
            if written == total:
                return
            view = memoryview(data).cast("B")
            while written < total:
                written += os.pwrite(self._descriptor, view[written:], offset + written)

    def size(self) -> int:
        """See `File.size`."""
        with _disk_failure("stat", self._path):
            return os.fstat(self._descriptor).st_size

    def truncate(self, size: int) -> None:
        """See `File.truncate`."""
        with _disk_failure("truncate", self._path):
            os.ftruncate(self._descriptor, size)

    def sync(self) -> None:
        """See `File.sync`."""
        with _disk_failure("fdatasync", self._path):
            os.fdatasync(self._descriptor)

    def close(self) -> None:
        """See `File.close`."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            with _disk_failure("close", self._path):
                os.close(descriptor)


class RealLock:
    """`Lock` by flock(2): it dies with the process, so a kill -9 leaves nothing to clean up."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def release(self) -> None:
        """See `Lock.release`."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)


class RealFiles:
    """`Files` below a directory of the operating system, which is made if it is absent."""

    def __init__(self, root: str) -> None:
        self._root = Path(root).absolute()
        self._make_durably(self._root)

    @property
    def root(self) -> str:
        """The absolute path of the root, for messages."""
        return str(self._root)

    def open(self, path: str, create: bool = False) -> RealFile:
        """See `Files.open`."""
        full = self._full(path)
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        try:
            return RealFile(os.open(full, flags, 0o644), full)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise DiskFailed(f"open {full}: {error.strerror or error}") from error

    def exists(self, path: str) -> bool:
        """See `Files.exists`."""
        return self._full(path).exists()

    def listdir(self, path: str) -> list[str]:
        """See `Files.listdir`."""
        return sorted(entry.name for entry in self._full(path).iterdir())

    def mkdir(self, path: str) -> None:
        """See `Files.mkdir`."""
        full = self._full(path)
        with _disk_failure("mkdir", full):
            full.mkdir(parents=True, exist_ok=True)

    def rename(self, source: str, target: str) -> None:
        """See `Files.rename`."""
        full = self._full(source)
        with _disk_failure("rename", full):
            full.replace(self._full(target))

    def remove(self, path: str) -> None:
        """See `Files.remove`."""
        full = self._full(path)
        try:
            full.unlink()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise DiskFailed(f"remove {full}: {error.strerror or error}") from error

    def remove_tree(self, path: str) -> None:
        """See `Files.remove_tree`."""
        full = self._full(path)
        if full.exists():
            with _disk_failure("remove tree", full):
                shutil.rmtree(full)

    def sync_dir(self, path: str) -> None:
        """See `Files.sync_dir`."""
        _sync_directory(self._full(path))

    def lock(self, path: str) -> RealLock:
        """See `Files.lock`. The file holds the owner's process id, for the message only."""
        full = self._full(path)
        with _disk_failure("open", full):
            descriptor = os.open(full, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _sign(descriptor)
        except OSError as error:
            owner = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise DataDirInUse(
                    f"data directory {self._root} is in use by process {owner or 'unknown'}; "
                    "stop that process or choose another directory"
                ) from error
            raise DiskFailed(f"lock {full}: {error.strerror or error}") from error
        return RealLock(descriptor)

    def free_bytes(self) -> int:
        """See `Files.free_bytes`; what is kept for the superuser does not count."""
        with _disk_failure("statvfs", self._root):
            found = os.statvfs(self._root)
        return found.f_bavail * found.f_frsize

    def _full(self, path: str) -> Path:
        """The operating system's path; refuses to leave the root."""
        if path.startswith("/") or ".." in path.split("/"):
            raise ValueError(f"path must stay below the root: {path!r}")
        return self._root / path

    def _make_durably(self, directory: Path) -> None:
        """Make `directory` and those above it, each synced into the one that holds it."""
        if directory.is_dir():
            return
        self._make_durably(directory.parent)
        with _disk_failure("mkdir", directory):
            directory.mkdir(exist_ok=True)
        _sync_directory(directory.parent)


class UnnamedFile:
    """A new file without a name in `folder`, of `size` zero bytes: `mapping`, shared. It goes with
    the last who uses it, however the process ends. DiskFailed.

    It takes no disk before `fill` is called. Only what was filled may be written: for a page that
    finds no room the system has no error but SIGBUS.
    """

    def __init__(self, folder: str | Path, size: int) -> None:
        self._folder = folder
        self._size = size
        self._filled = 0
        with _disk_failure("make a file without a name in", folder):
            self._descriptor = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
            weakref.finalize(self, os.close, self._descriptor)
            os.ftruncate(self._descriptor, size)
            self.mapping = mmap.mmap(self._descriptor, size, flags=mmap.MAP_SHARED)

    def fill(self, size: int) -> None:
        """Give the first `size` bytes their place on the disk. DiskFull if there is too little,
        DiskFailed for what else goes wrong; nothing is taken then."""
        if size <= self._filled:
            return
        size = min(-(-size // FILLED_BYTES) * FILLED_BYTES, self._size)
        try:
            _take_blocks(self._descriptor, self._filled, size)
        except OSError as error:
            with contextlib.suppress(OSError):  # the place of a part may have been found
                os.ftruncate(self._descriptor, self._filled)
                os.ftruncate(self._descriptor, self._size)
            reason = error.strerror or str(error)
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFailed(f"reserve room in {self._folder}: {reason}") from error
            raise DiskFull(
                f"{self._folder} has no room for {size - self._filled} more bytes ({reason}): "
                "nothing was changed; make room there, or take a folder that has it"
            ) from error
        self._filled = size


def _take_blocks(descriptor: int, first: int, stop: int) -> None:
    """Have the file system set the bytes [first, stop), which were never written, aside."""
    try:
        os.posix_fallocate(descriptor, first, stop - first)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise
        # A file system that cannot: what was written once has its place.
        zeros = bytes(FILLED_BYTES)
        while first < stop:
            first += os.pwrite(descriptor, zeros[: stop - first], first)


def _sign(descriptor: int) -> None:
    """Write this process's number. A full disk has no room for it: it is only for a message."""
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise


def _sync_directory(full: Path) -> None:
    """Fsync a directory by its absolute path."""
    with _disk_failure("fsync directory", full):
        descriptor = os.open(full, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
