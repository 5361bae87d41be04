"""What the checkpoint store knows without reading: manifests, where chunks lie, packs in use."""

from collections import Counter
from collections.abc import Iterable
from threading import Lock

from balsadb.storage.manifest import ChunkRef, Manifest
from balsadb.types import LogIndex, Term

CheckpointKey = tuple[LogIndex, Term]
"""Names a checkpoint; the newest is the largest."""


def key_of(manifest: Manifest) -> CheckpointKey:
    """The key of a checkpoint."""
    return manifest.index, manifest.term


class Catalogue:
    """Shared by whoever writes, stages, reads and collects, from any thread.

    A pack may be removed if no manifest names it and nobody pins it. Finding a chunk and pinning
    its pack is one step, so that nothing found is ever removed under the finder.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._manifests: dict[CheckpointKey, Manifest] = {}
        self._chunks: dict[bytes, ChunkRef] = {}
        self._pins: Counter[int] = Counter()
        self._next_pack = 1

    def manifests(self) -> list[Manifest]:
        """All complete checkpoints, oldest first."""
        with self._lock:
            return [self._manifests[key] for key in sorted(self._manifests)]

    def add(self, manifest: Manifest) -> None:
        """A checkpoint is complete and durable; it replaces one of the same key."""
        with self._lock:
            self._manifests[key_of(manifest)] = manifest
            self._index()

    def drop(self, keys: Iterable[CheckpointKey]) -> None:
        """These checkpoints are no more."""
        with self._lock:
            for key in keys:
                del self._manifests[key]
            self._index()

    def find(self, digest: bytes) -> ChunkRef | None:
        """Where a chunk of some complete checkpoint lies. Nothing is pinned."""
        with self._lock:
            return self._chunks.get(digest)

    def pins(self) -> "Pins":
        """A new, empty holder of pins; release it."""
        return Pins(self)

    def unused(self, packs: Iterable[int]) -> list[int]:
        """Those of the packs that no manifest names and nobody pins."""
        with self._lock:
            named = {ref.pack for one in self._manifests.values() for ref in one.refs()}
            return [pack for pack in packs if pack not in named and not self._pins[pack]]

    def saw_pack(self, number: int) -> None:
        """A pack of this number exists or existed: the number is not given out again."""
        with self._lock:
            self._next_pack = max(self._next_pack, number + 1)

    def pin_found(self, digest: bytes, length: int) -> ChunkRef | None:
        """For `Pins`: find and pin in one step."""
        with self._lock:
            found = self._chunks.get(digest)
            if found is None or found.length != length:
                return None
            self._pins[found.pack] += 1
            return found

    def pin_next(self) -> int:
        """For `Pins`: a new pack number, pinned."""
        with self._lock:
            number = self._next_pack
            self._next_pack += 1
            self._pins[number] += 1
            return number

    def pin(self, packs: Iterable[int]) -> None:
        """For `Pins`: pin packs that are known to exist."""
        with self._lock:
            self._pins.update(packs)

    def unpin(self, packs: Counter[int]) -> None:
        """For `Pins`: give pins back."""
        with self._lock:
            self._pins.subtract(packs)

    def _index(self) -> None:
        self._chunks = {
            ref.digest: ref
            for key in sorted(self._manifests)
            for ref in self._manifests[key].refs()
        }


class Pins:
    """Packs that one writer, stager or reader needs for the time being. One thread at a time."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._held: Counter[int] = Counter()

    def __enter__(self) -> "Pins":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def find(self, digest: bytes, length: int) -> ChunkRef | None:
        """Where a chunk of some complete checkpoint lies; its pack is pinned."""
        found = self._catalogue.pin_found(digest, length)
        if found is not None:
            self._held[found.pack] += 1
        return found

    def next_pack(self) -> int:
        """A number that no pack has or had; pinned."""
        number = self._catalogue.pin_next()
        self._held[number] += 1
        return number

    def hold(self, packs: Iterable[int]) -> None:
        """Pin packs that the caller knows to be there."""
        held = Counter(packs)
        self._catalogue.pin(held)
        self._held.update(held)

    def release(self) -> None:
        """Give all pins back. Idempotent."""
        held, self._held = self._held, Counter()
        self._catalogue.unpin(held)
