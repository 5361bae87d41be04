"""What fixes an index for life: dimension, metric, and the constants that decide its answers.

All of these are replicated state. None may depend on the machine, for whatever can change an answer
must be equal on all nodes.
"""

from typing import Final, NamedTuple

import msgspec

from balsadb.errors import InvalidInput, LimitExceeded
from balsadb.index.metrics import Metric

DIM_MAX: Final = 65_536
M_MIN: Final = 4
M_MAX: Final = 64
EF_MAX: Final = 4_096
"""Largest `ef`, and the largest beam a filtered walk may widen to."""
ROWS_MAX: Final = 1 << 24
"""Rows an index reserves address space for, unless told otherwise (fewer for long vectors)."""
VECTOR_RESERVE_BYTES: Final = 8 << 30
LINE_BYTES: Final = 64
LINE_LINKS: Final = 16
"""uint32 values in a 64-byte cache line."""
DUPLICATES_KEPT_SHARE: Final = 4
"""At most a quarter of a list may be exact duplicates of its owner."""
INT8: Final = "int8"
"""Walks go by 8-bit codes."""
QUANTISATIONS: Final = ("", INT8)


class Precision(NamedTuple):
    """How careful one search is. `codes`: whether walks may go by them; `oversampling`: at least so
    many times `k` candidates are scored exactly (EF_MAX at most); `target_recall`: the share of the
    true `k` nearest that a beam width of AUTO is to find."""

    codes: bool = True
    oversampling: float = 1.0
    target_recall: float = 0.95


class IndexOptions(msgspec.Struct, frozen=True):
    """Parameters of one index.

    `m`: links a row asks for on an upper layer; layer 0 takes `2 m`. `ef_construct`: width of the
    beam that looks for a new row's neighbours; with codes it is less, and grows with this less
    steeply (`plan_kernels.BEAM`). `seed`: of the hash that draws layers. `rows_max`:
    0 means as many as the reserve allows. `graph_rows_min`: below this many rows there is no graph,
    only the exact scan. `quantization`: "int8", or "" for walks in float32 always.
    `codes_rows_min`: rows from which codes are made: below, walking in float32 is as fast.
    """

    dim: int
    metric: Metric
    m: int = 16
    ef_construct: int = 128
    seed: int = 0
    rows_max: int = 0
    graph_rows_min: int = 1_024
    quantization: str = INT8
    codes_rows_min: int = 2_048

    def check(self) -> None:
        """InvalidInput or LimitExceeded naming the first option that is out of range."""
        if not 1 <= self.dim <= DIM_MAX:
            raise LimitExceeded("dim", f"must be in 1..{DIM_MAX}")
        if not M_MIN <= self.m <= M_MAX:
            raise InvalidInput("m", f"must be in {M_MIN}..{M_MAX}")
        if not 1 <= self.ef_construct <= EF_MAX:
            raise InvalidInput("ef_construct", f"must be in 1..{EF_MAX}")
        if not 0 <= self.seed < 1 << 64:
            raise InvalidInput("seed", "must be an unsigned 64-bit number")
        if not 0 <= self.rows_max < 1 << 31:
            raise InvalidInput("rows_max", "must be below 2**31")
        if self.quantization not in QUANTISATIONS:
            raise InvalidInput("quantization", f"must be {INT8!r} or nothing")
        if self.codes_rows_min < 1:
            raise InvalidInput("codes_rows_min", "must be at least 1")

    @property
    def rows_reserved(self) -> int:
        """Rows that address space is reserved for."""
        return self.rows_max or min(ROWS_MAX, VECTOR_RESERVE_BYTES // (4 * self.dim))

    @property
    def links0(self) -> int:
        """M0 of the paper: links that Algorithm 4 leaves a row on layer 0."""
        return 2 * self.m

    @property
    def width0(self) -> int:
        """uint32 values of a layer-0 list: its degree, `links0` links, slack; whole cache lines."""
        return _lines(1 + self.links0 + max(4, self.m // 2))

    @property
    def code_bytes(self) -> int:
        """Bytes of a row's code: whole cache lines."""
        return -(-self.dim // LINE_BYTES) * LINE_BYTES

    @property
    def width_upper(self) -> int:
        """The same for a list on an upper layer (`m` links and slack)."""
        return _lines(1 + self.m + max(4, self.m // 4))


def _lines(links: int) -> int:
    return -(-links // LINE_LINKS) * LINE_LINKS
