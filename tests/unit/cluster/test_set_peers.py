"""Peers that come, move and go while a node runs: its lanes follow, over real sockets."""

import asyncio
import socket
from collections.abc import Callable

import pytest

from balsadb.cluster.peer_app import PeerApp
from balsadb.cluster.transport import Transport
from balsadb.cluster.wire import APPEND, CONTROL
from balsadb.types import NodeId
from tests.unit.cluster.test_lanes import (
    CLUSTER,
    ONE,
    TWO,
    bound,
    refuses_all_but_one,
    serving,
    until,
)

THREE = NodeId(3)


class Peer:
    """A listening peer: what it received, and the streams it has open."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.opened = self.open = 0
        self.listening: socket.socket
        self.listening, self.address = bound()
        self.app = PeerApp(
            CLUSTER, "s", refuses_all_but_one, lambda lane, node, data: self.frames.append(data)
        )
        self.app.on_open = self._on_open
        self.app.on_close = self._on_close

    def _on_open(self, source: NodeId, process: str, address: str) -> None:
        self.opened += 1
        self.open += 1

    def _on_close(self, source: NodeId) -> None:
        self.open -= 1


async def arrives(transport: Transport, target: NodeId, peer: Peer, payload: bytes) -> None:
    """Sent, again if the lane was just being closed, and received."""

    def there() -> bool:
        return payload in peer.frames or (transport.send(CONTROL, target, payload) and False)

    await until(there)


def transport_to(addresses: dict[NodeId, str]) -> Transport:
    return Transport(ONE, CLUSTER, "s", "here:1", addresses, lambda node: None)


def run(scenario: Callable[[Peer, Peer, Transport], object]) -> None:
    """With two listening peers and a transport that knows the first as node 2."""

    async def main() -> None:
        first, second = Peer(), Peer()
        async with serving(first.app, first.listening), serving(second.app, second.listening):
            transport = transport_to({TWO: first.address})
            await scenario(first, second, transport)  # type: ignore[misc]
            await transport.close()
            await until(lambda: first.open == second.open == 0)

    asyncio.run(main())


def test_a_peer_that_comes_is_sent_to() -> None:
    async def scenario(first: Peer, second: Peer, transport: Transport) -> None:
        assert not transport.send(CONTROL, THREE, b"to nobody")
        transport.set_peers({TWO: first.address, THREE: second.address})
        await arrives(transport, THREE, second, b"welcome")
        await arrives(transport, TWO, first, b"still here")
        assert b"to nobody" not in second.frames

    run(scenario)


def test_a_peer_that_moves_is_sent_to_where_it_is() -> None:
    async def scenario(first: Peer, second: Peer, transport: Transport) -> None:
        await arrives(transport, TWO, first, b"before")
        transport.set_peers({TWO: second.address})
        await arrives(transport, TWO, second, b"after")
        await until(lambda: first.open == 0)
        assert first.frames == [b"before"] * len(first.frames)
        assert b"before" not in second.frames

    run(scenario)


def test_what_was_queued_for_the_old_address_is_still_sent_there() -> None:
    async def scenario(first: Peer, second: Peer, transport: Transport) -> None:
        await arrives(transport, TWO, first, b"open")
        assert transport.send(CONTROL, TWO, b"queued")
        transport.set_peers({TWO: second.address})
        await until(lambda: b"queued" in first.frames)
        await until(lambda: first.open == 0)

    run(scenario)


def test_a_peer_that_goes_is_sent_nothing_more() -> None:
    async def scenario(first: Peer, second: Peer, transport: Transport) -> None:
        for lane in (CONTROL, APPEND):
            assert transport.send(lane, TWO, b"last")
        await until(lambda: len(first.frames) == 2)
        assert first.open == 2
        transport.set_peers({})
        assert not transport.send(CONTROL, TWO, b"too late")
        await until(lambda: first.open == 0)
        assert first.frames == [b"last"] * 2
        transport.stream_closed(TWO)
        assert transport.refusals == {}
        transport.set_peers({TWO: first.address})
        await arrives(transport, TWO, first, b"back")

    run(scenario)


def test_a_peer_that_stays_keeps_its_connection() -> None:
    async def scenario(first: Peer, second: Peer, transport: Transport) -> None:
        await arrives(transport, TWO, first, b"one")
        opened = first.opened
        for others in ({THREE: second.address}, {}, {THREE: second.address}):
            transport.set_peers({TWO: first.address, **others})
            await arrives(transport, TWO, first, b"two")
        assert (first.opened, first.open) == (opened, 1)

    run(scenario)


def test_a_stranger_that_is_heard_is_answered_until_the_log_says_otherwise() -> None:
    """The leader that takes a node in is a stranger to it."""

    async def scenario(first: Peer, second: Peer, transport: Transport) -> None:
        transport.heard(THREE, "process", second.address)
        await arrives(transport, THREE, second, b"answer")
        transport.set_peers({TWO: first.address})
        assert not transport.send(CONTROL, THREE, b"removed")
        await until(lambda: second.open == 0)

    run(scenario)


def test_no_peer_comes_after_the_close() -> None:
    async def scenario(first: Peer, second: Peer, transport: Transport) -> None:
        await transport.close()
        transport.set_peers({TWO: second.address, THREE: second.address})
        assert not transport.send(CONTROL, THREE, b"?")
        assert second.opened == 0

    run(scenario)


@pytest.mark.parametrize("gone", [True, False])
def test_a_close_waits_for_lanes_that_are_being_dropped(gone: bool) -> None:
    async def scenario(first: Peer, second: Peer, transport: Transport) -> None:
        await arrives(transport, TWO, first, b"x")
        transport.set_peers({} if gone else {TWO: second.address})
        await transport.close()
        await until(lambda: first.open == 0)

    run(scenario)
