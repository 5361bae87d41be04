"""One node as the operations see it. `balsadb.cluster.service` implements it; tests have their own.

All methods belong to one event loop.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from balsadb.cluster.rpc import RawRequest, RawResponse
from balsadb.database.database import Database
from balsadb.database.requests import Request, SessionKey

T = TypeVar("T")

Forwarded = Callable[[RawRequest], Awaitable[RawResponse]]


class Written(Protocol):
    """What became of a write: the log index of its last entry, and the command's result."""

    @property
    def operation_id(self) -> int:
        """A log index."""
        ...

    @property
    def value(self) -> Any:
        """True, a count, or None."""
        ...


class Service(Protocol):
    """Writes through the log, reads at a guarantee, and facts about the node."""

    on_forwarded: Forwarded | None
    """Set by the server: runs a request that another node handed on."""

    async def write(
        self, request: Request, *, wait: bool, timeout_s: float, session: SessionKey | None
    ) -> Written:
        """Validate, log and apply. Leader only (`NotLeader` otherwise: nothing was sent)."""
        ...

    async def read(
        self,
        function: Callable[[Database], T],
        *,
        local: bool,
        timeout_s: float,
        heavy: bool = False,
    ) -> T:
        """Run `function` on a state that holds every write acknowledged before the call (`local`:
        on the state as it is); `heavy` ones on a thread."""
        ...

    def is_leader(self) -> bool:
        """Whether this node believes to lead."""
        ...

    async def forward(self, request: RawRequest, timeout_s: float) -> RawResponse:
        """Run a request on the leader, one hop."""
        ...

    async def status(self) -> dict[str, Any]:
        """Live figures of this node and of the cluster as it sees it."""
        ...

    async def verify(self, timeout_s: float) -> dict[str, Any]:
        """Compare all nodes' digests at one log index. Leader only."""
        ...

    async def members(self) -> list[dict[str, Any]]:
        """Every member, as this node knows it."""
        ...

    async def add_member(self, node: int, address: str, timeout_s: float) -> None:
        """Take a node in as a learner. This and the next ones: leader only."""
        ...

    async def move_member(self, node: int, address: str, timeout_s: float) -> None:
        """Reach a member at another address."""
        ...

    async def promote_member(self, node: int, timeout_s: float) -> None:
        """Give a learner a vote."""
        ...

    async def remove_member(self, node: int, *, force: bool, timeout_s: float) -> None:
        """Take a member out, for good."""
        ...

    async def transfer_leader(self, node: int) -> None:
        """Hand leadership to a voter."""
        ...

    def ready(self) -> tuple[bool, str]:
        """Whether the node can serve, and a sentence that says why or why not."""
        ...
