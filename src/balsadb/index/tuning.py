"""The table of beam widths: which `ef` reaches which recall. Read by every replica, in integers.

The column `tuning` (uint32, TUNING_ROWS): live rows it was measured at; epoch of the quantiser;
then for each regime, for each of `KS`, for each of `TARGETS`, the smallest `ef` that reached it
when the leader measured (`calibration`). Between the entries it is interpolated linearly: recall
grows ever more slowly with `ef`, and `ef` about linearly with `k`, so what comes out is a little
more than needed.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from balsadb.index.options import EF_MAX

ONE: Final = 10_000
"""Recall 1: recalls are counted in parts of this."""
TARGETS: Final = (8_000, 8_500, 9_000, 9_500, 9_800, 9_900, 9_950, 9_990)
KS: Final = (1, 10, 100)
"""Numbers of results that recalls are measured at."""
PLAIN: Final = 0
FILTERED: Final = 1
"""With a filter that passes every second row, whatever its vector."""
REGIMES: Final = 2
ROWS_MEASURED: Final = 0
EPOCH_MEASURED: Final = 1
FIRST: Final = 2
TUNING_ROWS: Final = FIRST + REGIMES * len(KS) * len(TARGETS)

UNCALIBRATED: Final = (
    (16, 24, 32, 48, 64, 96, 128, 256),
    (24, 32, 48, 64, 96, 128, 192, 384),
    (112, 120, 136, 168, 216, 288, 384, 768),
)
"""What is taken for the entries before the first calibration, in any regime: data that is as hard
as usual."""

Table = NDArray[np.uint32]


def fits(tuning: Table) -> bool:
    """Whether this is a table: every width usable for its `k`."""
    if len(tuning) != TUNING_ROWS:
        return False
    widths = tuning[FIRST:].reshape(REGIMES, len(KS), len(TARGETS))
    return bool((widths >= np.array(KS).reshape(1, -1, 1)).all() and (widths <= EF_MAX).all())


def ef_for(tuning: Table, k: int, target: int, share: tuple[int, int] = (1, 1)) -> int:
    """The beam width, `k`..EF_MAX, that finds `target` / ONE of the `k` nearest, by the table in
    use (no rows: none yet). `share`: how many rows pass the filter, of how many. A `k` above EF_MAX
    gives EF_MAX: such a search scans.

    A walk that passes over half of the rows keeps twice as many for the same `ef`, so it needs less
    of it; a filter that passes more lies between that and none, one that passes fewer needs less.
    """
    if len(tuning):
        tables = tuning[FIRST:].reshape(REGIMES, len(KS), len(TARGETS)).tolist()
    else:
        tables = (UNCALIBRATED, UNCALIBRATED)
    passing, rows = share
    filtered, plain = _width(tables[FILTERED], k, target), _width(tables[PLAIN], k, target)
    above = max(0, 2 * passing - rows)  # beyond the half that was measured
    return filtered - (filtered - plain) * above // max(1, rows)


def _width(table: Sequence[Sequence[int]], k: int, target: int) -> int:
    """The width for `k` and `target` of one regime."""
    widths = [_interpolate((*TARGETS, ONE), (*row, EF_MAX), target) for row in table]
    ef = _interpolate(KS, widths, k) if k <= KS[-1] else -(-widths[-1] * k // KS[-1])
    return min(max(ef, k), EF_MAX)


def _interpolate(points: Sequence[int], values: Sequence[int], at: int) -> int:
    """Linear between points, rounded up; constant before the first. `at` is at most the last."""
    if at <= points[0]:
        return values[0]
    right = next(number for number, point in enumerate(points) if point >= at)
    width = points[right] - points[right - 1]
    rise = values[right] - values[right - 1]
    return values[right - 1] + -(-rise * (at - points[right - 1]) // width)
