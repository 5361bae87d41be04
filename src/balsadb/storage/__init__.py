"""Bytes that survive: the write-ahead log, checkpoints, and the data directory.

Vocabulary
    *sector*: 512 bytes, the unit a disk writes wholly or not at all. *stamp*: the last byte of a
    written sector, never zero. *batch*: what one `Wal.write` put on disk, all or nothing.
    *segment*: a file of batches. *torn*: a batch that a power cut left unfinished; nobody was told
    that it was durable, so it is cut off. *rotten*: bytes that were durable and have changed:
    `Corruption`, the node stands still. *snapshot reference*: the record that says which
    checkpoint the log goes on from. *chunk*: about 1 MiB of a column, named by its digest. *pack*:
    a file of chunks. *manifest*: what a checkpoint consists of; it exists once its manifest does.
    *identity*: whose directory it is.

Reading order: `files` (the seam, the only module that opens files), `record` (bytes of the log),
`wal_state` (what records mean), `wal_recovery` (torn or rotten), `wal`; `manifest`, `packs`,
`catalogue`, `staging`, `checkpoints`; `datadir`.

Invariants
    - What `Wal.sync` returned for is read back after any crash. If the medium changed it,
      `Corruption` is raised: a record that was durable is not silently dropped (`wal_recovery` says
      which damage to the very last batch cannot be told from a torn write).
    - A checkpoint is wholly there or not at all; its bytes are verified whenever they are read.
    - Term, vote, entries and snapshot references are one ordered log: none is newer than another.
    - A new segment carries hard state and snapshot reference over, so any prefix of the segments
      can go once a checkpoint covers its entries; at every moment of that a crash is harmless.
    - A failed write or fsync is never retried: `DiskFailed`, and the process ends (Rebello et al.,
      ATC 2020).
    - A directory belongs to one process (a lock), one node, one cluster, one disk id.

Costs
    A group commit is one pwrite and one fdatasync; encoding takes 0.3 ms a MiB plus 0.5 µs an
    entry. Opening reads every segment once: 1 ms a MiB plus 2.5 µs an entry, and twice a segment's
    size in memory. Disk space of the log: the entries since the last checkpoint plus at most one
    segment, and zeros 1 MiB ahead. `bench/wal.py` and `bench/columns.py` measure.

What it does not do
    It does not know what entries mean, when to take a checkpoint, or how to repair a rotten log
    from peers (a node with one joins anew). It starts no threads. One Raft group.

Sources: Alagappan et al., "Protocol-Aware Recovery for Consensus-Based Storage", FAST 2018 (torn
against rotten); Ongaro, "Consensus: Bridging Theory and Practice", 2014, sections 3.8 and 5.
"""

from balsadb.storage.checkpoints import CheckpointStore
from balsadb.storage.datadir import DataDir, Identity, cluster_id, read_identity
from balsadb.storage.files import File, Files, Lock, RealFiles
from balsadb.storage.manifest import CheckpointMeta, ChunkRef, Manifest
from balsadb.storage.record import SnapshotRef, WalBatch, WalHeader
from balsadb.storage.staging import Staging
from balsadb.storage.wal import Wal, WalOptions
from balsadb.storage.wal_state import WalState

__all__ = [
    "CheckpointMeta",
    "CheckpointStore",
    "ChunkRef",
    "DataDir",
    "File",
    "Files",
    "Identity",
    "Lock",
    "Manifest",
    "RealFiles",
    "SnapshotRef",
    "Staging",
    "Wal",
    "WalBatch",
    "WalHeader",
    "WalOptions",
    "WalState",
    "cluster_id",
    "read_identity",
]
