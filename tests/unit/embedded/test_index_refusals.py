"""The bare index: everything it refuses, as one table. Each refusal names what is wrong and leaves
every column as it was."""

import copy
import errno
import os
import pickle
import struct

import numpy as np
import pytest

from balsadb.embedded.index import NO_ID, Index
from balsadb.embedded.index_file import VERSION
from balsadb.errors import DamagedFile, DiskFailed, InvalidInput, LimitExceeded, NotFound

DIM = 16
ONE = np.ones((1, DIM), np.float32)
FOURTH = np.arange(DIM) == 3


def vectors(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)


SHAPES = [
    ("{}", np.ones((2, DIM + 1))),
    ("{}", np.ones((1, DIM - 1))),
    ("{}", np.ones(DIM + 1)),
    ("{}", np.ones((2, 2, DIM))),
    ("{}", np.zeros((0, DIM))),
    ("{}", []),
    ("{}", [[]]),
    ("{}", [[1.0] * DIM, [1.0]]),
]
TYPES = [
    ("{}", [["a"] * DIM]),
    ("{}", ONE.astype(np.complex64)),
    ("{}", ONE.astype(object)),
    ("{}", ONE.astype("datetime64[s]")),
    ("{}", [[None] * DIM]),
    ("{}", "text"),
    ("{}", {"a": 1}),
    ("{}", 2.5),
]
VALUES = [
    ("{}[0][3]", np.where(FOURTH, np.nan, ONE)),
    ("{}[0][3]", np.where(FOURTH, np.inf, ONE)),
    ("{}[0][3]", np.where(FOURTH, -np.inf, ONE)),
    ("{}[0][0]", np.full((1, DIM), 1e39)),
    ("{}[1]", np.concatenate((ONE, 1e18 * ONE))),
    ("{}[1]", np.concatenate((ONE, 0 * ONE))),
]
NOT_WHOLE = [0, -1, 1.5, "1", None, True, [1], np.float32(2)]
IDS = [
    ("ids", [1, 2]),
    ("ids[0]", [-1]),
    ("ids", [1.5]),
    ("ids", ["a"]),
    ("ids[0]", [NO_ID]),
    ("ids[0]", [2**64]),
    ("ids", [[1]]),
    ("ids", [None]),
    ("ids", [True]),
    ("ids", []),
]
FILTERS = [
    *(("filter", bad) for bad in [[0.5], np.ones((2, 2), bool), ["a"], [[1]], [[1], [1, 2]]]),
    *(("filter[1]", [0, bad]) for bad in [-1, -(2**70), NO_ID, 2**64]),
    ("filter", object()),
]
TARGETS = [0, 1, -0.5, 1.5, 10**400, float("nan"), "0.9", None, True]

REFUSED = [
    *(("add", field.format("vectors"), {"vectors": bad}) for field, bad in SHAPES + TYPES + VALUES),
    *(("add", field, {"vectors": ONE, "ids": bad}) for field, bad in IDS),
    ("add", "ids[1]", {"vectors": np.repeat(ONE, 2, 0), "ids": [4, 4]}),
    ("add", "ids[2]", {"vectors": np.repeat(ONE, 5, 0), "ids": [0, 9, 0, 9, 0]}),
    *(("delete", field, {"ids": bad}) for field, bad in IDS[1:]),
    *(
        (method, field.format(name), {name: bad} | more)
        for method, name, more in (("search", "queries", {"k": 1}), ("recall", "sample", {}))
        for field, bad in SHAPES + VALUES + TYPES[:5]
    ),
    *((method, "k", {"k": bad}) for method in ("search", "recall") for bad in [*NOT_WHOLE, 4_097]),
    *(
        (method, "ef", {"k": 3, "ef": bad})
        for method in ("search", "recall")
        for bad in [*NOT_WHOLE, 2, 4_097, "many", ""]
    ),
    *(
        (method, "target_recall", {"k": 1, "target_recall": bad})
        for method in ("search", "recall")
        for bad in TARGETS
    ),
    *(
        (method, field, {"k": 1, "filter": bad})
        for method in ("search", "recall")
        for field, bad in FILTERS
    ),
    *(("search", "threads", {"k": 1, "threads": bad}) for bad in NOT_WHOLE),
    *(("recall", "sample", {"sample": bad}) for bad in [0, -3, 2.5, True, None, "text"]),
]
DEFAULTS = {"add": {}, "delete": {}, "search": {"queries": ONE}, "recall": {"sample": ONE}}


@pytest.fixture(scope="module")
def index() -> Index:
    index = Index(DIM)
    index.add(vectors(5))
    return index


def state(index: Index) -> tuple:
    return index._columns.digest(), len(index), len(index._table), index.memory()


@pytest.mark.parametrize(("method", "field", "call"), REFUSED)
def test_a_bad_call_names_the_parameter_and_changes_nothing(index, method, field, call):
    before = state(index)
    with pytest.raises((InvalidInput, LimitExceeded)) as caught:
        getattr(index, method)(**DEFAULTS[method] | call)
    assert caught.value.field == field
    assert caught.value.rule
    assert state(index) == before


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        *(("dim", bad) for bad in [*NOT_WHOLE, 70_000]),
        *(("metric", bad) for bad in ["Cosmic", "", "cosine", None, 3, np.ones(2)]),
        *(("m", bad) for bad in [*NOT_WHOLE, 1, 65, 16.0]),
        *(("ef_construct", bad) for bad in [*NOT_WHOLE, 5_000]),
        *(("threads", bad) for bad in NOT_WHOLE if bad is not None),
        *(("quantization", bad) for bad in ["", "int4", "INT8", 8, True, b"int8", np.ones(2)]),
        *(("vectors_on_disk", bad) for bad in [None, 1, "no/such/folder", b"."]),
    ],
)
def test_a_bad_parameter_is_named(field, bad):
    with pytest.raises((InvalidInput, LimitExceeded)) as caught:
        Index(**({"dim": 4} | {field: bad}))
    assert caught.value.field == field
    assert caught.value.rule


@pytest.mark.parametrize(
    ("method", "call", "words"),
    [
        ("add", {"vectors": []}, "vectors: must not be empty"),
        ("add", {"vectors": 1.5}, "vectors: must be vectors of 16 numbers, not one number"),
        ("add", {"vectors": ONE[:, :9]}, "vectors: must be vectors of 16 numbers, has shape 1x9"),
        ("add", {"vectors": ONE[0, :9]}, "vectors: must be vectors of 16 numbers, has shape 9"),
        ("add", {"vectors": ONE, "ids": [-7]}, r"ids\[0\]: is -7: ids must not be negative"),
        (
            "add",
            {"vectors": np.repeat(ONE, 3, 0), "ids": [8, 5, 8]},
            r"ids\[2\]: is 8, as is ids\[0\]: ids must not repeat",
        ),
        ("delete", {"ids": [3, NO_ID]}, rf"ids\[1\]: is {NO_ID}: .* marks missing results"),
        ("delete", {"ids": [3, 2**80]}, rf"ids\[1\]: is {2**80}: ids must be below {NO_ID}"),
        ("delete", {"ids": [2**63, -1]}, r"ids\[1\]: is -1: ids must not be negative"),
        ("delete", {"ids": [[1, 2]]}, "ids: must be one row of integers, not 1x2 of int64"),
        (
            "search",
            {"k": 1, "filter": np.ones(5)},
            r"filter: must be a mask of bools \(filter\[id\]\) or .* ids, not 5 of float64",
        ),
        ("search", {"k": 1, "queries": 0 * ONE}, r"queries\[0\]: must not be a zero vector"),
        ("recall", {"sample": 2.5}, "sample: must be queries .* or how many .*, not float"),
    ],
)
def test_a_refusal_says_what_was_wrong_and_where(index, method, call, words):
    with pytest.raises(InvalidInput, match=f"^{words}"):
        getattr(index, method)(**DEFAULTS[method] | call)


def test_integers_in_a_filter_are_ids_whatever_they_are(index):
    flags = np.array([0, 1, 1, 0, 1])
    for given in (flags, flags.astype(np.uint8), flags.tolist()):
        assert set(index.search(ONE, 5, filter=given)[0][0].tolist()) == {0, 1, NO_ID}
    found = index.search(ONE, 5, filter=flags.astype(bool))[0][0]
    assert set(found.tolist()) == {1, 2, 4, NO_ID}


def test_an_index_is_saved_not_pickled(index):
    for way in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match=r"index\.save.*Index\.load"):
            way(index)


def test_unknown_ids_are_reported_and_the_others_deleted():
    index = Index(DIM)
    index.add(vectors(5))
    assert index.delete([7, 3, 2**63]).tolist() == [7, 2**63]
    before = state(index)
    assert index.delete([3, 7]).tolist() == [3, 7]
    assert state(index) == before
    assert 3 not in index
    assert not any(odd in index for odd in (-1, NO_ID, 2**70, "4", 4.0, None, [4]))
    assert np.uint64(4) in index


def test_a_query_without_direction_is_refused_under_cosine_only():
    index = Index(DIM)
    with pytest.raises(InvalidInput, match="zero"):
        index.search(np.zeros(DIM), 1)
    with pytest.raises(InvalidInput, match="zero"):
        index.recall(np.zeros((1, DIM)))
    assert Index(DIM, "Dot").search(np.zeros(DIM), 1)[0].tolist() == [[NO_ID]]


# ---------------------------------------------------------------------- files


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> bytes:
    index = Index(DIM, "Cosine", m=8, ef_construct=40, threads=1)
    index.add(vectors(1_500), ids=np.arange(1_500) * 3)
    index.add(vectors(40, 1))
    index.delete([0, 3, 6])
    path = tmp_path_factory.mktemp("index") / "some.balsa"
    index.save(path)
    return path.read_bytes()


def refuses(path, data: bytes, match: str) -> None:
    path.write_bytes(data)
    with pytest.raises(DamagedFile, match=match) as caught:
        Index.load(path)
    assert caught.value.field == "path"
    assert caught.value.message.count(str(path)) == 1
    assert caught.value.message.count("path: ") == 1
    assert "save the index again" in caught.value.message
    assert path.read_bytes() == data, "what is refused is left alone"


@pytest.mark.parametrize("bad", [None, 3, b"index", "", "a\0b", "x" * 300, object()])
def test_what_names_no_file_is_refused(bad):
    index = Index(DIM)
    for call in (index.save, Index.load):
        with pytest.raises(InvalidInput) as caught:
            call(bad)
        assert caught.value.field == "path"


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(NotFound, match="nothing\\.balsa"):
        Index.load(tmp_path / "nothing.balsa")
    with pytest.raises(NotFound):
        Index.load(tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_truncated_file_is_damaged(saved, tmp_path):
    for length in [1, 7, 8, 31, 32, 200, len(saved) // 2, len(saved) - 1]:
        refuses(tmp_path / "cut.balsa", saved[:length], f"cut short.* {length} ")
    refuses(tmp_path / "cut.balsa", b"", "it is empty")
    refuses(tmp_path / "cut.balsa", saved + b"\0", "bytes, 1 more than were saved")


def test_a_changed_byte_anywhere_is_damage(saved, tmp_path):
    data = bytearray(saved)
    for at in [*range(0, 400, 13), *range(400, len(data), len(data) // 40)]:
        data[at] ^= 0x10
        # Of a length that is changed, a part seems to be missing.
        match = "changed" if at >= 16 else "changed|not a saved index|format|cut short"
        refuses(tmp_path / "flipped.balsa", bytes(data), match)
        data[at] ^= 0x10


@pytest.mark.parametrize("version", [0, 1, VERSION + 1, 2**32 - 1])
def test_another_version_is_refused_and_both_are_named(saved, tmp_path, version):
    data = saved[:8] + struct.pack("<I", version) + saved[12:]
    refuses(tmp_path / "other.balsa", data, f"format {version}, this version reads {VERSION}")


def test_another_kind_of_file_is_refused(saved, tmp_path):
    refuses(tmp_path / "other.balsa", b"PK\x03\x04" + bytes(1_000), "not a saved index")


@pytest.mark.parametrize("bad", [0, "2", 1.5])
def test_bad_parameters_of_load_are_named(saved, tmp_path, bad):
    (tmp_path / "some.balsa").write_bytes(saved)
    with pytest.raises(InvalidInput) as caught:
        Index.load(tmp_path / "some.balsa", threads=bad)
    assert caught.value.field == "threads"
    with pytest.raises(InvalidInput) as caught:
        Index.load(tmp_path / "some.balsa", vectors_on_disk=bad)
    assert caught.value.field == "vectors_on_disk"


def test_a_directory_is_no_place_for_a_file(index, tmp_path):
    (tmp_path / "folder").mkdir()
    before = state(index)
    with pytest.raises(InvalidInput, match="is a directory"):
        index.save(tmp_path / "folder")
    assert os.listdir(tmp_path) == ["folder"]
    assert state(index) == before


def test_a_file_that_cannot_be_made_is_a_failure_of_the_disk(index, tmp_path):
    (tmp_path / "file").write_bytes(b"mine")
    for path in ("/proc/x", "/proc/x/y", tmp_path / "file" / "index"):
        with pytest.raises(DiskFailed, match="/proc/x|file"):
            index.save(path)
    assert os.listdir(tmp_path) == ["file"]


def test_saving_leaves_other_files_alone_and_none_of_its_own(index, tmp_path, monkeypatch):
    own = {"n.new": b"mine", "n.0.new": b"too"}
    for name, data in own.items():
        (tmp_path / name).write_bytes(data)
    names = iter("0001")
    monkeypatch.setattr("balsadb.embedded.index_file.token_hex", lambda size: next(names))
    index.save(tmp_path / "n")
    saved = (tmp_path / "n").read_bytes()
    assert len(Index.load(tmp_path / "n")) == len(index)

    def full(*given: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("balsadb.embedded.index_file.token_hex", lambda size: "2")
    for function in ("pwrite", "fdatasync"):
        with monkeypatch.context() as patch:
            patch.setattr(os, function, full)
            with pytest.raises(DiskFailed, match=f"cannot save {tmp_path}/n, .*No space left"):
                index.save(tmp_path / "n")
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == own | {"n": saved}
