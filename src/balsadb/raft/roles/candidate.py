"""The candidate, and the pre-candidate that first asks whether it could win."""

from balsadb.raft.core import Core
from balsadb.raft.messages import Message, VoteRequest, VoteResponse
from balsadb.raft.quorum import VoteResult, joint_vote
from balsadb.raft.roles.role import Campaign, CampaignKind, Follow, Lead, Role, Transition
from balsadb.types import NO_NODE, NodeId, Term


class Candidate(Role):
    """Role-only state: the votes. The conductor has set the term (and the vote for itself)."""

    name = "candidate"

    def __init__(self, core: Core, kind: CampaignKind) -> None:
        super().__init__(core)
        self._pre_vote = kind == "pre_vote"
        if self._pre_vote:
            self.name = "pre_candidate"
        self._timeout = core.draw_timeout()
        self._votes: dict[NodeId, bool] = {}
        self._ask(transfer=kind == "transfer")

    def _ask(self, *, transfer: bool) -> None:
        """Raft 5.2. The own vote too counts only once it is durable: it comes back by message."""
        core = self.core
        term = Term(core.term + 1) if self._pre_vote else core.term
        core.send(core.node, VoteResponse(pre_vote=self._pre_vote), term)
        log, commit = core.log, (core.log.commit, core.commit_term)
        body = VoteRequest(log.last_index, log.last_term, self._pre_vote, transfer, *commit)
        for node in core.other_voters():
            core.send(node, body, term)

    def tick(self) -> Transition | None:
        """Nobody won in time: try again."""
        self.election_elapsed += 1
        if self.election_elapsed < self._timeout:
            return None
        return Campaign("pre_vote" if self.core.options.pre_vote else "election")

    def step(self, message: Message) -> Transition | None:
        """Count votes of this kind of election; the first answer of a node stands."""
        body = message.body
        if not isinstance(body, VoteResponse) or body.pre_vote != self._pre_vote:
            return None
        self._votes.setdefault(message.source, not body.rejected)
        result = joint_vote(self.core.members, self._votes)
        if result is VoteResult.WON:
            return Campaign("election") if self._pre_vote else Lead()
        if result is VoteResult.LOST:
            return Follow(NO_NODE)
        return None
