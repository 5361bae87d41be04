"""A later version may say more: this one reads past what it does not know."""

import pytest

from balsadb.cluster.frames import decode_frame
from tests.simulation.knobs import Knobs
from tests.simulation.versions import of_next_version
from tests.simulation.world import World, run_world


def recorded_frames(monkeypatch: pytest.MonkeyPatch, knobs: Knobs, seed: int) -> set[bytes]:
    """All frames of a run."""
    frames = set[bytes]()
    trace_bytes = World.trace_bytes

    def record(self: World, data: bytes) -> None:
        frames.add(data)
        trace_bytes(self, data)

    monkeypatch.setattr(World, "trace_bytes", record)
    run_world(World(seed, knobs))
    return frames


def test_the_same_is_read_of_both_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    knobs = Knobs(safety_us=5_000_000, driver={"checkpoint_log_bytes": 400, "log_tail_bytes": 0})
    frames = [f for f in recorded_frames(monkeypatch, knobs, 3) if f[:1] in b"RP"]
    kinds = set[str]()
    for frame in frames:
        here = decode_frame(frame)
        assert decode_frame(of_next_version(frame)) == here
        kinds.add(type(here.body).__name__)
    some = {"AppendRequest", "AppendResponse", "Heartbeat", "VoteRequest", "VoteResponse"}
    assert kinds >= some | {"ManifestRequest", "ChunkRequest", "ChunkData"}


@pytest.mark.parametrize("seed", range(3))
def test_nodes_of_both_versions_are_one_cluster(seed: int) -> None:
    """Each restart is an upgrade or a downgrade."""
    world = World(seed, Knobs(nodes=3, versions=True, safety_us=5_000_000, faults_us=400_000))
    run_world(world)
    starts = sum(node.life for node in world.nodes.values())
    assert 0 < world.faults["start of a later version"] < starts
