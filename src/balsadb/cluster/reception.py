"""How a member takes in a node that asks to join (`balsadb.cluster.joining` is the other side).

Any member may be asked: it looks at what it knows, has the leader add the node as a learner, and
answers with the welcome. To ask again is no harm: who is a member at that address already, and has
not spoken yet, is welcomed again.
"""

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

import msgspec

from balsadb.cluster.joining import ErrorBody, JoinRequest, Refusal, Welcome
from balsadb.cluster.rpc import KIND_ADD
from balsadb.errors import BalsaError, InvalidInput, NotLeader, QuorumLost

if TYPE_CHECKING:
    from balsadb.cluster.service import ClusterService

TAKE_IN_TIMEOUT_S = 10.0
POLL_S = 0.02

_decoder = msgspec.json.Decoder(JoinRequest)
_refusals = msgspec.msgpack.Decoder(Refusal | None)


class Reception:
    """One node's answers to those who want to join. Lives on the service's loop."""

    def __init__(self, service: "ClusterService", origin: Welcome) -> None:
        self._service = service
        self._origin = origin

    async def answer(self, body: bytes) -> tuple[int, bytes]:
        """HTTP status and body for the question in `body`."""
        try:
            request = _decoder.decode(body)
        except msgspec.DecodeError as error:
            refusal: Refusal | None = Refusal(400, "body", f"is no question to join: {error}")
        else:
            refusal = self._known(request) or await self._add(request)
        if refusal is not None:
            return refusal.status, msgspec.json.encode(ErrorBody(refusal))
        return 200, msgspec.json.encode(self._welcome())

    def _welcome(self) -> Welcome:
        shell, first = self._service.shell, self._origin
        return Welcome(first.cluster, first.name, first.first, shell.addresses)

    def _known(self, request: JoinRequest) -> Refusal | None:
        """What this node can tell by itself."""
        driver = self._service.shell.driver
        table = driver.admission.known
        if driver.removed:
            # Another member may be asked, but this one will never take anybody in.
            return Refusal(409, "join", "it was removed from its cluster; name another member")
        if request.name not in ("", self._origin.name):
            return Refusal(
                409,
                "cluster_name",
                f"its cluster is named {self._origin.name!r}, not {request.name!r}. Name a member "
                "of the right cluster, or leave --cluster-name out",
            )
        at = self._service.shell.addresses.get(request.node)
        is_member = request.node in table.roles.nodes and at == request.address
        if is_member and table.disk_of(request.node) is not None:
            return Refusal(
                409,
                "node",
                f"node {request.node} is a member already, by another disk: if its data directory "
                "was emptied, its votes are gone with it. Take it out (balsadb cluster remove "
                f"{request.node}), then join under a number that no node ever had, such as "
                f"{table.unused()}",
            )
        return None

    async def _add(self, request: JoinRequest) -> Refusal | None:
        """Have the leader add the node; None when that is done."""
        service = self._service
        deadline = time.monotonic() + TAKE_IN_TIMEOUT_S
        payload = msgspec.msgpack.encode(request)
        while True:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return _refusal(QuorumLost("the cluster has no leader now"))
            try:
                # Not sent: the connection comes back, or another node leads.
                with contextlib.suppress(NotLeader):
                    leader = service.shell.driver.leader
                    if service.is_leader():
                        return await self.add_here(request)
                    if leader:
                        call = service.shell.call(leader, KIND_ADD, payload, left_s)
                        return _refusals.decode(await asyncio.wrap_future(call))
            except BalsaError as error:
                return _refusal(error)
            await asyncio.sleep(POLL_S)

    async def add_here(self, request: JoinRequest) -> Refusal | None:
        """Add the node on the leader; None when that is done."""
        try:
            await self._service.add_member(request.node, request.address, TAKE_IN_TIMEOUT_S)
        except BalsaError as error:
            return _refusal(error)
        return None


def _refusal(error: BalsaError) -> Refusal:
    """503 for what passes; the one who asks tries again."""
    field = error.field if isinstance(error, InvalidInput) else "node"
    return Refusal(503 if error.retryable else 409, field, error.message)
