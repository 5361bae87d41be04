"""The replicated state machine: collections of points, changed by commands, read by anyone.

`Database.apply(log_index, command) -> Result` is a function of columns and command alone: no clock,
no randomness, no dictionary order, no float computation that could differ. Whatever could differ
between nodes is fixed before the log, by `Database.prepare` on the leader.

Vocabulary
----------
*request*: what a client asks to change. *command*: what the log carries; a request becomes one or
more, each of at most 256 points and 1 MiB. *apply*: carry out a command, on every node alike.
*result*: a value, or an error that every replica reached alike. *point*: id, vectors, payload.
*slot*: a point's row in the columns of its collection; the lowest free one is taken. *row*: a
vector's row in the columns of one vector name. *version*: log index of a point's last change.
*uid*: log index of a collection's creation. *session*: an asker, of whom the newest answers are
remembered. *mask*: a filter as booleans over slots. *tail*: rows that no edit has linked yet.

A command's way, and the modules in that order: a request (`requests`) is checked and encoded by the
leader (`prepare`, `schema`, `filters`, `limits`) into `commands`; `database` decodes each, asks
`sessions` whether it was applied before, and has `applying` change a `collection` (`id_map`,
`payload_store`, and an index for each vector name). Reads (`reads`, `selection`) evaluate filters
as `masks` over the typed values of `payload_keys`, and answer with the records of `results`.

Invariants
----------
1. Everything remembered is a column. An object built from the columns (`Database(columns)`) goes on
   byte for byte as the one that wrote them; dictionaries, masks, orders and typed payload values
   are derived and may be thrown away at any time.
2. Freed bytes are zero; slots and rows are allocated as a function of columns.
3. A changed vector takes a new row, the old one is tombstoned; equal bytes keep their row. A slot
   may be used again while a dead row still names it: a dead row never matches.
4. An error result changed nothing but the sessions.
5. A command names its collection's uid: one meant for a dropped collection is refused, even if
   another has its name.
6. Each command is atomic: a read sees all of it or nothing. A request of several commands is not.

At most once
------------
A request carries (session, sequence), its commands also their part. A part that was applied is
answered from memory, the next one is applied, a later one is refused. The parts of a request by
filter are computed from the state and may be cut differently by a retry; of these only the last
part ends the request, and each names points with the versions that the leader saw, so that a point
changed in between is left alone.

Threads
-------
One thread applies. Others read, prepare and plan at any time: each collection has a `SharedLock`
that reads hold together and apply holds alone, for one command. Derived structures that a read
builds have a lock of their own.

Costs
-----
Apply: about 5 us a point besides copying its bytes. A filter on two keys of 36,000 points: under
1 ms once the keys' typed values exist, about 4 us a point to build them. A query adds some 30 us to
the index's search. Memory of a point: 17 bytes of id and 8 to 32 of table, 8 of version, 12 of
offsets and 4 for each vector name, besides its vectors, links and payload.

What it does not do
-------------------
It computes no distance in apply, opens no file, knows no network and no Raft. It does not compact
heaps or link rows unasked: the leader proposes that. No transactions over several commands, no
secondary order but that of ids, no full text.
"""

from balsadb.database.database import Database
from balsadb.database.linking import LinkWork
from balsadb.database.requests import (
    NO_SESSION,
    ClearPayload,
    CreateCollection,
    CreatePayloadIndex,
    DeleteCollection,
    DeletePayloadIndex,
    DeletePayloadKeys,
    DeletePoints,
    HnswParams,
    Marker,
    OverwritePayload,
    PointId,
    PointIdLike,
    Request,
    SessionKey,
    SetPayload,
    UpdateCollection,
    UpsertPoints,
    VectorBlock,
    VectorParams,
)
from balsadb.database.results import (
    CollectionInfo,
    Record,
    Result,
    ScoredPoint,
    ScrollPage,
    VectorInfo,
)
from balsadb.database.selection import NOTHING, PAYLOAD, Query, Selection

__all__ = [
    "NOTHING",
    "NO_SESSION",
    "PAYLOAD",
    "ClearPayload",
    "CollectionInfo",
    "CreateCollection",
    "CreatePayloadIndex",
    "Database",
    "DeleteCollection",
    "DeletePayloadIndex",
    "DeletePayloadKeys",
    "DeletePoints",
    "HnswParams",
    "LinkWork",
    "Marker",
    "OverwritePayload",
    "PointId",
    "PointIdLike",
    "Query",
    "Record",
    "Request",
    "Result",
    "ScoredPoint",
    "ScrollPage",
    "Selection",
    "SessionKey",
    "SetPayload",
    "UpdateCollection",
    "UpsertPoints",
    "VectorBlock",
    "VectorInfo",
    "VectorParams",
]
