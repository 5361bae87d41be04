"""Filters: from the dialect's JSON to a tree of conditions. What they mean is said here once.

A filter holds when all of `must`, none of `must_not`, at least one of `should` (if it names any)
and at least `min_should.min_count` of `min_should.conditions` hold. A condition is a filter, or:

* `{"key", "match": {"value" | "any" | "except"}}`: among the values at the key (a list counts as
  its elements), some string, integer or boolean is equal to the operand, or to one of the operands;
  `except`: some value but null is equal to none. Types are exact: the integer 5 is neither the
  float 5.0 nor true; objects and lists in lists are equal to nothing.
* `{"key", "range": {"gt", "gte", "lt", "lte"}}`: some integer or float, compared as float64.
* `{"has_id": [...]}`, `{"has_vector": name}`.
* `{"is_empty": {"key"}}`: every value at the key is null or `[]`, or there is none.
* `{"is_null": {"key"}}`: a value at the key, or an element of a list there, is null.
* `{"key", "is_empty" | "is_null": true | false}`: the same of that key, or the opposite.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import isnan
from typing import Any, cast

import msgspec

from balsadb.database import limits
from balsadb.database.paths import Step, parse_path
from balsadb.database.point_ids import Ids, parse_ids
from balsadb.errors import InvalidInput, LimitExceeded


class Match(msgspec.Struct, frozen=True):
    """Values equal to an operand (or, `negated`, to none). One of the lists is empty; `flag` is
    the operand of a boolean match."""

    key: str
    steps: tuple[Step, ...]
    words: tuple[str, ...] = ()
    integers: tuple[int, ...] = ()
    flag: bool | None = None
    negated: bool = False


class Range(msgspec.Struct, frozen=True):
    """Numbers within bounds; None: no bound."""

    key: str
    steps: tuple[Step, ...]
    gt: float | None = None
    gte: float | None = None
    lt: float | None = None
    lte: float | None = None


class IsEmpty(msgspec.Struct, frozen=True):
    """Nothing but nulls and empty lists at the key."""

    key: str
    steps: tuple[Step, ...]


class IsNull(msgspec.Struct, frozen=True):
    """A null at the key, or in a list at the key."""

    key: str
    steps: tuple[Step, ...]


class HasId(msgspec.Struct, frozen=True):
    """The point's id is one of these."""

    ids: Ids


class HasVector(msgspec.Struct, frozen=True):
    """The point has a vector of this name."""

    name: str


class Filter(msgspec.Struct, frozen=True):
    """Conditions and how many of which must hold."""

    must: "tuple[Condition, ...]" = ()
    should: "tuple[Condition, ...]" = ()
    must_not: "tuple[Condition, ...]" = ()
    min_should: "tuple[Condition, ...]" = ()
    min_count: int = 0


Condition = Match | Range | IsEmpty | IsNull | HasId | HasVector | Filter


def keys_of(tree: Filter) -> Iterator[tuple[str, tuple[Step, ...]]]:
    """The payload keys a filter looks at, with their steps; repeats included."""
    for condition in (*tree.must, *tree.should, *tree.must_not, *tree.min_should):
        if isinstance(condition, Filter):
            yield from keys_of(condition)
        elif isinstance(condition, Match | Range | IsEmpty | IsNull):
            yield condition.key, condition.steps


_CLAUSES = ("must", "should", "must_not", "min_should")
_KINDS = ("match", "range", "is_empty", "is_null", "has_id", "has_vector")
_BOUNDS = ("gt", "gte", "lt", "lte")
_I64 = 1 << 63


def parse(value: object, field: str = "filter") -> Filter:
    """The filter of a JSON-like object. InvalidInput naming the path, such as
    `filter.must[0].match.value`; LimitExceeded for too many or too deep conditions."""
    tree = _Parser().filter(_object(value, field), field, 1)
    if len({key for key, _ in keys_of(tree)}) > limits.FILTER_KEYS_MAX:
        raise LimitExceeded(field, f"at most {limits.FILTER_KEYS_MAX} different payload keys")
    return tree


class _Parser:
    """Counts conditions over the whole filter."""

    def __init__(self) -> None:
        self._count = 0

    def filter(self, value: Mapping[str, Any], field: str, depth: int) -> Filter:
        if depth > limits.FILTER_DEPTH_MAX:
            raise LimitExceeded(field, f"at most {limits.FILTER_DEPTH_MAX} nested filters")
        for name in value:
            if name not in _CLAUSES:
                raise InvalidInput(f"{field}.{name}", f"unknown clause, not one of {_CLAUSES}")
        parts = {
            name: self._conditions(value.get(name), f"{field}.{name}", depth)
            for name in _CLAUSES[:3]
        }
        minimum = value.get("min_should")
        if minimum is None:
            return Filter(parts["must"], parts["should"], parts["must_not"])
        where = f"{field}.min_should"
        minimum = _object(minimum, where)
        _known(minimum, ("conditions", "min_count"), where)
        count = minimum.get("min_count")
        if type(count) is not int or count < 0:
            raise InvalidInput(f"{where}.min_count", "must be an integer of at least 0")
        some = self._conditions(minimum.get("conditions"), f"{where}.conditions", depth)
        return Filter(parts["must"], parts["should"], parts["must_not"], some, count)

    def _conditions(self, value: object, field: str, depth: int) -> tuple[Condition, ...]:
        if value is None:
            return ()
        if isinstance(value, Mapping):
            return (self._condition(cast("Mapping[str, Any]", value), field, depth),)
        if not _is_list(value):
            raise InvalidInput(field, "must be a list of conditions")
        parts = cast("Sequence[object]", value)
        return tuple(
            self._condition(_object(part, f"{field}[{place}]"), f"{field}[{place}]", depth)
            for place, part in enumerate(parts)
        )

    def _condition(self, value: Mapping[str, Any], field: str, depth: int) -> Condition:
        self._count += 1
        if self._count > limits.FILTER_CONDITIONS_MAX:
            raise LimitExceeded(field, f"at most {limits.FILTER_CONDITIONS_MAX} conditions")
        named = {name: part for name, part in value.items() if part is not None}
        if not named or any(name in _CLAUSES for name in named):
            return self.filter(value, field, depth + 1)
        _known(named, ("key", *_KINDS), field)
        kinds = [name for name in named if name != "key"]
        if len(kinds) != 1:
            raise InvalidInput(field, f"must have exactly one of {_KINDS}")
        return _leaf(kinds[0], named, field)


def _leaf(kind: str, value: Mapping[str, Any], field: str) -> Condition:
    operand, where = value[kind], f"{field}.{kind}"
    if kind == "has_id":
        return _has_id(operand, where)
    if kind == "has_vector":
        if not isinstance(operand, str):
            raise InvalidInput(where, "must be a vector name")
        return HasVector(operand)
    if kind in ("is_empty", "is_null"):
        make_test = IsEmpty if kind == "is_empty" else IsNull
        if isinstance(operand, bool):
            test = make_test(value.get("key", ""), parse_path(value.get("key"), f"{field}.key"))
            return test if operand else Filter(must_not=(test,))
        inner = _object(operand, where)
        _known(inner, ("key",), where)
        steps = parse_path(inner.get("key"), f"{where}.key")
        return make_test(inner["key"], steps)
    steps = parse_path(value.get("key"), f"{field}.key")
    make = _match if kind == "match" else _range
    return make(value["key"], steps, _object(operand, where), where)


def _match(key: str, steps: tuple[Step, ...], operand: Mapping[str, Any], field: str) -> Match:
    named = {name: part for name, part in operand.items() if part is not None}
    _known(named, ("value", "any", "except"), field)
    if len(named) != 1:
        raise InvalidInput(field, "must have exactly one of value, any, except")
    kind, value = next(iter(named.items()))
    where = f"{field}.{kind}"
    if kind == "value":
        if isinstance(value, bool):
            return Match(key, steps, flag=value)
        if isinstance(value, str):
            return Match(key, steps, words=(value,))
        if isinstance(value, int):
            return Match(key, steps, integers=(_integer(value, where),))
        raise InvalidInput(where, "must be a string, an integer or a boolean")
    if not _is_list(value):
        raise InvalidInput(where, "must be a list of strings or a list of integers")
    parts = cast("Sequence[object]", value)
    _check_length(parts, where)
    negated = kind == "except"
    if all(isinstance(part, str) for part in parts):
        return Match(key, steps, words=cast("tuple[str, ...]", tuple(parts)), negated=negated)
    if all(type(part) is int for part in parts):
        numbers = tuple(_integer(cast("int", part), where) for part in parts)
        return Match(key, steps, integers=numbers, negated=negated)
    raise InvalidInput(where, "must be a list of strings or a list of integers")


def _range(key: str, steps: tuple[Step, ...], operand: Mapping[str, Any], field: str) -> Range:
    _known(operand, _BOUNDS, field)
    bounds: dict[str, float] = {}
    for name, bound in operand.items():
        if bound is None:
            continue
        if isinstance(bound, bool) or not isinstance(bound, int | float) or isnan(bound):
            raise InvalidInput(f"{field}.{name}", "must be a number")
        try:
            bounds[name] = float(bound)
        except OverflowError:
            raise InvalidInput(f"{field}.{name}", "must be within float64") from None
    return Range(key, steps, **bounds)


def _has_id(operand: object, field: str) -> HasId:
    if not _is_list(operand):
        raise InvalidInput(field, "must be a list of point ids")
    parts = cast("Sequence[Any]", operand)
    _check_length(parts, field)
    return HasId(parse_ids(parts, field))


def _integer(value: int, field: str) -> int:
    if not -_I64 <= value < _I64:
        raise InvalidInput(field, "must be a signed 64-bit integer")
    return value


def _check_length(parts: Sequence[object], field: str) -> None:
    if len(parts) > limits.MATCH_VALUES_MAX:
        raise LimitExceeded(field, f"at most {limits.MATCH_VALUES_MAX} operands")


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple)


def _object(value: object, field: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidInput(field, "must be an object")
    return cast("Mapping[str, Any]", value)


def _known(value: Mapping[str, Any], names: tuple[str, ...], field: str) -> None:
    for name in value:
        if name not in names:
            raise InvalidInput(f"{field}.{name}", f"unknown or unsupported, not one of {names}")
