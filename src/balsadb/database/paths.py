"""Payload key paths: `a.b`, `a[].b` (each element), `a[0].b` (one element), `"a.b".c` (quoted)."""

import re
from typing import Any, Final, TypeGuard

from balsadb.database.limits import NAME_LENGTH_MAX
from balsadb.errors import InvalidInput, LimitExceeded

Step = str | int
"""A key, the place of an element, or EACH."""
EACH: Final = -1
_STEP = re.compile(r'(?:"((?:[^"\\]|\\.)*)"|([^".\[\]]+))((?:\[\d{0,9}\])*)(\.|$)')
_PLACE = re.compile(r"\[(\d*)\]")


def is_object(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether a decoded JSON value is an object."""
    return type(value) is dict


def is_list(value: object) -> TypeGuard[list[Any]]:
    """Whether a decoded JSON value is a list."""
    return type(value) is list


def parse_path(text: object, field: str) -> tuple[Step, ...]:
    """The steps of a path. InvalidInput naming `field`."""
    if not isinstance(text, str) or not text:
        raise InvalidInput(field, "must be a payload key, such as `year` or `director.name`")
    if len(text) > NAME_LENGTH_MAX:
        raise LimitExceeded(field, f"at most {NAME_LENGTH_MAX} characters")
    steps: list[Step] = []
    position = 0
    while position < len(text) or (steps and text.endswith(".")):
        found = _STEP.match(text, position)
        if found is None:
            raise InvalidInput(field, f"not a path of payload keys: {text!r:.80}")
        quoted, plain, places, _ = found.groups()
        steps.append(plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted))
        steps.extend(int(place) if place else EACH for place in _PLACE.findall(places))
        position = found.end()
        if position == len(text) and not text.endswith("."):
            break
    return tuple(steps)


def values_at(value: Any, steps: tuple[Step, ...], first: int = 0) -> list[Any]:
    """What a path leads to, from step `first` on; empty if it leads nowhere."""
    for place in range(first, len(steps)):
        step = steps[place]
        if isinstance(step, str):
            if not is_object(value) or step not in value:
                return []
            value = value[step]
        elif not is_list(value):
            return []
        elif step == EACH:
            return [one for part in value for one in values_at(part, steps, place + 1)]
        elif step < len(value):
            value = value[step]
        else:
            return []
    return [value]


def delete_at(value: Any, steps: tuple[Step, ...]) -> None:
    """Remove the keys a path leads to, in place. A path that ends in `[]` empties the list; one
    that ends in `[0]` does nothing: done twice, it would remove two elements."""
    last = steps[-1]
    for owner in values_at(value, steps[:-1]):
        if is_object(owner) and isinstance(last, str):
            owner.pop(last, None)
        elif is_list(owner) and last == EACH:
            owner.clear()


def merge_at(payload: dict[str, Any], steps: tuple[Step, ...], change: dict[str, Any]) -> None:
    """Merge keys into the objects a path leads to, in place. A path of keys alone makes the objects
    it needs, in place of anything else it meets; one through lists changes what is there."""
    keys = [step for step in steps if isinstance(step, str)]
    if len(keys) < len(steps):
        for found in values_at(payload, steps):
            if is_object(found):
                _merge(found, change)
        return
    owner: dict[str, Any] = payload
    for step in keys:
        below: Any = owner.get(step)
        if not is_object(below):
            below = owner[step] = {}
        owner = below
    _merge(owner, change)


def _merge(owner: dict[str, Any], change: dict[str, Any]) -> None:
    """Set keys; a null removes its key, as the dialect has it."""
    owner.update(change)
    for key, value in change.items():
        if value is None:
            del owner[key]


def kept(value: Any, paths: list[tuple[Step, ...]], *, include: bool) -> dict[str, Any]:
    """A payload with only the parts that the paths lead to, or without them."""
    if not include:
        for steps in paths:
            delete_at(value, steps)
        return value
    result: dict[str, Any] = {}
    for steps in paths:
        _copy(value, result, steps)
    return result


def _copy(source: object, target: dict[str, Any], steps: tuple[Step, ...]) -> None:
    """Copy what a path leads to; from a list on, the whole list is taken."""
    step = steps[0]
    if not isinstance(step, str) or not is_object(source) or step not in source:
        return
    value: Any = source[step]
    if len(steps) == 1 or not isinstance(steps[1], str):
        target[step] = value
    elif is_object(value):
        below: dict[str, Any] = target.get(step, {})
        _copy(value, below, steps[1:])
        if below:
            target[step] = below
