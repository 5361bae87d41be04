"""The node as one synchronous state machine (see the package's chapter)."""

from collections.abc import Sequence
from typing import Any

from balsadb.cluster.boot import Boot
from balsadb.cluster.effects import ApplyDone, Effects
from balsadb.cluster.frames import PeerFrame
from balsadb.cluster.options import DriverOptions
from balsadb.types import ENTRY_NORMAL, NodeId


class Driver:
    """Feed events, then call `take()` and perform what it returns. Not thread-safe."""

    def __init__(self, options: DriverOptions, boot: Boot) -> None:
        raise NotImplementedError

    # --- events ---
    def tick(self) -> None:
        """50 ms have passed."""

    def receive(self, frame: PeerFrame) -> None:
        """A frame of a peer (`frames.decode_frame(data)`)."""

    def propose(
        self,
        token: int,
        data: Sequence[bytes],
        kind: int = ENTRY_NORMAL,
        *,
        deadline_ticks: int,
        wait_applied: bool = True,
    ) -> None:
        """Put commands into the log; answered once, with `Committed` or `Failed`."""

    def read(self, token: int, *, deadline_ticks: int) -> None:
        """A linearizable barrier; answered once, with `ReadReady` or `Failed`."""

    def cancel(self, token: int) -> None:
        """Nobody waits for this token any more; no answer will come."""

    def transfer(self) -> bool:
        """Hand leadership to the most up-to-date follower; False when there is none or we do not lead."""
        return False

    def peer_down(self, node: NodeId) -> None:
        """The peer's process is certainly gone (its stream closed and a reconnect was refused)."""

    def peer_unreachable(self, node: NodeId) -> None:
        """A send to the peer failed."""

    def wal_done(self, number: int) -> None:
        """The `WalWork` with this number is durable."""

    def apply_done(self, done: ApplyDone) -> None:
        """A piece of apply work is done (in the order of the works)."""

    def job_done(self, job_id: int, result: Any) -> None:
        """A job returned `result`, or raised it (then it is an exception)."""

    # --- effects ---
    def take(self) -> Effects:
        """Everything to do since the last call."""
        return Effects()

    # --- observation ---
    @property
    def leader(self) -> NodeId:
        """The leader this node knows, 0 if none."""
        return NodeId(0)

    @property
    def is_leader(self) -> bool:
        """Whether this node believes to lead."""
        return False

    @property
    def is_ready(self) -> bool:
        """Whether a first linearizable read has succeeded: a leader is known, and all that was
        committed when this node started is applied. Never falls back to False."""
        return False

    def status(self) -> dict[str, Any]:
        """Figures for operators, as builtins."""
        return {}
