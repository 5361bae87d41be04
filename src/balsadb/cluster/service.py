"""What a node does for its callers: writes through the log, linearizable reads, forwarding.

Lives on the event loop of the REST server (or of the embedded engine) and talks to the shell's
loop through futures. The rules:

* a write is prepared (validated, encoded) by the leader, proposed, and answered once applied;
* a read waits until this node has applied everything that was acknowledged anywhere before the
  read came (`local=True` does not wait), then runs on the state as it is;
* a request for the leader is handed on once, as the raw body that came in. What was surely not
  sent is tried again until the time is up; what may have been sent never is.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar, cast

import msgspec

from balsadb.cluster.effects import Answer, Committed, Failed
from balsadb.cluster.joining import JoinRequest, Welcome
from balsadb.cluster.member_changes import MemberChanges
from balsadb.cluster.peer_app import nobody_joins
from balsadb.cluster.performers import Applier
from balsadb.cluster.reception import Reception
from balsadb.cluster.replicas import Digests, ObservedDatabase, ReplicaDigests, compare
from balsadb.cluster.rpc import KIND_ADD, KIND_DIGESTS, KIND_HTTP, RawRequest, RawResponse
from balsadb.cluster.settings import NodeSettings
from balsadb.cluster.shell import Shell
from balsadb.cluster.workers import Pulse
from balsadb.database import (
    NO_SESSION,
    ClearPayload,
    Database,
    DeleteCollection,
    DeletePayloadIndex,
    DeletePayloadKeys,
    DeletePoints,
    Marker,
    Request,
    Result,
    SessionKey,
    UpsertPoints,
)
from balsadb.errors import (
    BalsaError,
    NotLeader,
    NotReady,
    OutcomeUnknown,
    Overloaded,
    QuorumLost,
)
from balsadb.types import LogIndex, NodeId

T = TypeVar("T")

TAIL_ROWS_MAX = 32_768
"""Rows not linked yet; over it writes of vectors wait for the linker, then get 429."""
PACE_WAIT_S = 5.0
LEADER_POLL_S = 0.02
READ_THREADS = 2
PREPARE_POINTS_MAX = 1_024
"""Points of an upsert that is prepared on the loop; a larger one is prepared on a thread."""

SHRINKING = (
    *(DeletePoints, DeleteCollection, DeletePayloadKeys, DeletePayloadIndex, ClearPayload),
    Marker,
)
"""Requests that add no data: they are served when there is too little disk space for others."""

_DIGESTS = msgspec.msgpack.Decoder(Digests)
_INDEX = msgspec.msgpack.Decoder(int)


class WriteResult(msgspec.Struct, frozen=True):
    """`operation_id` is the log index of the write's last entry; `value` its result."""

    operation_id: int
    value: Any


class ClusterService(MemberChanges):
    """One node's service; create it before the shell starts, `attach` it to the loop that will
    call it."""

    def __init__(self, settings: NodeSettings, pulse: Pulse) -> None:
        self._settings = settings
        self._pulse = pulse
        self._loop: asyncio.AbstractEventLoop | None = None
        self._shell: Shell | None = None
        self._applier: Applier | None = None
        self._digests: ReplicaDigests | None = None
        self._pool = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="read")
        self._barrier: asyncio.Future[LogIndex] | None = None
        self._another = asyncio.Event()
        """Set, and replaced by a new one, when another node leads."""
        self._stopping = False
        self._distances_at_ready: int | None = None
        self._reception: Reception | None = None
        self.on_forwarded: Callable[[RawRequest], Awaitable[RawResponse]] | None = None

    def receive_with(self, origin: Welcome) -> None:
        """What this node tells those that join."""
        self._reception = Reception(self, origin)

    def bind(self, shell: Shell, applier: Applier, digests: ReplicaDigests) -> None:
        """Give it the node's parts."""
        self._shell, self._applier, self._digests = shell, applier, digests
        shell.on_ready = self._became_ready
        shell.on_leader = self._another_leads

    def _became_ready(self) -> None:
        self._distances_at_ready = self.database.distances_total

    def _another_leads(self) -> None:
        # The loop may be closed when the last of its node's news arrives.
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._another.set()
        self._another = asyncio.Event()

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """The loop whose coroutines will call this service."""
        self._loop = loop

    # --- what it knows ---

    @property
    def database(self) -> Database:
        """The state machine now; a snapshot replaces it, so take it once per use."""
        assert self._applier is not None
        return cast("ObservedDatabase", self._applier.machine).database

    @property
    def shell(self) -> Shell:
        """The running shell."""
        assert self._shell is not None
        return self._shell

    def is_leader(self) -> bool:
        """Whether this node believes to lead."""
        return self.shell.driver.is_leader

    def ready(self) -> tuple[bool, str]:
        """Whether a leader is known and all that was committed at the start is applied."""
        if self._stopping:
            return False, "the node is shutting down"
        if self.shell.driver.removed:
            return False, self.shell.driver.removed
        if not self.shell.driver.is_ready:
            refusals = self.shell.refusals
            if refusals:
                return False, "; ".join(
                    f"node {n} refuses this one: {refusals[n]}" for n in refusals
                )
            if not self.shell.is_member:
                return False, self._waits()
            return False, "no leader is known yet, or this node is still catching up"
        stalled_s = self._stalled_s()
        if stalled_s:
            return False, f"the disk hangs: a sync has been under way for {stalled_s:.1f} s"
        return True, "all shards are ready"

    def _waits(self) -> str:
        """A node that joined, and has not heard from the cluster since."""
        node, address = self._settings.node, self.shell.addresses[NodeId(self._settings.node)]
        return (
            "this node waits for the cluster to send it the log. If `balsadb cluster members` on "
            f"another node does not show it: balsadb cluster add {node} {address}"
        )

    def _stalled_s(self) -> float:
        """How long the disk has hung; 0 if it does not."""
        disk = self.shell.driver.disk
        return disk.stalled_ticks * self._settings.tick_ms / 1000 if disk.is_stalled else 0.0

    def begin_stop(self) -> None:
        """From now on `ready` is False."""
        self._stopping = True

    def close(self) -> None:
        """Free the threads of heavy reads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    # --- writes ---

    async def write(
        self, request: Request, *, wait: bool, timeout_s: float, session: SessionKey | None
    ) -> WriteResult:
        """Validate, propose, wait until applied. On the leader only (else `NotLeader`).

        `wait=False` asks for commit only; this node answers after apply in both cases, which
        keeps the promise and gives the result.
        """
        del wait
        deadline = time.monotonic() + timeout_s
        if not self.is_leader():
            raise NotLeader(self.shell.driver.leader)
        await self._pace(request, deadline)
        # A filter is resolved, and names are looked up, on a state that holds all that was
        # acknowledged before.
        await self._wait_applied(timeout_s)
        commands = await self._prepare(request, session or NO_SESSION)
        left_s = max(0.001, deadline - time.monotonic())
        grows = not isinstance(request, SHRINKING)
        future = self.shell.propose(commands, left_s, grows=grows)
        answer = await self._answer(future, left_s, write=True)
        assert isinstance(answer, Committed)
        value: Any = None
        operation = int(answer.index)
        for result in answer.results:
            found = cast("Result", result)
            value = found.unwrap()
            operation = int(found.log_index)
        return WriteResult(operation, value)

    async def _prepare(self, request: Request, session: SessionKey) -> list[bytes]:
        """The commands of a request. A filter is resolved on a thread: its first use of a payload
        key reads all payloads of the collection. So is a large upsert, at some 3 us a point."""
        large = isinstance(request, UpsertPoints) and len(request.ids) > PREPARE_POINTS_MAX
        if not large and getattr(request, "filter", None) is None:
            return self.database.prepare(request, session)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, self.database.prepare, request, session)

    async def _pace(self, request: Request, deadline: float) -> None:
        if not isinstance(request, UpsertPoints):
            return
        until = min(deadline, time.monotonic() + PACE_WAIT_S)
        while self.database.tail_rows > TAIL_ROWS_MAX:
            if time.monotonic() >= until:
                raise Overloaded(
                    f"more than {TAIL_ROWS_MAX} vectors wait to be linked into the graph; "
                    "send again in a second",
                    retry_after_s=1,
                )
            await asyncio.sleep(LEADER_POLL_S)

    async def _wait_applied(self, timeout_s: float) -> None:
        """A new leader may not have applied what its predecessor acknowledged."""
        if not self.shell.driver.is_caught_up:
            await self._read_barrier(timeout_s)

    # --- reads ---

    async def read(
        self,
        function: Callable[[Database], T],
        *,
        local: bool,
        timeout_s: float,
        heavy: bool = False,
    ) -> T:
        """Run `function` on the state; `heavy` ones run on a thread, so that they do not hold up
        the loop."""
        if not local:
            await self._read_barrier(timeout_s)
        database = self.database
        if heavy:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._pool, partial(function, database))
        return function(database)

    async def _read_barrier(self, timeout_s: float) -> None:
        """Reads that come while a barrier waits to be asked for share it; it has the deadline of
        the one that opened it, so whoever has more time opens the next."""
        self._require_member()
        deadline = asyncio.get_running_loop().time() + timeout_s
        while True:
            barrier = self._barrier
            own = barrier is None
            if barrier is None:
                barrier = self._open_barrier(deadline)
            try:
                async with asyncio.timeout_at(deadline):
                    await asyncio.shield(barrier)
            except TimeoutError:
                raise QuorumLost(
                    f"no majority of the cluster confirmed this read within {timeout_s:g} s; "
                    "use consistency=local to read this node's state as it is"
                ) from None
            except QuorumLost:
                if own:
                    raise
            else:
                return

    def _require_member(self) -> None:
        """Whoever was removed can answer nothing but its own old state."""
        removed = self.shell.driver.removed
        if removed:
            raise NotReady(f"ask another node: {removed}")

    def _open_barrier(self, deadline: float) -> "asyncio.Future[LogIndex]":
        loop = asyncio.get_running_loop()
        barrier: asyncio.Future[LogIndex] = loop.create_future()
        self._barrier = barrier
        left_s = max(0.001, deadline - loop.time())
        self.shell.read(self._close_barrier, left_s).add_done_callback(
            partial(self._resolve, barrier)
        )
        return barrier

    def _close_barrier(self) -> None:
        # Called on the shell's loop right before the read index is asked for. A reader that still
        # saw this barrier came before that moment and is covered; the next one makes its own.
        self._barrier = None

    def _resolve(self, barrier: "asyncio.Future[LogIndex]", answer: Future[Answer]) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._settle, barrier, answer.result())

    def _settle(self, barrier: "asyncio.Future[LogIndex]", answer: Answer) -> None:
        if self._barrier is barrier:
            self._barrier = None
        if isinstance(answer, Failed):
            barrier.set_exception(answer.error)
            barrier.exception()  # mark as seen: its reader may have timed out
        else:
            barrier.set_result(answer.index)

    # --- forwarding ---

    async def forward(self, request: RawRequest, timeout_s: float) -> RawResponse:
        """Run the request on the leader; waits for one to be known, within the time."""
        self._require_member()
        deadline = time.monotonic() + timeout_s
        payload = msgspec.msgpack.encode(request)
        while True:
            left_s = deadline - time.monotonic()
            leader = self.shell.driver.leader
            if left_s <= 0:
                raise QuorumLost(
                    f"no leader could be reached within {timeout_s:.3g} s: the cluster has lost "
                    "its quorum, or an election is going on; the request was not sent on"
                )
            if leader == self._settings.node:
                return await self._run_here(request)
            if leader:
                try:
                    call = self.shell.call(leader, KIND_HTTP, payload, left_s)
                    found = await asyncio.wrap_future(call)
                    return msgspec.msgpack.decode(found, type=RawResponse)
                except NotLeader:
                    pass  # surely not sent: wait for the connection or for the next leader
            await self._leader_or_pause()

    async def _leader_or_pause(self) -> None:
        """Return when another node leads, or after a pause (the same one may be reached again)."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LEADER_POLL_S):
                await self._another.wait()

    async def _run_here(self, request: RawRequest) -> RawResponse:
        if self.on_forwarded is None:
            raise NotReady("this node does not serve requests yet")
        return await self.on_forwarded(request)

    async def handle_call(self, kind: str, payload: bytes) -> bytes:
        """Answer another node's call; runs on the shell's loop."""
        if kind == KIND_DIGESTS:
            assert self._digests is not None
            index = LogIndex(_INDEX.decode(payload))
            return msgspec.msgpack.encode(await asyncio.wrap_future(self._digests.at(index)))
        if kind not in (KIND_HTTP, KIND_ADD) or self._loop is None or self._reception is None:
            raise NotReady(f"this node does not answer calls of kind {kind!r} yet")
        answering: Coroutine[Any, Any, Any]
        if kind == KIND_ADD:
            joining = msgspec.msgpack.decode(payload, type=JoinRequest)
            answering = self._reception.add_here(joining)
        else:
            request = msgspec.msgpack.decode(payload, type=RawRequest)
            answering = self._run_here(request)
        future = asyncio.run_coroutine_threadsafe(answering, self._loop)
        return msgspec.msgpack.encode(await asyncio.wrap_future(future))

    async def take_in(self, body: bytes) -> tuple[int, bytes]:
        """Answer a node that asks to join; runs on the shell's loop."""
        if self._loop is None or self._reception is None:
            return await nobody_joins(body)
        answering = self._reception.answer(body)
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(answering, self._loop))

    # --- figures ---

    async def status(self) -> dict[str, Any]:
        """This node's live figures (`GET /cluster`, key `balsadb`)."""
        status = await asyncio.wrap_future(self.shell.status())
        database = self.database
        status["longest_lock_hold"] = self._pulse.status()
        status["points"] = database.points_count
        status["linked"] = database.linked_rows
        status["tail"] = database.tail_rows
        status["codes"] = database.codes._asdict()
        status["distances_at_ready"] = self._distances_at_ready
        status["disk"]["stalled_s"] = self._stalled_s()
        status["addresses"] = {str(node): address for node, address in self.shell.peers.items()}
        status["member_addresses"] = {
            str(node): address
            for node, address in self.shell.addresses.items()
            if node in self.shell.driver.admission.known.roles.nodes
        }
        status["voter"] = NodeId(self._settings.node) in self.shell.driver.raft.members
        status["removed"] = sorted(self.shell.driver.admission.known.removed)
        return status

    async def verify(self, timeout_s: float) -> dict[str, Any]:
        """Send a marker through the log and compare all members' digests at it (leader only)."""
        marked = await self.write(Marker(), wait=True, timeout_s=timeout_s, session=None)
        index = LogIndex(marked.operation_id)
        assert self._digests is not None
        nodes: dict[int, Digests | str] = {}
        peers = self.shell.peers
        asked = [self._digests_of(peer, index, timeout_s) for peer in peers]
        answers = await asyncio.gather(*asked)
        async with asyncio.timeout(timeout_s):
            nodes[self._settings.node] = await asyncio.wrap_future(self._digests.at(index))
        nodes.update(zip(peers, answers, strict=True))
        return cast("dict[str, Any]", compare(index, nodes))

    async def _digests_of(self, peer: NodeId, index: LogIndex, timeout_s: float) -> Digests | str:
        """A peer's digests at the marker, or why there are none; a peer that is just coming back
        is asked again until the time is up."""
        question = msgspec.msgpack.encode(int(index))
        deadline = time.monotonic() + timeout_s
        while True:
            left_s = max(0.001, deadline - time.monotonic())
            try:
                call = self.shell.call(peer, KIND_DIGESTS, question, left_s)
                return _DIGESTS.decode(await asyncio.wrap_future(call))
            except BalsaError as error:
                if time.monotonic() + LEADER_POLL_S >= deadline:
                    return error.message
            await asyncio.sleep(LEADER_POLL_S)

    async def _answer(self, future: Future[Answer], timeout_s: float, *, write: bool) -> Answer:
        try:
            async with asyncio.timeout(timeout_s + 1.0):
                answer = await asyncio.wrap_future(future)
        except TimeoutError:
            raise (OutcomeUnknown if write else QuorumLost)(
                f"no answer from the log within {timeout_s:g} s"
            ) from None
        if isinstance(answer, Failed):
            raise answer.error
        return answer
