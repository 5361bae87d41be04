"""Working memory of searches and plans, kept and re-used: nothing is allocated for a query."""

import numpy as np
from numpy.typing import NDArray

from balsadb.index.distance_kernels import DISTANCES, EPOCH, Scratch
from balsadb.index.options import EF_MAX, M_MAX

_COUNTERS = 3
_FRESH = 4 * M_MAX


class ScratchPool:
    """Hands a `Scratch` to one search at a time; makes another when all are taken.

    Safe for concurrent searches: taking and giving back are single operations on a list.
    """

    def __init__(self, code_bytes: int) -> None:
        self._code_bytes = code_bytes
        self._idle: list[Scratch] = []
        self._counters: list[NDArray[np.int64]] = []

    def take(self, rows: int, keys: int = 0, slots: int = 0) -> Scratch:
        """A scratch for at least `rows` rows, pools of at least `keys` keys and a mask over at
        least `slots` slots."""
        most = max(rows, slots)
        try:
            scratch = self._idle.pop()
        except IndexError:
            counters = np.zeros(_COUNTERS, np.int64)
            self._counters.append(counters)
            return self._make(most, max(keys, EF_MAX), counters)
        if len(scratch.visited) >= most and len(scratch.pool) > keys:
            return scratch
        return self._make(max(most, len(scratch.visited)), max(keys, EF_MAX), scratch.counters)

    def give(self, scratch: Scratch) -> None:
        """Back to the pool."""
        self._idle.append(scratch)

    @property
    def distances(self) -> int:
        """Distances computed with the scratches of this pool, those at work included."""
        return sum(int(counters[DISTANCES]) for counters in self._counters)

    @property
    def idle_bytes(self) -> int:
        """Bytes of the scratches that nobody uses now."""
        return sum(part.nbytes for scratch in self._idle for part in scratch)

    def _make(self, rows: int, keys: int, counters: NDArray[np.int64]) -> Scratch:
        roomy = rows + rows // 4 + 1_024  # not a new one for every row added
        counters[EPOCH] = 0
        return Scratch(
            visited=np.zeros(roomy, np.uint8),
            seen=np.empty(roomy // 8 + 1, np.uint8),
            matches=np.empty(roomy, np.uint32),
            measured=np.empty(roomy, np.uint32),
            packed=np.empty(roomy // 8 + 1, np.uint8),
            pool=np.zeros(keys + 1, np.uint64),
            results=np.zeros(keys + 1, np.uint64),
            fresh=np.zeros(_FRESH, np.uint32),
            bits=np.zeros(_FRESH, np.uint32),
            survivors=np.zeros(_FRESH, np.uint64),
            code=np.zeros(self._code_bytes, np.uint8),
            counters=counters,
        )
