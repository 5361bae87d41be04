"""Lanes over real sockets: what is sent arrives in order, what must be refused is, and a peer
that is gone is noticed."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx2
import msgspec
import pytest
import uvicorn

from balsadb.cluster import rpc
from balsadb.cluster.peer_app import PeerApp
from balsadb.cluster.rpc import Calls
from balsadb.cluster.transport import Lane, Transport
from balsadb.cluster.wire import (
    APPEND,
    CONTROL,
    FORWARD,
    FRAME_BYTES_MAX,
    HEADER_CLUSTER,
    HEADER_NODE,
    HEADER_SECRET,
    FrameReader,
    frame,
)
from balsadb.errors import LimitExceeded, MalformedBody, NotLeader, OutcomeUnknown
from balsadb.types import ClusterId, NodeId

CLUSTER = ClusterId(77)
ONE, TWO = NodeId(1), NodeId(2)


def bound(port: int = 0) -> tuple[socket.socket, str]:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", port))
    return listening, f"127.0.0.1:{listening.getsockname()[1]}"


@asynccontextmanager
async def serving(app: PeerApp, listening: socket.socket) -> AsyncIterator[None]:
    config = uvicorn.Config(
        app, lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listening]))
    while not server.started:
        await asyncio.sleep(0.005)
    try:
        yield
    finally:
        server.should_exit = True
        await task


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.005)


def app_of(frames: list[tuple[str, NodeId, bytes]], secret: str = "s") -> PeerApp:
    return PeerApp(
        CLUSTER,
        secret,
        refuses_all_but_one,
        lambda lane, node, data: frames.append((lane, node, data)),
    )


def refuses_all_but_one(node: NodeId) -> str:
    return "" if node == ONE else "must be node 1"


def transport_to(address: str, down: list[NodeId], secret: str = "s") -> Transport:
    return Transport(ONE, CLUSTER, secret, "here:1", {TWO: address}, down.append)


@pytest.mark.parametrize("cut", [1, 3, 4, 5, 7, 1000])
def test_frames_survive_any_cut_of_the_stream(cut: int) -> None:
    """The reader gives the same frames however the network cuts the bytes."""
    payloads = [b"", b"a", b"bc" * 300, b"d" * 5]
    stream = b"".join(frame(payload) for payload in payloads)
    reader = FrameReader(1000)
    found: list[bytes] = []
    for start in range(0, len(stream), cut):
        found += reader.feed(stream[start : start + cut])
    assert found == payloads


def test_a_frame_over_the_maximum_is_refused_before_it_is_read() -> None:
    """The length alone is enough."""
    with pytest.raises(LimitExceeded, match="at most 10 bytes, got 11"):
        FrameReader(10).feed(frame(b"x" * 11)[:4])


def test_frames_arrive_in_order_on_each_lane() -> None:
    """Small and large frames on two lanes."""

    async def run() -> None:
        frames: list[tuple[str, NodeId, bytes]] = []
        listening, address = bound()
        async with serving(app_of(frames), listening):
            transport = transport_to(address, [])
            sent = [str(i).encode() * (1 + 5000 * (i % 7 == 0)) for i in range(300)]
            for i, payload in enumerate(sent):
                assert transport.send(CONTROL if i % 2 else APPEND, TWO, payload)
            await until(lambda: len(frames) == 300)
            await transport.close()
        for lane in (CONTROL, APPEND):
            expected = [p for i, p in enumerate(sent) if (lane == CONTROL) == bool(i % 2)]
            assert [p for name, _, p in frames if name == lane] == expected
        assert {node for _, node, _ in frames} == {ONE}

    asyncio.run(run())


@pytest.mark.parametrize(
    ("header", "value", "status", "field"),
    [
        (HEADER_SECRET, "wrong", 401, HEADER_SECRET),
        (HEADER_CLUSTER, "78", 403, HEADER_CLUSTER),
        (HEADER_NODE, "3", 403, HEADER_NODE),
        (HEADER_NODE, "x", 403, HEADER_NODE),
        (HEADER_NODE, "9" * 5000, 403, HEADER_NODE),
    ],
)
def test_a_stranger_is_refused_by_field_and_rule(
    header: str, value: str, status: int, field: str
) -> None:
    """Nothing of the body reaches the node."""

    async def run() -> None:
        frames: list[tuple[str, NodeId, bytes]] = []
        listening, address = bound()
        app = app_of(frames)
        headers = {HEADER_SECRET: "s", HEADER_CLUSTER: "77", HEADER_NODE: "1"} | {header: value}
        async with serving(app, listening), httpx2.AsyncClient() as client:
            url = f"http://{address}/lane/control"
            response = await client.post(url, content=frame(b"x"), headers=headers)
            other = await client.post(f"http://{address}/lane/nothing", content=b"")
        assert response.status_code == status
        assert response.json()["error"]["field"] == field
        assert other.status_code == 401
        assert (frames, app.refused_count) == ([], 2)

    asyncio.run(run())


def test_an_operator_hears_of_a_wrong_secret_on_both_sides(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One line each, however often it is tried."""

    async def run() -> None:
        listening, address = bound()
        async with serving(app_of([]), listening):
            transport = transport_to(address, [], secret="wrong")
            for _ in range(3):
                transport.send(CONTROL, TWO, b"x")
                await until(lambda: not transport.send(CONTROL, TWO, b"x"))
                transport.heard(TWO, "same")
            await until(lambda: bool(transport.refusals))
            assert "must be the cluster's secret" in transport.refusals[TWO]
            await transport.close()

    with caplog.at_level("WARNING", "balsadb"):
        asyncio.run(run())
    lines = [one.getMessage() for one in caplog.records if one.name.startswith("balsadb")]
    assert len(lines) == 2
    assert all("must be the cluster's secret" in line for line in lines)


def test_an_oversized_frame_closes_the_lane_with_413() -> None:
    """A length over the lane's maximum is answered, not buffered."""

    async def run() -> None:
        frames: list[tuple[str, NodeId, bytes]] = []
        listening, address = bound()
        headers = {HEADER_SECRET: "s", HEADER_CLUSTER: "77", HEADER_NODE: "1"}
        length = (FRAME_BYTES_MAX[CONTROL] + 1).to_bytes(4, "little")
        async with serving(app_of(frames), listening), httpx2.AsyncClient() as client:
            url = f"http://{address}/lane/control"
            response = await client.post(url, content=length, headers=headers)
        assert response.status_code == 413
        assert frames == []

    asyncio.run(run())


def test_a_frame_that_cannot_be_read_or_is_cut_is_answered_with_400() -> None:
    """The frames after it are taken; the end of the stream tells the sender."""

    async def run() -> None:
        frames: list[bytes] = []

        def take(lane: str, source: NodeId, payload: bytes) -> None:
            if payload == b"?":
                raise MalformedBody("frame", f"what is {payload!r}?")
            frames.append(payload)

        listening, address = bound()
        app = PeerApp(CLUSTER, "s", refuses_all_but_one, take)
        headers = {HEADER_SECRET: "s", HEADER_CLUSTER: "77", HEADER_NODE: "1"}
        async with serving(app, listening), httpx2.AsyncClient(headers=headers) as client:
            url = f"http://{address}/lane/control"
            unread = await client.post(url, content=frame(b"?") + frame(b"x"))
            cut = await client.post(url, content=frame(b"y") + frame(b"z" * 9)[:-1])
        assert [unread.status_code, cut.status_code] == [400, 400]
        assert unread.json()["error"]["rule"] == "what is b'?'?"
        assert cut.json()["error"] == {
            "status": 400,
            "field": "frame",
            "rule": "ends early: the last 12 bytes are cut",
        }
        assert frames == [b"x", b"y"]

    asyncio.run(run())


def test_a_peer_whose_process_is_gone_is_reported_down() -> None:
    """The stream from it ends, a reconnect is refused: down, without waiting for a timer."""

    async def run() -> None:
        down: list[NodeId] = []
        listening, address = bound()
        async with serving(app_of([]), listening):
            transport = transport_to(address, down)
            assert transport.send(CONTROL, TWO, b"x")
            await asyncio.sleep(0.05)
            assert down == []
        transport.stream_closed(TWO)
        await until(lambda: down == [TWO])
        await transport.close()

    asyncio.run(run())


def test_nothing_is_sent_after_the_close() -> None:
    """Regression: an answer to a peer that was heard during a stop opened its lane again, on a
    client that was closed, and the node's log ended with a traceback."""

    async def run() -> None:
        frames: list[tuple[str, NodeId, bytes]] = []
        listening, address = bound()
        wrong: list[object] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda loop, context: wrong.append(context)
        )
        async with serving(app_of(frames), listening):
            transport = transport_to(address, [])
            assert transport.send(CONTROL, TWO, b"before")
            await until(lambda: len(frames) == 1)
            closing = asyncio.create_task(transport.close())
            await asyncio.sleep(0)
            assert not transport.send(APPEND, TWO, b"while it closes")
            await closing
            assert not transport.send(CONTROL, TWO, b"after")
            transport.stream_closed(TWO)
            await asyncio.sleep(0.05)
        assert [data for _, _, data in frames] == [b"before"]
        assert wrong == []

    asyncio.run(run())


def test_a_lane_given_up_before_its_first_step_works_again() -> None:
    """Regression: a lane aborted in the same turn of the loop that opened it stayed "open", took
    frames and sent none of them for ever."""

    async def run() -> None:
        frames: list[tuple[str, NodeId, bytes]] = []
        listening, address = bound()
        async with httpx2.AsyncClient() as client, serving(app_of(frames), listening):
            headers = {HEADER_SECRET: "s", HEADER_CLUSTER: "77", HEADER_NODE: "1"}
            client.headers.update(headers)
            lane = Lane(CONTROL, f"http://{address}", client)
            assert lane.send(b"lost", lambda refused: None)
            lane.abort()
            assert not lane.send(b"refused", lambda refused: None), "it would be lost as well"
            for _ in range(3):
                await asyncio.sleep(0)
            lane.reset_backoff()
            assert lane.send(b"found", lambda refused: None)
            await until(lambda: [data for _, _, data in frames] == [b"found"])
            await lane.close()

    asyncio.run(run())


def test_an_idle_lane_to_a_process_that_was_replaced_is_opened_anew() -> None:
    """Regression: after a quick restart of the peer, the first frame on an idle lane was written
    into the dead connection and lost."""

    async def run() -> None:
        frames: list[tuple[str, NodeId, bytes]] = []
        down: list[NodeId] = []
        listening, address = bound()
        async with serving(app_of(frames), listening):
            transport = transport_to(address, down)
            transport.heard(TWO, "first")
            assert transport.send(CONTROL, TWO, b"to the first")
            await until(lambda: len(frames) == 1)
        again, _ = bound(int(address.rpartition(":")[2]))
        async with serving(app_of(frames), again):
            transport.heard(TWO, "second")
            assert down == [TWO]
            await asyncio.sleep(0.01)
            assert transport.send(CONTROL, TWO, b"to the second")
            await until(lambda: len(frames) == 2)
            await transport.close()
        assert frames[1][2] == b"to the second"

    asyncio.run(run())


def test_a_call_is_answered_refused_or_unknown() -> None:
    """Answered by the peer; surely not sent when the lane is down; unknown when no answer came."""

    async def run() -> None:
        calls: dict[NodeId, Calls] = {}
        stuck = asyncio.Event()

        async def handler(kind: str, payload: bytes) -> bytes:
            if kind == "stuck":
                await stuck.wait()
            if kind == "defect":
                raise ZeroDivisionError
            if kind == "noise":
                msgspec.msgpack.decode(b"\xc1")
            if kind == "error":
                raise NotLeader(1, "not me")
            return kind.encode() + payload

        def sender(me: NodeId) -> Callable[[str, NodeId, bytes], bool]:
            def send(lane: str, target: NodeId, payload: bytes) -> bool:
                assert lane == FORWARD
                if target not in calls:
                    return False
                asyncio.get_running_loop().call_soon(calls[target].receive, me, payload)
                return True

            return send

        calls[ONE] = Calls(sender(ONE), handler)
        calls[TWO] = Calls(sender(TWO), handler)
        assert await calls[ONE].call(TWO, "echo", b"!", 5.0) == b"echo!"
        with pytest.raises(OutcomeUnknown, match="not me"):
            await calls[ONE].call(TWO, "error", b"", 5.0)
        # A defect of the one that is asked: said at once, not waited for.
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        with pytest.raises(OutcomeUnknown, match="failed inside the node"):
            await calls[ONE].call(TWO, "defect", b"", 5.0)
        with pytest.raises(OutcomeUnknown, match="payload is malformed"):
            await calls[ONE].call(TWO, "noise", b"", 5.0)
        with pytest.raises(NotLeader, match="cannot be reached"):
            await calls[ONE].call(NodeId(3), "echo", b"", 5.0)
        with pytest.raises(OutcomeUnknown, match="did not answer"):
            await calls[ONE].call(TWO, "stuck", b"", 0.01)
        waiting = asyncio.create_task(calls[ONE].call(TWO, "stuck", b"", 5.0))
        await asyncio.sleep(0)
        calls[ONE].peer_down(TWO)
        with pytest.raises(OutcomeUnknown, match="went away"):
            await waiting
        stuck.set()
        await asyncio.sleep(0)

    asyncio.run(run())


def test_what_a_replaced_leader_was_asked_is_unknown_after_a_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may be paused or cut off; what it still answers counts, and so does what came later."""
    monkeypatch.setattr(rpc, "LAST_ANSWERS_S", 0.05)

    async def run() -> None:
        sent: list[rpc.Call] = []

        def send(lane: str, target: NodeId, payload: bytes) -> bool:
            sent.append(msgspec.msgpack.decode(payload, type=rpc.Call))
            return True

        async def handler(kind: str, payload: bytes) -> bytes:
            raise AssertionError("nobody asks")

        calls = Calls(send, handler)

        def asked(target: NodeId) -> asyncio.Task[bytes]:
            return asyncio.create_task(calls.call(target, rpc.KIND_HTTP, b"", 5.0))

        silent, slow, other = asked(TWO), asked(TWO), asked(ONE)
        await asyncio.sleep(0)
        calls.replaced(TWO)
        later = asked(TWO)
        await asyncio.sleep(0)
        assert not silent.done()
        reply = msgspec.msgpack.encode(rpc.Reply(sent[1].id, "", b"late"))
        calls.receive(TWO, reply)
        assert await slow == b"late"
        with pytest.raises(OutcomeUnknown, match="leads no more"):
            await silent
        assert not other.done()
        assert not later.done()
        for source, call in ((ONE, sent[2]), (TWO, sent[3])):
            calls.receive(source, msgspec.msgpack.encode(rpc.Reply(call.id, "", b"done")))
        assert [await other, await later] == [b"done", b"done"]

    asyncio.run(run())
