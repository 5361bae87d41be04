"""Filters over ids as masks over slots."""

import numpy as np
from numpy.typing import NDArray

from balsadb.errors import InvalidInput

Mask = NDArray[np.bool_]


def mask_of_flags(flags: Mask, ids: NDArray[np.uint64], live: Mask | None, *, plain: bool) -> Mask:
    """Which slots have an id whose flag is set: `flags[id]`, False beyond their end. `ids` and
    `live` (slots,): the id of each slot, and whether it has one (None: all have). `plain`: every id
    is the number of its slot, which saves the look at it.

    InvalidInput for flags that have not one dimension.
    """
    if flags.ndim != 1:
        raise InvalidInput("filter", "must have one dimension")
    # Kernels count bytes: one that is neither 0 nor 1 (a view of other data) is made 1.
    set_ = flags.view(np.uint8)
    mask = np.zeros(len(ids), np.bool_)
    if plain:
        count = min(len(ids), len(flags))
        np.not_equal(set_[:count], 0, out=mask[:count])
    else:
        inside = ids < len(flags)
        mask[inside] = set_[ids[inside].astype(np.int64)] != 0
    # A slot without an id says 0, which is an id like any other.
    if live is not None:
        mask &= live
    return mask
