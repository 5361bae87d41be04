"""What a payload may hold: the values of JSON, and nothing that an encoder would turn into one.

A JSON body cannot hold anything else. msgpack can (NaN, infinity, byte strings, timestamps), and so
can Python objects; the encoder of payloads would store `null` or a string in their place, and what
comes back would not be what was sent.
"""

from collections.abc import Iterable, Mapping
from math import isfinite
from typing import Final, cast

from balsadb.errors import InvalidInput

_HARMLESS: Final = frozenset({str, int, bool, type(None)})


def check_json(payload: Mapping[str, object], text: bytes, field: str) -> None:
    """InvalidInput naming the path under `field` of a value that JSON cannot hold.

    `text` is the payload encoded. NaN and infinity become `null` there, so that numbers are looked
    at only if it holds one; else a glance at the types is all (about 60 ns a value).
    """
    if not _fits(payload.values(), floats=b"null" in text):
        check_each(payload, field)


def check_each(value: object, field: str) -> None:
    """`check_json` without a text: looks at each value; RecursionError for cycles."""
    if type(value) in _HARMLESS:
        return
    if isinstance(value, float):
        if not isfinite(value):
            raise InvalidInput(field, "numbers must be finite: JSON has no NaN or infinity")
    elif isinstance(value, Mapping):
        for key, part in cast("Mapping[object, object]", value).items():
            if not isinstance(key, str):
                raise InvalidInput(field, f"keys must be strings, not {type(key).__name__}")
            check_each(part, f"{field}.{key}")
    elif isinstance(value, list | tuple):
        for place, part in enumerate(cast("list[object]", value)):
            check_each(part, f"{field}[{place}]")
    elif not isinstance(value, str | int):
        raise InvalidInput(
            field,
            "must be a value of JSON (null, boolean, number, string, list, object), "
            f"not {type(value).__name__}",
        )


def _fits(value: Iterable[object], *, floats: bool) -> bool:
    """Whether all values below are of the types that a JSON decoder makes, and, if `floats` are to
    be looked at, finite."""
    for part in value:
        kind = type(part)
        if kind in _HARMLESS:
            continue
        if kind is float:
            if floats and not isfinite(cast("float", part)):
                return False
        elif kind is dict:
            if not _fits(cast("dict[str, object]", part).values(), floats=floats):
                return False
        elif kind is not list or not _fits(cast("list[object]", part), floats=floats):
            return False
    return True
