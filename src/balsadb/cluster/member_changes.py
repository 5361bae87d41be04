"""What a node does for an operator who changes the members: the part of the service that waits,
proposes and repeats, around the rules of `balsadb.cluster.membership`.

What holds already (a member at that address, a vote, a removal) is no error and is not logged: the
one who asks may not have heard the answer to the first time.
"""

import abc
import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from balsadb.cluster import membership
from balsadb.cluster.driver import Driver
from balsadb.cluster.effects import Answer
from balsadb.cluster.settings import NodeSettings
from balsadb.cluster.shell import Shell
from balsadb.errors import InvalidInput, NotReady
from balsadb.raft import MembersChange
from balsadb.types import NodeId


class MemberChanges(abc.ABC):
    """Changes of the members; a part of `ClusterService`."""

    _settings: NodeSettings

    @property
    @abc.abstractmethod
    def shell(self) -> Shell:
        """The running shell."""

    @abc.abstractmethod
    async def _wait_applied(self, timeout_s: float) -> None: ...

    @abc.abstractmethod
    async def _answer(self, future: Future[Answer], timeout_s: float, *, write: bool) -> Answer: ...

    async def members(self) -> list[dict[str, Any]]:
        """Every member, as this node knows it: roles, addresses, and progress if it leads."""
        found = await asyncio.wrap_future(self.shell.members())
        if any(one["active"] is False for one in found):
            await asyncio.sleep(self._hearing_s)
            again = {one["id"]: one for one in await asyncio.wrap_future(self.shell.members())}
            for one in found:
                one["active"] = one["active"] or again.get(one["id"], one)["active"]
        return found

    async def add_member(self, node: int, address: str, timeout_s: float) -> None:
        """Take a node in as a learner (leader only, like all of these). Once more at the same
        address is no error: whoever asks may not have heard the first answer."""
        self._require_peer_port()
        await self._wait_applied(timeout_s)
        roles = self.shell.driver.raft.members
        if node in roles.nodes and self.shell.addresses.get(NodeId(node)) == address:
            return
        await self._change(
            lambda driver, known: membership.adding(driver, known, node, address), timeout_s
        )

    async def move_member(self, node: int, address: str, timeout_s: float) -> None:
        """Reach a member at another address."""
        await self._change(
            lambda driver, known: membership.moving(driver, known, node, address), timeout_s
        )

    async def promote_member(self, node: int, timeout_s: float) -> None:
        """Give a learner a vote. Once more is no error."""
        await self._wait_applied(timeout_s)
        if node in self.shell.driver.raft.members:
            return
        await self._change_when_heard(
            lambda driver, _: membership.promoting(driver, node), timeout_s
        )

    async def remove_member(self, node: int, *, force: bool, timeout_s: float) -> None:
        """Take a member out, for good. Once more is no error: a leader that removes itself may not
        get its answer through to the node that asked it."""
        await self._wait_applied(timeout_s)
        if node in self.shell.driver.admission.members.removed:
            return
        await self._change_when_heard(
            lambda driver, _: membership.removing(driver, node, force=force), timeout_s
        )

    async def transfer_leader(self, node: int) -> None:
        """Hand leadership to a voter. NotReady if it does not lead in time."""
        if node not in self.shell.driver.raft.members:
            raise InvalidInput("to", f"must be a node that votes; {node} does not")
        if not await asyncio.wrap_future(self.shell.transfer_to(NodeId(node))):
            raise NotReady(f"node {node} did not take over in time: is it reached, and up to date?")

    def _require_peer_port(self) -> None:
        if not self.shell.listens:
            node = self._settings.node
            address = self.shell.addresses[NodeId(node)]
            raise InvalidInput(
                "id",
                "this node is a cluster of one and has no port for other nodes: start it again "
                f"with --initial-members {node}={address}, which changes nothing else, then add",
            )

    @property
    def _hearing_s(self) -> float:
        """In this time a leader hears of every member that is reached. Whom it heard before is
        forgotten at each of its checks of the quorum."""
        settings = self._settings
        return 2 * settings.heartbeat_ticks * settings.tick_ms / 1000

    async def _change_when_heard(
        self, make: Callable[[Driver, dict[NodeId, str]], MembersChange], timeout_s: float
    ) -> None:
        """A change that depends on who is reached: a refusal may be too early by a moment."""
        try:
            await self._change(make, timeout_s)
        except (InvalidInput, NotReady):
            await asyncio.sleep(self._hearing_s)
            await self._change(make, timeout_s)

    async def _change(
        self, make: Callable[[Driver, dict[NodeId, str]], MembersChange], timeout_s: float
    ) -> None:
        await self._wait_applied(timeout_s)
        future = self.shell.change_members(make, timeout_s)
        await self._answer(future, timeout_s, write=True)
