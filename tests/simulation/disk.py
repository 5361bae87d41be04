"""A disk in memory that forgets what was not synced, tears what it was writing, and fails.

`SimDisk` implements `balsadb.storage.files.Files`. It keeps two worlds: what a running process sees
(volatile) and what a power cut leaves (durable). `File.sync` moves a file's bytes from the first
to the second, `sync_dir` a directory's entries; `crash(rng)` throws the first world away, except
for what chance lets through:

* of the unsynced writes to a file each 512-byte sector keeps, independently, the state after some
  number of them: so writes are lost, torn, and arrive in another order than they were made;
* of the unsynced operations on a directory (create, rename, remove, mkdir) any subset survives,
  each atomically.

Faults are placed by counting *mutating* operations (pwrite, truncate, sync, rename, remove, mkdir,
an open that creates, sync_dir): `fail_at(n)` makes the n-th from now raise `DiskFailed` (a failed
sync also loses the data for good, as the page cache does), `crash_at(n)` makes it raise
`SimulatedCrash`, and with it every call after, until `crash(rng)` restarts the machine.

The same calls with the same seeds give the same bytes.
"""

import random
from collections import Counter, deque
from collections.abc import Callable, Iterator

from balsadb.errors import DataDirInUse, DiskFailed
from balsadb.storage.files import SECTOR_BYTES, FileBytes

_LOG_LENGTH = 4096


class SimulatedCrash(BaseException):
    """The power went at this operation. Not an `Exception`: no handler may swallow it."""


class _Inode:
    """A file's bytes: as seen, as durable, and the writes between the two, in order."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.durable = bytearray()
        # (offset, bytes) of a write, or (size, None) of a truncate.
        self.pending: list[tuple[int, bytes | None]] = []

    def write(self, offset: int, data: bytes) -> None:
        _write_into(self.data, offset, data)
        self.pending.append((offset, data))

    def truncate(self, size: int) -> None:
        _truncate_to(self.data, size)
        self.pending.append((size, None))

    def sync(self) -> None:
        for offset, data in self.pending:
            if data is None:
                _truncate_to(self.durable, offset)
            else:
                _write_into(self.durable, offset, data)
        self.pending.clear()

    def crash(self, rng: random.Random) -> str:
        """What became of the unsynced writes: "" if there were none, or nothing of them was lost,
        else "write lost" or "write torn"."""
        if not self.pending:
            self._lose(rng)
            return ""
        before, seen = bytes(self.durable), bytes(self.data)
        self._lose(rng)
        if self.data == seen:
            return ""
        return "write lost" if self.data == before else "write torn"

    def _lose(self, rng: random.Random) -> None:
        pending, self.pending = self.pending, []
        # A change of size orders all that is before it: keep a prefix, tear what follows.
        while any(data is None for _, data in pending) and rng.random() < 0.5:
            offset, data = pending.pop(0)
            if data is None:
                _truncate_to(self.durable, offset)
            else:
                _write_into(self.durable, offset, data)
        cut = next((at for at, (_, data) in enumerate(pending) if data is None), len(pending))
        self._tear([(offset, data) for offset, data in pending[:cut] if data is not None], rng)
        self.data = bytearray(self.durable)

    def _tear(self, writes: list[tuple[int, bytes]], rng: random.Random) -> None:
        mode = rng.choice(("none", "all", "sectors", "sectors"))
        if mode == "none":
            return
        keep_chance = 1.0 if mode == "all" else rng.choice((0.1, 0.5, 0.9))
        stopped: set[int] = set()  # sectors whose later writes did not reach the platter
        for offset, data in writes:
            position = 0
            while position < len(data):
                sector = (offset + position) // SECTOR_BYTES
                length = min((sector + 1) * SECTOR_BYTES - offset - position, len(data) - position)
                if sector not in stopped:
                    if mode == "all" or rng.random() < keep_chance:
                        piece = data[position : position + length]
                        _write_into(self.durable, offset + position, piece)
                    else:
                        stopped.add(sector)
                position += length


class _Directory:
    """A directory's entries: as seen and as durable."""

    def __init__(self) -> None:
        self.entries: dict[str, _Node] = {}
        self.durable: dict[str, _Node] = {}


class _Operation:
    """One atomic change of names: it sets or clears entries, perhaps in two directories."""

    def __init__(self, changes: list[tuple[_Directory, str, "_Node | None"]]) -> None:
        self.changes = changes

    def touches(self, directory: _Directory) -> bool:
        return any(change[0] is directory for change in self.changes)

    def apply(self, durable: bool) -> None:
        for directory, name, node in self.changes:
            entries = directory.durable if durable else directory.entries
            if node is None:
                entries.pop(name, None)
            else:
                entries[name] = node


_Node = _Inode | _Directory


class SimFile:
    """`File` of a `SimDisk`; dead after a crash."""

    def __init__(self, disk: "SimDisk", inode: _Inode, path: str) -> None:
        self._disk = disk
        self._inode = inode
        self._path = path
        self._generation = disk.generation

    def pread(self, length: int, offset: int) -> bytes:
        self._alive()
        return bytes(self._inode.data[offset : offset + length])

    def pwrite(self, data: FileBytes, offset: int) -> None:
        self._alive()
        copy = bytes(data)
        what = f"pwrite {self._path} {offset}+{len(copy)}"
        if offset + len(copy) > len(self._inode.data):
            self._disk.require_space(what)
        self._disk.mutate(what, lambda: self._inode.write(offset, copy))

    def size(self) -> int:
        self._alive()
        return len(self._inode.data)

    def truncate(self, size: int) -> None:
        self._alive()
        self._disk.mutate(f"truncate {self._path} {size}", lambda: self._inode.truncate(size))

    def sync(self) -> None:
        self._alive()
        self._disk.barrier(f"sync {self._path}", self._inode.sync, self._inode.pending.clear)

    def close(self) -> None:
        self._generation = -1

    def _alive(self) -> None:
        self._disk.check_power()
        if self._generation != self._disk.generation:
            raise ValueError(f"{self._path}: handle closed, or from before a crash")


class SimLock:
    """`Lock` of a `SimDisk`; a crash releases it."""

    def __init__(self, held: set[str], path: str) -> None:
        self._held = held
        self._path = path

    def release(self) -> None:
        self._held.discard(self._path)


class SimDisk:
    """`Files` in memory; see the module's docstring for the model of faults."""

    def __init__(self) -> None:
        self.generation = 0
        self.free = 1 << 50
        """What `free_bytes` answers; writing does not change it."""
        self.operations = 0
        """Mutating operations so far."""
        self.log: deque[str] = deque(maxlen=_LOG_LENGTH)
        """The latest mutating operations, one line each."""
        self._root = _Directory()
        self._unsynced: list[_Operation] = []
        self._locks: set[str] = set()
        self._fail_at = -1
        self._crash_at = -1
        self._off = False
        self.full = False
        """Whether no file can grow and none can be made: `DiskFailed`, as for any other error."""
        self.faults: Counter[str] = Counter()
        """What befell operations and files, by kind."""

    # --- Files ---

    def open(self, path: str, create: bool = False) -> SimFile:
        self.check_power()
        directory, name = self._parent(path)
        node = directory.entries.get(name)
        if node is None:
            if not create:
                raise FileNotFoundError(path)
            node = _Inode()
            self.require_space(f"create {path}")
            self.mutate(f"create {path}", lambda: self._change([(directory, name, node)]))
        if isinstance(node, _Directory):
            raise DiskFailed(f"open {path}: is a directory")
        return SimFile(self, node, path)

    def exists(self, path: str) -> bool:
        self.check_power()
        try:
            return self._find(path) is not None
        except FileNotFoundError:
            return False

    def listdir(self, path: str) -> list[str]:
        self.check_power()
        return sorted(self._directory(path).entries)

    def mkdir(self, path: str) -> None:
        self.check_power()
        directory = self._root
        for name in path.split("/") if path else []:
            node = directory.entries.get(name)
            if node is None:
                node = _Directory()
                change: list[tuple[_Directory, str, _Node | None]] = [(directory, name, node)]
                self.mutate(f"mkdir {path}", lambda change=change: self._change(change))
            if isinstance(node, _Inode):
                raise DiskFailed(f"mkdir {path}: {name} is a file")
            directory = node

    def rename(self, source: str, target: str) -> None:
        self.check_power()
        from_directory, from_name = self._parent(source)
        to_directory, to_name = self._parent(target)
        node = from_directory.entries.get(from_name)
        if node is None:
            raise DiskFailed(f"rename {source}: no such file")
        there = to_directory.entries.get(to_name)
        if isinstance(there, _Directory) and there.entries:
            raise DiskFailed(f"rename {source}: {target} is a directory that is not empty")
        changes: list[tuple[_Directory, str, _Node | None]] = [
            (from_directory, from_name, None),
            (to_directory, to_name, node),
        ]
        self.mutate(f"rename {source} {target}", lambda: self._change(changes))

    def remove(self, path: str) -> None:
        self.check_power()
        directory, name = self._parent(path)
        node = directory.entries.get(name)
        if node is None:
            raise FileNotFoundError(path)
        if isinstance(node, _Directory):
            raise DiskFailed(f"remove {path}: is a directory")
        self.mutate(f"remove {path}", lambda: self._change([(directory, name, None)]))

    def remove_tree(self, path: str) -> None:
        self.check_power()
        if not self.exists(path):
            return
        node = self._find(path)
        if isinstance(node, _Directory):
            for name in sorted(node.entries):
                self.remove_tree(f"{path}/{name}")
        directory, name = self._parent(path)
        self.mutate(f"remove {path}", lambda: self._change([(directory, name, None)]))

    def sync_dir(self, path: str) -> None:
        self.check_power()
        directory = self._directory(path)
        self.barrier(
            f"sync_dir {path}",
            lambda: self._settle(directory, durable=True),
            lambda: self._settle(directory, durable=False),
        )

    def lock(self, path: str) -> SimLock:
        self.check_power()
        if path in self._locks:
            raise DataDirInUse("data directory is in use; stop the process that holds it")
        self.open(path, create=True)
        self._locks.add(path)
        return SimLock(self._locks, path)

    def free_bytes(self) -> int:
        self.check_power()
        return self.free

    # --- faults ---

    def fail_at(self, count: int) -> None:
        """Make the `count`-th mutating operation from now (1 is the next) raise `DiskFailed`."""
        self._fail_at = self.operations + count

    def crash_at(self, count: int) -> None:
        """Cut the power at the `count`-th mutating operation from now (1 is the next). A write or
        a rename has happened, unsynced; a sync has not."""
        self._crash_at = self.operations + count

    def clear_faults(self) -> None:
        """Forget the failure and the power cut that were placed and have not happened."""
        self._fail_at = self._crash_at = -1

    def crash(self, rng: random.Random) -> None:
        """Cut the power now, if it is not off already, and start again: see the model above. Every
        handle and lock from before is gone."""
        for operation in self._unsynced:
            if rng.random() < 0.5:
                operation.apply(durable=True)
            else:
                self.faults["change of a directory lost"] += 1
        self._unsynced.clear()
        _forget_volatile(self._root, rng, set(), self.faults)
        self._locks.clear()
        self.generation += 1
        self.clear_faults()
        self._off = False

    def flip_bit(self, path: str, bit: int) -> None:
        """Flip one bit of a file (bit 0 is the lowest of byte 0), as seen and as durable."""
        inode = self._inode(path)
        for data in (inode.data, inode.durable):
            if bit >> 3 < len(data):
                data[bit >> 3] ^= 1 << (bit & 7)

    def content(self, path: str) -> bytes:
        """A file's bytes as seen."""
        return bytes(self._inode(path).data)

    def replace(self, path: str, data: bytes) -> None:
        """Put other bytes in a file, durably, behind the back of who wrote it."""
        if not self.exists(path):
            self.open(path, create=True)
        inode = self._inode(path)
        inode.data, inode.durable, inode.pending = bytearray(data), bytearray(data), []

    def wipe(self) -> None:
        """Empty the disk, durably: the operator put a new one in."""
        self._root = _Directory()
        self._unsynced.clear()
        self._locks.clear()
        self.generation += 1

    def paths(self) -> list[str]:
        """All files there are, sorted."""
        return sorted(_paths_below(self._root, ""))

    # --- for SimFile ---

    def require_space(self, what: str) -> None:
        """Raise `DiskFailed` while the disk is full."""
        if self.full:
            self.faults["write to a full disk"] += 1
            raise DiskFailed(f"{what}: no space left on device")

    def check_power(self) -> None:
        """Raise `SimulatedCrash` while the power is off."""
        if self._off:
            raise SimulatedCrash

    def mutate(self, what: str, effect: Callable[[], None]) -> None:
        """Count an operation, apply the faults placed on it, and let it take effect."""
        if self._count(what):
            raise DiskFailed(f"{what}: simulated failure")
        effect()
        if self._off:
            raise SimulatedCrash(what)

    def barrier(self, what: str, effect: Callable[[], None], lose: Callable[[], None]) -> None:
        """As `mutate`, for a sync: at a power cut it has no effect, a failure loses the data."""
        if self._count(what):
            lose()
            raise DiskFailed(f"{what}: simulated failure")
        if self._off:
            raise SimulatedCrash(what)
        effect()

    # --- inside ---

    def _count(self, what: str) -> bool:
        """Count and log an operation; whether it is to fail. Turns the power off if due."""
        self.operations += 1
        self.log.append(f"{self.operations} {what}")
        self._off = self.operations == self._crash_at
        if self._off:
            self.faults["crash in a write"] += 1
        if self.operations == self._fail_at:
            self.faults["disk error"] += 1
            return True
        return False

    def _change(self, changes: list[tuple[_Directory, str, _Node | None]]) -> None:
        operation = _Operation(changes)
        operation.apply(durable=False)
        self._unsynced.append(operation)

    def _settle(self, directory: _Directory, durable: bool) -> None:
        """Take the unsynced operations on a directory off the list: done, or lost for good."""
        for operation in self._unsynced:
            if durable and operation.touches(directory):
                operation.apply(durable=True)
        self._unsynced = [op for op in self._unsynced if not op.touches(directory)]

    def _find(self, path: str) -> _Node | None:
        if not path:
            return self._root
        directory, name = self._parent(path)
        return directory.entries.get(name)

    def _directory(self, path: str) -> _Directory:
        node = self._find(path)
        if not isinstance(node, _Directory):
            raise FileNotFoundError(path)
        return node

    def _inode(self, path: str) -> _Inode:
        node = self._find(path)
        if not isinstance(node, _Inode):
            raise FileNotFoundError(path)
        return node

    def _parent(self, path: str) -> tuple[_Directory, str]:
        parts = path.split("/")
        if not path or ".." in parts or "" in parts:
            raise ValueError(f"not a path below the root: {path!r}")
        directory = self._root
        for part in parts[:-1]:
            node = directory.entries.get(part)
            if not isinstance(node, _Directory):
                raise FileNotFoundError(path)
            directory = node
        return directory, parts[-1]


def _write_into(data: bytearray, offset: int, piece: bytes) -> None:
    if len(data) < offset:
        data.extend(bytes(offset - len(data)))
    data[offset : offset + len(piece)] = piece


def _truncate_to(data: bytearray, size: int) -> None:
    if size < len(data):
        del data[size:]
    else:
        data.extend(bytes(size - len(data)))


def _paths_below(directory: _Directory, above: str) -> Iterator[str]:
    for name, node in directory.entries.items():
        if isinstance(node, _Directory):
            yield from _paths_below(node, f"{above}{name}/")
        else:
            yield above + name


def _forget_volatile(
    directory: _Directory, rng: random.Random, seen: set[int], faults: Counter[str]
) -> None:
    """Make what is seen what is durable, below a directory, tearing the unsynced writes."""
    directory.entries = dict(directory.durable)
    for name in sorted(directory.durable):
        node = directory.durable[name]
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, _Inode):
            became = node.crash(rng)
            if became:
                faults[became] += 1
        else:
            _forget_volatile(node, rng, seen, faults)
