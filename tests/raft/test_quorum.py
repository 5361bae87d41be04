"""Quorum arithmetic against oracles: brute force, and data files of another implementation."""

import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balsadb.raft.members import Members
from balsadb.raft.quorum import (
    UNBOUNDED,
    VoteResult,
    joint_commit,
    joint_vote,
    majority_commit,
    majority_vote,
    quorum_size,
)
from balsadb.types import LogIndex, NodeId

DATA = Path(
    os.environ.get("BALSADB_RAFT_DATA")
    or Path(__file__).resolve().parents[2].parent / "shared" / "data" / "raft"
)


def quorums(voters: tuple[NodeId, ...]) -> Iterator[set[NodeId]]:
    """Every set of voters that is more than half of them."""
    for size in range(len(voters) + 1):
        for some in itertools.combinations(voters, size):
            if 2 * size > len(voters) or not voters:
                yield set(some)


def brute_commit(halves: list[tuple[NodeId, ...]], held: dict[NodeId, LogIndex]) -> int:
    """The largest index for which some quorum of every half holds it."""
    best = UNBOUNDED if not any(halves) else 0
    for index in sorted(set(held.values())):
        if all(
            any(all(held[node] >= index for node in quorum) for quorum in quorums(half))
            for half in halves
        ):
            best = max(best, index)
    return best


def brute_vote(halves: list[tuple[NodeId, ...]], votes: dict[NodeId, bool]) -> VoteResult:
    """Won if a quorum of every half said yes; lost if no way of answering could still win."""
    nodes = sorted({node for half in halves for node in half})
    open_nodes = [node for node in nodes if node not in votes]

    def wins(answers: dict[NodeId, bool]) -> bool:
        return all(
            any(all(answers.get(node) for node in quorum) for quorum in quorums(half))
            for half in halves
        )

    if wins(votes):
        return VoteResult.WON
    everybody = {**votes, **dict.fromkeys(open_nodes, True)}
    return VoteResult.PENDING if wins(everybody) else VoteResult.LOST


VOTERS = st.sets(st.integers(1, 7), max_size=5).map(
    lambda nodes: tuple(NodeId(n) for n in sorted(nodes))
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(VOTERS, VOTERS, st.data())
def test_commit_is_what_a_brute_force_search_finds(voters, outgoing, data):
    nodes = sorted({*voters, *outgoing})
    held = {node: LogIndex(data.draw(st.integers(0, 6))) for node in nodes}
    members = Members(voters, outgoing)
    assert majority_commit(voters, held.__getitem__) == brute_commit([voters], held)
    if outgoing:
        assert joint_commit(members, held.__getitem__) == brute_commit([voters, outgoing], held)
    else:
        assert joint_commit(members, held.__getitem__) == brute_commit([voters], held)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(VOTERS, VOTERS, st.data())
def test_vote_is_what_a_brute_force_search_finds(voters, outgoing, data):
    answer = st.sampled_from([None, True, False])
    answers = {node: data.draw(answer) for node in sorted({*voters, *outgoing, 9})}
    votes = {NodeId(node): vote for node, vote in answers.items() if vote is not None}
    assert majority_vote(voters, votes) is brute_vote([voters], votes)
    halves = [voters, outgoing] if outgoing else [voters]
    assert joint_vote(Members(voters, outgoing), votes) is brute_vote(halves, votes)


@pytest.mark.parametrize("count", range(1, 8))
def test_two_quorums_always_share_a_node(count):
    voters = tuple(NodeId(n) for n in range(1, count + 1))
    smallest = [q for q in quorums(voters) if len(q) == quorum_size(voters)]
    assert smallest
    assert all(a & b for a in smallest for b in smallest)


# ------------------------------------------------------------------- data-driven, from a folder


def cases(name: str) -> list[tuple[str, str]]:
    """(command, expected last line) of a data file; empty if the folder is not here."""
    path = DATA / "quorum" / name
    if not path.is_file():
        return []
    found: list[tuple[str, str]] = []
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    for at, line in enumerate(lines):
        if line == "----":
            answer = list(itertools.takewhile(str.strip, lines[at + 1 :]))
            found.append((lines[at - 1], answer[-1]))
    return found


def arguments(command: str) -> dict[str, list[str]]:
    """cfg, cfgj, idx, votes of a command."""
    found = re.findall(r"(\w+)=(?:\(([^)]*)\)|zero)", command)
    return {
        key: [part.strip() for part in value.split(",") if part.strip()] for key, value in found
    }


def in_order(given_arguments: dict[str, list[str]], key: str) -> dict[NodeId, str]:
    """Values belong to the nodes in order of first mention; `_` is no value."""
    order = dict.fromkeys(given_arguments.get("cfg", []) + given_arguments.get("cfgj", []))
    values = given_arguments.get(key, [])
    assert len(values) == len(order)
    pairs = zip(order, values, strict=True)
    return {NodeId(int(node)): value for node, value in pairs if value != "_"}


def halves_of(given_arguments: dict[str, list[str]]) -> Members:
    return Members.of(
        map(int, given_arguments.get("cfg", [])), map(int, given_arguments.get("cfgj", []))
    )


@pytest.mark.parametrize("name", ["majority_commit.txt", "joint_commit.txt"])
def test_commit_data_file(name):
    found = cases(name)
    if not found:
        pytest.skip(f"no {name} under {DATA.name}/quorum")
    for command, answer in found:
        args = arguments(command)
        held = {node: LogIndex(int(value)) for node, value in in_order(args, "idx").items()}
        got = joint_commit(halves_of(args), lambda node, held=held: held.get(node, LogIndex(0)))
        expected = UNBOUNDED if "∞" in answer else int(answer.split()[0])
        assert got == expected, command


@pytest.mark.parametrize("name", ["majority_vote.txt", "joint_vote.txt"])
def test_vote_data_file(name):
    found = cases(name)
    if not found:
        pytest.skip(f"no {name} under {DATA.name}/quorum")
    for command, answer in found:
        args = arguments(command)
        votes = {node: value == "y" for node, value in in_order(args, "votes").items()}
        got = joint_vote(halves_of(args), votes)
        assert f"Vote{got.value.capitalize()}" == answer, command
