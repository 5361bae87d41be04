"""Planning repairs: dead rows leave the graph, and what no path leads to is linked again.

A dead row is a waypoint until an edit frees it. A repair picks some dead rows, finds the lists that
name them (one pass over all lists), lets each list drop its dead links and take others where it
needs them, moves the entry if that leaves, and frees the rows, all in one edit: no list names a
free row, before or after. Large repairs are cut into many such edits, each a bounded step.

Repairs, and reductions too, can cut the last link to a row. So now and then, in quiet moments, the
planner spreads over each layer from the entry, and plans links to what it did not reach. A link is
dropped for one of these only if no row was reached by it, so each such edit leaves fewer behind.

All of it only reads; rows may be added and may die meanwhile.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from balsadb.index.distance_kernels import Graph, Measure, Scratch
from balsadb.index.edit import EDIT_BYTES_MAX, Edit, encode
from balsadb.index.layout import (
    ENTRY,
    GRAPH_VERSION,
    LINKED,
    LINKED_COUNT,
    LINKED_DEAD,
    LINKED_DEAD_COUNT,
    TOP_LAYER,
    TURNOVER,
    Columns,
)
from balsadb.index.options import EF_MAX, IndexOptions
from balsadb.index.plan_kernels import Base, Changes
from balsadb.index.repair_kernels import (
    DEAD,
    LEAVES,
    NOWHERE,
    STAYS,
    Lists,
    find_naming,
    find_sources,
    plan_repairs,
    spread,
)
from balsadb.index.scratch import ScratchPool
from balsadb.index.slicing import Run, each_part

DUE_SHARE: Final = 50
"""One dead row in so many: a repair is due although rows wait to be linked."""
IDLE_SHARE: Final = 200
"""One dead row in so many: a repair is due when nothing else is."""
URGENT_SHARE: Final = 25
"""One dead row in so many: repairs come before links."""
LEAVE_MAX: Final = 128
"""Dead rows that one edit frees."""
LISTS_MAX: Final = 4_096
"""Lists that one edit changes to free them."""
TURNOVER_SHARE: Final = 50
"""A graph of which one row in so many came or went since is looked over for unreachable rows."""
WIDER_MAX: Final = 8
"""Where most rows are dead, searches for new neighbours are at most this much wider."""
ROOTS_MAX: Final = 256
"""Unreachable rows that one edit links to."""
SOURCES: Final = 16
"""Rows that are candidates for a link to an unreachable one."""
SOURCES_TAKEN: Final = 3
"""How many of them get one."""
NEAR_MAX: Final = 256
"""Rows that are asked for a link at most. One that led to no other can always give one."""
ISLAND_ROWS: Final = 32
"""An island has one row linked to, and one more for each so many rows."""
ISLAND_ROOTS_MAX: Final = 16

Rows = NDArray[np.uint32]
Fates = NDArray[np.uint8]


class Repairer:
    """Plans repairs of one index. Remembers only when it last found everything reachable."""

    def __init__(
        self, columns: Columns, graph: Graph, options: IndexOptions, scratches: ScratchPool
    ) -> None:
        self._columns = columns
        self._graph = graph
        self._options = options
        self._scratches = scratches
        self._looked_over = -1

    def due(self, share: int) -> int:
        """Dead rows of the graph, if at least one row in `share` is dead; else 0."""
        dead = self._meta(LINKED_DEAD_COUNT)
        return dead if dead * share >= self._meta(LINKED_COUNT) else 0

    def look_over_due(self) -> bool:
        """Whether so much of the graph changed that rows may have become unreachable."""
        linked = self._meta(LINKED_COUNT)
        changed = self._meta(TURNOVER) - self._looked_over
        return linked > 0 and changed > (0 if self._looked_over < 0 else linked // TURNOVER_SHARE)

    # ------------------------------------------------------------------ dead rows

    def plan_repair(self, measure: Measure, slices: int, run: Run) -> bytes | None:
        """An edit that frees dead rows of the graph; None if there are none."""
        states = self._columns.state.used.copy()
        dead = np.flatnonzero(states == LINKED_DEAD).astype(np.uint32)
        if not len(dead):
            return None
        # The upper layers first: while a row of the top layer is left, the entry is one of them.
        layers = self._columns.layer.data[dead].astype(np.int64)
        dead = dead[np.lexsort((dead, -layers))]
        lists_max = LISTS_MAX
        while True:
            edit = self._repair(measure, (slices, run), states, dead, lists_max)
            data = encode(edit)
            if len(data) <= EDIT_BYTES_MAX or lists_max == 1:
                return data
            lists_max //= 2

    def _repair(
        self, measure: Measure, how: tuple[int, Run], states: Fates, dead: Rows, lists_max: int
    ) -> Edit:
        leaving = dead[:LEAVE_MAX]
        fate = np.full(len(states), STAYS, np.uint8)
        fate[dead] = DEAD
        fate[leaving] = LEAVES
        lists = self._lists_naming(fate, how)
        count, lists = self._share(leaving, lists, lists_max)
        # If the lists that name the first row are too many, this edit only makes them fewer.
        fate[leaving[max(1, count) :]] = DEAD
        leaving = leaving[:count]
        room = max(self._options.width0, self._options.width_upper) - 1
        number = len(lists.row)
        changes = Changes(
            masked=np.ones(number, np.uint8),
            mask=np.zeros((number, -(-room // 8)), np.uint8),
            count=np.zeros(number, np.uint8),
            links=np.zeros((number, room), np.uint32),
        )
        base = self._base(len(states), int((states == LINKED).sum()))
        each_part(
            number,
            how,
            lambda scratch, first, stop: plan_repairs(
                self._graph, scratch, measure, base, lists, fate, first, stop, changes
            ),
            self._scratches,
            base.n,
        )
        entry, top = self._entry_without(states, leaving)
        used = np.less(np.arange(room), changes.count.reshape(-1, 1))
        return Edit(
            graph_version=self._meta(GRAPH_VERSION),
            entry=entry,
            top_layer=top,
            rows_linked=np.zeros(0, np.uint32),
            rows_freed=np.sort(leaving),
            list_row=lists.row,
            list_layer=lists.layer,
            masked=changes.masked.astype(np.bool_),
            masks=changes.mask,
            appended=changes.count,
            links=changes.links[used],
        )

    def _lists_naming(self, fate: Fates, how: tuple[int, Run]) -> Lists:
        """The lists that name a row which leaves, ascending by layer and row."""
        held, n = self._columns, len(fate)
        places, upper = self._naming(held.links0.data, n, fate, how), held.upper_links
        high = np.flatnonzero(held.upper_offset.data[:n]).astype(np.int64)
        owner, layer = np.zeros(upper.rows, np.uint32), np.zeros(upper.rows, np.uint8)
        first = held.upper_offset.data[high].astype(np.int64) - 1
        layers = held.layer.data[high]
        for above in range(int(layers.max()) if len(high) else 0):
            has = layers > above
            owner[first[has] + above] = high[has]
            layer[first[has] + above] = above + 1
        above = self._naming(upper.data, upper.rows, fate, how)
        row = np.concatenate((places.astype(np.uint32), owner[above]))
        layer = np.concatenate((np.zeros(len(places), np.uint8), layer[above]))
        order = np.lexsort((row, layer))
        return Lists(row[order], layer[order])

    def _naming(
        self, links: Rows, number: int, fate: Fates, how: tuple[int, Run]
    ) -> NDArray[np.intp]:
        found = np.zeros(number, np.uint8)
        each_part(
            number,
            how,
            lambda _, first, stop: find_naming(links, fate, first, stop, found),
            self._scratches,
            0,
        )
        return np.flatnonzero(found)

    def _share(self, leaving: Rows, lists: Lists, lists_max: int) -> tuple[int, Lists]:
        """How many of the first rows that leave can, if at most so many lists change, and the
        lists to be changed: those that name one of them and belong to none. If the first row alone
        is named by more: 0, and as many of these."""
        held, none = self._columns, len(leaving)
        rank = np.full(held.state.rows, none, np.int64)
        rank[leaving] = np.arange(none)
        first = np.full(len(lists.row), none, np.int64)
        low = lists.layer == 0
        offset = held.upper_offset.data[lists.row].astype(np.int64)
        for at, column, place in (
            (low, held.links0, lists.row.astype(np.int64)),
            (~low, held.upper_links, offset + lists.layer - 2),
        ):
            named = column.data[place[at]]
            used = np.less(np.arange(int(named.shape[1]) - 1), named[:, :1])
            if len(named):
                first[at] = np.where(used, rank[np.where(used, named[:, 1:], 0)], none).min(axis=1)
        # Lists of rows that leave are counted too: a cut may let their owners stay.
        ordered = np.sort(first)
        count = none if len(first) <= lists_max else int(ordered[lists_max])
        chosen = np.flatnonzero((first < max(1, count)) & (rank[lists.row] >= count))[:lists_max]
        return count, Lists(lists.row[chosen], lists.layer[chosen])

    def _entry_without(self, states: Fates, leaving: Rows) -> tuple[int, int]:
        """Entry and top layer when some rows have left: unless the entry is one of them, as they
        are; else the first live row of the highest layer that has rows left."""
        entry, top = self._meta(ENTRY), self._meta(TOP_LAYER)
        if not np.isin(entry - 1, leaving):
            return entry, top
        linked = (states == LINKED) | (states == LINKED_DEAD)
        linked[leaving] = False
        rows = np.flatnonzero(linked)
        if not len(rows):
            return 0, 0
        layers = self._columns.layer.data[rows]
        top = int(layers.max())
        rows = rows[layers == top]
        live = rows[states[rows] == LINKED]
        return int((live if len(live) else rows)[0]) + 1, top

    def _base(self, n: int, live: int) -> Base:
        options, linked = self._options, self._meta(LINKED_COUNT)
        wider = min(WIDER_MAX, max(1, linked // max(1, live)))
        entry, top = self._meta(ENTRY), self._meta(TOP_LAYER)
        # At least as many candidates as links, at most what a scratch has room for.
        ef = min(max(options.ef_construct * wider, options.links0), EF_MAX)
        return Base(n, entry - 1, top, ef, ef, options.links0, options.m)

    def _meta(self, word: int) -> int:
        return int(self._columns.meta.data[word])

    # ------------------------------------------------------------------ unreachable rows

    def plan_bridges(self, measure: Measure, slices: int, run: Run) -> bytes | None:
        """An edit with links to live rows that no path on a layer leads to, on the highest layer
        that has such rows; None if there are none."""
        states, turnover = self._columns.state.used.copy(), self._meta(TURNOVER)
        fate = np.where(states == LINKED, STAYS, DEAD).astype(np.uint8)
        layers = range(self._meta(TOP_LAYER), -1, -1) if self._meta(ENTRY) else ()
        for layer in layers:
            edit = self._bridges(measure, (slices, run), fate, layer)
            if len(edit.list_row):
                return encode(edit)
        self._looked_over = turnover
        return None

    def _bridges(self, measure: Measure, how: tuple[int, Run], fate: Fates, layer: int) -> Edit:
        n, entry = len(fate), self._meta(ENTRY) - 1
        parents, queue = np.full(n, NOWHERE, np.uint32), np.zeros(n, np.uint32)
        spread(self._graph, layer, entry, queue, parents)
        reached = (parents != NOWHERE).astype(np.uint8)
        roots = self._roots(fate, layer, parents, queue)
        lost = Lists(roots, np.full(len(roots), layer, np.uint8))
        chosen = np.zeros((len(roots), SOURCES), np.uint64)
        counts = np.zeros(len(roots), np.int64)
        base = self._base(n, int((fate == STAYS).sum()))

        def find(scratch: Scratch, first: int, stop: int) -> None:
            work = (lost, fate, reached, first, stop, chosen, counts)
            find_sources(self._graph, scratch, measure, base, *work)

        # Also called for no roots, which costs nothing: so every kernel is compiled early.
        each_part(len(roots), how, find, self._scratches, n)
        lists = _ListEdits(self._columns, layer, parents)
        for root, keys, count in zip(roots.tolist(), chosen.tolist(), counts.tolist(), strict=True):
            sources = [(key & 0xFFFFFFFF) >> 1 for key in keys[:count]]
            if lists.lead_to(root, sources, fate):
                lists.append(root, sources[0])
        return lists.edit(self._meta(GRAPH_VERSION), entry + 1, self._meta(TOP_LAYER))

    def _roots(self, fate: Fates, layer: int, parents: Rows, queue: Rows) -> Rows:
        """The rows to be linked to, so that all live ones can be reached: one of each island, of a
        large one several, spread over it. Spreads on in `parents`."""
        lost = (fate == STAYS) & (parents == NOWHERE)
        if layer:
            lost &= self._columns.layer.data[: len(fate)] >= layer
        roots = list[int]()
        for row in np.flatnonzero(lost).tolist():
            if int(parents[row]) != NOWHERE:
                continue
            size = spread(self._graph, layer, row, queue, parents)
            island = queue[:size][fate[queue[:size]] == STAYS]
            number = min(1 + len(island) // ISLAND_ROWS, ISLAND_ROOTS_MAX)
            roots += island[np.arange(number) * len(island) // number].tolist()
            if len(roots) >= ROOTS_MAX:
                break
        return np.array(roots, np.uint32)


class _ListEdits:
    """Changes of the lists of one layer, collected. `parents`: who led to a row (see `spread`)."""

    def __init__(self, held: Columns, layer: int, parents: Rows) -> None:
        self._links: Rows = held.upper_links.data if layer else held.links0.data
        self._offset: Rows = held.upper_offset.data
        self._layer = layer
        self._parents = parents
        self._room = int(self._links.shape[1]) - 1
        self._dropped: dict[int, set[int]] = {}
        self._appended: dict[int, list[int]] = {}
        # Among thousands of equal vectors the same full lists are asked for every root.
        self._full: set[int] = set()
        self._led_to: dict[int, list[int]] = {}

    def append(self, row: int, link: int) -> bool:
        """Add a link if there is room and the list has it not; whether the list has it now."""
        old = self._old(row)
        dropped, appended = self._dropped.get(row, set()), self._appended.get(row, [])
        if (link in old and old.index(link) not in dropped) or link in appended:
            return True
        if len(old) - len(dropped) + len(appended) >= self._room:
            return False
        self._appended.setdefault(row, []).append(link)
        return True

    def link(self, row: int, link: int) -> bool:
        """The same, but a full list gives up the last of its old links by which nothing was
        reached; False if there is none."""
        if row in self._full:
            return False
        if self.append(row, link):
            return True
        dropped = self._dropped.setdefault(row, set())
        old = self._old(row)
        for at in range(len(old) - 1, -1, -1):
            if at not in dropped and int(self._parents[old[at]]) != row:
                dropped.add(at)
                return self.append(row, link)
        self._full.add(row)
        return False

    def lead_to(self, root: int, sources: list[int], fate: Fates) -> bool:
        """Link to a row from the first of some rows; from none but rows reached by way of them, if
        their lists led to all that is in them. Whether there is a link now."""
        taken = 0
        for source in sources:
            taken += self.link(source, root)
            if taken == SOURCES_TAKEN:
                return True
        near, at = list(sources), 0
        while taken == 0 and at < min(len(near), NEAR_MAX):
            row, at = near[at], at + 1
            taken += int(fate[row]) == STAYS and self.link(row, root)
            near += self._children(row)
        return taken > 0

    def _children(self, row: int) -> list[int]:
        """The rows that were reached by way of a row."""
        if row not in self._led_to:
            old = self._old(row)
            parents = self._parents[old].tolist()
            self._led_to[row] = [at for at, by in zip(old, parents, strict=True) if by == row]
        return self._led_to[row]

    def edit(self, version: int, entry: int, top: int) -> Edit:
        """The edit that makes the changes."""
        rows = sorted(row for row in self._appended if self._appended[row])
        masked = np.array([bool(self._dropped.get(row)) for row in rows], np.bool_)
        bits = np.ones((len(rows), self._room), np.bool_)
        for at, row in enumerate(rows):
            bits[at, list(self._dropped.get(row, ()))] = False
        appended = [self._appended[row] for row in rows]
        return Edit(
            graph_version=version,
            entry=entry,
            top_layer=top,
            rows_linked=np.zeros(0, np.uint32),
            rows_freed=np.zeros(0, np.uint32),
            list_row=np.array(rows, np.uint32),
            list_layer=np.full(len(rows), self._layer, np.uint8),
            masked=masked,
            masks=np.packbits(bits[masked], axis=1, bitorder="little"),
            appended=np.array([len(links) for links in appended], np.uint8),
            links=np.array([link for links in appended for link in links], np.uint32),
        )

    def _old(self, row: int) -> list[int]:
        place = int(self._offset[row]) + self._layer - 2 if self._layer else row
        return self._links[place, 1 : int(self._links[place, 0]) + 1].tolist()
