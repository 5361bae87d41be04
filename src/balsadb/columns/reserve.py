"""Address space for one column: mapped once, zero, filled by the kernel on first write."""

import mmap
from collections.abc import Callable
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

MAP_NORESERVE = 0x4000
"""Linux: do not count the mapping against the commit limit; pages cost memory once written."""
HUGE_PAGE_BYTES = 2 << 20
HUGE_PAGES_ABOVE_BYTES = 512 << 10
"""In-use size from which huge pages are asked for: a walk touches a column at random, and what the
processor remembers of small pages covers 8 MiB of all columns together. Below it they are declined,
since one written byte of a small column would otherwise cost 2 MiB where the system's default is
`always`."""
MADV_COLLAPSE = 25
"""Of <asm-generic/mman-common.h>; Python's mmap does not name it."""
DISCARD_FROM_BYTES = 1 << 20
"""Ranges at least this long are zeroed by giving their pages back instead of by writing."""


class Reserve:
    """`size` zero bytes at an address that never changes (`bytes`: uint8, shape (size,)).

    2 MiB-aligned when it is that large, page-aligned else. The mapping lives as long as any view of
    `bytes` does. OSError (ENOMEM) if the system forbids overcommit altogether.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._huge = False
        self._mapping: mmap.mmap | None = None
        self._offset = 0
        if size == 0:
            self.bytes: NDArray[np.uint8] = np.zeros(0, np.uint8)
            return
        slack = HUGE_PAGE_BYTES if size >= HUGE_PAGE_BYTES else 0
        mapping = mmap.mmap(
            -1, size + slack, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
        )
        if slack:
            address = np.frombuffer(mapping, np.uint8, 1).ctypes.data
            self._offset = -address % HUGE_PAGE_BYTES
            _advise(mapping, "MADV_NOHUGEPAGE", 0, size + slack)
        self._mapping = mapping
        self.bytes = np.frombuffer(mapping, np.uint8, size, self._offset)

    def allocate(self, bytes_used: int) -> None:
        """Before the first `bytes_used` are in use: make sure that they can be written. Memory is
        there when it is written; DiskFull or DiskFailed, and nothing changed, of a file."""

    def advise(self, bytes_used: int) -> None:
        """Ask for huge pages once the part in use is large enough; cheap to call again."""
        if self._huge or self._mapping is None or bytes_used <= HUGE_PAGES_ABOVE_BYTES:
            return
        self._huge = True
        length = self.size // HUGE_PAGE_BYTES * HUGE_PAGE_BYTES
        if _advise(self._mapping, "MADV_HUGEPAGE", self._offset, length):
            with suppress(OSError):  # what is in use already; kernels before 6.1 leave it small
                in_use = -(-bytes_used // HUGE_PAGE_BYTES) * HUGE_PAGE_BYTES
                self._mapping.madvise(MADV_COLLAPSE, self._offset, min(in_use, length))

    def clear(self, first: int, stop: int) -> None:
        """Zero the bytes [first, stop); whole pages of a long range go back to the system."""
        if self._mapping is not None and stop - first >= DISCARD_FROM_BYTES:
            page_first = -(-first // mmap.PAGESIZE) * mmap.PAGESIZE
            page_stop = stop // mmap.PAGESIZE * mmap.PAGESIZE
            length = page_stop - page_first
            # A private anonymous page reads as zero after DONTNEED (madvise(2)).
            if _advise(self._mapping, "MADV_DONTNEED", self._offset + page_first, length):
                self.bytes[first:page_first] = 0
                self.bytes[page_stop:stop] = 0
                return
        self.bytes[first:stop] = 0


class FileReserve(Reserve):
    """The same over a mapping of a file that reads as zeros: pages may leave memory for the file
    and come back when they are read. The bytes are no more durable than those in memory.

    `fill` gives the file's first bytes, as many as it is told, their place on the disk. A page that
    had none when it is written, and finds none, ends the process with SIGBUS.
    """

    def __init__(self, mapping: mmap.mmap, fill: Callable[[int], None]) -> None:
        super().__init__(0)
        self._fill = fill
        self.size = len(mapping)
        self._mapping = mapping
        self.bytes = np.frombuffer(mapping, np.uint8)
        # Single rows are read, so the pages around one are not worth reading with it.
        _advise(mapping, "MADV_RANDOM", 0, self.size)

    def allocate(self, bytes_used: int) -> None:
        """See `Reserve.allocate`."""
        self._fill(bytes_used)

    def advise(self, bytes_used: int) -> None:
        """Nothing: pages of files are small."""

    def clear(self, first: int, stop: int) -> None:
        """Zero the bytes [first, stop) by writing: a page given back reads as the file does."""
        self.bytes[first:stop] = 0


MakeReserve = Callable[[int], Reserve]
"""Makes the reserve of a column from its size in bytes."""


def _advise(mapping: mmap.mmap, name: str, start: int, length: int) -> bool:
    """Give advice by name (madvise(2)); False where the platform or the kernel does not know it."""
    option = getattr(mmap, name, None)
    if option is None or length <= 0:
        return False
    with suppress(OSError):
        mapping.madvise(option, start, length)
        return True
    return False
