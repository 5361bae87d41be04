"""One target for each decoder: inputs that are valid, and what must hold for every input.

A check passes by returning. It raises for anything but an error of the project's own tree: an
exception of another kind, a result that contradicts itself, a file that a refusal changed.
"""

import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from tests.fuzz import peers, records

SLACK_BYTES = 3 << 20
"""What a decoder may take whatever its input: zeros ahead of a log, tables."""
BYTES_A_BYTE = 200
"""What it may take for each byte of input (a msgpack array of small numbers is one byte each)."""


@dataclass(frozen=True)
class Target:
    """A decoder: `make_seeds` gives valid inputs, `check` fails for one that breaks something."""

    name: str
    make_seeds: Callable[[], list[bytes]]
    check: Callable[[bytes], None]

    @cached_property
    def seeds(self) -> list[bytes]:
        """Valid inputs."""
        return self.make_seeds()


TARGETS = {
    one.name: one
    for one in (
        Target("wal", records.wal_seeds, records.check_wal),
        Target("wal_second", records.second_segments, records.check_second_segment),
        Target("batch", records.batch_seeds, records.check_batch),
        Target("identity", records.identity_seeds, records.check_identity),
        Target("manifest", records.manifest_seeds, records.check_manifest),
        Target("manifest_body", records.manifest_bodies, records.check_manifest_body),
        Target("pack", records.pack_seeds, records.check_pack),
        Target("frame", peers.frame_seeds, peers.check_frame),
        Target("stream", peers.stream_seeds, peers.check_stream),
        Target("call", peers.call_seeds, peers.check_call),
        Target("change", peers.change_seeds, peers.check_change),
        Target("members", peers.member_seeds, peers.check_members),
        Target("command", peers.command_seeds, peers.check_command),
    )
}


def check_bounded(target: Target, data: bytes) -> None:
    """The check, and that it took no more memory than its input justifies."""
    tracemalloc.start()
    try:
        target.check(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    limit = SLACK_BYTES + BYTES_A_BYTE * len(data)
    assert peak <= limit, f"{target.name}: {peak} bytes for an input of {len(data)}"
