# pyright: basic
"""Applying: the memory writes of an edit. No distance is computed here."""

from typing import Any, NamedTuple

from numba import int64, uint32

from balsadb.index.kernel_cache import kernel


class ListChanges(NamedTuple):
    """Changes of lists, one after another: `layer` of each, and its `place` (a row of the array of
    layer 0, or of that of the layers above), whether a mask picks from its links, how many links
    are appended; then the masks of those that have one, and all appended links, end to end."""

    layer: Any
    place: Any
    masked: Any
    count: Any
    masks: Any
    links: Any


@kernel
def change_lists(links0, upper_links, changes, checked):
    """Keep what the masks keep, append, zero what became unused. With `checked` 0, write nothing
    and return the first list that would overflow, or -1."""
    position, mask = 0, 0
    for number in range(changes.place.shape[0]):
        links = links0 if changes.layer[number] == 0 else upper_links
        place = int64(changes.place[number])
        degree = int64(links[place, 0])
        count = int64(changes.count[number])
        kept = degree
        if changes.masked[number]:
            kept = 0
            for at in range(degree):
                if (changes.masks[mask, at >> 3] >> (at & 7)) & 1:
                    if checked:
                        links[place, kept + 1] = links[place, at + 1]
                    kept += 1
            mask += 1
        if checked == 0:
            if kept + count >= links.shape[1]:
                return number
            continue
        for at in range(count):
            links[place, kept + at + 1] = changes.links[position + at]
        position += count
        for at in range(kept + count, degree):
            links[place, at + 1] = uint32(0)
        links[place, 0] = uint32(kept + count)
    return -1
