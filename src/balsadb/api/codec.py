"""Bodies to structs and back: JSON and msgpack, chosen by Content-Type and Accept.

Decoding goes straight into the typed structs of this package; an error names the path that the
decoder reached. Answers may hold `msgspec.Raw` JSON (a stored payload): a JSON answer passes its
bytes through untouched, a msgpack answer decodes and re-encodes it.
"""

import enum
import re
import sys
from array import array
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar, cast

import msgspec

from balsadb.errors import MalformedBody

T = TypeVar("T")


class Format(enum.Enum):
    """A body's encoding; the value is its media type."""

    JSON = "application/json"
    MSGPACK = "application/msgpack"


_PLACE = re.compile(r"\(byte (\d+)\)")
_LONE_SURROGATE = re.compile(
    rb"(?<!\\)(?:\\\\)*(\\u[dD][89abAB][0-9a-fA-F]{2})"
    rb"(?=[^\\]|\\[^u]|\\u(?:[^dD]|[dD][^c-fC-F]))",
    re.DOTALL,
)
"""A first half of a surrogate pair with something else behind it, in JSON."""
_MSGPACK_TYPES = frozenset({"application/msgpack", "application/x-msgpack"})


def request_format(content_type: str | None) -> Format:
    """The encoding of a request's body. Anything but msgpack is read as JSON, as the dialect's
    server does."""
    return Format.MSGPACK if _media_type(content_type) in _MSGPACK_TYPES else Format.JSON


def answer_format(accept: str | None) -> Format:
    """The encoding of an answer: msgpack only if the client names it."""
    if not accept or "msgpack" not in accept:
        return Format.JSON
    named = {_media_type(part) for part in accept.split(",")}
    return Format.MSGPACK if named & _MSGPACK_TYPES else Format.JSON


def decode(body: bytes | memoryview, type_: type[T], format_: Format, field: str = "") -> T:
    """`body` as a `type_`.

    Raises `MalformedBody`: the field is the path of the value that has the wrong type (behind
    `field`), or `body` if the bytes are no JSON / msgpack at all.
    """
    try:
        return _decoder(type_, format_)(body)
    except msgspec.ValidationError as error:
        raise validation_error(error, field) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        kind = "JSON" if format_ is Format.JSON else "msgpack"
        rule = f"is not valid {kind}: {error}"
        if _not_finite(body, str(error)):
            rule = f"{rule}; NaN and infinity are not JSON: numbers must be finite"
        elif format_ is Format.JSON and "truncated" in rule:
            rule = _lone_surrogate(body) or rule
        raise MalformedBody(field or "body", rule) from None


def _lone_surrogate(body: bytes | memoryview) -> str | None:
    """What is wrong with a JSON body that has half a surrogate pair; the decoder, which looks for
    the other half behind it, calls it truncated."""
    found = _LONE_SURROGATE.search(body)
    if found is None:
        return None
    return (
        f"is not valid JSON: {found[1].decode()} (byte {found.start(1)}) is half a surrogate pair; "
        "the other half must follow"
    )


def _not_finite(body: bytes | memoryview, text: str) -> bool:
    """Whether the decoder stopped at a NaN or an infinity, which some JSON writers emit."""
    place = _PLACE.search(text)
    if place is None:
        return False
    start = int(place[1])
    found = bytes(body[max(0, start - 1) : start + 4])
    return b"NaN" in found or b"Inf" in found


def validation_error(error: msgspec.ValidationError, field: str) -> MalformedBody:
    """The decoder's `error` as ours. Its path (`$.points[...].id`) goes behind `field`."""
    text, _, path = str(error).partition(" - at `$")
    name = f"{field}{path.removesuffix('`')}".lstrip(".")
    return MalformedBody(name or "body", text)


def convert(value: object, type_: type[T], field: str) -> T:
    """An already decoded `value` as a `type_`; `MalformedBody` behind `field` otherwise."""
    try:
        return msgspec.convert(value, type_)
    except msgspec.ValidationError as error:
        raise validation_error(error, field) from None


def encode(value: object, format_: Format = Format.JSON) -> bytes:
    """`value` (builtins, structs, UUIDs, `Raw` JSON, float32 buffers) in `format_`.

    A buffer (an object with `tobytes` and `tolist`, such as an array) is a list of numbers in JSON
    and `bin` in msgpack.
    """
    if format_ is Format.JSON:
        return _JSON.encode(value)
    return _MSGPACK.encode(_without_raw(value))


@cache
def _decoder(type_: type[Any], format_: Format) -> Callable[[bytes | memoryview], Any]:
    module = msgspec.json if format_ is Format.JSON else msgspec.msgpack
    return module.Decoder(type_).decode


def _media_type(value: str | None) -> str:
    return "" if value is None else value.partition(";")[0].strip().lower()


def _buffer_as_list(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    raise NotImplementedError(f"cannot encode {type(value).__name__}")


def _buffer_as_bytes(value: Any) -> Any:
    if hasattr(value, "tobytes"):
        return value.tobytes() if getattr(value, "shape", None) != () else value.item()
    raise NotImplementedError(f"cannot encode {type(value).__name__}")


_PLAIN = frozenset({bool, int, float, str})

_JSON = msgspec.json.Encoder(enc_hook=_buffer_as_list)
_MSGPACK = msgspec.msgpack.Encoder(enc_hook=_buffer_as_bytes)


def _without_raw(value: Any) -> Any:
    """`value` as builtins that msgpack can hold: `Raw` (JSON bytes) decoded, and the numbers of a
    field called `vector` packed as float32."""
    if value is None or type(value) in _PLAIN:
        return value
    if isinstance(value, msgspec.Raw):
        return msgspec.json.decode(value)
    if isinstance(value, msgspec.Struct):
        # Not `msgspec.structs.fields`: it works the types out anew, 80 us for each point found.
        named = ((name, getattr(value, name)) for name in value.__struct_fields__)
        return {
            name: pack_vector(item) if name == "vector" else _without_raw(item)
            for name, item in named
        }
    items = as_list(value)
    if items is not None:
        return [_without_raw(item) for item in items]
    members = as_object(value)
    if members is not None:
        return {key: _without_raw(item) for key, item in members.items()}
    return value


def pack_vector(value: Any) -> Any:
    """A vector (a list of numbers, or a map of names to lists) as little-endian float32 bytes."""
    members = as_object(value)
    if members is not None:
        return {name: pack_vector(item) for name, item in members.items()}
    numbers = as_list(value)
    if numbers is None:
        return value
    packed = array("f", numbers)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def as_object(value: object) -> dict[str, Any] | None:
    """`value` if it is a decoded JSON object, else None."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def as_list(value: object) -> list[Any] | None:
    """`value` if it is a decoded JSON array, else None."""
    return cast("list[Any]", value) if isinstance(value, list) else None
