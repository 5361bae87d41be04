"""Runs scenario files of another Raft implementation (etcd-io/raft) against this core.

A file is a list of commands with expected output. What is compared: states (`raft-state`), a
leader's view of its peers (`status`), logs (`raft-log`), and every message that a Ready sends, in
order. Its chatter (INFO, DEBUG) and the layout of a Ready are its own business.

The other implementation sends within the event that causes a message; we gather until a Ready is
taken. So the runner flushes after every event, which makes the two comparable message by message.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from balsadb.errors import InvalidInput, NotLeader, NotReady
from balsadb.raft import (
    AppendRequest,
    AppendResponse,
    Change,
    Heartbeat,
    HeartbeatResponse,
    Members,
    MembersChange,
    Message,
    Raft,
    RaftOptions,
    RaftState,
    SnapshotMeta,
    SnapshotOffer,
    VoteRequest,
    VoteResponse,
    decode_change,
)
from balsadb.raft.changes import Kind
from balsadb.types import ENTRY_CHANGE, Entry, HardState, LogIndex, NodeId, Term

ELECTION_TICKS = 3
HEARTBEAT_TICKS = 1
UNSUPPORTED = {
    "read-only=lease-based": "reads by lease: a read asks a quorum here, always",
    "disable-conf-change-validation": "a leader that does not check changes of members",
}
"""What is not here on purpose, by the option that asks for it."""
V1 = b"v1"
"""Context of a change that the files call one of the first version."""
STATES = {
    "follower": "StateFollower",
    "pre_candidate": "StatePreCandidate",
    "candidate": "StateCandidate",
    "leader": "StateLeader",
}


@dataclass
class Step:
    """One command with its arguments, and what it should print."""

    line: int
    command: str
    arguments: list[str]
    options: dict[str, str]
    expected: list[str]
    input: str = ""
    """The lines between the command and the expected output."""


def parse(path: Path) -> Iterator[Step]:
    """The commands of a file."""
    lines = path.read_text().splitlines()
    for at, line in enumerate(lines):
        if line != "----":
            continue
        stop = next((k for k in range(at + 1, len(lines)) if not lines[k].strip()), len(lines))
        first = at - 1
        while first > 0 and lines[first - 1].strip() and not lines[first - 1].startswith("#"):
            first -= 1
        words = re.findall(r"[\w-]+=\([^)]*\)|\S+", lines[first])
        options = dict(word.split("=", 1) for word in words[1:] if "=" in word)
        arguments = [word for word in words[1:] if "=" not in word]
        given = " ".join(lines[first + 1 : at])
        yield Step(at, words[0], arguments, options, lines[at + 1 : stop], given)


def numbers(text: str) -> list[int]:
    """`(1,2,3)` or `3`."""
    return [int(number) for number in re.findall(r"\d+", text)]


KINDS: dict[str, Kind] = {"v": "voter", "l": "learner", "r": "remove", "u": "update"}


def parse_changes(text: str) -> tuple[Change, ...]:
    """`v1 l2 r3 u4`."""
    return tuple(Change(KINDS[word[0]], NodeId(int(word[1:]))) for word in text.split())


def changes_text(change: MembersChange) -> str:
    letters = {kind: letter for letter, kind in KINDS.items()}
    return " ".join(f"{letters[one.kind]}{one.node}" for one in change.changes)


def members_text(members: Members) -> str:
    """Members in the notation of the files."""

    def group(nodes: Iterable[NodeId]) -> str:
        return f"({' '.join(map(str, nodes))})"

    text = f"voters={group(members.voters)}"
    text += f"&&{group(members.outgoing)}" if members.outgoing else ""
    text += f" learners={group(members.learners)}" if members.learners else ""
    text += f" learners_next={group(members.learners_next)}" if members.learners_next else ""
    return text + (" autoleave" if members.auto_leave else "")


def entry_text(entry: Entry) -> str:
    place = f"{entry.term}/{entry.index}"
    if entry.kind == ENTRY_CHANGE:
        change = decode_change(entry.data)
        name = "EntryConfChange" if change.context == V1 else "EntryConfChangeV2"
        return f"{place} {name} {changes_text(change)}".rstrip()
    return f'{place} EntryNormal "{entry.data.decode()}"'


def message_text(message: Message) -> str:
    """A message in the notation of the files."""
    body = message.body
    tail = ""
    if isinstance(body, AppendRequest):
        name, log = "MsgApp", (body.previous_term, body.previous_index)
        tail = f" Commit:{body.commit}" if body.commit else ""
        if body.entries:
            tail += f" Entries:[{', '.join(map(entry_text, body.entries))}]"
    elif isinstance(body, AppendResponse):
        name, log = "MsgAppResp", (body.hint_term, body.index)
        tail = f" Rejected (Hint: {body.hint_index})" if body.rejected else ""
    elif isinstance(body, Heartbeat):
        name, log = "MsgHeartbeat", (0, 0)
        tail = f" Commit:{body.commit}" if body.commit else ""
    elif isinstance(body, HeartbeatResponse):
        name, log = "MsgHeartbeatResp", (0, 0)
    elif isinstance(body, VoteRequest):
        name = "MsgPreVote" if body.pre_vote else "MsgVote"
        log = (body.last_term, body.last_index)
    elif isinstance(body, VoteResponse):
        name, log = ("MsgPreVoteResp" if body.pre_vote else "MsgVoteResp"), (0, 0)
        tail = " Rejected (Hint: 0)" if body.rejected else ""
    else:
        assert isinstance(body, SnapshotOffer)
        name, log = "MsgSnap", (0, 0)
    ends = f"{message.source}->{message.target}"
    return f"{ends} {name} Term:{message.term} Log:{log[0]}/{log[1]}{tail}"


class Scenario:
    """One file's group of nodes."""

    def __init__(self) -> None:
        self.nodes: dict[int, Raft] = {}
        self.wire: list[Message] = []
        self.forwarded: list[tuple[int, MembersChange]] = []
        """Changes for the leader, by the node that passes them on: with us, that is the host."""
        self.sent: list[str] = []
        self.quiet = False

    def run(self, path: Path) -> int:
        """Run all commands; the number of comparisons. AssertionError at the first difference."""
        compared = 0
        for step in parse(path):
            self.sent = []
            printed = self._command(step)
            where = f"{path.name}:{step.line}: {step.command} {' '.join(step.arguments)}"
            if printed is not None:
                compared += 1
                assert printed == step.expected, where
            elif self._prints_messages(step):
                compared += 1
                assert self.sent == expected_messages(step.expected), where
        return compared

    def _prints_messages(self, step: Step) -> bool:
        quiet = self.quiet or step.options.get("log-level") == "none"
        return not quiet and step.command in ("stabilize", "process-ready")

    def _command(self, step: Step) -> list[str] | None:
        """What must be compared with the whole expected output; None if nothing must."""
        if step.command == "log-level":
            self.quiet = step.arguments[0] == "none"
            return None
        method: Callable[[Step], list[str] | None] = getattr(
            self, "_do_" + step.command.replace("-", "_")
        )
        return method(step)

    # ---------------------------------------------------------------------------- commands

    def _do_add_nodes(self, step: Step) -> None:
        index, options = int(step.options.get("index", "0")), step.options
        voters, learners = (numbers(options.get(role, "")) for role in ("voters", "learners"))
        changes: dict[str, Any] = {
            "pre_vote": options.get("prevote") == "true",
            "check_quorum": options.get("checkquorum") == "true",
            "inflight_max": int(options.get("inflight", 1 << 30)),
            "step_down_on_removal": options.get("step-down-on-removal") == "true",
        }
        for _ in range(int(step.arguments[0])):
            node = len(self.nodes) + 1
            meta = SnapshotMeta(LogIndex(index), Term(0), Members.of(voters, (), learners))
            raft = Raft(
                RaftOptions(
                    node=NodeId(node),
                    election_timeout=lambda term: 2 * ELECTION_TICKS - 1,
                    election_ticks=ELECTION_TICKS,
                    heartbeat_ticks=HEARTBEAT_TICKS,
                    message_bytes_max=1 << 40,
                    inflight_bytes_max=1 << 40,
                    change_after_own_commit=False,
                    **changes,
                ),
                RaftState(
                    members=meta.members,
                    hard_state=HardState(Term(0), NodeId(0), LogIndex(index)),
                    snapshot=meta if index else None,
                ),
            )
            # The files begin with a snapshot of term 1 on nodes that are at term 0.
            raft._core.log.anchor_term = Term(1 if index else 0)
            self.nodes[node] = raft

    def _do_campaign(self, step: Step) -> None:
        self._node(step).campaign()
        self._flush()

    def _do_propose(self, step: Step) -> None:
        try:
            self._node(step).propose([step.arguments[1].encode()])
        except NotLeader:
            assert any("dropped" in line for line in step.expected), step
        self._flush()

    def _do_propose_conf_change(self, step: Step) -> None:
        """Where we refuse a change, the files append an empty entry in its place."""
        transition = step.options.get("transition", "auto")
        context = V1 if step.options.get("v1") == "true" else b""
        assert transition in ("auto", "implicit", "explicit")
        change = MembersChange(parse_changes(step.input), transition, context)
        self._change(int(step.arguments[0]), change)
        self._flush()

    def _change(self, node: int, change: MembersChange) -> None:
        raft = self.nodes[node]
        try:
            raft.propose_change(change)
        except (InvalidInput, NotReady):
            raft.propose([b""])
        except NotLeader:
            self.forwarded.append((node, change))

    def _do_set_randomized_election_timeout(self, step: Step) -> None:
        role: Any = self._node(step)._role
        role._timeout = int(step.options["timeout"])

    def _do_transfer_leadership(self, step: Step) -> None:
        self.nodes[int(step.options["from"])].transfer(NodeId(int(step.options["to"])))
        self._flush()

    def _do_tick_heartbeat(self, step: Step) -> None:
        self._tick(self._node(step), HEARTBEAT_TICKS)

    def _do_tick_election(self, step: Step) -> None:
        self._tick(self._node(step), ELECTION_TICKS)

    def _tick(self, raft: Raft, count: int) -> None:
        for _ in range(count):
            raft.tick()
            self._flush()

    def _do_forget_leader(self, step: Step) -> None:
        self._node(step).forget_leader()

    def _do_report_unreachable(self, step: Step) -> None:
        self._node(step).report_unreachable(NodeId(int(step.arguments[1])))

    def _do_compact(self, step: Step) -> None:
        raft, index = self._node(step), LogIndex(int(step.arguments[1]))
        log = raft._core.log
        term = log.term(log.applied)
        assert term is not None
        raft.set_snapshot(SnapshotMeta(log.applied, term, raft.members))
        assert raft.compact(index) == index

    def _do_process_ready(self, step: Step) -> None:
        for node in step.arguments:
            self._process(int(node))

    def _do_stabilize(self, step: Step) -> None:
        nodes = [int(node) for node in step.arguments] or list(self.nodes)
        busy = True
        while busy:
            busy = False
            for node in nodes:
                if self.nodes[node].has_ready():
                    busy = True
                    self._process(node)
                busy = self._forward(node) or busy
            for node in nodes:
                busy = self._deliver(node) or busy

    def _do_deliver_msgs(self, step: Step) -> None:
        dropped = numbers(step.options.get("drop", ""))
        for node in map(int, step.arguments):
            self._deliver(node)
        self.wire = [message for message in self.wire if message.target not in dropped]

    def _do_raft_state(self, _: Step) -> list[str]:
        printed: list[str] = []
        for node, raft in self.nodes.items():
            status = raft.status()
            kind = "Voter" if node in raft.members else "Non-Voter"
            state = STATES[status.role]
            printed.append(f"{node}: {state} ({kind}) Term:{status.term} Lead:{status.leader}")
        return printed

    def _do_raft_log(self, step: Step) -> list[str]:
        log = self._node(step)._core.log
        if not log._entries:
            return [f"log is empty: first index={log.first_index}, last index={log.last_index}"]
        return [entry_text(entry) for entry in log._entries]

    def _do_status(self, step: Step) -> list[str]:
        role: Any = self._node(step)._role
        printed: list[str] = []
        for node, peer in sorted(role.progress.items()):
            state = {"probe": "StateProbe", "replicate": "StateReplicate"}.get(
                peer.state, "StateSnapshot"
            )
            text = f"{node}: {state} match={peer.match} next={peer.next}"
            text += " learner" if self._node(step).members.learns(node) else ""
            text += " paused" if peer.is_paused else ""
            text += f" pendingSnap={peer.pending_snapshot}" if peer.pending_snapshot else ""
            text += "" if peer.recent_active else " inactive"
            if len(peer.inflights):
                text += f" inflight={len(peer.inflights)}"
                text += "[full]" if peer.inflights.is_full else ""
            printed.append(text)
        return printed

    # ------------------------------------------------------------------------------ inside

    def _node(self, step: Step) -> Raft:
        return self.nodes[int(step.arguments[0])]

    def _flush(self) -> None:
        for raft in self.nodes.values():
            raft.has_ready()

    def _process(self, node: int) -> None:
        """One Ready, written and applied at once."""
        raft = self.nodes[node]
        ready = raft.ready()
        for message in [*ready.messages, *ready.messages_after_persist]:
            self.sent.append(message_text(message))
            self.wire.append(message)
        for entry in ready.committed:
            if entry.kind == ENTRY_CHANGE:
                raft.apply_change(entry.index, decode_change(entry.data))
                self._flush()
        raft.on_persisted(ready.number)
        if ready.snapshot is not None:
            raft.on_applied(ready.snapshot.index)
        if ready.committed:
            last = ready.committed[-1]
            raft.on_applied(last.index)
            raft.set_snapshot(SnapshotMeta(last.index, last.term, raft.members))
        self._flush()

    def _forward(self, node: int) -> bool:
        """Pass on the changes that a node was asked for and cannot propose."""
        mine = [change for source, change in self.forwarded if source == node]
        self.forwarded = [pair for pair in self.forwarded if pair[0] != node]
        for change in mine:
            leader = self.nodes[node].status().leader
            name = f"EntryConfChangeV2 {changes_text(change)}".rstrip()
            self.sent.append(f"{node}->{leader} MsgProp Term:0 Log:0/0 Entries:[0/0 {name}]")
            self._change(leader, change)
            self._flush()
        return bool(mine)

    def _deliver(self, node: int) -> bool:
        """All messages for a node; whether there were any."""
        mine = [message for message in self.wire if message.target == node]
        self.wire = [message for message in self.wire if message.target != node]
        for message in mine:
            self.nodes[node].step(message)
            self._flush()
        return bool(mine)


def expected_messages(lines: list[str]) -> list[str]:
    """The messages that the Readies of an expected output send."""
    sent: list[str] = []
    sending = False
    for line in lines:
        text = line.strip()
        if text == "Messages:":
            sending = True
        elif sending and re.match(r"\d+->\d+ Msg", text):
            sent.append(text)
        elif sending and sent and sent[-1].count("[") > sent[-1].count("]"):
            # Many entries stand on lines of their own.
            between = "" if text == "]" or sent[-1].endswith("[") else ", "
            sent[-1] += between + text
        elif not text.startswith("Snapshot:"):
            sending = False
    return sent
