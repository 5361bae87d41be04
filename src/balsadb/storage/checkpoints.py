"""Checkpoints: the columns on disk at a log index.

    {directory}/{index}-{term}.manifest    complete checkpoints (16 hex digits each)
    {directory}/incoming                   the manifest of a checkpoint being fetched from a peer
    {directory}/packs/{number}.pack        chunks
    {directory}/*.tmp                      a manifest being written; removed when opened

A checkpoint becomes visible by the rename of its manifest, after all its chunks are durable; a
crash before that leaves packs that nothing names, removed when the store is opened next. Chunks are
found by digest: a checkpoint writes only those that no earlier one holds. So that a few old chunks
do not keep large packs alive, chunks of a pack less than half of which is still wanted are written
anew: packs take at most about twice the bytes of the checkpoints kept.

Chunks are verified whenever they are read. A manifest that does not verify is never used and never
removed silently: it is listed in `damaged`, and as long as it is there no pack is removed, since it
may name any.

Nothing is lost when there is no room for a checkpoint: chunks stop at `keep_free_bytes`, before the
disk would fail a write (`DiskFull`, not the end of the process), the packs begun are removed by the
next `collect`, and the checkpoints and the log are as they were.
"""

from collections import Counter
from collections.abc import Collection, Sequence

from balsadb.columns import ColumnSet, FrozenColumn
from balsadb.errors import Corruption, DiskFull, InvalidInput
from balsadb.storage.catalogue import Catalogue, CheckpointKey, Pins, key_of
from balsadb.storage.files import Files
from balsadb.storage.manifest import (
    CheckpointMeta,
    ChunkRef,
    Manifest,
    decode_manifest,
    encode_manifest,
)
from balsadb.storage.packs import PackReader, PackWriter, pack_name, pack_number
from balsadb.storage.staging import Staging
from balsadb.types import LogIndex, Term

COPY_AHEAD_BYTES_MAX = 64 << 20
"""Chunks copied at once when a checkpoint starts, so that applying entries seldom has to."""
_SUFFIX = ".manifest"
_INCOMING = "incoming"
_TEMPORARY = ".tmp"


class CheckpointStore:
    """All checkpoints of one node below one directory.

    `write`, `load`, `stage` and its staging may run in other threads than `collect` and the rest;
    at most one `write` and one staging at a time.
    """

    def __init__(self, files: Files, directory: str) -> None:
        """Open, and clean up what a crash left. NewerFormat if a newer version wrote a manifest;
        DiskFailed if the disk says so."""
        self._files = files
        self._directory = directory
        self._packs = f"{directory}/packs"
        self._catalogue = Catalogue()
        self._incoming: CheckpointKey | None = None
        self.keep_free_bytes = 0
        """Chunks are written only while so much stays free: it is kept for the log."""
        self.damaged: dict[str, str] = {}
        """File names of manifests that do not verify, and why."""
        files.mkdir(self._packs)
        files.sync_dir(directory)
        files.sync_dir(directory.rpartition("/")[0])
        self._recover()

    def newest(self) -> Manifest | None:
        """The complete checkpoint of the highest log index; None if there is none."""
        manifests = self._catalogue.manifests()
        return manifests[-1] if manifests else None

    def manifests(self) -> list[Manifest]:
        """All complete checkpoints, oldest first."""
        return self._catalogue.manifests()

    def write(self, meta: CheckpointMeta, frozen: Sequence[FrozenColumn]) -> Manifest:
        """Write a checkpoint; durable on return. The freezes are used up: each is released, chunk
        by chunk as it is written, and wholly in any case.

        DiskFailed if the disk says so; DiskFull if there is no room for it; Corruption if a chunk's
        bytes are not those of its digest.
        """
        with self._catalogue.pins() as pins:
            writer = PackWriter(self._files, self._packs, pins.next_pack, self._require_room)
            try:
                placed: dict[bytes, ChunkRef] = {}
                spare = COPY_AHEAD_BYTES_MAX
                for one in frozen:
                    _place_known(one, pins, placed)
                    spare -= one.copy_ahead(spare)
                ordered = sorted(frozen, key=lambda one: one.meta.name)
                for one in ordered:
                    _place(one, writer, pins, placed)
                moved = self._rewrite_sparse(placed, writer)
                writer.finish()
                columns = tuple(
                    (
                        one.meta,
                        tuple(moved[one.chunk_digest(i)] for i in range(one.chunk_count)),
                    )
                    for one in ordered
                )
                manifest = Manifest(
                    meta.index, meta.term, meta.members, meta.cluster, meta.group, columns=columns
                )
                self._publish(manifest)
                return manifest
            finally:
                writer.abandon()
                for one in frozen:
                    one.release()

    def load(self, manifest: Manifest) -> ColumnSet:
        """Restore the columns of a checkpoint, verifying every chunk. Corruption names the pack."""
        columns = ColumnSet()
        with self._catalogue.pins() as pins, PackReader(self._files, self._packs) as reader:
            pins.hold(manifest.packs())
            for meta, refs in manifest.columns:
                digests = [ref.digest for ref in refs]
                columns.load_column(meta, map(reader.view, refs), digests)
        return columns

    def scrub(self, manifest: Manifest) -> list[tuple[bytes, int]]:
        """Read everything; digest and length of the chunks that do not verify. To mend them, stage
        the same manifest (`manifest_bytes`) and put what is missing."""
        damaged: dict[bytes, int] = {}
        with self._catalogue.pins() as pins, PackReader(self._files, self._packs) as reader:
            pins.hold(manifest.packs())
            for ref in manifest.refs():
                try:
                    reader.read(ref)
                except Corruption:
                    damaged[ref.digest] = ref.length
        return list(damaged.items())

    def manifest_bytes(self, index: LogIndex) -> bytes | None:
        """The manifest of the checkpoint at a log index, for a peer; None if there is none."""
        found = [one for one in self._catalogue.manifests() if one.index == index]
        return encode_manifest(found[-1]) if found else None

    def read_chunk(self, digest: bytes) -> bytes | None:
        """The bytes of a chunk of some complete checkpoint, for a peer; None if there is none.
        Corruption if they do not verify."""
        with self._catalogue.pins() as pins, PackReader(self._files, self._packs) as reader:
            found = self._catalogue.find(digest)
            if found is None or pins.find(digest, found.length) is None:
                return None
            return reader.read(found)

    def stage(self, manifest_bytes: bytes) -> Staging:
        """Begin, or resume, to fetch a checkpoint from a peer, given its manifest's bytes.

        Chunks that verify on this disk need not be put again. InvalidInput if the manifest does
        not verify, NewerFormat if a newer version wrote it.
        """
        try:
            manifest = decode_manifest(manifest_bytes, "the peer's manifest")
        except Corruption as error:
            raise InvalidInput("manifest", error.message) from error
        if self._incoming != key_of(manifest):
            self._replace(_INCOMING, manifest_bytes)
            self._incoming = key_of(manifest)
        leftovers = self._catalogue.unused(self._pack_numbers())
        staging = Staging(
            self._files,
            self._packs,
            self._catalogue,
            manifest,
            self._publish_staged,
            self._require_room,
        )
        staging.adopt(leftovers)
        return staging

    def collect(self, keep: int = 2, also: Collection[LogIndex] = ()) -> None:
        """Remove all but the newest `keep` checkpoints and those at the indices of `also` (being
        shipped), then the packs that nothing names."""
        manifests = self._catalogue.manifests()
        kept = {key_of(one) for one in manifests[max(0, len(manifests) - keep) :]}
        kept |= {key_of(one) for one in manifests if one.index in also}
        dropped = [key_of(one) for one in manifests if key_of(one) not in kept]
        # A damaged manifest older than everything kept would have been removed anyway.
        stale = [name for name in self.damaged if (key := _key(name)) and kept and key < min(kept)]
        self._catalogue.drop(dropped)
        for name in sorted([*map(_name, dropped), *stale]):
            self._files.remove(f"{self._directory}/{name}")
            self.damaged.pop(name, None)
        newest = self.newest()
        if self._incoming is not None and newest is not None and key_of(newest) >= self._incoming:
            self._forget_incoming()
        elif dropped or stale:
            self._files.sync_dir(self._directory)
        self._remove_unused_packs()

    # --- inside ---

    def _recover(self) -> None:
        for name in self._files.listdir(self._directory):
            path = f"{self._directory}/{name}"
            if name.endswith(_TEMPORARY):
                self._files.remove(path)
            elif name.endswith(_SUFFIX):
                self._recover_manifest(name)
        for number in self._pack_numbers():
            self._catalogue.saw_pack(number)
        if self._files.exists(f"{self._directory}/{_INCOMING}"):
            self._recover_incoming()
        self._remove_unused_packs()

    def _recover_manifest(self, name: str) -> None:
        try:
            manifest = decode_manifest(self._read(name), name)
            if _key(name) != key_of(manifest):
                raise Corruption(f"{name}: the manifest is of checkpoint {key_of(manifest)}")
            gone = manifest.packs() - set(self._pack_numbers())
            if gone:
                raise Corruption(f"{name}: packs are missing: {sorted(gone)}")
        except Corruption as error:
            self.damaged[name] = error.message
            return
        for pack in manifest.packs():
            self._catalogue.saw_pack(pack)
        self._catalogue.add(manifest)

    def _recover_incoming(self) -> None:
        """A fetch that still leads somewhere keeps its packs; any other is forgotten."""
        try:
            manifest = decode_manifest(self._read(_INCOMING), _INCOMING)
        except Corruption:
            self._forget_incoming()
            return
        newest = self.newest()
        self._incoming = key_of(manifest)
        if newest is not None and key_of(newest) >= self._incoming:
            self._forget_incoming()

    def _forget_incoming(self) -> None:
        self._incoming = None
        self._files.remove(f"{self._directory}/{_INCOMING}")
        self._files.sync_dir(self._directory)

    def _remove_unused_packs(self) -> None:
        """The names of removed manifests are gone durably before this is called: a manifest must
        not come back after a crash without its packs."""
        if self._incoming is not None or self.damaged:
            return
        for number in self._catalogue.unused(self._pack_numbers()):
            self._files.remove(f"{self._packs}/{pack_name(number)}")

    def _pack_numbers(self) -> list[int]:
        numbers = map(pack_number, self._files.listdir(self._packs))
        return [number for number in numbers if number is not None]

    def _read(self, name: str) -> bytes:
        file = self._files.open(f"{self._directory}/{name}")
        try:
            return file.pread(file.size(), 0)
        finally:
            file.close()

    def _replace(self, name: str, data: bytes) -> None:
        """Durable and atomic: the file is the old one or the new one."""
        path = f"{self._directory}/{name}"
        file = self._files.open(path + _TEMPORARY, create=True)
        try:
            file.pwrite(data, 0)
            file.sync()
        finally:
            file.close()
        self._files.rename(path + _TEMPORARY, path)
        self._files.sync_dir(self._directory)

    def _publish(self, manifest: Manifest) -> None:
        name = _name(key_of(manifest))
        self._replace(name, encode_manifest(manifest))
        self.damaged.pop(name, None)
        self._catalogue.add(manifest)

    def _publish_staged(self, manifest: Manifest) -> None:
        self._publish(manifest)
        if self._incoming == key_of(manifest):
            self._forget_incoming()

    def _rewrite_sparse(
        self, placed: dict[bytes, ChunkRef], writer: PackWriter
    ) -> dict[bytes, ChunkRef]:
        """Chunks of packs that are less than half wanted, written anew if there is room for them;
        all others as they are."""
        wanted: Counter[int] = Counter()
        for ref in placed.values():
            wanted[ref.pack] += ref.length
        sparse = {
            pack
            for pack, length in wanted.items()
            if pack not in writer.packs and 2 * length < self._pack_bytes(pack)
        }
        moved = dict(placed)
        length = sum(ref.length for ref in placed.values() if ref.pack in sparse)
        if not self._has_room(length):
            return moved
        with PackReader(self._files, self._packs) as reader:
            for ref in placed.values():
                if ref.pack in sparse:
                    moved[ref.digest] = writer.append(ref.digest, reader.read(ref))
        return moved

    def _has_room(self, length: int) -> bool:
        return not self.keep_free_bytes or (
            self._files.free_bytes() - length >= self.keep_free_bytes
        )

    def _require_room(self, length: int) -> None:
        if not self._has_room(length):
            raise DiskFull(
                f"no room for a checkpoint: {self._files.free_bytes() >> 20} MiB are free on the "
                f"data directory's disk, of which {self.keep_free_bytes >> 20} MiB are kept for "
                "the log. Nothing was lost; it is tried again"
            )

    def _pack_bytes(self, number: int) -> int:
        file = self._files.open(f"{self._packs}/{pack_name(number)}")
        try:
            return file.size()
        finally:
            file.close()


def _place_known(one: FrozenColumn, pins: Pins, placed: dict[bytes, ChunkRef]) -> None:
    """Chunks that an earlier checkpoint holds are not read: the writer need not copy them."""
    for index in range(one.chunk_count):
        digest = one.known_digest(index)
        first, stop = one.meta.chunk_span(index)
        found = pins.find(digest, stop - first) if digest else None
        if found is not None:
            placed[digest] = found
            one.release_chunk(index)


def _place(
    one: FrozenColumn, writer: PackWriter, pins: Pins, placed: dict[bytes, ChunkRef]
) -> None:
    """See that every chunk of a column lies in a pack; write those that no pack holds."""
    for index in range(one.chunk_count):
        if one.known_digest(index) in placed:
            continue
        digest, data = one.read(index)
        if digest not in placed:
            placed[digest] = pins.find(digest, len(data)) or writer.append(digest, data)
        one.release_chunk(index)


def _name(key: CheckpointKey) -> str:
    return f"{key[0]:016x}-{key[1]:016x}{_SUFFIX}"


def _key(name: str) -> CheckpointKey | None:
    index, _, term = name.removesuffix(_SUFFIX).partition("-")
    try:
        return LogIndex(int(index, 16)), Term(int(term, 16))
    except ValueError:
        return None
