"""Outgoing lanes: one streaming POST for each (peer, lane), opened when there is something to send.

Raft tolerates loss, so a lane that is down or full drops frames and counts them; it never blocks
the node and never grows without bound. What needs an answer (forwarded requests) has its own
time-out above. Runs on the shell's event loop only.
"""

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable
from functools import partial

import httpx2

from balsadb.cluster.wire import (
    CONTROL,
    FRAME_BYTES_MAX,
    HEADER_ADDRESS,
    HEADER_CLUSTER,
    HEADER_NODE,
    HEADER_PROCESS,
    HEADER_PROTOCOL,
    HEADER_SECRET,
    LANES,
    PROTOCOL,
    frame,
)
from balsadb.types import ClusterId, NodeId

QUEUE_BYTES_MAX = 64 << 20
QUEUE_FRAMES_MAX = 8192
WRITE_BYTES = 256 << 10
"""Small frames are joined up to this size into one write."""
BACKOFF_FIRST_S = 0.05
BACKOFF_MAX_S = 0.5
CONNECT_TIMEOUT_S = 2.0
PROBE_PAUSES_S = (0.0, 0.02, 0.1, 0.3)
"""When a stream from a peer ends, its port is tried at these intervals: a process that is being
killed may lose its connections a moment before its listening socket."""
WRITE_TIMEOUT_S = 10.0

_log = logging.getLogger("balsadb.transport")


class Lane:
    """The queue and the connection of one (peer, lane)."""

    def __init__(self, name: str, url: str, client: httpx2.AsyncClient) -> None:
        self.name = name
        self.url = f"{url}/lane/{name}"
        self.dropped = 0
        self.refusal = ""
        """Why the peer did not take the last stream; empty if it did."""
        self._client = client
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._wake = asyncio.Event()
        self._task: asyncio.Task[bool] | None = None
        self._closing = False
        self._aborted = False
        self._blocked_until = 0.0
        self._backoff_s = BACKOFF_FIRST_S

    def send(self, payload: bytes, on_failure: Callable[[bool], None]) -> bool:
        """Queue one frame; False when it was dropped (lane down, or its queue full)."""
        loop = asyncio.get_running_loop()
        full = (
            self._queued_bytes + len(payload) > QUEUE_BYTES_MAX
            or len(self._queue) >= QUEUE_FRAMES_MAX
            or len(payload) > FRAME_BYTES_MAX[self.name]
        )
        if full or self._aborted or (self._task is None and loop.time() < self._blocked_until):
            self.dropped += 1
            return False
        self._queue.append(frame(payload))
        self._queued_bytes += len(payload) + 4
        self._wake.set()
        if self._task is None:
            self._closing = False
            self._task = loop.create_task(self._run(), name=f"lane-{self.url}")
            self._task.add_done_callback(partial(self._ended, on_failure))
        return True

    def reset_backoff(self) -> None:
        """The peer was heard: try again at once."""
        self._blocked_until = 0.0
        self._backoff_s = BACKOFF_FIRST_S

    def abort(self) -> None:
        """Forget the connection and what was queued (the peer's process is gone). Until that is
        done nothing is taken: it would be forgotten too, and its sender told that it was sent."""
        if self._task is not None:
            self._aborted = True
            self._task.cancel()

    async def close(self) -> None:
        """Send what is queued, end the stream, wait a little for the peer to take it."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=0.5)
            if self._task is not None:
                self._task.cancel()

    async def _run(self) -> bool:
        """Stream until the connection ends; whether it was refused."""
        try:
            try:
                response = await self._client.post(self.url, content=self._body())
            except httpx2.ConnectError:
                return True
            except httpx2.HTTPError:
                # A peer that refuses a stream answers and closes; that answer is lost when we go
                # on writing. An empty stream gets it.
                response = await self._client.post(self.url, content=b"")
        except httpx2.ConnectError:
            return True
        except httpx2.HTTPError:
            return False
        self._note(response)
        return False

    def _note(self, response: httpx2.Response) -> None:
        """A peer that refuses this node says why; the operator must hear of it, once."""
        refusal = "" if response.status_code < 400 else f"{response.status_code} {response.text}"
        if refusal and refusal != self.refusal:
            _log.error("%s refuses this node: %s", self.url, refusal)
        self.refusal = refusal

    def _ended(self, on_failure: Callable[[bool], None], task: asyncio.Task[bool]) -> None:
        # A callback, not a `finally` in `_run`: a task cancelled before its first step runs
        # nothing, and the lane would wait for it for ever.
        self._task = None
        self._aborted = False
        self.dropped += len(self._queue)
        self._queue.clear()
        self._queued_bytes = 0
        if task.cancelled():
            return
        self._blocked_until = task.get_loop().time() + self._backoff_s
        self._backoff_s = min(2 * self._backoff_s, BACKOFF_MAX_S)
        if not self._closing:
            on_failure(task.result())

    async def _body(self) -> AsyncIterator[bytes]:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                yield self._take()
            if self._closing:
                return

    def _take(self) -> bytes:
        first = self._queue.popleft()
        parts, size = [first], len(first)
        while self._queue and size + len(self._queue[0]) <= WRITE_BYTES:
            part = self._queue.popleft()
            parts.append(part)
            size += len(part)
        self._queued_bytes -= size
        return first if len(parts) == 1 else b"".join(parts)


class Transport:
    """All outgoing lanes of a node.

    `on_down(node)` is called when a connection to the peer is *refused*: its process is gone (as
    opposed to silent, which only time can tell).
    """

    def __init__(
        self,
        node: NodeId,
        cluster: ClusterId,
        secret: str,
        address: str,
        addresses: dict[NodeId, str],
        on_down: Callable[[NodeId], None],
    ) -> None:
        headers = {
            HEADER_CLUSTER: str(cluster),
            HEADER_NODE: str(node),
            HEADER_PROCESS: secrets.token_hex(8),
            HEADER_PROTOCOL: str(PROTOCOL),
            HEADER_SECRET: secret,
            HEADER_ADDRESS: address,
            "content-type": "application/octet-stream",
        }
        self._headers = headers
        self._on_down = on_down
        self._addresses: dict[NodeId, str] = {}
        self._clients: dict[NodeId, httpx2.AsyncClient] = {}
        self._lanes: dict[tuple[NodeId, str], Lane] = {}
        self._closing: set[asyncio.Task[None]] = set()
        for peer, at in addresses.items():
            self._add(peer, at)
        self._probes: dict[NodeId, asyncio.Task[None]] = {}
        self._processes: dict[NodeId, str] = {}
        self._claims: dict[NodeId, str] = {}
        """Where each peer itself says that it is."""
        self._told = dict(addresses)
        self._closed = False

    def set_peers(self, addresses: dict[NodeId, str]) -> None:
        """From now on these are the peers: who is gone is sent nothing more, who moved is sent to
        the new address."""
        self._told = dict(addresses)
        for peer in list(self._addresses):
            if addresses.get(peer) != self._addresses[peer]:
                self._drop(peer)
        for peer, address in addresses.items():
            if peer not in self._addresses and not self._closed:
                self._add(peer, address)

    def set_address(self, address: str) -> None:
        """From now on this node tells its peers that it is there."""
        if self._headers[HEADER_ADDRESS] != address:
            self._headers[HEADER_ADDRESS] = address
            for client in self._clients.values():
                client.headers[HEADER_ADDRESS] = address

    def _add(self, peer: NodeId, address: str) -> None:
        # Plain HTTP between nodes today: verify=False only skips loading certificates at start.
        client = httpx2.AsyncClient(
            headers=self._headers,
            timeout=httpx2.Timeout(
                None, connect=CONNECT_TIMEOUT_S, write=WRITE_TIMEOUT_S, pool=CONNECT_TIMEOUT_S
            ),
            limits=httpx2.Limits(max_connections=len(LANES) + 1, max_keepalive_connections=0),
            trust_env=False,
            verify=False,
        )
        self._addresses[peer], self._clients[peer] = address, client
        for name in LANES:
            self._lanes[peer, name] = Lane(name, f"http://{address}", client)

    def _drop(self, peer: NodeId) -> None:
        """Its lanes are closed in the background, after what is queued."""
        del self._addresses[peer]
        lanes = [self._lanes.pop((peer, name)) for name in LANES]
        task = asyncio.get_running_loop().create_task(_close(lanes, self._clients.pop(peer)))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    @property
    def dropped(self) -> int:
        """Frames dropped since start, all lanes."""
        return sum(lane.dropped for lane in self._lanes.values())

    @property
    def refusals(self) -> dict[NodeId, str]:
        """Why peers refuse this node's control lane, for those that do."""
        lanes = {peer: self._lanes[peer, CONTROL] for peer in self._addresses}
        return {peer: lane.refusal for peer, lane in lanes.items() if lane.refusal}

    def send(self, lane: str, target: NodeId, payload: bytes) -> bool:
        """Queue `payload` as one frame; False when it was dropped."""
        found = self._lanes.get((target, lane))
        # After `close` peers may still be heard for a moment, and the driver has answers for them.
        if found is None or self._closed:
            return False
        return found.send(payload, lambda refused: self._failed(target, refused))

    def heard(self, source: NodeId, process: str, address: str = "") -> None:
        """A stream from `source` opened: its process lives, so try our lanes to it at once. One of
        a node that this one has not heard of yet is answered at the `address` that it gives.

        If it is another process than before, the one that our open lanes lead to is gone: a lane
        that was idle would lose its next frame before it noticed.
        """
        if address:
            self._claims[source] = address
            if source not in self._addresses and not self._closed:
                self._add(source, address)
        if self._processes.get(source, process) != process:
            self._give_up(source)
        self._processes[source] = process
        for name in LANES:
            lane = self._lanes.get((source, name))
            if lane is not None:
                lane.reset_backoff()

    def stream_closed(self, source: NodeId) -> None:
        """A stream from `source` ended: ask its port whether the process is still there."""
        if source in self._addresses and source not in self._probes and not self._closed:
            task = asyncio.get_running_loop().create_task(self._probe(source), name="probe")
            self._probes[source] = task

    async def close(self) -> None:
        """End all streams; nothing is sent any more."""
        self._closed = True
        for task in self._probes.values():
            task.cancel()
        await asyncio.gather(*(lane.close() for lane in self._lanes.values()), *self._closing)
        for client in self._clients.values():
            await client.aclose()

    def _failed(self, peer: NodeId, refused: bool) -> None:
        if refused:
            self._on_down(peer)
            self._try_elsewhere(peer)
        else:
            self.stream_closed(peer)

    def _try_elsewhere(self, peer: NodeId) -> None:
        """Nobody listens where the peer is thought to be. A node that lags may not have heard yet
        that it moved: where the peer itself says that it is, it may be found."""
        now, told = self._addresses.get(peer), self._told.get(peer)
        claim = self._claims.get(peer)
        other = claim if now == told else told
        if now and other and other != now and not self._closed:
            self._drop(peer)
            self._add(peer, other)

    def _give_up(self, peer: NodeId) -> None:
        for name in LANES:
            lane = self._lanes.get((peer, name))
            if lane is not None:
                lane.abort()
        self._on_down(peer)

    async def _probe(self, peer: NodeId) -> None:
        host, _, port = self._addresses[peer].rpartition(":")
        try:
            for pause_s in PROBE_PAUSES_S:
                await asyncio.sleep(pause_s)
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    _, writer = await asyncio.open_connection(host, int(port))
                writer.close()
        except ConnectionRefusedError:
            self._give_up(peer)
        except OSError:
            # Unreachable or silent (TimeoutError is an OSError): only the election timer can tell.
            if (peer, CONTROL) in self._lanes:  # it may have been removed meanwhile
                self._lanes[peer, CONTROL].reset_backoff()
        finally:
            self._probes.pop(peer, None)


async def _close(lanes: list[Lane], client: httpx2.AsyncClient) -> None:
    await asyncio.gather(*(lane.close() for lane in lanes))
    await client.aclose()
