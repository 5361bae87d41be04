"""The driver's figures for operators, as builtins ready for JSON."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from balsadb.cluster.driver import Driver


def driver_status(driver: "Driver") -> dict[str, Any]:
    """Role, progress, peers, queues, checkpoints. Log indexes and bytes as integers."""
    status = driver.raft.status()
    keeper = driver.keeper
    leading = status.role == "leader"
    return {
        "node": status.node,
        "role": status.role,
        "leader": status.leader,
        "term": status.term,
        "vote": status.vote,
        "commit": status.commit,
        "applied": driver.applied,
        "first_index": status.first_index,
        "last_index": status.last_index,
        "ready": driver.is_ready,
        "log_bytes": status.log_bytes,
        "uncommitted_bytes": status.uncommitted_bytes,
        "peers": {
            node: {
                "match": peer.match,
                "lag": max(status.last_index - peer.match, 0),
                "state": peer.state,
                "active": peer.recent_active,
                "inflight": peer.inflight,
            }
            for node, peer in sorted(status.peers.items())
            if node != status.node
        },
        "queues": {
            "proposals": len(driver.proposals),
            "reads": len(driver.reads),
            "apply_entries": len(driver.queue),
            "apply_bytes": driver.queue.waiting_bytes,
            "wal_bytes": driver.writer.waiting_bytes,
        },
        "checkpoint": {
            "index": keeper.schedule.index,
            "running": keeper.schedule.running is not None,
            "written": keeper.schedule.written,
            "given_up": keeper.schedule.given_up,
            "log_bytes_since": keeper.schedule.log_bytes_since,
        },
        "disk": driver.disk.status(driver.raft.members.nodes),
        "snapshot": {
            "receiving": keeper.fetcher.status(),
            "received": keeper.fetcher.completed,
            "abandoned": keeper.fetcher.abandoned,
            "chunks_served": keeper.server.chunks_served,
            "pulling": [node for node, _ in keeper.server.pulling()] if leading else [],
        },
        "linker": {"state": driver.leading.linker.state, "plans": driver.leading.linker.plans},
        "members": {
            node: driver.admission.known.disk_of(node) is not None
            for node in driver.admission.known.voters
        },
        "frames": {
            "foreign": driver.admission.foreign_frames,
            "refused": driver.admission.refused_frames,
        },
    }
