"""Which vectors may be stored or searched for: those whose every score is a finite float32.

A score is made of squares, products and differences of components. For vectors no longer than
`limits.VECTOR_NORM_MAX` a dot product is at most 1e36 and a squared distance at most 4e36, below
float32's 3.4e38, as are all partial sums. Checked by the leader and by queries, never by apply.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from balsadb.database.limits import VECTOR_NORM_MAX
from balsadb.errors import InvalidInput, LimitExceeded

_SURELY_SHORT: Final = np.float32(0.99 * VECTOR_NORM_MAX**2)
"""A sum of squares in float32 up to which no rounding matters."""


def bounded(values: NDArray[Any], element: Callable[[int], str]) -> NDArray[np.float32]:
    """`values`, numbers of shape (n, dim), as float32.

    InvalidInput names `element(row)[place]` if a component is no finite float32, LimitExceeded
    `element(row)` if the row is too long.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        array = values.astype(np.float32, copy=False)
        # One pass: a NaN or an infinity makes its row's sum one, which is not below anything.
        suspects = np.flatnonzero(~(np.einsum("ij,ij->i", array, array) <= _SURELY_SHORT))
    for row in suspects.tolist():
        strange = np.flatnonzero(~np.isfinite(array[row]))
        if strange.size:
            field = f"{element(row)}[{int(strange[0])}]"
            raise InvalidInput(field, "components must be finite float32 numbers")
        norm = float(np.linalg.norm(array[row].astype(np.float64)))
        if norm > VECTOR_NORM_MAX:
            raise LimitExceeded(
                element(row),
                f"must have a Euclidean norm of at most {VECTOR_NORM_MAX:g}, not {norm:.3g}: "
                "scores of longer vectors do not fit in float32",
            )
    return array
