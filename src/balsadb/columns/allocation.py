"""Lowest free slot first, as a function of columns alone.

A slot is free if it was never handed out (it is at or beyond `top`) or was given back (its bit is
set in the bitmap of free slots). Above the bitmap lie summary levels: bit b of a level is set iff
word b of the level below is not zero. The lowest given-back slot is found by walking down from the
single word at the top: one word a level, six levels for four billion slots.

Columns: `{name}/state` (uint64, 2 rows: top, number of given-back slots) and `{name}/free{level}`
(uint64; exactly the words needed for `top` slots). All zero as long as nothing is given back.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from balsadb.columns.column import Column
from balsadb.columns.column_set import ColumnSet
from balsadb.errors import LimitExceeded

WORD_BITS: Final = 64
SLOTS_MAX: Final = 1 << 32
"""Slot numbers are uint32."""


class SlotAllocator:
    """Hands out the lowest free slot numbers below `slots_max`; creates its columns in the set, or
    adopts them when they are there (restore)."""

    def __init__(self, columns: ColumnSet, name: str, slots_max: int) -> None:
        """ValueError if `slots_max` is not in 1..2**32."""
        if not 1 <= slots_max <= SLOTS_MAX:
            raise ValueError(f"allocator {name!r}: slots_max {slots_max} is not in 1..2**32")
        self.name = name
        self.slots_max = slots_max
        self._state = _column(columns, f"{name}/state", 2)
        if self._state.rows == 0:
            self._state.resize(2)
        self._levels: list[Column] = []
        words = slots_max
        while words > 1 or not self._levels:
            words = -(-words // WORD_BITS)
            self._levels.append(_column(columns, f"{name}/free{len(self._levels)}", words))

    @property
    def top(self) -> int:
        """One more than the highest slot ever handed out: columns by slot need this many rows."""
        return int(self._state.data[0])

    @property
    def free_count(self) -> int:
        """Slots below `top` that are free."""
        return int(self._state.data[1])

    @property
    def used_count(self) -> int:
        """Slots handed out and not given back."""
        return self.top - self.free_count

    def used(self) -> NDArray[np.bool_]:
        """Shape (top,): which slots are handed out."""
        bits = np.unpackbits(self._levels[0].used.view(np.uint8), bitorder="little")
        return bits[: self.top] == 0

    def alloc(self, count: int) -> NDArray[np.uint32]:
        """The `count` lowest free slots, ascending. O(count * levels), whatever the size.

        LimitExceeded, and nothing handed out, if fewer are free.
        """
        top, free_count = self.top, self.free_count
        if count > self.slots_max - top + free_count:
            raise LimitExceeded(self.name, f"at most {self.slots_max} slots")
        reused: list[int] = []
        while len(reused) < min(count, free_count):
            self._take_word(reused, min(count, free_count) - len(reused))
        fresh = count - len(reused)
        if fresh:
            self._grow(top + fresh)
        if reused:
            self._state.put(1, free_count - len(reused))
        slots = np.empty(count, np.uint32)
        slots[: len(reused)] = reused
        slots[len(reused) :] = np.arange(top, top + fresh)
        return slots

    def free(self, slots: NDArray[np.integer[Any]]) -> None:
        """Give slots back, in any order. ValueError, and nothing changed, if one is not handed out
        or named twice."""
        if not len(slots):
            return
        numbers = np.sort(slots.astype(np.int64))
        if int(numbers[0]) < 0 or int(numbers[-1]) >= self.top:
            raise ValueError(f"allocator {self.name!r}: a slot that was never handed out")
        was_free = self._levels[0].data[numbers // WORD_BITS] & _bit(numbers) != 0
        was_free[1:] |= numbers[1:] == numbers[:-1]
        if was_free.any():
            first = int(numbers[was_free][0])
            raise ValueError(f"allocator {self.name!r}: slot {first} is free already")
        self._state.put(1, self.free_count + len(numbers))
        for column in self._levels:
            numbers = _set_bits(column, numbers)
            if not len(numbers):
                return

    def check(self) -> list[str]:
        """Violated invariants, in words: summaries, counts, sizes."""
        wrong: list[str] = []
        bits = np.unpackbits(self._levels[0].used.view(np.uint8), bitorder="little")
        if int(bits.sum()) != self.free_count:
            wrong.append(f"{self.name}: {int(bits.sum())} free bits, count says {self.free_count}")
        if bits[self.top :].any():
            wrong.append(f"{self.name}: a free bit at or beyond top {self.top}")
        below = self.top
        for level, column in enumerate(self._levels):
            below = -(-below // WORD_BITS)
            if column.rows != below:
                wrong.append(f"{self.name}: level {level} has {column.rows} words, not {below}")
            if level:
                bits = np.unpackbits(column.used.view(np.uint8), bitorder="little")
                expected = self._levels[level - 1].used != 0
                if not np.array_equal(bits[: expected.size] != 0, expected):
                    wrong.append(f"{self.name}: level {level} does not summarise the one below")
        return wrong

    def _take_word(self, into: list[int], count: int) -> None:
        """Take up to `count` slots of the lowest word that has free ones."""
        index = 0
        for level in reversed(self._levels[1:]):
            word = int(level.data[index])
            index = index * WORD_BITS + _lowest_bit(word)
        word = int(self._levels[0].data[index])
        while word and count:
            into.append(index * WORD_BITS + _lowest_bit(word))
            word &= word - 1
            count -= 1
        self._set_word(0, index, word)

    def _set_word(self, level: int, index: int, word: int) -> None:
        """Write a word; carry the change up while a word became, or ceased to be, zero."""
        column = self._levels[level]
        was_zero = int(column.data[index]) == 0
        column.put(index, np.uint64(word))
        if (word == 0) == was_zero or level + 1 == len(self._levels):
            return
        parent, bit = index // WORD_BITS, 1 << index % WORD_BITS
        above = int(self._levels[level + 1].data[parent])
        self._set_word(level + 1, parent, above | bit if was_zero else above & ~bit)

    def _grow(self, top: int) -> None:
        words = top
        for column in self._levels:
            words = -(-words // WORD_BITS)
            column.resize(words)
        self._state.put(0, np.uint64(top))


def _lowest_bit(word: int) -> int:
    return (word & -word).bit_length() - 1


def _bit(numbers: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The bit of each number in its word."""
    return np.uint64(1) << (numbers % WORD_BITS).astype(np.uint64)


def _set_bits(column: Column, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Set the bits of `numbers`, ascending and distinct; the words that were zero before."""
    of = numbers // WORD_BITS
    first_of_word = np.ones(len(of), np.bool_)
    np.not_equal(of[1:], of[:-1], out=first_of_word[1:])
    starts = np.flatnonzero(first_of_word)
    words = of[starts]
    old = column.data[words]
    column.touch_rows(words)
    column.data[words] = old | np.bitwise_or.reduceat(_bit(numbers), starts)
    return words[old == 0]


def _column(columns: ColumnSet, name: str, rows_max: int) -> Column:
    if name in columns:
        return columns[name]
    return columns.create(name, np.uint64, rows_max=rows_max)
