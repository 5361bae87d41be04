"""Changes of members against an oracle, and against data files of another implementation (etcd-io/
raft's `confchange`; the folder is not part of this repository: skipped where it is absent)."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balsadb.errors import InvalidInput, MalformedBody
from balsadb.raft.changes import (
    Change,
    MembersChange,
    changed,
    decode_change,
    encode_change,
    enter_joint,
    leave_joint,
    simple,
)
from balsadb.raft.members import Members
from balsadb.raft.progress import Inflights, Progress, adopt
from balsadb.raft.quorum import quorum_size
from balsadb.types import LogIndex, NodeId
from tests.raft.scenario import Step, members_text, parse, parse_changes
from tests.raft.test_quorum import DATA

REFUSALS = {
    "can't apply simple config change in joint config": "a joint change is under way",
    "config is already joint": "a joint change is under way",
    "more than one voter changed without entering joint config": "one voter at most",
    "can't make a zero-voter config joint": "there is no voter yet",
    "can't leave a non-joint config": "no joint change is under way",
    "removed all voters": "must keep a voter",
}
"""The words of the files, and a part of ours."""
FOLDER = DATA / "confchange"
FILES = sorted(FOLDER.glob("*.txt")) if FOLDER.is_dir() else []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_changes_are_those_of_the_file(path):
    members, progress = Members(()), dict[NodeId, Progress]()
    steps = list(parse(path))
    assert steps
    for last_index, step in enumerate(steps):
        where = f"{path.name}:{step.line}"
        if step.expected[0] in REFUSALS:
            with pytest.raises(InvalidInput, match=REFUSALS[step.expected[0]]):
                change_by(step, members)
            continue
        members, following = change_by(step, members), LogIndex(max(last_index, 1))
        adopt(progress, members, lambda at=following: Progress(at, Inflights(1, 1)))
        printed = [members_text(members)]
        for node, peer in sorted(progress.items()):
            learner = " learner" if members.learns(node) else ""
            printed.append(f"{node}: StateProbe match={peer.match} next={peer.next}{learner}")
        assert printed == step.expected, where


def change_by(step: Step, members: Members) -> Members:
    changes = parse_changes(step.input)
    if step.command == "simple":
        return simple(members, changes)
    if step.command == "enter-joint":
        return enter_joint(members, changes, auto_leave=step.options.get("autoleave") == "true")
    assert step.command == "leave-joint"
    return leave_joint(members)


nodes = st.integers(1, 5).map(NodeId)
some_changes = st.lists(
    st.builds(Change, st.sampled_from(["voter", "learner", "remove", "update"]), nodes), max_size=5
).map(tuple)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.builds(MembersChange, some_changes, st.sampled_from(["auto", "implicit", "explicit"])),
        max_size=8,
    )
)
def test_members_never_contradict_themselves(steps):
    """Through any sequence: each node in one role, never no voters, a change that is refused
    changes nothing, and the quorums of two members in a row always share a node."""
    members = Members.of([1])
    for change in steps:
        try:
            after = changed(members, change)
        except InvalidInput:
            continue
        assert after.voters
        roles = [after.voters, after.learners, after.learners_next]
        for role in (*roles, after.outgoing):
            assert list(role) == sorted(set(role))
        assert all(not set(one) & set(two) for one, two in itertools.combinations(roles, 2))
        assert not set(after.learners) & set(after.outgoing)
        assert set(after.learners_next) <= set(after.outgoing)
        assert after.is_joint or not (after.learners_next or after.auto_leave)
        assert quorums_meet(members, after)
        assert decode_change(encode_change(change)) == change
        members = after


def quorums_meet(before: Members, after: Members) -> bool:
    """Whether every set of nodes that can decide before shares a node with every one after."""
    everyone = sorted({*before.nodes, *after.nodes})
    deciding = [
        [
            set(some)
            for size in range(len(everyone) + 1)
            for some in itertools.combinations(everyone, size)
            if decides(members, set(some))
        ]
        for members in (before, after)
    ]
    return all(one & two for one in deciding[0] for two in deciding[1])


def decides(members: Members, some: set[NodeId]) -> bool:
    return all(
        len(some & set(half)) >= quorum_size(half)
        for half in (members.voters, members.outgoing)
        if half
    )


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x93", b"\x92\xa5hello\x01", b"[[]]"])
def test_what_is_no_change_is_refused(data):
    with pytest.raises(MalformedBody):
        decode_change(data)
