"""Which requests a follower hands on, what it hands on, and what it does with the answer."""

import asyncio

import httpx2
import pytest

from balsadb.cluster.rpc import RawRequest, RawResponse
from balsadb.cluster.settings import NodeSettings
from balsadb.errors import NotLeader, OutcomeUnknown, QuorumLost
from balsadb.server.app import create_app
from tests.conformance.local_service import LocalService

CREATE = {"vectors": {"size": 2, "distance": "Dot"}}


class Pair:
    """A follower and its leader, in one process; `handed` is what went from one to the other."""

    def __init__(self, api_key=""):
        settings = NodeSettings(api_key=api_key, request_timeout_s=2.0)
        self.leader, self.follower = LocalService(), LocalService()
        self.follower.leads = False
        self.handed: list[RawRequest] = []
        create_app(self.leader, settings)
        self.app = create_app(self.follower, settings)
        self.follower.leader = self.hand_on

    async def hand_on(self, request):
        self.handed.append(request)
        return await self.leader.on_forwarded(request)

    def ask(self, method, path, **options):
        async def run():
            transport = httpx2.ASGITransport(self.app)
            async with httpx2.AsyncClient(transport=transport, base_url="http://n") as client:
                return await client.request(method, path, **options)

        return asyncio.run(run())


@pytest.fixture
def pair():
    return Pair()


def test_a_write_is_handed_on_as_it_came(pair):
    headers = {
        "Balsa-Session": "ab" * 16,
        "Balsa-Sequence": "3",
        "cookie": "private",
        "Balsa-Request-Id": "r1",
    }
    response = pair.ask("PUT", "/collections/a%20b?timeout=9", json=CREATE, headers=headers)
    assert response.json()["result"] is True
    assert response.headers.get_list("balsa-request-id") == ["r1"]
    assert response.headers.get_list("content-type") == ["application/json"]
    (request,) = pair.handed
    assert (request.method, request.path, request.query) == (
        "PUT",
        "/collections/a%20b",
        "timeout=9",
    )
    assert b'"Dot"' in request.body
    assert request.headers["balsa-session"] == "ab" * 16
    assert "cookie" not in request.headers
    assert pair.leader.database.collections() == ["a b"]
    assert pair.follower.database.collections() == []


def test_reads_stay_here(pair):
    assert pair.ask("GET", "/collections").json()["result"] == {"collections": []}
    assert pair.ask("GET", "/cluster").status_code == 200
    assert pair.handed == []


def test_verify_goes_to_the_leader(pair):
    assert pair.ask("GET", "/cluster/verify").json()["result"]["equal"] is True
    assert len(pair.handed) == 1


def test_errors_come_back_as_they_are(pair):
    pair.ask("PUT", "/collections/films", json=CREATE)
    response = pair.ask("PUT", "/collections/films", json=CREATE)
    assert response.status_code == 409
    assert "already exists" in response.json()["status"]["error"]
    assert response.json()["status"]["request_id"] == response.headers["balsa-request-id"]


def test_a_forwarded_request_is_not_forwarded_again(pair):
    raw = RawRequest("DELETE", "/collections/films", "", {}, b"")
    answer = asyncio.run(pair.follower.on_forwarded(raw))
    assert (answer.status, answer.headers["balsa-code"]) == (503, "not_leader")
    assert pair.handed == []


def test_a_header_cannot_claim_the_mark(pair):
    for name in ("balsadb.forwarded", "balsa-forwarded", "x-forwarded-for"):
        pair.ask("DELETE", "/collections/films", headers={name: "true"})
    assert len(pair.handed) == 3


def test_no_leader_there_is_tried_again_until_one_leads(pair):
    pair.leader.leads = False
    seen = []

    async def hand_on(request):
        seen.append(request)
        pair.leader.leads = len(seen) == 3
        return await pair.leader.on_forwarded(request)

    pair.follower.leader = hand_on
    assert pair.ask("PUT", "/collections/films", json=CREATE).status_code == 200
    assert len(seen) == 3


def test_leadership_lost_in_between_is_forwarded(pair):
    pair.follower.leads = True
    pair.follower.failing = NotLeader(2)
    assert pair.ask("PUT", "/collections/films", json=CREATE).status_code == 200
    assert len(pair.handed) == 1


def test_an_unknown_outcome_is_not_tried_again(pair):
    async def hand_on(request):
        pair.handed.append(request)
        raise OutcomeUnknown("no answer in time")

    pair.follower.leader = hand_on
    response = pair.ask("PUT", "/collections/films", json=CREATE)
    assert response.status_code == 503
    assert response.json()["status"]["outcome"] == "unknown"
    assert len(pair.handed) == 1


def test_a_lost_quorum_is_said(pair):
    async def hand_on(request):
        raise QuorumLost("the cluster has lost its quorum")

    pair.follower.leader = hand_on
    response = pair.ask("PUT", "/collections/films", json=CREATE)
    assert response.status_code == 503
    status = response.json()["status"]
    assert (status["code"], status["outcome"], status["retryable"]) == (
        "quorum_lost",
        "failed",
        True,
    )
    assert "quorum" in status["error"]


def test_a_refusal_of_the_leader_with_time_up_is_passed_on(pair):
    pair.leader.leads = False
    response = pair.ask("PUT", "/collections/films?timeout=1", json=CREATE)
    assert response.status_code == 503
    assert response.json()["status"]["code"] == "not_leader"


def test_the_key_stays_here():
    pair = Pair(api_key="sesame")
    assert pair.ask("PUT", "/collections/films", json=CREATE).status_code == 401
    headers = {"api-key": "sesame"}
    assert pair.ask("PUT", "/collections/films", json=CREATE, headers=headers).status_code == 200
    assert "api-key" not in pair.handed[0].headers


def test_malformed_options_are_refused_here_or_there(pair):
    assert pair.ask("DELETE", "/collections/films?timeout=x").status_code == 400
    assert pair.handed == []


def test_other_answers_than_json_pass_through(pair):
    async def hand_on(request):
        return RawResponse(502, {"content-type": "text/html", "connection": "close"}, b"<b>no</b>")

    pair.follower.leader = hand_on
    response = pair.ask("DELETE", "/collections/films")
    assert (response.status_code, response.text) == (502, "<b>no</b>")
    assert "connection" not in response.headers
