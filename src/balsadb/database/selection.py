"""What a read asks for: the query, and which parts of the points found it wants back."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from balsadb.database.requests import PointIdLike


class Selection(msgspec.Struct, frozen=True):
    """Which parts of a point a read returns.

    `payload`: all, none, a list of paths, or `{"include": [...]}` / `{"exclude": [...]}`;
    `vector`: all, none, or a list of names. `raw_payload`: payloads are JSON bytes
    (`msgspec.Raw`, nothing is decoded when all of it is wanted), else objects.
    """

    payload: bool | Sequence[str] | Mapping[str, Sequence[str] | None] = False
    vector: bool | Sequence[str] = False
    raw_payload: bool = True


NOTHING = Selection()
PAYLOAD = Selection(payload=True)


class Query(msgspec.Struct, frozen=True):
    """The points nearest to a vector, or to the vector of a point (which is left out); neither:
    the first points in id order.

    `vector`: (dim,) floats; `using`: the vector's name; `hnsw_ef` below `limit + offset` is raised
    to it; `exact`: compare with every vector; `filter`: the dialect's filter. `ignore_codes`: walk
    in float32 though there are codes; `oversampling`: at least so many times `limit + offset`
    candidates are scored exactly (scores are exact in any case).
    """

    vector: NDArray[np.float32] | Sequence[float] | None = None
    id: PointIdLike | None = None
    filter: Mapping[str, Any] | None = None
    limit: int = 10
    offset: int = 0
    score_threshold: float | None = None
    hnsw_ef: int | None = None
    exact: bool = False
    ignore_codes: bool = False
    oversampling: float = 1.0
    using: str = ""
    selection: Selection = NOTHING
