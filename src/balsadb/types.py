"""The words every layer shares: what each number counts, and the two records that both Raft and
storage must name (an entry of the log, the hard state of a node).

Nothing here has behaviour. `NewType`s cost nothing at run time and make the type checker refuse a
term where a log index is meant.

Glossary (one meaning each): *node* a process of the cluster; *log index* a position in the Raft
log; *term* an election's number; *point* id + vectors + payload; *slot* a point's row in its
collection's columns; *row* a vector's row in the columns of one vector name (a vertex of the
graph); *layer* an HNSW layer; *edit* a planned change of a graph; *checkpoint* the columns on disk
at one log index.
"""

from typing import Annotated, NewType

import msgspec

VERSION = "0.1.0"
"""Of this program; `pyproject.toml` says the same."""

NodeId = NewType("NodeId", int)
"""A member's identity, 1 or larger, chosen by the operator; never re-used. 0 means no node."""
DiskId = NewType("DiskId", int)
"""Random 63-bit number written once into a data directory; tells an emptied disk from the old."""
ClusterId = NewType("ClusterId", int)
"""63-bit hash of the cluster's name and its first members; other clusters' messages are refused."""
GroupId = NewType("GroupId", int)
"""A Raft group inside the cluster; always 0 today."""
Term = NewType("Term", int)
LogIndex = NewType("LogIndex", int)
"""Position in the Raft log; the first entry is 1, 0 means before everything."""
CollectionUid = NewType("CollectionUid", int)
"""The log index of the entry that created the collection: a dropped and re-created one differs."""
Slot = NewType("Slot", int)
"""A point's row in its collection's columns."""
Row = NewType("Row", int)
"""A vector's row in the columns of one vector name; the vertices of the graph."""

NUMBER = msgspec.Meta(ge=0, le=(1 << 63) - 1)
"""Bounds of every number above, for the decoders of what a peer or a disk says: a larger one would
break arithmetic and file formats later, in the middle of something else."""

NO_NODE = NodeId(0)

ENTRY_NORMAL = 0
"""`Entry.kind`: the data is a database command (or empty: the no-op of a new leader)."""
ENTRY_MEMBERS = 1
"""`Entry.kind`: the data records the disk that a member speaks from."""
ENTRY_CHANGE = 2
"""`Entry.kind`: the data changes the members (`balsadb.raft.changes`)."""


class Entry(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One record of the replicated log.

    `data` is opaque to Raft and to storage; the same bytes go to the WAL and to every peer.
    """

    index: Annotated[LogIndex, NUMBER]
    term: Annotated[Term, NUMBER]
    kind: Annotated[int, msgspec.Meta(ge=0, le=(1 << 32) - 1)]
    data: bytes


class HardState(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a node must not forget (Raft, figure 2): its term, its vote, and how far it knows the
    log to be committed (the last is only a hint that shortens recovery)."""

    term: Term
    vote: NodeId
    commit: LogIndex
