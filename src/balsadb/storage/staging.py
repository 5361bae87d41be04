"""A checkpoint on its way in from a peer: complete and durable all at once, or not at all."""

from collections.abc import Callable

from balsadb.columns import chunk_digest
from balsadb.errors import Corruption, InvalidInput
from balsadb.storage.catalogue import Catalogue
from balsadb.storage.files import Files
from balsadb.storage.manifest import ChunkRef, Manifest
from balsadb.storage.packs import PackReader, PackWriter, pack_name


class Staging:
    """Collects the chunks that this node lacks; made by `CheckpointStore.stage`.

    Chunks lie in packs that no manifest names until `finish`. They are found again if the process
    dies and the same checkpoint, or a later one with chunks in common, is staged anew. One thread
    at a time.
    """

    def __init__(
        self,
        files: Files,
        packs: str,
        catalogue: Catalogue,
        manifest: Manifest,
        publish: Callable[[Manifest], None],
        require_room: Callable[[int], None],
    ) -> None:
        self.manifest = manifest
        self._files = files
        self._packs = packs
        self._publish = publish
        self._pins = catalogue.pins()
        self._writer = PackWriter(files, packs, self._pins.next_pack, require_room)
        self._wanted = {ref.digest: ref.length for ref in manifest.refs()}
        self._have: dict[bytes, ChunkRef] = {}
        self._resumed: set[int] = set()
        self._closed = False

    def adopt(self, leftovers: list[int]) -> None:
        """Take what is on this disk already: chunks of complete checkpoints, and of the packs that
        unfinished stagings left. Every chunk is read and verified, so that a rotten one is fetched
        from the peer."""
        with PackReader(self._files, self._packs) as reader:
            for digest, length in self._wanted.items():
                found = self._pins.find(digest, length)
                if found is not None and _verifies(reader, found):
                    self._have[digest] = found
            for pack in leftovers:
                self._pins.hold([pack])
                for ref in reader.scan(pack):
                    if self._wanted.get(ref.digest) == ref.length:
                        self._have.setdefault(ref.digest, ref)
                        self._resumed.add(pack)

    @property
    def missing(self) -> list[tuple[bytes, int]]:
        """Digest and length of the chunks still to be put, each once, in order of the manifest."""
        return [pair for pair in self._wanted.items() if pair[0] not in self._have]

    @property
    def bytes_missing(self) -> int:
        """Bytes still to be put."""
        return sum(length for _, length in self.missing)

    def put(self, digest: bytes, data: bytes) -> None:
        """Take one chunk; one that is there already is ignored.

        InvalidInput if the checkpoint has no such chunk or the bytes are not those of the digest;
        DiskFailed if the disk says so; DiskFull if there is no room for it (put it again later).
        """
        if self._closed:
            raise ValueError("the staging is finished or abandoned")
        if digest not in self._wanted:
            raise InvalidInput("chunk", f"{digest.hex()} is not part of the checkpoint")
        if chunk_digest(data) != digest or len(data) != self._wanted[digest]:
            raise InvalidInput("chunk", f"{digest.hex()}: the bytes do not match the digest")
        if digest not in self._have:
            self._have[digest] = self._writer.append(digest, data)

    def finish(self) -> Manifest:
        """Make the checkpoint durable, then visible. ValueError while chunks are missing."""
        if self._closed or self.missing:
            raise ValueError(f"{len(self.missing)} chunks are missing, or the staging is closed")
        for pack in sorted(self._resumed):
            # Written by a process that died: what was read may not be on the disk itself.
            file = self._files.open(f"{self._packs}/{pack_name(pack)}")
            try:
                file.sync()
            finally:
                file.close()
        self._writer.finish()
        if self._resumed:
            self._files.sync_dir(self._packs)
        columns = tuple(
            (meta, tuple(self._have[ref.digest] for ref in refs))
            for meta, refs in self.manifest.columns
        )
        manifest = self.manifest.with_columns(columns)
        self._publish(manifest)
        self.abandon()
        return manifest

    def abandon(self) -> None:
        """Stop: the packs may be collected. Idempotent; nothing happens after `finish`."""
        self._closed = True
        self._writer.abandon()
        self._pins.release()


def _verifies(reader: PackReader, ref: ChunkRef) -> bool:
    try:
        reader.view(ref)
    except Corruption:
        return False
    return True
