"""Tries, deadlines, sessions and errors, over a transport that follows a script."""

import asyncio
import subprocess
import sys
from typing import Any

import msgspec
import pytest

from balsadb import errors
from balsadb.api.envelope import failure
from balsadb.api.routes import MethodNotAllowed
from balsadb.client import AsyncClient, Client, Options, requests
from balsadb.client.exchange import Exchange, Sessions, WireAnswer, WireRequest
from balsadb.client.failures import classes, error_of

OK = WireAnswer(200, {}, b'{"result": {"count": 5}, "status": "ok", "time": 0.1}')
WRITTEN = WireAnswer(
    200, {}, b'{"result": {"operation_id": 9, "status": "completed"}, "status": "ok", "time": 0}'
)


def refusal(error: errors.BalsaError) -> WireAnswer:
    found = failure(error, "request-1")
    return WireAnswer(found.status, found.headers, msgspec.json.encode(found.answer))


class Script:
    """A transport that gives the next answer of its script, or raises it."""

    def __init__(self, *answers: WireAnswer | errors.BalsaError) -> None:
        self.answers = list(answers)
        self.requests: list[WireRequest] = []

    def send(self, request: WireRequest) -> WireAnswer:
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, errors.BalsaError):
            raise answer
        return answer

    def close(self) -> None:
        self.answers.clear()


class AsyncScript(Script):
    async def send(self, request: WireRequest) -> WireAnswer:  # type: ignore[override]
        return super().send(request)

    async def close(self) -> None:  # type: ignore[override]
        self.answers.clear()


FAST = Options(pause_max_s=0.0)


def test_an_answer_is_returned_and_the_request_is_complete() -> None:
    script = Script(OK)
    client = Client(transport=script, options=Options(api_key="k", timeout_s=7, local=True))
    assert client.count("f") == 5
    (request,) = script.requests
    assert (request.method, request.path) == ("POST", "/collections/f/points/count")
    assert request.query == "timeout=6&consistency=local"
    assert request.headers["api-key"] == "k"
    assert request.headers["content-type"] == "application/json"
    assert "balsa-session" not in request.headers


def test_a_write_is_repeated_with_the_same_session_and_the_next_has_the_next_sequence() -> None:
    script = Script(errors.OutcomeUnknown("lost"), WRITTEN, WRITTEN)
    client = Client(transport=script, options=FAST)
    assert client.delete("f", [1]).operation_id == 9
    client.delete("f", [2])
    names = ("balsa-session", "balsa-sequence")
    first, repeat, second = (tuple(r.headers[n] for n in names) for r in script.requests)
    assert first == repeat
    # The first call met an unknown outcome, so its session is not used again.
    assert second != first
    assert "wait=true" in script.requests[0].query


def test_sequences_of_a_session_grow() -> None:
    sessions = Sessions()
    first = sessions.take()
    sessions.give_back(first)
    second = sessions.take()
    other = sessions.take()
    assert (second.session, second.sequence) == (first.session, first.sequence + 1)
    assert other.session != first.session


def test_tries_end_and_the_last_error_is_raised() -> None:
    script = Script(*[refusal(errors.QuorumLost("no majority"))] * 3)
    client = Client(transport=script, options=Options(tries_max=3, pause_max_s=0.0))
    with pytest.raises(errors.QuorumLost) as caught:
        client.count("f")
    assert (caught.value.status_code, caught.value.request_id) == (503, "request-1")
    assert len(script.requests) == 3


def test_a_refusal_is_not_repeated() -> None:
    script = Script(refusal(errors.InvalidInput("limit", "must be at least 1")))
    with pytest.raises(errors.InvalidInput) as caught:
        Client(transport=script).count("f")
    assert (caught.value.field, caught.value.rule) == ("limit", "must be at least 1")
    assert len(script.requests) == 1


def test_failed_after_unknown_is_unknown() -> None:
    script = Script(errors.OutcomeUnknown("lost"), refusal(errors.QuorumLost("no majority")))
    client = Client(transport=script, options=Options(tries_max=2, pause_max_s=0.0))
    with pytest.raises(errors.QuorumLost) as caught:
        client.delete("f", [1])
    assert caught.value.outcome == "unknown"
    assert errors.QuorumLost("other").outcome == "failed"


def exchange(options: Options, now: float = 0.0) -> Exchange[int]:
    made = Exchange(requests.count("f"), options, None, now)
    made.request(now)
    return made


def test_the_server_says_how_long_to_wait_and_it_costs_no_try() -> None:
    made = exchange(Options(tries_max=2, timeout_s=100))
    for now in range(0, 60, 5):
        pause_s = made.pause_s(errors.Overloaded("full", retry_after_s=4), now)
        assert 4 <= pause_s < 4.1
        made.request(now)


def test_the_deadline_ends_the_tries() -> None:
    made = exchange(Options(tries_max=100, timeout_s=10))
    assert made.pause_s(errors.NotReady("soon"), 5.0) <= 0.05
    with pytest.raises(errors.Overloaded):
        made.pause_s(errors.Overloaded("full", retry_after_s=4), 6.5)


def test_pauses_grow_to_their_bound() -> None:
    made = exchange(Options(tries_max=100, timeout_s=1000, pause_max_s=1.0))
    pauses: list[float] = []
    for _ in range(12):
        pauses.append(made.pause_s(errors.NotReady("soon"), 0.0))
        made.request(0.0)
    for turn, pause_s in enumerate(pauses):
        bound_s = min(1.0, 0.05 * 2**turn)
        assert bound_s / 2 <= pause_s <= bound_s


@pytest.mark.parametrize("pause_max_s", [0.0, 1.0])
def test_pauses_stay_bounded_however_many_tries_there_were(pause_max_s: float) -> None:
    """With short pauses an hour has room for more tries than a float can double."""
    made = exchange(Options(tries_max=1 << 30, timeout_s=3600, pause_max_s=pause_max_s))
    for _ in range(5_000):
        made.request(0.0)
    assert pause_max_s / 2 <= made.pause_s(errors.NotReady("soon"), 0.0) <= pause_max_s


def test_time_left_is_what_the_server_gets() -> None:
    made = exchange(Options(timeout_s=10), 100.0)
    request = made.request(106.5)
    assert request.query == "timeout=3"
    assert request.timeout_s == pytest.approx(4.5)


@pytest.mark.parametrize("code", sorted(classes()))
def test_every_error_of_the_tree_comes_back_as_itself(code: str) -> None:
    kind = classes()[code]
    samples: dict[type, errors.BalsaError] = {
        errors.CollectionNotFound: errors.CollectionNotFound("f"),
        errors.NotLeader: errors.NotLeader(3),
        MethodNotAllowed: MethodNotAllowed("GET", ["PUT"]),
        errors.Overloaded: errors.Overloaded("full", 7),
    }
    if issubclass(kind, errors.InvalidInput):
        sent: errors.BalsaError = kind("a.b", "must be so")
    else:
        sent = samples.get(kind) or kind("what happened")  # type: ignore[call-arg]
    answer = refusal(sent)
    found = error_of(answer.status, {"retry-after": "7"}, answer.body, is_write=True)
    assert type(found) is kind
    assert (found.code, found.message) == (code, sent.message)
    assert (found.outcome, found.retryable) == (sent.outcome, sent.retryable)
    assert str(found) == str(sent)
    for fact in ("field", "rule", "leader", "retry_after_s"):
        assert getattr(found, fact) == getattr(sent, fact, getattr(found, fact))


@pytest.mark.parametrize(
    ("status", "kind", "outcome"),
    [
        (502, errors.BalsaError, "unknown"),
        (503, errors.Unavailable, "unknown"),
        (404, errors.NotFound, "failed"),
        (401, errors.Unauthorized, "failed"),
        (413, errors.BodyTooLarge, "failed"),
    ],
)
def test_an_answer_of_a_proxy_is_an_error_too(status: int, kind: type, outcome: str) -> None:
    found = error_of(status, {}, b"<html>Bad</html>", is_write=True)
    assert type(found) is kind
    assert (found.outcome, found.status_code) == (outcome, status)
    assert "Bad" in found.message


def test_an_answer_of_another_service_is_named() -> None:
    with pytest.raises(errors.BalsaError, match="no node"):
        Client(transport=Script(WireAnswer(200, {}, b"<html>"))).count("f")


@pytest.mark.parametrize("changes", [{"timeout": 3}, {"timeout_s": 0}, {"tries_max": 0}])
def test_wrong_options_are_refused_by_name(changes: dict[str, Any]) -> None:
    with pytest.raises(errors.InvalidInput) as caught:
        Client(transport=Script()).with_options(**changes)
    assert caught.value.field == next(iter(changes))


@pytest.mark.parametrize("url", ["localhost:6333", "ftp://x", "", []])
def test_a_wrong_address_is_refused(url: Any) -> None:
    with pytest.raises(errors.InvalidInput, match="url"):
        Client(url)


def test_the_async_client_tries_and_remembers_alike() -> None:
    async def run() -> None:
        script = AsyncScript(errors.OutcomeUnknown("lost"), WRITTEN, OK, WRITTEN, WRITTEN)
        async with AsyncClient(transport=script, options=FAST) as client:
            assert (await client.delete("f", [1])).operation_id == 9
            assert await client.count("f") == 5
            done = await client.upload("f", [[1.0], [2.0]], batch_size=1)
            assert done == (2, 9)
        sessions = [request.headers.get("balsa-session") for request in script.requests]
        assert sessions[0] == sessions[1] != sessions[3] == sessions[4]

    asyncio.run(run())


def test_the_client_loads_neither_numpy_nor_a_web_framework() -> None:
    program = (
        "import sys, balsadb; balsadb.Client('http://127.0.0.1:1').close(); "
        "print([m for m in ('numpy', 'numba', 'fastapi', 'pydantic') if m in sys.modules])"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_upload_reports_progress() -> None:
    script = Script(WRITTEN, refusal(errors.Overloaded("full", 0)), WRITTEN)
    seen: list[int] = []
    client = Client(transport=script, options=FAST)
    done = client.upload("f", [[1.0], [2.0], [3.0]], batch_size=2, on_progress=seen.append)
    assert (done, seen) == ((3, 9), [2, 3])


def test_scroll_all_follows_the_pages() -> None:
    pages = [
        WireAnswer(200, {}, b'{"result": {"points": [{"id": 1}], "next_page_offset": 2}}'),
        WireAnswer(200, {}, b'{"result": {"points": [{"id": 2}], "next_page_offset": null}}'),
    ]
    script = Script(*pages)
    with Client(transport=script) as client:
        assert [point.id for point in client.scroll_all("f", page=1)] == [1, 2]
    assert msgspec.json.decode(script.requests[1].body)["offset"] == 2


LOST = errors.OutcomeUnknown("the connection broke")
DONE = WireAnswer(200, {}, b'{"result": true, "status": "ok", "time": 0}')


def test_a_change_of_members_is_repeated_and_has_no_session() -> None:
    script = Script(LOST, DONE)
    assert Client(transport=script, options=FAST).add_member(4, "h:1") is True
    assert [request.body for request in script.requests] == [b'{"id":4,"address":"h:1"}'] * 2
    assert all(request.changes for request in script.requests)
    assert not any("session" in name for name in script.requests[0].headers)


def test_a_change_of_members_whose_answer_was_lost_may_have_happened() -> None:
    script = Script(LOST, refusal(errors.NotReady("another change")), LOST)
    options = Options(tries_max=3, pause_max_s=0.0)
    with pytest.raises(errors.OutcomeUnknown) as caught:
        Client(transport=script, options=options).promote_member(4)
    assert caught.value.outcome == "unknown"
    refused = Script(LOST, refusal(errors.NotFound("node 4 is not a member")))
    with pytest.raises(errors.NotFound) as told:
        Client(transport=refused, options=FAST).promote_member(4)
    assert told.value.outcome == "unknown", "the first try may have been done"


def test_a_proxy_that_fails_leaves_a_change_of_members_open() -> None:
    script = Script(WireAnswer(502, {}, b"<html>"))
    with pytest.raises(errors.BalsaError) as caught:
        Client(transport=script, options=Options(tries_max=1)).remove_member(2)
    assert caught.value.outcome == "unknown"
    reads = Script(WireAnswer(502, {}, b"<html>"))
    with pytest.raises(errors.BalsaError) as nothing:
        Client(transport=reads, options=Options(tries_max=1)).members()
    assert nothing.value.outcome == "failed"
