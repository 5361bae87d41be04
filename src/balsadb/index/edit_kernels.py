# pyright: basic
"""Applying: the memory writes of an edit. No distance is computed here."""

from typing import Any, NamedTuple

from numba import int64, uint32

from balsadb.index.kernel_cache import kernel


class ListChanges(NamedTuple):
    """Changes of lists, one after another: `place` of each list (a row of its array), whether a
    mask picks from its links, the masks (n, bytes), links appended to each, all appended links."""

    place: Any
    masked: Any
    mask: Any
    count: Any
    links: Any


@kernel
def change_lists(links, changes, checked):
    """Keep what the masks keep, append, zero what became unused. With `checked` 0, write nothing
    and return the first list that would overflow, or -1."""
    room = links.shape[1] - 1
    position = 0
    for number in range(changes.place.shape[0]):
        place = int64(changes.place[number])
        degree = int64(links[place, 0])
        count = int64(changes.count[number])
        kept = degree
        if changes.masked[number]:
            kept = 0
            for at in range(degree):
                if (changes.mask[number, at >> 3] >> (at & 7)) & 1:
                    if checked:
                        links[place, kept + 1] = links[place, at + 1]
                    kept += 1
        if checked == 0:
            if kept + count > room:
                return number
            continue
        for at in range(count):
            links[place, kept + at + 1] = changes.links[position + at]
        position += count
        for at in range(kept + count, degree):
            links[place, at + 1] = uint32(0)
        links[place, 0] = uint32(kept + count)
    return -1
