"""The thin body around the driver: one thread with an event loop, and the threads that perform
what the driver asks for.

Everything that decides is in `balsadb.cluster.driver`; this file only carries events in and
effects out, so it holds no rule that a simulation would miss. The driver is touched on the shell's
loop and nowhere else.
"""

import asyncio
import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

import uvicorn
import uvloop

from balsadb.cluster.driver import Driver
from balsadb.cluster.effects import Answer, Failed
from balsadb.cluster.executors import Executors, Parts
from balsadb.cluster.frames import decode_frame
from balsadb.cluster.membership import describe
from balsadb.cluster.peer_app import PeerApp, TakeIn, nobody_joins, peer_server
from balsadb.cluster.rpc import Calls, Handler
from balsadb.cluster.settings import NodeSettings
from balsadb.cluster.ticker import Ticker
from balsadb.cluster.transport import Transport
from balsadb.cluster.waiters import Waiter, Waiters
from balsadb.cluster.wire import FORWARD
from balsadb.cluster.workers import Fatal
from balsadb.errors import BalsaError, MalformedBody, NotReady, OutcomeUnknown
from balsadb.raft import MembersChange
from balsadb.types import NO_NODE, ClusterId, NodeId

TRANSFER_WAIT_S = 1.0

_log = logging.getLogger("balsadb.shell")


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """What the shell drives: the parts of one node, recovered and ready to run."""

    driver: Driver
    parts: Parts
    cluster: ClusterId
    peers: dict[NodeId, str]
    """Node id -> peer address of the first members, and of those that this node was told of when it
    joined; without this node."""
    address: str
    """Where peers reach this node, until the log says otherwise."""
    peer_socket: socket.socket | None
    """Bound already, so that a port in use is an error before anything runs."""
    take_in: TakeIn = nobody_joins
    """Answers nodes that want to join."""


class Shell:
    """Runs a driver in real time. `start` once, `stop` once; the rest may be called from any
    thread while it runs."""

    def __init__(self, settings: NodeSettings, body: Body, handler: Handler, fatal: Fatal) -> None:
        self.driver = body.driver
        self._settings = settings
        self._body = body
        self._handler = handler
        self._fatal = fatal
        self._waiters = Waiters()
        self._kicked = False
        self._running = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._main, name="raft", daemon=True)
        self._loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        self._executors = Executors(body.parts, self.driver, self._report, fatal)
        self._stop_event = asyncio.Event()
        self._transport: Transport | None = None
        self._calls: Calls | None = None
        self._peer_server: uvicorn.Server | None = None
        self._ticker = Ticker(settings.tick_ms / 1000, self._loop.time, asyncio.sleep)
        self._frames = 0
        self.malformed_frames = 0
        self.on_ready: Callable[[], None] = lambda: None
        """Called once, on the loop, when the node became ready and before it acts on that."""
        self.on_leader: Callable[[], None] = lambda: None
        """Called on the loop when another node leads than did before."""
        self._was_ready = False
        self.peers = dict(body.peers)
        """Peer address of every other member; replaced, never changed."""
        self._peers_version: int = -1
        self._address = body.address
        self._led_by = NO_NODE

    # --- life ---

    def start(self) -> None:
        """Start all threads; returns when the loop runs (not when the node is ready)."""
        self._executors.start()
        self._thread.start()
        self._running.wait()

    def transfer_leadership(self) -> None:
        """Hand leadership over if this node leads, waiting at most `TRANSFER_WAIT_S`."""
        with contextlib.suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(self._transfer(), self._loop).result(
                TRANSFER_WAIT_S + 0.5
            )

    def stop(self) -> None:
        """Stop all threads after what was queued is done. Open writes are unknown, reads fail."""
        self._loop.call_soon_threadsafe(self._stop_event.set)
        self._thread.join(timeout=15.0)
        self._executors.stop()

    # --- events from other threads ---

    def propose(
        self, data: Sequence[bytes], timeout_s: float, *, grows: bool = True
    ) -> Future[Answer]:
        """Put commands into the log; the answer is `Committed` or `Failed`. `grows`: they add data,
        so they are refused when the disk is full."""
        deadline = self._ticks(timeout_s)
        return self._ask(
            lambda token: self.driver.propose(token, data, deadline_ticks=deadline, grows=grows),
            OutcomeUnknown,
        )

    def read(self, before: Callable[[], None], timeout_s: float) -> Future[Answer]:
        """A linearizable barrier. `before` runs on the loop right before the read index is asked
        for: whoever joined this barrier until then is covered by it."""
        deadline = self._ticks(timeout_s)

        def event(token: int) -> None:
            before()
            self.driver.read(token, deadline_ticks=deadline)

        return self._ask(event, NotReady)

    def change_members(
        self, make: Callable[[Driver, dict[NodeId, str]], MembersChange], timeout_s: float
    ) -> Future[Answer]:
        """Propose the change that `make(driver, addresses of all members)` returns on the loop, or
        answer what it raises."""
        deadline = self._ticks(timeout_s)
        driver = self.driver

        def event(token: int) -> None:
            driver.change_members(
                token, lambda: make(driver, self.addresses), deadline_ticks=deadline
            )

        return self._ask(event, OutcomeUnknown)

    def members(self) -> Future[list[dict[str, Any]]]:
        """Every member as this node knows it (`membership.describe`)."""
        return asyncio.run_coroutine_threadsafe(self._members(), self._loop)

    async def _members(self) -> list[dict[str, Any]]:
        return describe(self.driver, self.addresses)

    @property
    def addresses(self) -> dict[NodeId, str]:
        """Peer address of every member, and of this node."""
        return {**self.peers, NodeId(self._settings.node): self._address}

    @property
    def is_member(self) -> bool:
        """Whether this node is a member, as far as it knows."""
        return NodeId(self._settings.node) in self.driver.admission.known.roles.nodes

    @property
    def listens(self) -> bool:
        """Whether it has a peer port: a cluster of one that was given no members has none."""
        return self._body.peer_socket is not None

    def transfer_to(self, target: NodeId) -> Future[bool]:
        """Hand leadership to a voter; whether it leads within `TRANSFER_WAIT_S`."""
        return asyncio.run_coroutine_threadsafe(self._transfer_to(target), self._loop)

    async def _transfer_to(self, target: NodeId) -> bool:
        self.driver.raft.transfer(target)
        self._event(lambda: None)  # look at what it wants to send
        for _ in range(int(TRANSFER_WAIT_S / 0.01)):
            if self.driver.leader == target:
                return True
            await asyncio.sleep(0.01)
        return False

    def call(self, target: NodeId, kind: str, payload: bytes, timeout_s: float) -> Future[bytes]:
        """Ask another node (see `balsadb.cluster.rpc`)."""
        assert self._calls is not None
        call = self._calls.call(target, kind, payload, timeout_s)
        return asyncio.run_coroutine_threadsafe(call, self._loop)

    @property
    def refusals(self) -> dict[NodeId, str]:
        """Why peers refuse this node, for those that do."""
        return {} if self._transport is None else self._transport.refusals

    def status(self) -> Future[dict[str, Any]]:
        """The driver's figures and the depths of the queues."""
        return asyncio.run_coroutine_threadsafe(self._status(), self._loop)

    # --- the loop ---

    def _ticks(self, timeout_s: float) -> int:
        return max(1, round(timeout_s * 1000 / self._settings.tick_ms))

    def _main(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        except BaseException as error:
            self._fatal(error)
        finally:
            self._running.set()
            self._loop.close()

    async def _serve(self) -> None:
        body, settings = self._body, self._settings
        node = NodeId(settings.node)
        self._transport = Transport(
            node,
            body.cluster,
            settings.cluster_secret,
            self._address,
            body.peers,
            self._peer_down,
        )
        self._refresh_peers()
        self._calls = Calls(self._transport.send, self._handler)
        async with asyncio.TaskGroup() as group:
            if body.peer_socket is not None:
                group.create_task(self._listen(body.peer_socket), name="peer-port")
            ticker = group.create_task(self._ticks_forever(), name="ticker")
            self._running.set()
            await self._stop_event.wait()
            self._stopping = True
            ticker.cancel()
            if self._peer_server is not None:
                self._peer_server.should_exit = True
            await self._transport.close()
            self._waiters.stop()

    async def _listen(self, listening: socket.socket) -> None:
        app = PeerApp(
            self._body.cluster,
            self._settings.cluster_secret,
            self._refuses,
            self._on_frame,
        )
        app.take_in = self._body.take_in
        assert self._transport is not None
        app.on_open = self._transport.heard
        app.on_close = self._transport.stream_closed
        self._peer_server = peer_server(app)
        await self._peer_server.serve(sockets=[listening])

    async def _ticks_forever(self) -> None:
        driver = self.driver
        await self._ticker.run(
            lambda: self._event(driver.tick), driver.stood_still, lambda: self._frames
        )

    def _event(self, event: Callable[[], object]) -> None:
        """Feed the driver. What escapes from it is a broken invariant, on whatever path it came in
        (a web server would log it and go on): the node must not."""
        try:
            event()
        except Exception as error:
            self._fatal(error)
            return
        if not self._kicked:
            self._kicked = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._kicked = False
        try:
            self._perform()
        except Exception as error:
            self._fatal(error)

    def _perform(self) -> None:
        while True:
            effects = self.driver.take()
            self._refresh_peers()
            self._follow_leader()
            if not self._was_ready and self.driver.is_ready:
                self._was_ready = True
                self.on_ready()
            if not effects:
                return
            for send in effects.sends:
                self._send(send.lane, send.target, send.data)
            self._executors.submit(effects)
            for token, answer in effects.answers:
                self._waiters.settle(token, answer)
            if effects.fatal is not None:
                self._fatal(effects.fatal)
                return

    def _refresh_peers(self) -> None:
        """Members came, went or moved: send to those that are."""
        known = self.driver.admission.known
        if known.version == self._peers_version or self._transport is None:
            return
        self._peers_version = known.version
        first, told = self._body.peers, known.addresses
        self.peers = {
            node: told[node] if node in told else first[node]
            for node in known.roles.nodes
            if node != self._settings.node and (node in told or node in first)
        }
        self._transport.set_peers(self.peers)
        self._address = told.get(NodeId(self._settings.node), self._address)
        self._transport.set_address(self._address)

    def _follow_leader(self) -> None:
        """What the last leader was asked may have no answer to come once another leads."""
        leader = self.driver.leader
        if leader in {NO_NODE, self._led_by} or self._calls is None:
            return
        self._calls.replaced(self._led_by)
        self._led_by = leader
        self.on_leader()

    def _refuses(self, node: NodeId) -> str:
        if node in self.driver.admission.known.removed:
            return "must not be that of a node that was removed from this cluster"
        return "must not be this node's own" if node == self._settings.node else ""

    def _send(self, lane: str, target: NodeId, data: bytes) -> None:
        assert self._transport is not None
        if not self._transport.send(lane, target, data):
            self.driver.raft.report_unreachable(target)

    def _ask(self, event: Callable[[int], None], at_stop: type[BalsaError]) -> Future[Answer]:
        future: Future[Answer] = Future()
        # Whoever awaits it may be cancelled; the future must not be, or its answer would raise.
        future.set_running_or_notify_cancel()
        try:
            self._loop.call_soon_threadsafe(self._start, event, Waiter(future, at_stop))
        except RuntimeError:
            future.set_result(Failed(NotReady("the node is shut down")))
        return future

    def _start(self, event: Callable[[int], None], waiter: Waiter) -> None:
        if self._stopping:
            waiter.future.set_result(Failed(NotReady("the node is shutting down")))
            return
        self._event(partial(event, self._waiters.add(waiter)))

    def _on_frame(self, lane: str, source: NodeId, payload: bytes) -> None:
        """Take a frame of a peer; `MalformedBody` if it cannot be read."""
        self._frames += 1
        try:
            if lane == FORWARD:
                assert self._calls is not None
                self._calls.receive(source, payload)
                return
            frame = decode_frame(payload)
            if frame.source != source:
                raise MalformedBody("frame", f"of node {frame.source} on a lane of node {source}")
        except MalformedBody as error:
            self.malformed_frames += 1
            _log.warning("dropped a malformed frame of node %d on lane %s: %s", source, lane, error)
            raise
        self._event(partial(self.driver.receive, frame))

    def _report(self, event: Callable[[], None]) -> None:
        """Carry a completion from a worker's thread to the driver."""
        # The loop may be gone when a worker finishes its last work during a stop.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._event, event)

    def _peer_down(self, node: NodeId) -> None:
        assert self._calls is not None
        self._calls.peer_down(node)
        self._event(partial(self.driver.peer_down, node))

    async def _transfer(self) -> None:
        if not self.driver.is_leader:
            return
        self._event(self.driver.transfer)
        for _ in range(int(TRANSFER_WAIT_S / 0.01)):
            if not self.driver.is_leader:
                return
            await asyncio.sleep(0.01)

    async def _status(self) -> dict[str, Any]:
        status, transport = self.driver.status(), self._transport
        status["queues"] |= {**self._executors.depths, "waiting": len(self._waiters)}
        status["refused_by"] = self.refusals
        status["frames_dropped"] = 0 if transport is None else transport.dropped
        status["frames_malformed"] = self.malformed_frames
        status["standstills"] = self._ticker.standstills
        return status
