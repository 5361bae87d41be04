"""The edit: a planned change of the graph, as bytes that the log carries.

There are four kinds, told apart by the first word. All of them raise the graph version.

    LINK       rows enter the graph or leave it, lists change
    TRAIN      a new quantiser: float32 mean (dim), step, inverse of the step; nothing: no codes
    CODE       rows from the first on get the codes of the present quantiser: first u32, count u32
    CALIBRATE  the column `tuning`, whole: u32 each

A LINK edit holds changes of lists (keep these of the old links, append those), not lists.
Little-endian:

    header   kind u16, bytes a mask u16, graph version u64 (the edit applies to this one only),
             entry row + 1 u32, top layer u32,
             counts u32: rows linked, rows freed, lists changed, links appended, masks
    u32      rows linked | rows freed | row of each changed list | links appended, list by list
    u8       layer of each changed list (+ 128: has a mask) | links appended to each | masks

A mask has a bit for each link the list holds now, in list order, set if the link stays. Freed rows
may be dead rows of the tail or of the graph.
"""

import struct
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from balsadb.errors import Corruption

LINK: Final = 1
TRAIN: Final = 2
CODE: Final = 3
CALIBRATE: Final = 4
KINDS: Final = (LINK, TRAIN, CODE, CALIBRATE)
MASKED: Final = 128
EDIT_BYTES_MAX: Final = 900_000
"""A longer edit is planned again for less work: a log entry has its own limit."""
_START: Final = struct.Struct("<HHQ")
_HEADER: Final = struct.Struct("<HHQIIIIIII")
_SPAN: Final = struct.Struct("<HHQII")


@dataclass(frozen=True, slots=True)
class Edit:
    """A decoded edit. `masks` has a row for each list with `masked`; `links` are all appended
    links, list after list."""

    graph_version: int
    entry: int
    top_layer: int
    rows_linked: NDArray[np.uint32]
    rows_freed: NDArray[np.uint32]
    list_row: NDArray[np.uint32]
    list_layer: NDArray[np.uint8]
    masked: NDArray[np.bool_]
    masks: NDArray[np.uint8]
    appended: NDArray[np.uint8]
    links: NDArray[np.uint32]


def encode(edit: Edit) -> bytes:
    """The bytes of an edit; equal edits give equal bytes."""
    head = _HEADER.pack(
        LINK,
        edit.masks.shape[1],
        edit.graph_version,
        edit.entry,
        edit.top_layer,
        len(edit.rows_linked),
        len(edit.rows_freed),
        len(edit.list_row),
        len(edit.links),
        len(edit.masks),
    )
    layers = edit.list_layer | np.where(edit.masked, MASKED, 0).astype(np.uint8)
    words = (edit.rows_linked, edit.rows_freed, edit.list_row, edit.links)
    parts = [head, *(part.astype("<u4").tobytes() for part in words)]
    parts += [layers.tobytes(), edit.appended.tobytes(), edit.masks.tobytes()]
    return b"".join(parts)


def encode_training(graph_version: int, quantiser: NDArray[np.float32]) -> bytes:
    """The bytes of a TRAIN edit; `quantiser` (dim + 2,) as in its column."""
    return _START.pack(TRAIN, 0, graph_version) + quantiser.astype("<f4").tobytes()


def decode_training(data: bytes) -> NDArray[np.float32]:
    """The quantiser of a TRAIN edit. Corruption if it cannot be one."""
    if (len(data) - _START.size) % 4:
        raise Corruption("a quantiser has the wrong length")
    return np.frombuffer(data, "<f4", offset=_START.size).astype(np.float32)


def encode_coding(graph_version: int, first: int, count: int) -> bytes:
    """The bytes of a CODE edit for rows [first, first + count)."""
    return _SPAN.pack(CODE, 0, graph_version, first, count)


def decode_coding(data: bytes) -> tuple[int, int]:
    """First row and number of rows of a CODE edit. Corruption if it cannot be one."""
    if len(data) != _SPAN.size:
        raise Corruption("an order to code rows has the wrong length")
    _, _, _, first, count = _SPAN.unpack(data)
    return int(first), int(count)


def encode_calibration(graph_version: int, tuning: NDArray[np.uint32]) -> bytes:
    """The bytes of a CALIBRATE edit; `tuning` (TUNING_ROWS,) as in its column."""
    return _START.pack(CALIBRATE, 0, graph_version) + tuning.astype("<u4").tobytes()


def decode_calibration(data: bytes) -> NDArray[np.uint32]:
    """The table of a CALIBRATE edit. Corruption if it cannot be one."""
    if (len(data) - _START.size) % 4:
        raise Corruption("a calibration has the wrong length")
    return np.frombuffer(data, "<u4", offset=_START.size).astype(np.uint32)


def kind_of(data: bytes) -> int:
    """LINK, TRAIN, CODE or CALIBRATE. Corruption for anything else."""
    version_of(data)
    return int(_START.unpack_from(data)[0])


def version_of(data: bytes) -> int:
    """The graph version an edit was planned on, without decoding the rest."""
    if len(data) < _START.size:
        raise Corruption("an edit of the graph is cut short")
    kind, _, version = _START.unpack_from(data)
    if kind not in KINDS:
        raise Corruption(f"an edit of the graph has the unknown kind {kind}")
    return int(version)


def decode(data: bytes) -> Edit:
    """A LINK edit, in arrays of its own. Corruption if the bytes cannot be one."""
    version = version_of(data)
    if len(data) < _HEADER.size:
        raise Corruption("an edit of the graph is cut short")
    _, width, _, entry, top, linked, freed, lists, links, masks = _HEADER.unpack_from(data)
    words = linked + freed + lists + links
    if len(data) != _HEADER.size + 4 * words + 2 * lists + masks * width:
        raise Corruption("an edit of the graph has the wrong length")
    at_bytes = _HEADER.size + 4 * words
    word = np.frombuffer(data, "<u4", words, _HEADER.size).copy()
    byte = np.frombuffer(data, np.uint8, offset=at_bytes).copy()
    rows_linked, rows_freed, list_row, all_links = np.split(word, np.cumsum([linked, freed, lists]))
    masked = byte[:lists] >= MASKED
    appended = byte[lists : 2 * lists].copy()
    if int(appended.sum(dtype=np.int64)) != links or int(masked.sum()) != masks:
        raise Corruption("an edit of the graph does not add up")
    return Edit(
        graph_version=version,
        entry=entry,
        top_layer=top,
        rows_linked=rows_linked,
        rows_freed=rows_freed,
        list_row=list_row,
        list_layer=byte[:lists] & np.uint8(MASKED - 1),
        masked=masked,
        masks=byte[2 * lists :].reshape(masks, width),
        appended=appended,
        links=all_links,
    )
