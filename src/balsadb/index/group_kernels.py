# pyright: basic
"""Turning the links of new rows around: which rows link to each list, sorted, list by list.

Serial, between the two steps of a plan that run on all threads; so it must be short.
"""

import numpy as np
from numba import int64, uint8, uint32, uint64

from balsadb.index.distance_kernels import ALL32, HALF, ONE, key_row
from balsadb.index.kernel_cache import kernel

ENTRY_BITS = np.uint64(24)
"""Low bits of a sorted number that say which entry it is; above them the row, 32, and the layer."""


@kernel
def turn_links(batch, chosen, counts, target, backward):
    """One entry for each link of the batch: the list it leads to (layer, row) and its own number in
    `target` (`ENTRY_BITS`), the key of the row it comes from in `backward`. Behind them one for
    each list of the batch, which has no `backward`. Returns the number of links."""
    links, lists = 0, int64(counts.shape[0])
    for place in range(lists):
        links += int64(counts[place])
    at = 0
    for number in range(batch.rows.shape[0]):
        source = uint64(batch.rows[number])
        for layer in range(int64(batch.layers[number]) + 1):
            place = int64(batch.lists[number]) + layer
            above = uint64(layer) << HALF
            target[links + place] = (above | source) << ENTRY_BITS | uint64(links + place)
            for link in range(counts[place]):
                key = chosen[place, link]
                target[at] = (above | uint64(key_row(key))) << ENTRY_BITS | uint64(at)
                backward[at] = (key & ~ALL32) | (source << ONE)
                at += 1
    return links


@kernel
def fill_groups(target, links, backward, groups):
    """Groups (`plan_kernels.Groups`) from what `turn_links` gave, its `target` sorted; returns how
    many. Sources are sorted by insertion: most groups have few."""
    number, count = -1, 0
    last = ~uint64(0)
    for at in range(target.shape[0]):
        entry = int64(target[at] & ((ONE << ENTRY_BITS) - ONE))
        if target[at] >> ENTRY_BITS != last:
            number += 1
            last = target[at] >> ENTRY_BITS
            groups.row[number] = uint32(last & ALL32)
            groups.layer[number] = uint8(last >> HALF)
            groups.own[number] = -1
            groups.first[number] = count
        if entry >= links:
            groups.own[number] = entry - links
            continue
        place = count
        while place > groups.first[number] and groups.sources[place - 1] > backward[entry]:
            groups.sources[place] = groups.sources[place - 1]
            place -= 1
        groups.sources[place] = backward[entry]
        count += 1
    groups.first[number + 1] = count
    return number + 1


@kernel
def pack_links(links, count, packed):
    """The first `count` links of each list (lists, room), one behind the other."""
    at = 0
    for number in range(count.shape[0]):
        for link in range(int64(count[number])):
            packed[at] = links[number, link]
            at += 1
