"""Query string and headers."""

import asyncio
from typing import Any, cast

import pytest

from balsadb.api.options import (
    Options,
    Session,
    is_local,
    parse_options,
    parse_session,
    session_headers,
    usable_request_id,
)
from balsadb.embedded.dispatcher import Dispatcher
from balsadb.errors import InvalidInput, LimitExceeded


def test_absent_means_no_wait_and_linearizable():
    assert parse_options("", None, None) == Options(wait=False, timeout_s=None, local=False)


def test_everything_given():
    found = parse_options(
        "wait=true&timeout=7&consistency=local&ordering=strong&unknown=1", "0" * 31 + "a", "9"
    )
    assert found == Options(True, 7.0, True, Session(bytes(15) + b"\x0a", 9))


@pytest.mark.parametrize("value", [None, "majority", "quorum", "all", "2", "3", "linearizable"])
def test_consistency_linearizable(value):
    assert is_local(value) is False


@pytest.mark.parametrize("value", ["1", "local"])
def test_consistency_local(value):
    assert is_local(value) is True


@pytest.mark.parametrize("value", ["", "0", "-1", "one", "1.0", "LOCAL"])
def test_consistency_nonsense(value):
    with pytest.raises(InvalidInput) as caught:
        is_local(value)
    assert caught.value.field == "consistency"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("wait=yes", "wait"),
        ("wait=", "wait"),
        ("timeout=0", "timeout"),
        ("timeout=-1", "timeout"),
        ("timeout=1.5", "timeout"),
        ("ordering=odd", "ordering"),
    ],
)
def test_bad_parameters_are_named(query, field):
    with pytest.raises(InvalidInput) as caught:
        parse_options(query, None, None)
    assert caught.value.field == field


def test_timeout_has_a_maximum():
    for text in ("3601", "9" * 30):
        with pytest.raises(LimitExceeded, match="3600"):
            parse_options(f"timeout={text}", None, None)


def test_session_round_trip():
    session = Session(bytes(range(16)), (1 << 64) - 1)
    headers = session_headers(session)
    assert parse_session(headers["balsa-session"], headers["balsa-sequence"]) == session
    hyphenated = "00010203-0405-0607-0809-0a0b0c0d0e0f"
    assert parse_session(hyphenated, "18446744073709551615") == session


@pytest.mark.parametrize(
    ("session", "sequence", "field"),
    [
        ("0" * 32, None, "Balsa-Sequence"),
        (None, "1", "Balsa-Session"),
        ("0" * 31, "1", "Balsa-Session"),
        ("g" * 32, "1", "Balsa-Session"),
        ("0" * 32, "-1", "Balsa-Sequence"),
        ("0" * 32, "18446744073709551616", "Balsa-Sequence"),
    ],
)
def test_half_or_malformed_sessions(session, sequence, field):
    with pytest.raises(InvalidInput) as caught:
        parse_session(session, sequence)
    assert caught.value.field == field


def test_request_ids_are_short_and_printable():
    assert usable_request_id("abc-1") == "abc-1"
    for bad in (None, "", "x" * 129, "a b", "a\nb", "é"):
        assert usable_request_id(bad) is None


def test_calls_that_change_members_know_their_parameters():
    async def ask(target: str) -> tuple[int, bytes]:
        reply = await Dispatcher(cast("Any", None)).request("POST", target, {}, b"{}")
        return reply.status, reply.content

    status, body = asyncio.run(ask("/cluster/members/2/remove?timeout=3&force=maybe"))
    assert status == 400
    assert b"force: is no parameter of the query string here" in body
    status, body = asyncio.run(ask("/cluster/members/2/remove?timeout=3"))
    assert b"parameter" not in body
    status, body = asyncio.run(ask("/collections/x/points/scroll?force=maybe"))
    assert b"parameter" not in body, "other dialects' parameters are passed over"
