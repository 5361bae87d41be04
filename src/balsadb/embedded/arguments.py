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
    return _of_numbers(array_of(given, field), field)


def array_of(given: ArrayLike, field: str) -> NDArray[Any]:
    """`given` as an array of anything. InvalidInput if it is none."""
    try:
        return np.asarray(given)
    except (ValueError, TypeError) as error:
        raise InvalidInput(field, f"must be an array of numbers: {error}") from error


def _of_numbers(array: NDArray[Any], field: str) -> NDArray[Any]:
    if array.dtype.kind not in "biuf":
        raise InvalidInput(field, f"must be numbers, not {array.dtype}")
    return array


def vectors(given: ArrayLike, field: str, dim: int) -> NDArray[Any]:
    """`given` as rows of `dim` numbers of any type; one of shape (dim,) is a row. InvalidInput for
    another shape, or no rows."""
    array = numbers(given, field)
    if array.ndim == 0:
        raise InvalidInput(field, f"must be vectors of {dim} numbers, not one number")
    if array.size == 0:
        raise InvalidInput(field, "must not be empty")
    rows = array[np.newaxis] if array.ndim == 1 else array
    if rows.ndim != 2 or rows.shape[1] != dim:
        raise InvalidInput(field, f"must be vectors of {dim} numbers, has shape {_shape(array)}")
    return rows


def _shape(array: NDArray[Any]) -> str:
    return "x".join(map(str, array.shape))


def sample_size(given: object) -> int | None:
    """How many stored vectors a sample is to have; None if it is of queries. InvalidInput."""
    if isinstance(given, list | tuple) or np.ndim(cast("ArrayLike", given)):
        return None
    if not isinstance(given, SupportsIndex) or isinstance(given, bool):
        rule = "must be queries (q, dim), or how many stored vectors to take"
        raise InvalidInput("sample", f"{rule}, not {type(given).__name__}")
    return whole(given, "sample")


def ids(given: ArrayLike, field: str, wanted: str = "one row of integers") -> Ids:
    """`given` as ids, (n,). InvalidInput if they are not unsigned 64-bit integers below NO_ID: then
    not what is `wanted`."""
    array = np.atleast_1d(array_of(given, field))
    if array.size == 0:
        raise InvalidInput(field, "must not be empty")
    if array.ndim == 1 and array.dtype.kind in "fO" and not isinstance(given, np.ndarray):
        array = _wide(given, array, field)
    if array.ndim != 1 or _of_numbers(array, field).dtype.kind not in "iu":
        raise InvalidInput(field, f"must be {wanted}, not {_shape(array)} of {array.dtype}")
    if array.dtype.kind == "i" and int(array.min()) < 0:
        _check_id(int(array.min()), field, int(array.argmin()))
    found = array.astype(np.uint64)
    if int(found.max()) == NO_ID:
        _check_id(NO_ID, field, int(found.argmax()))
    return found


def _wide(given: ArrayLike, array: NDArray[Any], field: str) -> NDArray[Any]:
    """A list of integers, of which NumPy makes floats or objects because some are 2**63 or more, as
    unsigned ones; `array`, which NumPy made of it, if not all are integers."""
    found = np.asarray(given, object).ravel()
    if not all(isinstance(one, int) and not isinstance(one, bool) for one in found):
        return array
    for place, one in enumerate(found):
        _check_id(one, field, place)
    return found.astype(np.uint64)


def _check_id(number: int, field: str, place: int) -> None:
    if number < 0:
        raise InvalidInput(f"{field}[{place}]", f"is {number}: ids must not be negative")
    if number >= NO_ID:
        rule = f"is {number}: ids must be below {NO_ID}, which marks missing results"
        raise InvalidInput(f"{field}[{place}]", rule)


def check_distinct(found: Ids, field: str) -> None:
    """InvalidInput, naming the id and both its places, if one is there twice."""
    order = np.argsort(found, kind="stable")
    again = order[1:][found[order[1:]] == found[order[:-1]]]
    if again.size:
        second = int(again.min())
        first = int(np.argmax(found == found[second]))
        rule = f"is {found[second]}, as is {field}[{first}]: ids must not repeat within a batch"
        raise InvalidInput(f"{field}[{second}]", rule)


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
