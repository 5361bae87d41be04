"""The mutants: a place in the source, the line as it is, and the bug.

Each is a bug that some implementation of Raft had, or that the paper warns of. `suite` names the
simulator that must find it: "raft" (`tests.raft.run`, the core alone), "elections" (the same with
faults that aim at elections), "nodes" (`tests.simulation.run`: whole nodes with disks), "rough"
(the same with more kinds of faults), "changing" (whole nodes whose members change), or "reads"
(whole nodes; no check looks at a read but that of the history that the clients saw, which must find
stale ones by itself).

Not here, as no seed can meet it while leaders are ours: a follower that believes the leader's whole
commit index (`tests/raft/test_replication.py` has it; our appends reach to where logs differ).
"""

from typing import Final, Literal, NamedTuple

Suite = Literal["raft", "elections", "nodes", "rough", "changing", "reads"]


class Mutant(NamedTuple):
    """`old` must stand in `file` exactly once; `seeds_max`: how many seeds may miss it."""

    name: str
    file: str
    old: str
    new: str
    suite: Suite = "raft"
    seeds_max: int = 200


LEADER: Final = "raft/roles/leader.py"
FOLLOWER: Final = "raft/roles/follower.py"
CORE: Final = "raft/core.py"
RAFT: Final = "raft/raft.py"
LOG: Final = "raft/log.py"
QUORUM: Final = "raft/quorum.py"
WRITES: Final = "raft/writes.py"

MUTANTS: Final = (
    # Elections
    Mutant(
        "two votes in one term",
        RAFT,
        "core.voted_for == message.source\n            or",
        "True\n            or",
    ),
    Mutant(
        "a vote for a shorter log",
        LOG,
        "return (last_term, last_index) >= (self.last_term, self.last_index)",
        "return last_term >= self.last_term",
    ),
    Mutant(
        "logs compared by length first",
        LOG,
        "return (last_term, last_index) >= (self.last_term, self.last_index)",
        "return (last_index, last_term) >= (self.last_index, self.last_term)",
        seeds_max=1000,
    ),
    Mutant(
        "votes leave before they are durable",
        CORE,
        "_SPEAK_OF_THE_DISK = (AppendResponse, VoteRequest, VoteResponse)",
        "_SPEAK_OF_THE_DISK = (AppendResponse,)",
        seeds_max=3000,
        suite="elections",
    ),
    Mutant(
        "the own vote counts before it is durable",
        CORE,
        "if target == self.node:\n            self.self_messages.append(message)",
        "if target == self.node:\n            self.self_messages.append(message)\n"
        "            self.writes.durable_term = max(self.writes.durable_term, self.term)",
        suite="elections",
    ),
    Mutant(
        "a term is raised and the old vote kept",
        RAFT,
        "core.term, core.voted_for = term, NO_NODE",
        "core.term = term",
    ),
    # Commit
    Mutant(
        "old entries committed by counting (figure 8)",
        LEADER,
        "if index > core.log.commit and core.log.term(index) == core.term:",
        "if index > core.log.commit:",
        seeds_max=3000,
        suite="elections",
    ),
    Mutant(
        "a quorum of half",
        QUORUM,
        "return len(voters) // 2 + 1",
        "return (len(voters) + 1) // 2",
    ),
    Mutant(
        "acknowledged before it is durable",
        CORE,
        "_SPEAK_OF_THE_DISK = (AppendResponse, VoteRequest, VoteResponse)",
        "_SPEAK_OF_THE_DISK = (VoteRequest, VoteResponse)",
    ),
    Mutant(
        "the leader counts its own disk too early",
        LEADER,
        "self._own.acknowledge(self.core.log.persisted)",
        "self._own.acknowledge(self.core.log.last_index)",
    ),
    Mutant(
        "a heartbeat tells more than the follower has",
        LEADER,
        "commit = min(self.progress[node].match, core.log.commit)",
        "commit = core.log.commit",
    ),
    # Replication
    Mutant(
        "every append truncates",
        LOG,
        "if here == entry.term:\n                continue",
        "if here == entry.term and entry.index <= self.commit:\n                continue",
    ),
    Mutant(
        "the previous entry's term is not compared",
        FOLLOWER,
        "if not log.matches(request.previous_index, request.previous_term):",
        "if log.term(request.previous_index) is None:",
    ),
    Mutant(
        "an answer attests the whole log",
        FOLLOWER,
        "core.send(leader, AppendResponse(attested))",
        "core.send(leader, AppendResponse(log.last_index))",
    ),
    Mutant(
        "a late write attests what was overwritten (ABA)",
        WRITES,
        "write.last_index = min(write.last_index, LogIndex(index - 1))",
        "pass",
        seeds_max=1000,
    ),
    Mutant(
        "truncation leaves the durable mark",
        LOG,
        "self.persisted = min(self.persisted, LogIndex(index - 1))",
        "pass",
    ),
    # Reads
    Mutant(
        "reads before the leader's own first commit",
        LEADER,
        "if self._reads.is_waiting and core.log.term(core.log.commit) == core.term:",
        "if self._reads.is_waiting:",
    ),
    Mutant(
        "reads are confirmed by nobody",
        "raft/reads.py",
        "or joint_vote(members, self._confirmed) is not VoteResult.WON",
        "or False",
    ),
    Mutant(
        "read rounds share a number",
        "raft/reads.py",
        "self.round += 1",
        "self.round = 1",
        seeds_max=400,
    ),
    Mutant(
        "clients see: reads before the leader's own first commit",
        LEADER,
        "if self._reads.is_waiting and core.log.term(core.log.commit) == core.term:",
        "if self._reads.is_waiting:",
        suite="reads",
        seeds_max=400,
    ),
    Mutant(
        "clients see: a read does not wait for apply",
        "cluster/pending.py",
        "if index > applied:\n                later.append",
        "if False:\n                later.append",
        suite="reads",
    ),
    # Snapshots
    Mutant(
        "an old snapshot is taken",
        FOLLOWER,
        "if snapshot.index > log.commit:",
        "if True:",
    ),
    Mutant(
        "a snapshot is offered and entries are sent on",
        "raft/progress.py",
        'return self.state == "snapshot" or self.paused',
        "return self.paused",
    ),
    # Members
    Mutant(
        "no guard: a campaign over an unapplied change",
        RAFT,
        "if core.log.has_unapplied(ENTRY_CHANGE):\n            return",
        "if False:\n            return",
        seeds_max=1000,
    ),
    Mutant(
        "no guard: two changes at once",
        LEADER,
        "if self._change_index > log.applied:",
        "if False:",
    ),
    Mutant(
        "a joint commit asks one half",
        QUORUM,
        "commit = min(commit, majority_commit(members.outgoing, acknowledged))",
        "pass",
    ),
    Mutant(
        "a joint vote asks one half",
        QUORUM,
        "    if not members.outgoing:\n        return result",
        "    if True:\n        return result",
        seeds_max=1000,
    ),
    Mutant(
        "two voters changed at once, without a joint change",
        "raft/changes.py",
        "if len(set(members.voters) ^ set(after.voters)) > 1:",
        "if False:",
        seeds_max=400,
    ),
    Mutant(
        "a change that a snapshot overtook is made again",
        RAFT,
        "if index <= core.members_index:\n            return core.members",
        "if False:\n            return core.members",
    ),
    Mutant(
        "what a removed leader knows is not told",
        RAFT,
        "if known or not core.log.commit_to(body.commit):",
        "if True:",
    ),
    Mutant(
        "a joint change is never ended",
        LEADER,
        "if core.members.auto_leave and core.log.applied >= self._change_index:",
        "if False:",
    ),
    # The host
    Mutant(
        "the sync is not waited for",
        "cluster/log_writer.py",
        "self.ready_durable = max(self.ready_durable, self._syncing_ready)",
        "self.ready_durable = max(self.ready_durable, self._ready_number)",
        suite="nodes",
    ),
    Mutant(
        "answers go by index alone",
        "cluster/pending.py",
        "if proposal.term != entry.term:",
        "if False:",
        suite="nodes",
    ),
    Mutant(
        "a read does not wait for apply",
        "cluster/pending.py",
        "if index > applied:\n                later.append",
        "if False:\n                later.append",
        suite="nodes",
    ),
    Mutant(
        "a vote is not written",
        "cluster/log_writer.py",
        "if ready.hard_state is not None:\n            self._hard_state = ready.hard_state",
        "if ready.hard_state is not None and ready.entries:\n"
        "            self._hard_state = ready.hard_state",
        suite="nodes",
    ),
    # Storage
    Mutant(
        "the log is not synced",
        "storage/wal.py",
        "self._open_file().sync()",
        "pass",
        suite="nodes",
    ),
    Mutant(
        "a new segment's name is not synced",
        "storage/wal.py",
        "self._files.sync_dir(self._directory)\n                self._name_synced = True",
        "self._name_synced = True",
        suite="nodes",
    ),
    Mutant(
        "an error of the sync is passed over",
        "storage/wal.py",
        "self._failed = True\n            raise\n        self._synced = self._offset",
        "pass\n        self._synced = self._offset",
        suite="rough",
    ),
    Mutant(
        "a checkpoint is published before it is durable",
        "storage/checkpoints.py",
        "file.pwrite(data, 0)\n            file.sync()",
        "file.pwrite(data, 0)",
        suite="nodes",
    ),
    Mutant(
        "the name of a checkpoint is not synced",
        "storage/checkpoints.py",
        "self._files.rename(path + _TEMPORARY, path)\n"
        "        self._files.sync_dir(self._directory)",
        "self._files.rename(path + _TEMPORARY, path)",
        suite="nodes",
    ),
)
