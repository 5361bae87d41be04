"""Damage to bytes: what a bad medium, a bad line or a bad program does to something valid."""

import random
from collections.abc import Sequence
from typing import NamedTuple

LENGTHS = (0, 1, 0x7F, 0xFF, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 2**63, 2**64 - 1)
"""Lengths, counts and numbers that break whoever believes them."""
HEADS = (
    b"\xdd\xff\xff\xff\xff",
    b"\xc6\x80\x00\x00\x00",
    b"\xdb\xff\xff\xff\xff",
    b"\x91" * 2000,
    b"\xcf" + b"\xff" * 8,
    b"\xd3" + b"\xff" * 8,
    b"\xa2\xff\xfe",
    b"\xc1",
    b"\xc0",
)
"""Of msgpack: 4 billion items, 2 GB of bytes and of text, deep nesting, numbers beyond 63 bits and
below zero, text that is no UTF-8, the byte that means nothing, nil."""
KINDS = ("flip", "set", "cut", "drop", "repeat", "swap", "length", "head", "insert", "splice")


class Damage(NamedTuple):
    """One blow. `kind`: of `KINDS`; `at`, `to`: where, as fractions of the length in 1/65536;
    `value`: what, in the way of the kind."""

    kind: str
    at: int
    to: int
    value: int


def damage(data: bytes, blows: Sequence[Damage], other: bytes = b"") -> bytes:
    """`data` after the blows, in order; `other` is what a splice takes its end from."""
    for blow in blows:
        data = _hit(data, blow, other)
    return data


def any_damage(rng: random.Random) -> list[Damage]:
    """One to four blows by chance."""
    return [
        Damage(rng.choice(KINDS), rng.randrange(65536), rng.randrange(65536), rng.randrange(65536))
        for _ in range(rng.choice((1, 1, 1, 2, 3, 4)))
    ]


def _hit(data: bytes, blow: Damage, other: bytes) -> bytes:
    at = blow.at * len(data) >> 16
    end = blow.to * (len(data) + 1) >> 16
    first, stop = min(at, end), max(at, end)
    value = blow.value
    match blow.kind:
        case "flip":
            return data[:at] + bytes([data[at] ^ 1 << value % 8]) + data[at + 1 :] if data else data
        case "set":
            return data[:at] + bytes([value % 256]) + data[at + 1 :]
        case "cut":
            return data[:at] if value % 2 else data[at:]
        case "drop":
            return data[:first] + data[stop:]
        case "repeat":
            return data[:stop] + data[first:stop] + data[stop:]
        case "swap":
            return data[stop:] + data[first:stop] + data[:first]
        case "length":
            size, order = ((4, "little"), (8, "little"), (4, "big"), (2, "big"))[value % 4]
            length = LENGTHS[value // 4 % len(LENGTHS)] & (1 << 8 * size) - 1
            return data[:at] + length.to_bytes(size, order) + data[at + size :]
        case "head":
            return data[:at] + HEADS[value % len(HEADS)] + data[at + 1 :]
        case "insert":
            return data[:at] + value.to_bytes(2, "big") * (1 + value % 40) + data[at:]
        case _:
            return data[:at] + other[blow.to * (len(other) + 1) >> 16 :]
