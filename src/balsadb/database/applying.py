"""What each command does to the columns. Deterministic: columns and command in, columns and result
out. An error found here is one of `sessions.error_text` and changes nothing."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from balsadb.database import commands, limits
from balsadb.database.catalog import Catalog
from balsadb.database.collection import Collection, Slots
from balsadb.database.commands import (
    AnyCommand,
    ChangePayloadCommand,
    CompactHeapCommand,
    CreateCollectionCommand,
    DeleteCommand,
    DropCollectionCommand,
    LinkCommand,
    MarkerCommand,
    ReplaceSchemaCommand,
    UpsertCommand,
)
from balsadb.database.paths import delete_at, merge_at, parse_path
from balsadb.database.payload_store import decode_payload, decode_shallow, encode_payload
from balsadb.database.point_ids import unpack
from balsadb.database.results import Result
from balsadb.database.schema import decode_change, decode_schema
from balsadb.database.sessions import error_text
from balsadb.errors import AlreadyExists, CollectionReplaced, LimitExceeded
from balsadb.types import CollectionUid, LogIndex


def execute(catalog: Catalog, log_index: LogIndex, command: AnyCommand) -> Result:
    """Apply one command that is not a repetition."""
    if isinstance(command, MarkerCommand):
        return Result(log_index)
    if isinstance(command, CreateCollectionCommand):
        return _create(catalog, log_index, command)
    collection = catalog.by_uid.get(CollectionUid(command.uid))
    if isinstance(command, DropCollectionCommand):
        if collection is not None:
            catalog.drop(collection)
        return Result(log_index, collection is not None)
    if collection is None:
        return Result(log_index, None, error_text(CollectionReplaced.code))
    if isinstance(command, UpsertCommand):
        return _upsert(collection, log_index, command)
    if isinstance(command, DeleteCommand):
        return _delete(collection, log_index, command)
    if isinstance(command, ChangePayloadCommand):
        return _change_payload(collection, log_index, command)
    if isinstance(command, LinkCommand):
        return _link(collection, log_index, command)
    return _maintain(collection, log_index, command)


def _create(catalog: Catalog, log_index: LogIndex, command: CreateCollectionCommand) -> Result:
    if command.name in catalog.by_name:
        return Result(log_index, None, error_text(AlreadyExists.code))
    if len(catalog.by_uid) >= limits.COLLECTIONS_MAX:
        return Result(log_index, None, error_text(LimitExceeded.code))
    catalog.create(CollectionUid(log_index), decode_schema(command.schema))
    return Result(log_index, value=True)


def _maintain(
    collection: Collection,
    log_index: LogIndex,
    command: ReplaceSchemaCommand | CompactHeapCommand,
) -> Result:
    with collection.lock.exclusive():
        if isinstance(command, CompactHeapCommand):
            collection.payloads.compact()
        else:
            collection.replace_schema(decode_change(command.change).of(collection.schema))
    return Result(log_index, value=True)


def _link(collection: Collection, log_index: LogIndex, command: LinkCommand) -> Result:
    with collection.lock.exclusive():
        return Result(log_index, collection.vectors[command.ordinal].index.apply(command.edit))


def _upsert(collection: Collection, log_index: LogIndex, command: UpsertCommand) -> Result:
    ids = unpack(command.ids)
    count = ids.lo.size
    lengths = np.frombuffer(command.payload_lengths, "<u4")
    positions: dict[int, NDArray[np.uint32]] = {}
    values: dict[int, NDArray[np.float32]] = {}
    for part in command.vectors:
        size = collection.schema.vectors[part.ordinal].size
        positions[part.ordinal] = np.frombuffer(part.positions, "<u4")
        values[part.ordinal] = np.frombuffer(part.values, "<f4").reshape(-1, size)
    none = np.zeros(0, np.uint32)
    ordinals = range(len(collection.vectors))
    rows = [positions.get(ordinal, none).size for ordinal in ordinals]
    if not collection.has_room(count, len(command.payloads), rows):
        return Result(log_index, None, error_text(LimitExceeded.code))
    with collection.lock.exclusive():
        slots, known = collection.upsert_ids(ids, log_index)
        collection.payloads.write(slots, lengths, command.payloads)
        for ordinal in ordinals:
            given = positions.get(ordinal, none)
            if given.size < count and known.any():
                without = known.copy()
                without[given] = False
                collection.drop_vectors(ordinal, slots[without])
            if given.size:
                collection.put_vectors(ordinal, slots[given], known[given], values[ordinal])
    return Result(log_index, int(count))


def _delete(collection: Collection, log_index: LogIndex, command: DeleteCommand) -> Result:
    with collection.lock.exclusive():
        slots = _selected(collection, command.ids, command.versions)
        collection.delete(slots)
    return Result(log_index, int(slots.size))


def _change_payload(
    collection: Collection, log_index: LogIndex, command: ChangePayloadCommand
) -> Result:
    with collection.lock.exclusive():
        slots = _selected(collection, command.ids, command.versions)
        change = _payload_change(command)
        texts = [change(collection.payloads.read(slot)) for slot in slots.tolist()]
        lengths = np.array([len(text) for text in texts], np.uint32)
        total = int(lengths.sum(dtype=np.uint64))
        longest = int(lengths.max(initial=0))
        if longest > limits.PAYLOAD_BYTES_MAX or total > collection.payloads.free_bytes:
            return Result(log_index, None, error_text(LimitExceeded.code))
        if slots.size:
            collection.payloads.write(slots, lengths, b"".join(texts))
            collection.stamp(slots, log_index)
    return Result(log_index, int(slots.size))


def _payload_change(command: ChangePayloadCommand) -> Callable[[bytes], bytes]:
    """From a payload's text to its new text."""
    if command.action == commands.OVERWRITE:
        return lambda _: command.payload
    if command.action == commands.CLEAR:
        return lambda _: b""
    paths = [parse_path(key, "keys") for key in command.keys]
    if command.action == commands.SET and not paths:
        update = decode_shallow(command.payload)
        gone = {key for key, value in update.items() if bytes(value) == b"null"}

        def merged(text: bytes) -> bytes:
            payload = {**decode_shallow(text), **update}
            for key in gone:
                del payload[key]
            return encode_payload(payload)

        return merged
    change: dict[str, Any] = decode_payload(command.payload)

    def rewrite(text: bytes) -> bytes:
        payload = decode_payload(text)
        for steps in paths:
            if command.action == commands.SET:
                merge_at(payload, steps, change)
            else:
                delete_at(payload, steps)
        return encode_payload(payload)

    return rewrite


def _selected(collection: Collection, packed: bytes, versions: bytes) -> Slots:
    """The slots of known ids, ascending; with versions, only of points that have theirs still."""
    found = collection.find(unpack(packed))
    known = found >= 0
    if versions:
        seen = np.frombuffer(versions, "<u8")
        known &= collection.version.data[np.maximum(found, 0)] == seen
    return np.unique(found[known]).astype(np.uint32)
