"""What peers should never say, to a running node over its peer port: refused by field and rule,
nothing changed, and the node goes on."""

import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from threading import Event
from typing import Any, NamedTuple

import httpx2
import msgspec
import numpy as np
import pytest

from balsadb.cluster import membership
from balsadb.cluster.boot import Boot
from balsadb.cluster.driver import Driver
from balsadb.cluster.effects import Answer, Committed
from balsadb.cluster.executors import Parts
from balsadb.cluster.frames import ManifestData, Packet, encode_packet, encode_raft
from balsadb.cluster.options import DriverOptions
from balsadb.cluster.performers import JobRunner
from balsadb.cluster.settings import NodeSettings
from balsadb.cluster.shell import Body, Shell
from balsadb.cluster.wire import (
    CONTROL,
    FORWARD,
    FRAME_BYTES_MAX,
    HEADER_CLUSTER,
    HEADER_NODE,
    HEADER_PROTOCOL,
    HEADER_SECRET,
    LANES,
    PROTOCOL,
    frame,
)
from balsadb.raft import AppendRequest, Heartbeat, Message, VoteRequest
from balsadb.storage import WalHeader
from balsadb.types import ClusterId, DiskId, Entry, GroupId, LogIndex, NodeId, Term
from tests.simulation.disk import SimDisk
from tests.simulation.register import Command, Register, encode_command
from tests.unit.cluster.test_lanes import bound

CLUSTER = ClusterId(7)
ONE, TWO, GONE = NodeId(1), NodeId(2), NodeId(4)
SECRET = "secret" * 4
HEADERS = {HEADER_SECRET: SECRET, HEADER_CLUSTER: "7", HEADER_NODE: "2"}
"""A node of the first version names no protocol, which is the first one."""


class Node(NamedTuple):
    """A running node of a cluster of one, from which node 4 was removed."""

    shell: Shell
    address: str
    errors: list[BaseException]

    def post(self, body: bytes, lane: str = CONTROL, **changed: str) -> tuple[int, str, str]:
        """Status, field and rule of the answer to a lane with some headers changed."""
        headers = HEADERS | {name.replace("_", "-"): value for name, value in changed.items()}
        url = f"http://{self.address}/lane/{lane}"
        answer = httpx2.post(url, content=body, headers=headers, timeout=30, trust_env=False)
        if answer.status_code == 200:
            return 200, "", ""
        error = answer.json()["error"]
        assert error["status"] == answer.status_code
        return answer.status_code, error["field"], error["rule"]

    def picture(self) -> Any:
        """Everything that a bad message must leave as it is."""
        status = self.shell.status().result(30.0)
        kept = "term role leader commit applied last_index members snapshot checkpoint".split()
        columns = self.shell._body.parts.applier.machine.columns
        admission = self.shell.driver.admission
        return [status[name] for name in kept], columns.digests(), admission.members.encode()

    def counted(self) -> tuple[int, int, int]:
        """Frames that were malformed, foreign, refused."""
        status = self.shell.status().result(30.0)
        frames = status["frames"]
        return status["frames_malformed"], frames["foreign"], frames["refused"]


async def no_calls(_kind: str, payload: bytes) -> bytes:
    return payload


def done(future: Future[Answer]) -> None:
    assert isinstance(future.result(30.0), Committed)


@contextmanager
def running_node() -> Iterator[Node]:
    errors: list[BaseException] = []
    listening, address = bound()
    header = WalHeader(CLUSTER, ONE, DiskId(11))
    boot = Boot.recover(SimDisk(), header, [ONE], Register)
    options = DriverOptions(node=ONE, cluster=CLUSTER, disk=DiskId(11), seed=3)
    body = Body(
        driver=Driver(options, boot),
        parts=Parts(boot.wal, boot.applier, JobRunner(boot.store, boot.applier)),
        cluster=CLUSTER,
        peers={},
        address=address,
        peer_socket=listening,
    )
    shell = Shell(NodeSettings(tick_ms=20, cluster_secret=SECRET), body, no_calls, errors.append)
    ready = Event()
    shell.on_ready = ready.set
    shell.start()
    try:
        assert ready.wait(30.0)
        yield Node(shell, address, errors)
    finally:
        shell.stop()


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with running_node() as node:
        add = node.shell.change_members(
            lambda driver, peers: membership.adding(driver, peers, GONE, "127.0.0.1:9"), 30.0
        )
        done(add)
        remove = node.shell.change_members(
            lambda driver, peers: membership.removing(driver, GONE, force=False), 30.0
        )
        done(remove)
        # Last of all it logs which disk it has: a picture from before would differ.
        wait_until(lambda: all(node.shell.status().result(30.0)["members"].values()))
        yield node


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 30.0
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


numbers = iter(range(1, 1000))


@pytest.fixture(autouse=True)
def unharmed(node: Node) -> Iterator[None]:
    """Status and digests are the same after each test, and then a write still goes through."""
    before = node.picture()
    yield
    assert node.picture() == before
    number = next(numbers)
    done(node.shell.propose([encode_command(Command(0, number, 0, number, b""))], 30.0))
    assert node.picture() != before
    assert node.errors == []


def raft(body: Any, source: NodeId = TWO, term: int = 1, **envelope: Any) -> bytes:
    fields: dict[str, Any] = {"cluster": CLUSTER, "source_disk": DiskId(22), **envelope}
    return frame(
        encode_raft(Message(source, fields.pop("target", ONE), Term(term), body, **fields))
    )


VOTE = VoteRequest(LogIndex(0), Term(0), pre_vote=True)


def test_what_is_sent_here_would_be_taken(node: Node) -> None:
    for lane in LANES:
        assert node.post(b"", lane) == (200, "", "")
        assert node.post(b"", lane, balsa_protocol=str(PROTOCOL)) == (200, "", "")


@pytest.mark.parametrize(
    ("changed", "status", "field", "rule"),
    [
        ({"balsa_secret": "wrong"}, 401, HEADER_SECRET, "the cluster's secret"),
        ({"balsa_secret": ""}, 401, HEADER_SECRET, "the cluster's secret"),
        ({"balsa_secret": SECRET + "x"}, 401, HEADER_SECRET, "the cluster's secret"),
        ({"balsa_cluster": "8"}, 403, HEADER_CLUSTER, "another cluster sent it"),
        ({"balsa_cluster": "07"}, 403, HEADER_CLUSTER, "another cluster sent it"),
        (
            {"balsa_protocol": "2"},
            400,
            HEADER_PROTOCOL,
            "must be 1, not '2': install versions that",
        ),
        ({"balsa_protocol": ""}, 400, HEADER_PROTOCOL, "must be 1, not ''"),
        ({"balsa_node": "4"}, 403, HEADER_NODE, "node that was removed from this cluster"),
        ({"balsa_node": "1"}, 403, HEADER_NODE, "this node's own"),
        ({"balsa_node": "two"}, 403, HEADER_NODE, "a node's number"),
    ],
)
def test_a_lane_of_somebody_else_is_refused(
    node: Node, changed: dict[str, str], status: int, field: str, rule: str
) -> None:
    counted = node.counted()
    for lane in LANES:
        answer = node.post(raft(VOTE, term=99), lane, **changed)
        assert answer[:2] == (status, field)
        assert rule in answer[2]
    assert node.counted() == counted, "not a byte of it was read"


@pytest.mark.parametrize(
    "sent",
    [
        raft(VOTE, cluster=ClusterId(8)),
        raft(VOTE, group=GroupId(1)),
        raft(VOTE, target=NodeId(3)),
        raft(Heartbeat(LogIndex(10**6)), term=99, cluster=ClusterId(8)),
        frame(
            encode_packet(
                Packet(
                    ClusterId(8), GroupId(0), TWO, ONE, DiskId(22), ManifestData(LogIndex(1), b"")
                )
            )
        ),
    ],
    ids=["cluster", "group", "target", "leader", "packet"],
)
def test_a_frame_for_somebody_else_is_dropped_and_counted(node: Node, sent: bytes) -> None:
    malformed, foreign, refused = node.counted()
    assert node.post(sent) == (200, "", "")
    assert node.counted() == (malformed, foreign + 1, refused)


@pytest.mark.parametrize("source", [GONE, ONE, NodeId(3)])
def test_a_lane_speaks_for_its_own_node_only(node: Node, source: NodeId) -> None:
    """A frame of a removed member cannot come in on a lane of another."""
    malformed, foreign, refused = node.counted()
    status, field, rule = node.post(raft(Heartbeat(LogIndex(1)), source, term=99))
    assert (status, field) == (400, "frame")
    assert f"of node {source} on a lane of node 2" in rule
    assert node.counted() == (malformed + 1, foreign, refused)


def unknown() -> dict[str, bytes]:
    """Frames as a version might send that this one does not know."""
    whole = Message(TWO, ONE, Term(99), VOTE, CLUSTER, GroupId(0), DiskId(22))
    fields = msgspec.msgpack.decode(msgspec.msgpack.encode(whole))
    later_body = [*fields[:3], [99, 1, 2], *fields[4:]]
    return {
        "frame": b"S" + msgspec.msgpack.encode(whole),
        "body": b"R" + msgspec.msgpack.encode(later_body),
        "packet": b"P" + msgspec.msgpack.encode([7, 0, 2, 1, 22, [99, 1]]),
        "shape": b"R" + msgspec.msgpack.encode({"source": 2, "term": 99}),
    }


@pytest.mark.parametrize("kind", unknown())
def test_a_frame_of_an_unknown_version_is_refused(node: Node, kind: str) -> None:
    malformed = node.counted()[0]
    status, field, rule = node.post(frame(unknown()[kind]))
    assert (status, field) == (400, "frame")
    assert len(rule) > 10
    assert node.counted()[0] == malformed + 1


def broken() -> dict[str, bytes]:
    """Frames whose content contradicts itself."""
    entry = Entry(LogIndex(9), Term(1), 0, b"")
    numbers = {"large": 2**64 - 1, "negative": -1}
    made = {name: raft(Heartbeat(LogIndex(1)), term=term) for name, term in numbers.items()}
    for name, previous, term in (("gap", 1, 1), ("term", 8, 0)):
        request = AppendRequest(LogIndex(previous), Term(1), LogIndex(0), [entry])
        made[name] = raft(request, term=term)
    return made


@pytest.mark.parametrize("kind", broken())
def test_a_message_that_contradicts_itself_is_refused(node: Node, kind: str) -> None:
    status, field, _ = node.post(broken()[kind])
    assert (status, field) == (400, "frame")


@pytest.mark.parametrize("lane", LANES)
def test_truncated_oversized_and_random_bytes(node: Node, lane: str) -> None:
    whole = raft(VOTE)
    for size in (1, 4, 5, len(whole) - 1):
        assert node.post(whole[:size], lane)[:2] == (400, "frame")
    for length in (FRAME_BYTES_MAX[lane] + 1, 2**31, 2**32 - 1):
        assert node.post(length.to_bytes(4, "little") + b"R", lane)[:2] == (413, "frame")
    chance = np.random.default_rng(len(lane))
    malformed = node.counted()[0]
    noise = [chance.bytes(int(chance.integers(1, 500))) for _ in range(30)]
    assert node.post(b"".join(map(frame, noise)), lane)[:2] == (400, "frame")
    assert node.counted()[0] == malformed + 30


@pytest.mark.parametrize("cut", [b"\xff\xfe", b"\x91" * 3000])
def test_calls_with_text_that_is_none(node: Node, cut: bytes) -> None:
    for call in (b"\x94\xa4call\x01\xa2\xff\xfe\xc4\x00", b"\x95\xa4call\x01\xa1x\xc4\x00" + cut):
        assert node.post(frame(call), FORWARD)[:2] == (400, "frame")


def test_a_connection_that_speaks_something_else(node: Node) -> None:
    host, _, port = node.address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(np.random.default_rng(6).bytes(3000) + b"\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 400")
