"""The arguments of `balsadb.Index`, checked before anything changes."""

import operator
import os
from pathlib import Path
from typing import Any, Final, SupportsIndex, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from balsadb.errors import InvalidInput, LimitExceeded
from balsadb.index import AUTO, EF_MAX

NO_ID: Final = 2**64 - 1
"""The id of a result that does not exist; its score is NaN."""

NAME_BYTES_MAX: Final = 240
"""Of a file's name: systems allow 255, and saving needs some for a second name."""

Ids = NDArray[np.uint64]


def whole(value: object, field: str, low: int = 1) -> int:
    """A parameter that counts something. InvalidInput naming `field`."""
    try:
        number = operator.index(cast("SupportsIndex", value))
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise InvalidInput(field, f"must be an integer, not {type(value).__name__}")
    if number < low:
        raise InvalidInput(field, f"must be at least {low}")
    return number


def beam(ef: object, target_recall: object, k: int) -> tuple[int, float]:
    """`ef` (AUTO for "auto") and `target_recall`, checked. InvalidInput or LimitExceeded."""
    if k > EF_MAX:
        raise LimitExceeded("k", f"at most {EF_MAX}")
    real = isinstance(target_recall, float | int | np.floating) and target_recall is not True
    # Compared as it is: an integer may be too large for a float.
    if not real or not 0 < cast("float", target_recall) < 1:
        raise InvalidInput("target_recall", "must be a number between 0 and 1")
    target = float(cast("float", target_recall))
    if isinstance(ef, str):
        if ef != "auto":
            raise InvalidInput("ef", 'must be an integer or "auto"')
        return AUTO, target
    width = whole(ef, "ef")
    if width < k:
        raise InvalidInput("ef", f"must be at least k ({k})")
    if width > EF_MAX:
        raise LimitExceeded("ef", f"at most {EF_MAX}")
    return width, target


def numbers(given: ArrayLike, field: str) -> NDArray[Any]:
    """`given` as an array, of any shape. InvalidInput if it is none, or not of numbers."""
    try:
        array: NDArray[Any] = np.asarray(given)
    except (ValueError, TypeError) as error:
        raise InvalidInput(field, f"must be an array of numbers: {error}") from error
    if array.dtype.kind not in "biuf":
        raise InvalidInput(field, f"must be numbers, not {array.dtype}")
    return array


def _wide(given: ArrayLike, array: NDArray[Any]) -> NDArray[Any]:
    """A list of integers as unsigned ones; the array as it is if they are not."""
    if isinstance(given, np.ndarray):
        return array
    whole_ones = np.asarray(given, object).ravel()
    if all(isinstance(one, int) and 0 <= one <= NO_ID for one in whole_ones):
        return whole_ones.astype(np.uint64)
    return array


def ids(given: ArrayLike, field: str) -> Ids:
    """`given` as ids, (n,). InvalidInput if they are not unsigned 64-bit integers below NO_ID."""
    array = np.atleast_1d(numbers(given, field))
    if array.size == 0:
        raise InvalidInput(field, "must not be empty")
    if array.ndim == 1 and array.dtype.kind == "f" and (array >= 2**63).any():
        array = _wide(given, array)  # NumPy makes floats of a list with ids on both sides of 2**63
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise InvalidInput(field, "must be one row of integers")
    if array.dtype.kind == "i" and int(array.min()) < 0:
        raise InvalidInput(field, "must not be negative")
    found = array.astype(np.uint64)
    if int(found.max()) == NO_ID:
        raise InvalidInput(field, f"must be below {NO_ID}, which marks missing results")
    return found


def location(given: object) -> str:
    """`path`, the name of a file, as text. InvalidInput if it is none."""
    try:
        path = os.fspath(cast("os.PathLike[str]", given))
    except TypeError:
        path = None
    if not isinstance(path, str):
        raise InvalidInput("path", f"must be a path, not {type(given).__name__}")
    if not path or "\0" in path or len(os.fsencode(Path(path).name)) > NAME_BYTES_MAX:
        raise InvalidInput("path", "is not the name of a file")
    return path
