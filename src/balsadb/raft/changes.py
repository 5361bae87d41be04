"""What a change of members makes of them: pure, and the same on every node.

Two ways (Ongaro's thesis, chapter 4). *Simple*: at most one voter more or less, so that any two
majorities, of before and after, share a node. *Joint*, for everything else: `enter_joint` makes the
old voters `outgoing`, and decisions need both halves until `leave_joint`. Learners may come and go
either way. A change takes effect where it is applied, not where it is appended (`raft.py` has the
guards that this needs: one at a time, none before an entry of the leader's own term, no campaign
over one that is committed and not applied).

The rules, their names and their refusals are those of etcd-io/raft's `confchange` package, whose
scenario files the tests run.
"""

from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

import msgspec

from balsadb.errors import InvalidInput, MalformedBody
from balsadb.raft.members import Members
from balsadb.types import NO_NODE, NUMBER, NodeId

Kind = Literal["voter", "learner", "remove", "update"]
Transition = Literal["auto", "implicit", "explicit"]


class Change(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One node gets a role, or none. "update" changes nothing here: its entry may carry news of the
    node for the host. Node 0 is ignored: a proposal that was made void."""

    kind: Kind
    node: Annotated[NodeId, NUMBER]


class MembersChange(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Changes that happen together.

    `transition`: "auto", a simple change if one will do, else a joint one that the leader ends by
    itself; "implicit", a joint one, ended likewise; "explicit", a joint one that stays until an
    empty change ends it. `context`: the host's, opaque here. No changes and "auto": leave the joint
    state.
    """

    changes: tuple[Change, ...] = ()
    transition: Transition = "auto"
    context: bytes = b""

    @property
    def leaves_joint(self) -> bool:
        """Whether it ends a joint change."""
        return not self.changes and self.transition == "auto"

    @property
    def enters_joint(self) -> bool:
        """Whether it begins one."""
        return self.transition != "auto" or len(self.changes) > 1


_UNDER_WAY = "a joint change is under way: end it first"

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(MembersChange)


def encode_change(change: MembersChange) -> bytes:
    """As the data of a log entry."""
    return _encoder.encode(change)


def decode_change(data: bytes) -> MembersChange:
    """From the data of a log entry. MalformedBody if it is no change of members."""
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise MalformedBody("change", f"is not a change of members: {error}") from error


def changed(members: Members, change: MembersChange) -> Members:
    """The members after `change`. InvalidInput if it may not be made of these."""
    if change.leaves_joint:
        return leave_joint(members)
    if change.enters_joint:
        return enter_joint(members, change.changes, auto_leave=change.transition != "explicit")
    return simple(members, change.changes)


def simple(members: Members, changes: Sequence[Change]) -> Members:
    """A change that at most one voter comes or goes by. InvalidInput otherwise."""
    if members.is_joint:
        raise _refused(_UNDER_WAY)
    after = _apply(members, changes)
    if len(set(members.voters) ^ set(after.voters)) > 1:
        raise _refused("a simple change adds or removes one voter at most: make it a joint one")
    return after


def enter_joint(members: Members, changes: Sequence[Change], *, auto_leave: bool) -> Members:
    """The voters so far become `outgoing`, and stay voters until `leave_joint`."""
    if members.is_joint:
        raise _refused(_UNDER_WAY)
    if not members.voters:
        raise _refused("there is no voter yet: begin with a simple change")
    joint = msgspec.structs.replace(members, outgoing=members.voters)
    return msgspec.structs.replace(_apply(joint, changes), auto_leave=auto_leave)


def leave_joint(members: Members) -> Members:
    """The incoming half alone decides; who was demoted becomes a learner now."""
    if not members.is_joint:
        raise _refused("no joint change is under way")
    return Members.of(members.voters, (), (*members.learners, *members.learners_next))


class _Roles:
    """Members while they are changed."""

    def __init__(self, members: Members) -> None:
        self.voters = set(members.voters)
        self.outgoing = frozenset(members.outgoing)
        self.learners = set(members.learners)
        self.learners_next = set(members.learners_next)

    def remove(self, node: NodeId) -> None:
        for role in (self.voters, self.learners, self.learners_next):
            role.discard(node)

    def make_voter(self, node: NodeId) -> None:
        self.remove(node)
        self.voters.add(node)

    def make_learner(self, node: NodeId) -> None:
        """A voter of the outgoing half cannot learn before that half is gone."""
        self.remove(node)
        (self.learners_next if node in self.outgoing else self.learners).add(node)


def _apply(members: Members, changes: Iterable[Change]) -> Members:
    roles = _Roles(members)
    acts = {"voter": roles.make_voter, "learner": roles.make_learner, "remove": roles.remove}
    for change in changes:
        act = acts.get(change.kind)
        if act is not None and change.node != NO_NODE:
            act(change.node)
    if not roles.voters:
        raise _refused("must keep a voter")
    made = Members.of(roles.voters, roles.outgoing, roles.learners)
    following = tuple(sorted(roles.learners_next))
    return msgspec.structs.replace(made, learners_next=following, auto_leave=members.auto_leave)


def _refused(reason: str) -> InvalidInput:
    return InvalidInput("members", reason)
