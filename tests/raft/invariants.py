"""What must hold after every step of a group of nodes (Raft, figure 3, and the core's chapter)."""

from typing import TYPE_CHECKING

from balsadb.raft import Members, Message, VoteRequest, VoteResponse
from balsadb.types import Entry, LogIndex

if TYPE_CHECKING:
    from tests.raft.network import Host, Network


class Invariants:
    """Watches one `Network`; raises AssertionError at the first violation."""

    def __init__(self, network: "Network") -> None:
        self.network = network
        self.leaders: dict[int, int] = {}
        self.votes: dict[tuple[int, int], int] = {}
        self.committed: dict[int, tuple[int, bytes]] = {}
        """Every entry ever applied anywhere."""
        self.commit = 0
        self.commit_terms: dict[int, int] = {}
        self.digests: dict[int, int] = {}
        self.members: dict[int, Members] = {}
        self.seen: dict[int, tuple[int, int, int]] = {}
        self.durable_terms: dict[int, int] = {}
        self.steps = 0

    def sent(self, host: "Host", message: Message) -> None:
        """One vote a term over all lives; nothing is said at a term that is not durable."""
        body = message.body
        if isinstance(body, VoteRequest | VoteResponse) and body.pre_vote:
            return
        assert message.term <= host.disk.hard_state.term, (
            f"{message} left before its term was durable ({host.disk.hard_state})"
        )
        if isinstance(body, VoteRequest):
            self._voted(host.node, message.term, host.node)
        if isinstance(body, VoteResponse) and not body.rejected:
            self._voted(host.node, message.term, message.target)

    def _voted(self, node: int, term: int, candidate: int) -> None:
        other = self.votes.setdefault((node, term), candidate)
        assert other == candidate, f"node {node} voted for {other} and {candidate} in term {term}"

    def wrote(self, host: "Host") -> None:
        """The durable term never decreases, over all lives."""
        term = host.disk.hard_state.term
        assert term >= self.durable_terms.get(host.node, 0), "a durable term decreased"
        self.durable_terms[host.node] = term

    def crashed(self, host: "Host") -> None:
        """A new life may know less of what is committed."""
        self.seen.pop(host.node, None)

    def applied(self, host: "Host", entry: Entry) -> None:
        """State machine safety: one entry an index, whoever applies it; equal digests."""
        fact = self.committed.setdefault(entry.index, (entry.term, entry.data))
        assert fact == (entry.term, entry.data), (
            f"node {host.node} applied {entry}, another node {fact}"
        )
        self.installed(host)

    def installed(self, host: "Host") -> None:
        """At equal index, equal state and equal members."""
        digest = self.digests.setdefault(host.applied, host.digest)
        assert digest == host.digest, f"states differ at {host.applied}"
        core = host.core
        if core.members_index <= host.applied:  # else a snapshot is on its way
            members = self.members.setdefault(host.applied, core.members)
            assert members == core.members, f"members differ at {host.applied}"

    def check(self, host: "Host") -> None:
        """After a step of that node."""
        if host.raft is None:
            return
        core, log = host.core, host.core.log
        role = host.raft._role.name
        term, commit, applied = self.seen.get(host.node, (0, 0, 0))
        assert core.term >= term, "a term decreased"
        assert log.commit >= commit, "a commit index decreased"
        assert log.applied >= applied, "an applied index decreased"
        self.seen[host.node] = (core.term, log.commit, log.applied)
        if role == "leader" and self.leaders.get(core.term) != host.node:
            other = self.leaders.setdefault(core.term, host.node)
            assert other == host.node, f"two leaders in term {core.term}: {other}, {host.node}"
            self._check_completeness(host)
        if log.commit > self.commit:
            self._check_commit(host)
        self.steps += 1
        if self.steps % 200 == 0:
            self.check_all()

    def _check_completeness(self, host: "Host") -> None:
        """Leader completeness: a new leader's log has everything committed before."""
        log = host.core.log
        for index, term in self.commit_terms.items():
            if index > log.anchor_index:
                assert log.term(LogIndex(index)) == term, (
                    f"leader {host.node} of term {host.core.term} lacks committed {index}@{term}"
                )

    def _check_commit(self, host: "Host") -> None:
        """What is committed first here is durable on a majority now."""
        log = host.core.log
        for index in range(self.commit + 1, log.commit + 1):
            term = log.term(LogIndex(index))
            if term is None:  # a snapshot stands in for it; then it was counted elsewhere
                continue
            self.commit_terms[index] = term
            members = host.core.members
            for half in filter(None, (members.voters, members.outgoing)):
                holders = [
                    node for node in half if self.network.hosts[node].disk.holds(index, term)
                ]
                assert len(holders) * 2 > len(half), (
                    f"node {host.node} committed {index}@{term}, durable on {holders} of {half}"
                )
        self.commit = log.commit

    def check_all(self) -> None:
        """The invariants that cost time linear in the logs."""
        live = [self.network.hosts[node] for node in self.network.up()]
        for host in live:
            host.core.log.check()
            self._check_match(host)
        for one in live:
            for two in live:
                if one.node < two.node:
                    check_log_matching(one, two)

    def _check_match(self, host: "Host") -> None:
        """A leader believes of no follower more than is on that follower's disk."""
        for node, peer in host.raft.status().peers.items():
            other = self.network.hosts[node]
            if other.raft is None or other.core.term != host.core.term:
                continue
            term = host.core.log.term(peer.match)
            assert not term or other.disk.holds(peer.match, term), (
                f"leader {host.node} thinks node {node} holds {peer.match}@{term}"
            )


def check_log_matching(one: "Host", two: "Host") -> None:
    """Raft figure 3: if two logs have an entry of equal index and term, all before are equal."""
    a, b = one.core.log, two.core.log
    matched = False
    low = max(a.anchor_index, b.anchor_index)
    for index in range(min(a.last_index, b.last_index), low, -1):
        left, right = a._entries[index - a.anchor_index - 1], b._entries[index - b.anchor_index - 1]
        if left.term == right.term:
            matched = True
            assert left.data == right.data, f"entry {index} differs at equal term {left.term}"
        assert not matched or left.term == right.term, f"logs differ below a match, at {index}"
