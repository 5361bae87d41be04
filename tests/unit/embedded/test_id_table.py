"""The table from ids to slots, against a dict."""

import numpy as np

from balsadb.embedded.id_table import MISSING, SIZE_MIN, IdTable, _hash


def test_it_agrees_with_a_dict_through_a_long_life():
    rng = np.random.default_rng(4)
    ids = np.zeros(6_000, np.uint64)
    table, known = IdTable(ids), {}
    free = list(range(5_999, -1, -1))
    for step in range(400):
        wanted = np.unique(rng.integers(0, 2_000, rng.integers(1, 60)).astype(np.uint64))
        wanted *= np.uint64(1 << 40 if step % 2 else 1)
        new = wanted[[int(number) not in known for number in wanted]]
        slots = np.array([free.pop() for _ in new], np.uint32)
        ids[slots] = new
        table.insert(slots)
        known.update(zip(new.tolist(), slots.tolist(), strict=True))
        gone = rng.permutation(np.array(sorted(known), np.uint64))[: rng.integers(0, 60)]
        slots = np.array([known.pop(int(number)) for number in gone], np.uint32)
        table.remove(slots)
        ids[slots] = 0
        free += slots.tolist()
        asked = np.concatenate((wanted, gone, np.array([2**64 - 1, 0, 1], np.uint64)))
        expected = [known.get(int(number), MISSING) for number in asked]
        assert table.find(asked).tolist() == expected
        assert len(table) == len(known)
    assert table.size_bytes <= 20 * max(len(known), SIZE_MIN)


def test_ids_whose_hashes_meet_go_on_to_the_next_place():
    numbers = np.arange(1, 60_000, dtype=np.uint64)
    meeting = numbers[_hash(numbers) & np.uint64(63) == 63][:30]
    ids = np.zeros(30, np.uint64)
    ids[:] = meeting
    table = IdTable(ids)
    table.insert(np.arange(30, dtype=np.uint32))
    assert table.size_bytes == 4 * 64 * (1 if 2 * 30 <= 64 else 2)
    table.remove(np.arange(0, 30, 2, dtype=np.uint32))
    expected = [slot if slot % 2 else MISSING for slot in range(30)]
    assert table.find(meeting).tolist() == expected


def test_churn_at_one_size_does_not_grow_it():
    ids = np.arange(1_000, dtype=np.uint64)
    table = IdTable(ids)
    slots = np.arange(1_000, dtype=np.uint32)
    table.insert(slots)
    size = table.size_bytes
    for first in range(0, 100_000, 100):
        part = slots[first % 1_000 : first % 1_000 + 100]
        table.remove(part)
        ids[part] += np.uint64(1_000)
        table.insert(part)
    assert table.size_bytes == size
    assert table.find(ids).tolist() == slots.tolist()
