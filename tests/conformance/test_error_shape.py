"""One error shape, asserted for every producer of errors."""

import asyncio

import pytest

from balsadb import errors
from balsadb.api.statuses import STATUSES
from balsadb.api.unsupported import UNSUPPORTED
from tests.conformance.local_service import serve

LEAVES = [
    errors.InvalidInput("field", "rule"),
    errors.MalformedBody("field", "rule"),
    errors.LimitExceeded("field", "rule"),
    errors.BodyTooLarge("field", "rule"),
    errors.BodyTooSlow("field", "rule"),
    errors.NotSupported("no such endpoint yet"),
    errors.CollectionNotFound("films"),
    errors.PointNotFound("no such point"),
    errors.AlreadyExists("films already exists"),
    errors.CollectionReplaced("replaced"),
    errors.SessionExpired("expired"),
    errors.Unavailable("unavailable"),
    errors.QuorumLost("the quorum is lost"),
    errors.Overloaded("queue full", retry_after_s=7),
    errors.NotReady("starting"),
    errors.OutcomeUnknown("unknown"),
    errors.DiskFailed("the disk failed"),
    errors.Corruption("rotten"),
]
READ = ("GET", "/collections/films")
WRITE = ("DELETE", "/collections/films")


def check(response, code, outcome):
    answer = response.json()
    status = answer["status"]
    assert set(answer) == {"status", "time"}
    assert response.status_code == STATUSES[code].status
    assert status["error"].startswith(STATUSES[code].prefix)
    assert (status["code"], status["outcome"]) == (code, outcome)
    assert status["request_id"] == response.headers["balsa-request-id"]
    assert response.headers["balsa-code"] == code
    return status


@pytest.mark.parametrize("route", [READ, WRITE])
@pytest.mark.parametrize("error", LEAVES, ids=lambda error: type(error).__name__)
def test_the_service(rest, error, route):
    rest.service.failing = error
    status = check(rest.send(*route), error.code, error.outcome)
    assert status["error"].endswith(error.message)
    assert status.get("retryable", False) == error.retryable
    if isinstance(error, errors.InvalidInput):
        assert (status["field"], status["rule"]) == ("field", "rule")


def test_back_pressure_names_the_seconds(rest):
    rest.service.failing = errors.Overloaded("queue full", retry_after_s=7)
    response = rest.send(*WRITE)
    assert response.status_code == 429
    assert response.headers["retry-after"] == "7"


@pytest.mark.parametrize(("route", "outcome"), [(READ, "failed"), (WRITE, "unknown")])
def test_a_defect_of_ours(rest, caplog, route, outcome):
    rest.service.failing = ZeroDivisionError("secret detail")
    response = rest.send(*route)
    check(response, "internal", outcome)
    assert "secret detail" not in response.text
    assert "secret detail" in caplog.text


def test_the_router(rest):
    check(rest.send("GET", "/nowhere"), "not_found", "failed")
    response = rest.send("POST", "/collections/films")
    check(response, "method_not_allowed", "failed")
    assert response.headers["allow"] == "DELETE, GET, PATCH, PUT"


def test_endpoints_of_the_dialect_that_are_not_served(rest):
    for method, path in UNSUPPORTED:
        here = path.replace("{collection}", "films").replace("{", "").replace("}", "")
        status = check(rest.send(method, here), "not_supported", "failed")
        assert f"{method} {path} " in status["error"]
        assert "not supported" in status["error"]
    check(rest.send("POST", "/collections/films/points/nothing"), "method_not_allowed", "failed")


def test_the_decoder(rest):
    check(rest.send("PUT", "/collections/new", b"{"), "malformed_body", "failed")


def test_the_body_limit(rest):
    response = rest.send("PUT", "/collections/new", b" " * ((32 << 20) + 1))
    check(response, "body_too_large", "failed")


def test_a_given_request_id_is_kept(rest):
    headers = {"Balsa-Request-Id": "mine-1"}
    assert rest.send("GET", "/nowhere", headers=headers).headers["balsa-request-id"] == "mine-1"
    assert rest.send("GET", "/", headers={"Balsa-Request-Id": "a b"}).headers[
        "balsa-request-id"
    ] not in ("a b", "")


def test_errors_in_msgpack(rest):
    import msgspec

    response = rest.send("GET", "/collections/none", headers={"accept": "application/msgpack"})
    assert msgspec.msgpack.decode(response.content)["status"]["code"] == "not_found"


def test_too_many_requests_at_a_time(rest, monkeypatch):
    monkeypatch.setattr("balsadb.server.admission.REQUESTS_MAX", 0)
    response = rest.send(*WRITE)
    check(response, "overloaded", "failed")
    assert response.headers["retry-after"] == "1"
    monkeypatch.undo()
    assert rest.send(*WRITE).status_code == 200


def test_a_client_that_leaves_early_does_no_harm(rest):
    async def leave():
        host, port = rest.server.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            b"PUT /collections/films/points HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{"
        )
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    asyncio.run(leave())
    assert rest.send("GET", "/livez").status_code == 200


def test_the_key_check_is_plain_text():
    from balsadb.cluster.settings import NodeSettings
    from tests.conformance.conftest import Rest

    with serve(NodeSettings(api_key="sesame")) as live:
        rest = Rest(live)
        for headers in (
            {},
            {"api-key": "wrong"},
            {"api-key": ""},
            {"Authorization": "Bearer nope"},
            {"Authorization": "Basic sesame"},
            {"Balsadb.Forwarded": "true"},
        ):
            for path in ("/collections", "/metrics", "/cluster", "/openapi.json", "/nowhere"):
                response = rest.send("GET", path, headers=headers)
                assert response.status_code == 401
                assert response.headers["content-type"].startswith("text/plain")
        for headers in ({"api-key": "sesame"}, {"Authorization": "Bearer sesame"}):
            assert rest.send("GET", "/collections", headers=headers).status_code == 200
        for path in ("/", "/healthz", "/livez", "/readyz"):
            assert rest.send("GET", path).status_code == 200
        rest.client.close()
