"""A node that comes later asks a member, over a real peer port: it is taken in, or told why not,
and its directory belongs to no cluster before that."""

import asyncio
import http.server
import logging
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import msgspec
import pytest

from balsadb.cluster import joining
from balsadb.cluster.joining import ErrorBody, Refusal, Welcome
from balsadb.cluster.node import Node
from balsadb.cluster.settings import NodeSettings
from balsadb.cluster.wire import HEADER_SECRET
from balsadb.errors import (
    AlreadyExists,
    BalsaError,
    Corruption,
    ForeignDataDir,
    InvalidInput,
    NotFound,
    NotReady,
)
from balsadb.storage import RealFiles
from balsadb.types import ClusterId, NodeId

SECRET = "s3cret"
WELCOME = Welcome(ClusterId(9), "balsadb", {NodeId(1): "a:1"}, {NodeId(1): "a:2"})


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Running(NamedTuple):
    """A node in this process, with the loop that its callers use."""

    node: Node
    loop: asyncio.AbstractEventLoop
    address: str

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(20)

    def members(self) -> dict[int, tuple[str, str]]:
        found = self.do(self.node.service.members())
        return {one["id"]: (one["address"], one["role"]) for one in found}

    def last_index(self) -> int:
        return self.do(self.node.service.status())["last_index"]

    def figures(self, node: int) -> dict[str, Any]:
        return next(one for one in self.do(self.node.service.members()) if one["id"] == node)


@contextmanager
def running(settings: NodeSettings) -> Generator[Running]:
    errors: list[BaseException] = []
    node = Node.open(settings, errors.append)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    node.service.attach(loop)
    node.start()
    try:
        yield Running(node, loop, f"127.0.0.1:{settings.peer_port}")
    finally:
        node.stop()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
    assert errors == []


def settings_of(folder: Path, number: int, **options: Any) -> NodeSettings:
    base: dict[str, Any] = {
        "node": number,
        "data": str(folder / f"node{number}"),
        "peer_port": free_port(),
        "cluster_secret": SECRET,
        "tick_ms": 20,
    }
    return NodeSettings(**{**base, **options})


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(scope="module")
def member(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A cluster of one with a peer port."""
    folder = tmp_path_factory.mktemp("member")
    port = free_port()
    first = settings_of(folder, 1, peer_port=port, members={1: f"127.0.0.1:{port}"})
    with running(first) as made:
        wait_for(lambda: made.node.service.ready()[0])
        yield made


def joiner(member: Running, number: int, folder: Path, **options: Any) -> NodeSettings:
    return settings_of(folder, number, **{"join": member.address, **options})


def never(_seconds: float) -> None:
    raise AssertionError("it should not have to wait")


# --- the question, to a real member --------------------------------------------------------------


def test_a_node_is_taken_in_follows_gets_a_vote_and_comes_back(
    member: Running, tmp_path: Path
) -> None:
    settings = joiner(member, 20, tmp_path, data=str(tmp_path / "new"))
    with running(settings) as newcomer:
        wait_for(lambda: newcomer.node.service.ready()[0])
        assert member.members()[20] == (newcomer.address, "learner")
        assert newcomer.do(newcomer.node.service.status())["voter"] is False
        member.do(member.node.service.promote_member(20, 10.0))
        member.do(member.node.service.promote_member(20, 10.0))  # once more is no error
        assert member.members()[20] == (newcomer.address, "voter")
        wait_for(lambda: newcomer.do(newcomer.node.service.status())["voter"])
        # Whoever has joined can take in others, through the leader.
        other = joiner(newcomer, 21, tmp_path)
        welcome = joining.ask(other, never)
        assert welcome.cluster == joining.ask(other, never).cluster
        assert member.members()[21][1] == "learner"
        assert welcome.first == {NodeId(1): member.address}
        assert welcome.addresses[NodeId(20)] == newcomer.address
        member.do(member.node.service.remove_member(21, force=False, timeout_s=10.0))
    # It starts again without being told whom to ask.
    with running(msgspec.structs.replace(settings, join="")) as again:
        wait_for(lambda: again.node.service.ready()[0])
        assert again.node.shell.addresses[NodeId(1)] == member.address
        # Either may lead by now.
        wait_for(lambda: member.node.service.is_leader() or again.node.service.is_leader())
        leader = member if member.node.service.is_leader() else again
        leader.do(leader.node.service.remove_member(20, force=True, timeout_s=10.0))
        wait_for(lambda: "removed" in again.node.service.ready()[1])
        assert "--join HOST:PORT" in again.node.service.ready()[1]
        with pytest.raises(InvalidInput, match="it was removed from its cluster; name another"):
            joining.ask(joiner(again, 22, tmp_path), never)
    wait_for(member.node.service.is_leader)
    with pytest.raises(InvalidInput, match=r"^--node: .*never used again"):
        joining.ask(settings, never)


def test_what_is_refused_changes_nothing(member: Running, tmp_path: Path) -> None:
    taken = member.address.rpartition(":")[2]
    # Last of all a node logs which disk it has.
    wait_for(lambda: all(member.do(member.node.service.status())["members"].values()))
    before = member.last_index()
    for settings, said in (
        (joiner(member, 31, tmp_path, cluster_secret="x"), "another secret"),
        (joiner(member, 31, tmp_path, cluster_name="films"), "named 'balsadb', not 'films'"),
        (joiner(member, 1, tmp_path), f"already exists in this cluster, at {member.address}"),
        (joiner(member, 31, tmp_path, peer_port=int(taken)), "already exists: node 1 has it"),
    ):
        files = RealFiles(settings.data)
        with pytest.raises(InvalidInput, match=said):
            joining.origin(settings, files)
        assert files.listdir("") == []
    assert member.last_index() == before


def test_a_member_whose_directory_was_emptied_is_told_so(member: Running, tmp_path: Path) -> None:
    settings = joiner(member, 41, tmp_path)
    with running(settings) as newcomer:
        wait_for(lambda: newcomer.node.service.ready()[0])
        table = member.node.shell.driver.admission.known
        wait_for(lambda: table.disk_of(NodeId(41)) is not None)
    with pytest.raises(InvalidInput, match=r"by another disk.*cluster remove 41.*such as 42"):
        joining.ask(settings, never)
    member.do(member.node.service.remove_member(41, force=False, timeout_s=10.0))


@pytest.mark.parametrize(
    ("method", "body", "secret", "status"),
    [
        ("POST", b"{", SECRET, 400),
        ("POST", b"x" * 5000, SECRET, 413),
        ("POST", b"{}", "", 401),
        ("GET", b"", SECRET, 403),
    ],
)
def test_other_questions_are_refused(
    member: Running, method: str, body: bytes, secret: str, status: int
) -> None:
    url = f"http://{member.address}{joining.JOIN_PATH}"
    answer = httpx2.request(method, url, content=body, headers={HEADER_SECRET: secret})
    assert answer.status_code == status
    assert msgspec.json.decode(answer.content, type=ErrorBody).error.status == status


# --- the rules of the leader ---------------------------------------------------------------------


def test_what_holds_already_is_no_error_and_not_logged(member: Running) -> None:
    service = member.node.service
    member.do(service.add_member(51, "127.0.0.1:1", 10.0))
    before = member.last_index()
    member.do(service.add_member(51, "127.0.0.1:1", 10.0))
    assert member.last_index() == before == member.node.shell.driver.applied
    for node, address, error in (
        (51, "127.0.0.1:2", AlreadyExists),
        (52, "127.0.0.1:1", AlreadyExists),
        (0, "127.0.0.1:3", InvalidInput),
        (52, "nowhere", InvalidInput),
    ):
        with pytest.raises(error):
            member.do(service.add_member(node, address, 10.0))
    with pytest.raises(NotFound):
        member.do(service.move_member(53, "127.0.0.1:3", 10.0))
    with pytest.raises(NotReady, match=r"node 51 is not reached and never was.* lags \d+ entries"):
        member.do(service.promote_member(51, 10.0))
    figures = member.figures(51)
    assert figures["lag"] >= before
    assert (figures["match"], figures["state"]) == (0, "probe")
    for _ in range(2):
        member.do(service.remove_member(51, force=False, timeout_s=10.0))
    with pytest.raises(InvalidInput, match="never used again"):
        member.do(service.add_member(51, "127.0.0.1:1", 10.0))


def test_a_cluster_of_one_without_a_peer_port_says_how_to_get_one(tmp_path: Path) -> None:
    with running(settings_of(tmp_path, 1)) as alone:
        wait_for(lambda: alone.node.service.ready()[0])
        with pytest.raises(InvalidInput, match=f"--initial-members 1={alone.address}"):
            alone.do(alone.node.service.add_member(2, "127.0.0.1:1", 10.0))


# --- who does not answer, or answers something else ----------------------------------------------


@contextmanager
def scripted(*answers: tuple[int, bytes]) -> Generator[str]:
    """A server that gives these answers, one after the other."""
    left = list(answers)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            status, body = left.pop(0)
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            del format, args

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def asking(*targets: str) -> NodeSettings:
    return NodeSettings(node=4, join=",".join(targets))


def test_it_waits_for_a_leader_and_asks_all_in_turn(caplog: pytest.LogCaptureFixture) -> None:
    no_leader = msgspec.json.encode(ErrorBody(Refusal(503, "node", "no leader now")))
    pauses: list[float] = []
    dead = f"127.0.0.1:{free_port()}"
    welcome = msgspec.json.encode(WELCOME)
    with (
        scripted((503, no_leader), (200, welcome)) as slow,
        caplog.at_level(logging.WARNING),
    ):
        assert joining.ask(asking(dead, slow), pauses.append) == WELCOME
    assert pauses == [joining.PAUSE_S]
    [complaint] = [one.getMessage() for one in caplog.records if one.name == "balsadb.join"]
    assert f"{dead} does not answer" in complaint
    assert f"{slow} says: no leader now" in complaint


@pytest.mark.parametrize("body", [b"", b'{"status": {"error": "no such path"}}', b"<html>"])
@pytest.mark.parametrize("status", [200, 401, 404])
def test_a_port_of_something_else_is_named(status: int, body: bytes) -> None:
    with (
        scripted((status, body)) as other,
        pytest.raises(InvalidInput, match=f"{other} is not the peer port .* answered {status}"),
    ):
        joining.ask(asking(other), never)


# --- the directory -------------------------------------------------------------------------------


def test_the_welcome_is_kept_and_nobody_is_asked_again(tmp_path: Path) -> None:
    files = RealFiles(str(tmp_path))
    assert joining.read(files) is None
    with scripted((200, msgspec.json.encode(WELCOME))) as member:
        settings = msgspec.structs.replace(asking(member), data=str(tmp_path))
        assert joining.origin(settings, files) == WELCOME
    assert joining.origin(settings, files) == WELCOME
    assert files.listdir("") == [joining.JOINED_NAME]


@pytest.mark.parametrize("place", [0, 30, -2])
def test_a_damaged_welcome_is_found(tmp_path: Path, place: int) -> None:
    files = RealFiles(str(tmp_path))
    joining.write(files, WELCOME)
    file = tmp_path / joining.JOINED_NAME
    data = bytearray(file.read_bytes())
    data[place] ^= 1
    file.write_bytes(data)
    with pytest.raises(Corruption, match="JOINED"):
        joining.read(files)


def test_a_directory_in_other_use_is_not_tied_to_a_cluster(tmp_path: Path) -> None:
    files = RealFiles(str(tmp_path))
    (tmp_path / "IDENTITY").write_text("{}")
    with pytest.raises(ForeignDataDir, match="did not join"):
        joining.origin(msgspec.structs.replace(asking("127.0.0.1:1"), data=str(tmp_path)), files)
    assert files.listdir("") == ["IDENTITY"]


def test_first_members_that_are_given_later_do_not_pass_for_the_cluster(tmp_path: Path) -> None:
    """Then the identity differs, and the directory is refused as another cluster's."""
    files = RealFiles(str(tmp_path))
    joining.write(files, WELCOME)
    given = NodeSettings(node=4, members={4: "a:4"}, data=str(tmp_path))
    assert joining.origin(given, files).cluster != WELCOME.cluster


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"join": "a:1", "members": {4: "a:4"}}, "join"),
        ({"join": "nowhere"}, "join"),
        ({"join": "a:1,b"}, "join"),
        ({"join": " , "}, "join"),
        ({"join": "a:1", "peer_host": "0.0.0.0", "cluster_secret": "s"}, "peer_address"),
        ({"peer_address": "a"}, "peer_address"),
        ({"join": "a:1", "port": 7, "peer_port": 7}, "peer_port"),
    ],
)
def test_settings_of_a_node_that_joins(options: dict[str, Any], field: str) -> None:
    with pytest.raises(BalsaError) as caught:
        NodeSettings(node=4, **options).check()
    assert isinstance(caught.value, InvalidInput)
    assert caught.value.field == field


def test_a_node_on_every_address_says_where_it_is() -> None:
    found = NodeSettings(peer_host="0.0.0.0", cluster_secret="s", join="a:1", peer_address="b:7")
    found.check()
    assert joining.peer_address(found) == "b:7"
    assert joining.peer_address(NodeSettings(peer_host="::1", peer_port=5)) == "[::1]:5"


@pytest.mark.parametrize("rot", [b"", b"[" * 50_000, b'{"welcome":"\xff","crc32":1}', b"\xff\xfe"])
def test_a_file_of_any_bytes_is_corruption_and_says_what_to_do(tmp_path: Path, rot: bytes) -> None:
    (tmp_path / joining.JOINED_NAME).write_bytes(rot)
    with pytest.raises(Corruption, match=r"JOINED.*balsadb node rejoin"):
        joining.read(RealFiles(str(tmp_path)))
