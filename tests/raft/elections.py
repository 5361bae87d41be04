"""Seeds of short reigns: the faults aim at elections, where general chance seldom meets.

A vote that left before its disk had it does harm only if that node dies within the write and is
asked again in the same term; an old entry that was committed by counting, only if the leader dies
between two messages and a rival of a term between leads next (figure 8 of the Raft paper). So disks
are slow, messages carry one entry, who dies is a node that is writing or has just begun to lead,
and it is back before the next election is over.
"""

from functools import partial

from balsadb.raft import Message, VoteResponse
from tests.raft.simulation import Simulation, run_simulation
from tests.seeds import Run


class Elections(Simulation):
    """Times as in `Simulation`. The second phase, without faults, is the same."""

    safety_time = 1800

    def _draw_knobs(self) -> None:
        super()._draw_knobs()
        draw = self.random
        self._nodes = range(1, draw.choice([3, 5, 5]) + 1)
        self._strangers, self._changing = [], 0
        self._delay = draw.choice([4, 10, 20])
        self._fsync = draw.choice([5, 30, 100])
        self._crash = draw.choice([0.2, 0.5])
        self._cutting = draw.choice([0.1, 0.3])
        self._client_pace = draw.choice([15, 60])
        self._checkpoint = 0
        self._election_ticks = 4
        self._options |= {
            "message_bytes_max": 64,
            "inflight_max": 1,
            "pre_vote": draw.random() < 0.1,
            "check_quorum": draw.random() < 0.3,
        }

    def _sent(self, message: Message) -> None:
        super()._sent(message)
        body = message.body
        given = isinstance(body, VoteResponse) and not body.rejected
        if self._faulty and given and self.random.random() < 0.2:
            # Some time within the write that the vote is in, or just after it, its node dies; then
            # it is asked by another in that term.
            self._later(self.random.randrange(4), partial(self._crash_up, message.source))
            self._later(10 + self.random.randrange(20), partial(self._rival, message.term))

    def _crash_up(self, node: int) -> None:
        if self._faulty and self.network.is_up(node):
            self._crash_node(node)

    def _rival(self, term: int) -> None:
        """Somebody who has not seen the term campaigns in it."""
        behind = [n for n in self.network.up() if self.network[n].status().term == term - 1]
        if self._faulty and behind:
            self.faults["rival campaign"] += 1
            self.network[self.random.choice(behind)].campaign()

    def _fault(self) -> None:
        if not self._faulty:
            return
        draw, network = self.random, self.network
        up = network.up()
        writing = [node for node in up if network.hosts[node].unpersisted]
        leading = [node for node in up if network.is_leader(node)]
        if draw.random() < self._crash and len(up) > 1:
            self._crash_node(draw.choice(draw.choice([writing, leading]) or up))
        if draw.random() < self._cutting:
            self._cut(draw.choice(leading or up or list(network.hosts)))
        if network.up() and draw.random() < 0.2:
            self.faults["campaign"] += 1
            network[draw.choice(network.up())].campaign()
        self._later(2 + draw.randrange(20), self._fault)

    def _time_down(self) -> int:
        return 1 + self.random.randrange(self.random.choice([3, 40, 200]))


def run_seed(seed: int) -> Run:
    """Both phases of a seed; raises what it finds."""
    return run_simulation(Elections(seed))
