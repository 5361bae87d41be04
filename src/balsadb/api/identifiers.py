"""Point ids on the wire: an unsigned 64-bit integer, or a UUID in any of four spellings.

`550e8400-e29b-41d4-a716-446655440000`, the same without hyphens, with `urn:uuid:` before it, or in
braces. Answers carry the hyphenated lower-case form. A string of digits is an integer in a path and
nothing else anywhere else.
"""

import re
from collections.abc import Iterable
from uuid import UUID

from balsadb.errors import InvalidInput

PointId = int | UUID
"""A point's id inside the program."""

ID_RULE = "must be an unsigned 64-bit integer or a UUID"
U64_MAX = (1 << 64) - 1

_UUID = re.compile(
    r"(?:urn:uuid:)?(?:[0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"
    r"|\{[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\}",
    re.IGNORECASE,
)


def parse_id(value: object, field: str) -> PointId:
    """The id that `value` (of a decoded body) spells; `InvalidInput` naming `field` otherwise."""
    if type(value) is int:
        if 0 <= value <= U64_MAX:
            return value
    elif type(value) is str and _UUID.fullmatch(value):
        return UUID(value)
    raise InvalidInput(field, f"{ID_RULE}, not {_shown(value)}")


def parse_ids(values: Iterable[object], field: str) -> list[PointId]:
    """`parse_id` of each; the field named is `field[position]`."""
    return [parse_id(value, f"{field}[{position}]") for position, value in enumerate(values)]


def parse_path_id(text: str) -> PointId:
    """The id in a path: digits are an integer, anything else must be a UUID."""
    if text.isascii() and text.isdigit() and len(text) <= 20:
        return parse_id(int(text), "id")
    return parse_id(text, "id")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
