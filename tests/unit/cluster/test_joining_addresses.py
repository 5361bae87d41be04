"""A peer that moved is found by a node that has not heard of the move: where the peer itself says
that it is."""

import asyncio

from balsadb.cluster.transport import Transport
from balsadb.cluster.wire import CONTROL
from balsadb.types import NodeId
from tests.unit.cluster.test_lanes import TWO, app_of, bound, serving, transport_to, until


async def sent_until_heard(transport: Transport, frames: list[tuple[str, NodeId, bytes]]) -> None:
    """Send as a node does, again and again, until something arrives."""

    async with asyncio.timeout(10):
        while not frames:
            transport.send(CONTROL, TWO, b"hello")
            await asyncio.sleep(0.01)


def test_a_peer_is_sought_where_it_says_that_it_is_once_its_old_place_is_empty() -> None:
    async def run() -> None:
        frames: list[tuple[str, NodeId, bytes]] = []
        empty, old = bound()
        empty.close()
        listening, new = bound()
        down: list[NodeId] = []
        async with serving(app_of(frames), listening):
            transport = transport_to(old, down)
            transport.heard(TWO, "process", new)
            await sent_until_heard(transport, frames)
            assert down, "the old place was tried first"
            await transport.close()

    asyncio.run(run())


def test_a_false_claim_does_not_keep_a_peer_from_being_found() -> None:
    async def run() -> None:
        frames: list[tuple[str, NodeId, bytes]] = []
        empty, false = bound()
        empty.close()
        later, place = bound()
        later.close()
        down: list[NodeId] = []
        transport = transport_to(place, down)
        transport.heard(TWO, "process", false)
        transport.send(CONTROL, TWO, b"nobody is there yet")
        await until(lambda: len(down) == 1)
        transport.send(CONTROL, TWO, b"nor there")
        await until(lambda: len(down) == 2)
        listening, _ = bound(int(place.rpartition(":")[2]))
        async with serving(app_of(frames), listening):
            await sent_until_heard(transport, frames)
            await transport.close()

    asyncio.run(run())


def test_peers_are_told_the_new_address_of_a_node_that_moved() -> None:
    async def run() -> None:
        frames: list[tuple[str, NodeId, bytes]] = []
        told: list[str] = []
        listening, address = bound()
        app = app_of(frames)
        app.on_open = lambda source, process, address: told.append(address)
        async with serving(app, listening):
            transport = transport_to(address, [])
            transport.set_address("there:2")
            await sent_until_heard(transport, frames)
            await transport.close()
        assert told == ["there:2"]

    asyncio.run(run())
