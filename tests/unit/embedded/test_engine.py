"""The engine in this process: one node without sockets."""

import asyncio
import threading

import msgspec
import pytest

from balsadb.api.limits import BODY_BYTES_MAX
from balsadb.embedded.dispatcher import Reply
from balsadb.embedded.engine import Engine
from balsadb.errors import DataDirInUse, InvalidInput, NotReady, OutcomeUnknown, StorageError

CREATE = b'{"vectors":{"size":2,"distance":"Dot"}}'
POINT = b'{"points":[{"id":1,"vector":[1,2],"payload":{"a":1}}]}'
P = "/collections/films/points"


def ask(engine, method, target, body=b""):
    reply = engine.request(method, target, {}, body)
    return reply.status, msgspec.json.decode(reply.content)


def test_written_is_there_after_reopening(tmp_path):
    path = str(tmp_path / "films.balsa")
    with Engine.open(path) as engine:
        assert ask(engine, "PUT", "/collections/films", CREATE)[0] == 200
        status, answer = ask(engine, "PUT", f"{P}?wait=true", POINT)
        assert (status, answer["result"]["status"]) == (200, "completed")
        with pytest.raises(DataDirInUse):
            Engine.open(path)
    with Engine.open(path) as engine:
        status, answer = ask(engine, "POST", f"{P}/query", b'{"query":[1,1],"with_payload":true}')
        (point,) = answer["result"]["points"]
        assert (point["id"], point["score"], point["payload"]) == (1, 3.0, {"a": 1})
        assert ask(engine, "GET", "/cluster/verify")[1]["result"]["equal"] is True
        assert ask(engine, "GET", "/cluster")[1]["result"]["raft_info"]["role"] == "Leader"


@pytest.fixture(scope="module")
def memory():
    with Engine.open(":memory:") as engine:
        engine.request("PUT", "/collections/films", {}, CREATE)
        yield engine


def test_many_threads_and_loops(memory):
    def write(number):
        body = msgspec.json.encode({"points": [{"id": number, "vector": [number, 0]}]})
        assert memory.request("PUT", P, {}, body).status == 200

    threads = [threading.Thread(target=write, args=(number,)) for number in range(100, 108)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    async def count():
        body = b'{"filter":{"must":[{"has_id":[100,101,102,103,104,105,106,107]}]}}'
        return await memory.request_async("POST", f"{P}/count", {}, body)

    for _ in range(2):
        reply = asyncio.run(count())
        assert msgspec.json.decode(reply.content)["result"] == {"count": 8}


def test_errors_are_answers(memory):
    assert ask(memory, "GET", "/nowhere")[1]["status"]["code"] == "not_found"
    assert ask(memory, "POST", "/collections/films")[0] == 405
    assert ask(memory, "GET", "/healthz")[0] == 404
    assert ask(memory, "PUT", P, b"{")[1]["status"]["code"] == "malformed_body"
    assert ask(memory, "PUT", P)[1]["status"]["field"] == "body"
    status, answer = ask(memory, "PUT", P, bytes(BODY_BYTES_MAX + 1))
    assert (status, answer["status"]["code"]) == (413, "body_too_large")
    status, answer = ask(memory, "GET", "/collections/a%2Fb")
    assert "`a/b`" in answer["status"]["error"]


@pytest.mark.parametrize(("turns", "answered"), [(100, True), (10**9, False)])
def test_closing_answers_what_is_running(monkeypatch, turns, answered):
    """Regression: the loop ended under requests in flight, and their threads waited for ever."""
    monkeypatch.setattr("balsadb.embedded.engine.FINISH_TIMEOUT_S", 1.0 if answered else 0.01)
    engine = Engine.open(":memory:")
    running, outcomes = threading.Event(), []

    async def slow(*_):
        running.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        return Reply(200, b"", "", {})

    def call():
        try:
            outcomes.append(engine.request("GET", "/", {}).status == 200)
        except OutcomeUnknown:
            outcomes.append(False)

    monkeypatch.setattr(engine._dispatcher, "request", slow)
    caller = threading.Thread(target=call)
    caller.start()
    assert running.wait(10)
    engine.close()
    caller.join(10)
    assert outcomes == [answered]


def test_closing_twice_and_asking_after(tmp_path):
    engine = Engine.open(str(tmp_path))
    engine.close()
    engine.close()
    with pytest.raises(NotReady, match="closed"):
        engine.request("GET", "/collections", {})


def test_a_failed_disk_refuses_everything_and_ends_no_process(tmp_path):
    engine = Engine.open(str(tmp_path))
    try:
        engine._on_fatal(OSError("I/O error"))
        with pytest.raises(StorageError, match="I/O error"):
            engine.request("GET", "/collections", {})
    finally:
        engine.close()


def test_a_directory_that_cannot_be_one(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError):
        Engine.open(str(tmp_path / "file"))


@pytest.mark.parametrize("path", ["", " "])
def test_an_empty_path_is_refused(path: str) -> None:
    with pytest.raises(InvalidInput, match="path: must not be empty"):
        Engine.open(path)
