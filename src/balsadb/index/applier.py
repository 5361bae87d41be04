"""Applying an edit: the same memory writes on every replica, in a bounded step.

Everything is checked before the first write, so that an edit is carried out wholly or not at all;
one that does not fit the columns can only come from a defect and is a `Corruption`.
"""

import numpy as np
from numpy.typing import NDArray

from balsadb.errors import Corruption
from balsadb.index import edit as edits
from balsadb.index.edit import Edit
from balsadb.index.edit_kernels import ListChanges, change_lists
from balsadb.index.layout import (
    CODED_ROWS,
    ENTRY,
    FREE,
    GRAPH_VERSION,
    LINKED,
    LINKED_COUNT,
    LINKED_DEAD,
    LINKED_DEAD_COUNT,
    QUANTISER_EPOCH,
    TAIL,
    TAIL_COUNT,
    TAIL_DEAD,
    TAIL_DEAD_COUNT,
    TOP_LAYER,
    TRAINED_ROWS,
    TURNOVER,
    Columns,
)
from balsadb.index.quantise_kernels import code_rows
from balsadb.index.tuning import fits

Rows = NDArray[np.uint32]


def apply_edit(held: Columns, data: bytes) -> None:
    """Carry out an edit planned on the present graph version. Corruption if it does not fit."""
    kind = edits.kind_of(data)
    if kind == edits.TRAIN:
        _train(held, edits.decode_training(data))
    elif kind == edits.CODE:
        _code(held, *edits.decode_coding(data))
    elif kind == edits.CALIBRATE:
        _calibrate(held, edits.decode_calibration(data))
    else:
        _link(held, edits.decode(data))
    held.meta.put(GRAPH_VERSION, np.uint64(edits.version_of(data) + 1))


def write_codes(held: Columns, rows: Rows) -> None:
    """Make the codes of rows in use. Computes no distance; the same bytes on every machine."""
    held.codes.touch_rows(rows)
    held.bias.touch_rows(rows)
    code_rows(
        held.vectors.data,
        held.quantiser.data,
        np.require(rows, np.uint32, ("C", "W", "A")),
        held.codes.data,
        held.bias.data,
    )


def _train(held: Columns, quantiser: NDArray[np.float32]) -> None:
    """Take a quantiser, all rows to be coded by it; or none, and give up all codes."""
    fit = len(quantiser) in (0, held.vectors.data.shape[1] + 2)
    if not fit or not np.isfinite(quantiser).all():
        raise Corruption("a quantiser does not fit the vectors")
    rows = held.state.rows
    for column in (held.codes, held.bias):
        column.resize(rows if len(quantiser) else 0)
    held.quantiser.resize(len(quantiser))
    held.quantiser.touch(0, len(quantiser))
    held.quantiser.data[: len(quantiser)] = quantiser
    _add(held, QUANTISER_EPOCH, 1)
    held.meta.put(CODED_ROWS, np.uint64(0))
    held.meta.put(TRAINED_ROWS, np.uint64(rows))


def _code(held: Columns, first: int, count: int) -> None:
    """Code rows again that were coded since the plan: a plan that runs beside `add` may see new
    rows before their codes are counted. The same bytes come out."""
    coded = int(held.meta.data[CODED_ROWS])
    if first > coded or first + count > held.codes.rows:
        raise Corruption("an order to code rows does not follow the one before it")
    taken = np.flatnonzero(held.state.data[first : first + count] != FREE) + first
    write_codes(held, taken.astype(np.uint32))
    done = max(coded, first + count)
    if done >= int(held.meta.data[TRAINED_ROWS]):
        done = held.codes.rows  # those behind were added since, and coded as they came
    held.meta.put(CODED_ROWS, np.uint64(done))


def _calibrate(held: Columns, tuning: NDArray[np.uint32]) -> None:
    if not fits(tuning):
        raise Corruption("a calibration is not a table of beam widths")
    held.tuning.resize(len(tuning))
    held.tuning.touch(0, len(tuning))
    held.tuning.data[:] = tuning


def _link(held: Columns, edit: Edit) -> None:
    _check_rows(held, edit)
    _open_upper_lists(held, edit.rows_linked)
    _change_lists(held, edit)
    _link_rows(held, edit.rows_linked)
    if len(edit.rows_freed):
        _free_rows(held, edit.rows_freed)
    for word, value in (
        (ENTRY, edit.entry),  # after its row was linked
        (TOP_LAYER, edit.top_layer),
    ):
        held.meta.put(word, np.uint64(value))


def _check_rows(held: Columns, edit: Edit) -> None:
    rows = held.state.rows
    for numbers in (edit.rows_linked, edit.rows_freed, edit.list_row, edit.links):
        if len(numbers) and int(numbers.max()) >= rows:
            raise Corruption("an edit of the graph names a row that does not exist")
    states = held.state.data
    if not _either(states[edit.rows_linked], TAIL, TAIL_DEAD).all():
        raise Corruption("an edit of the graph links a row that is not in the tail")
    if not _either(states[edit.rows_freed], TAIL_DEAD, LINKED_DEAD).all():
        raise Corruption("an edit of the graph frees a row that is not dead")
    if _share_one(edit.rows_linked, edit.rows_freed):
        raise Corruption("an edit of the graph links a row that it frees")
    if (edit.list_layer > held.layer.data[edit.list_row]).any():
        raise Corruption("an edit of the graph names a list above its row's layer")
    # Most links lead to live rows of the graph, which are neither freed nor linked by this edit.
    others = edit.links[states[edit.links] != LINKED]
    if _share_one(others, edit.rows_freed):
        raise Corruption("an edit of the graph links to a row that it frees")
    if not np.isin(others[states[others] != LINKED_DEAD], edit.rows_linked).all():
        raise Corruption("an edit of the graph links to a row that is not linked")
    _check_entry(held, edit)


def _either(states: NDArray[np.uint8], one: int, other: int) -> NDArray[np.bool_]:
    return (states == one) | (states == other)


def _share_one(some: Rows, others: Rows) -> bool:
    """Whether a row is in both. One of them is empty in most edits, which `isin` is slow to see."""
    return len(some) > 0 and len(others) > 0 and bool(np.isin(some, others).any())


def _check_entry(held: Columns, edit: Edit) -> None:
    states, entry = held.state.used, edit.entry - 1
    left = int(held.meta.data[LINKED_COUNT]) + len(edit.rows_linked)
    left -= int((states[edit.rows_freed] == LINKED_DEAD).sum())
    if edit.entry == 0:
        if left:
            raise Corruption("an edit of the graph takes the entry away")
    elif (
        entry >= len(states)
        or (edit.rows_freed == entry).any()
        or not (states[entry] in (LINKED, LINKED_DEAD) or (edit.rows_linked == entry).any())
    ):
        raise Corruption("an edit of the graph names an entry row that is not linked")


def _open_upper_lists(held: Columns, rows: Rows) -> None:
    """Give rows above layer 0 their lists, in order, behind those in use. A row that was linked
    before has them still: its layer is a hash of its number, and so is what it needs."""
    high = rows[(held.layer.data[rows] > 0) & (held.upper_offset.data[rows] == 0)]
    if not len(high):
        return
    layers = held.layer.data[high].astype(np.int64)
    ends = held.upper_links.rows + np.cumsum(layers)
    held.upper_links.resize(int(ends[-1]))
    held.upper_offset.touch_rows(high)
    held.upper_offset.data[high] = (ends - layers + 1).astype(np.uint32)


def _change_lists(held: Columns, edit: Edit) -> None:
    upper = edit.list_layer > 0
    place = edit.list_row.astype(np.int64)
    place[upper] = held.upper_offset.data[edit.list_row[upper]]
    place[upper] += edit.list_layer[upper].astype(np.int64) - 2
    if len(place) and int(place.min()) < 0:
        raise Corruption("an edit of the graph names a list that was never opened")
    changes = ListChanges(
        edit.list_layer, place, edit.masked, edit.appended, edit.masks, edit.links
    )
    lists = held.links0, held.upper_links
    if change_lists(lists[0].data, lists[1].data, changes, 0) >= 0:
        raise Corruption("an edit of the graph overfills a list")
    lists[0].touch_rows(place[~upper])
    lists[1].touch_rows(place[upper])
    change_lists(lists[0].data, lists[1].data, changes, 1)


def _link_rows(held: Columns, rows: Rows) -> None:
    states = held.state.data[rows]
    dead = states == TAIL_DEAD
    held.state.touch_rows(rows)
    held.state.data[rows] = np.where(dead, LINKED_DEAD, LINKED).astype(np.uint8)
    gone = int(dead.sum())
    _add(held, TURNOVER, len(rows))
    _add(held, LINKED_COUNT, len(rows))
    _add(held, LINKED_DEAD_COUNT, gone)
    _add(held, TAIL_COUNT, gone - len(rows))
    _add(held, TAIL_DEAD_COUNT, -gone)


def _free_rows(held: Columns, rows: Rows) -> None:
    """Zero everything of the rows and hand them back; where their upper lists are, they keep."""
    graph = int((held.state.data[rows] == LINKED_DEAD).sum())
    for row in rows[held.upper_offset.data[rows] > 0]:
        first = int(held.upper_offset.data[row]) - 1
        last = first + int(held.layer.data[row])
        held.upper_links.touch(first, last)
        held.upper_links.data[first:last] = 0
    for column in (held.vectors, held.links0, held.layer, held.row_slot):
        column.touch_rows(rows)
        column.data[rows] = 0
    if held.codes.rows:
        for column in (held.codes, held.bias):
            column.touch_rows(rows)
            column.data[rows] = 0
    held.state.touch_rows(rows)
    held.state.data[rows] = FREE
    held.rows.free(rows)
    _add(held, TURNOVER, graph)
    _add(held, LINKED_COUNT, -graph)
    _add(held, LINKED_DEAD_COUNT, -graph)
    _add(held, TAIL_DEAD_COUNT, graph - len(rows))


def _add(held: Columns, word: int, change: int) -> None:
    if change:
        held.meta.put(word, np.uint64(int(held.meta.data[word]) + change))
