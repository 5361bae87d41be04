"""What an operator may do to the members: the rules, on a leader of three fed by hand."""

import asyncio
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from balsadb.cluster import membership
from balsadb.cluster.effects import Committed, Failed
from balsadb.cluster.frames import Packet, Refused
from balsadb.cluster.service import ClusterService
from balsadb.cluster.settings import NodeSettings
from balsadb.cluster.workers import Pulse
from balsadb.errors import (
    AlreadyExists,
    BalsaError,
    InvalidInput,
    NotFound,
    NotLeader,
    NotReady,
)
from balsadb.raft import (
    AppendResponse,
    Change,
    Heartbeat,
    HeartbeatResponse,
    Members,
    MembersChange,
)
from balsadb.types import DiskId, GroupId, LogIndex, NodeId
from tests.unit.cluster.test_bounds import leader_of_three, reply
from tests.unit.cluster.test_driver import CLUSTER, Host

PLACES = {NodeId(1): "a:1", NodeId(2): "b:1", NodeId(3): "c:1"}
FOUR = NodeId(4)


class Operator:
    """Changes members through the driver; the two followers acknowledge at once."""

    def __init__(self) -> None:
        self.host = leader_of_three()
        self.driver = self.host.driver
        self.places = dict(PLACES)
        self._tokens: Iterator[int] = iter(range(1000, 2000))

    def acknowledge(self, *nodes: int) -> None:
        last = LogIndex(self.driver.raft.status().last_index)
        for node in nodes:
            reply(self.host, node, AppendResponse(last))

    def propose(self, make: Callable[[], MembersChange]) -> int:
        token = next(self._tokens)
        self.driver.change_members(token, make, deadline_ticks=100)
        self.host.settle()
        return token

    def change(self, make: Callable[[], MembersChange], by: tuple[int, ...] = (2, 3)) -> None:
        """Raises what was answered; returns once it is applied."""
        before = self.driver.raft.status(), self.driver.admission.members.encode()
        token = self.propose(make)
        answer = self.host.answers.get(token)
        if isinstance(answer, Failed):
            after = self.driver.raft.status(), self.driver.admission.members.encode()
            assert after == before, "a refusal changes nothing"
            raise answer.error
        self.acknowledge(*by)
        assert isinstance(self.host.answers[token], Committed)

    def add(self, node: int, address: str) -> None:
        self.change(lambda: membership.adding(self.driver, self.places, node, address))
        self.places[NodeId(node)] = address

    def remove(self, node: int, *, force: bool = False) -> None:
        by = (2,) if self.roles.voters == (1, 2) or node == 3 else (2, 3)
        self.change(lambda: membership.removing(self.driver, node, force=force), by)

    @property
    def roles(self) -> Members:
        return self.driver.raft.members


@pytest.fixture
def operator() -> Operator:
    return Operator()


def test_a_node_comes_as_a_learner_with_its_address(operator: Operator) -> None:
    operator.add(4, "d:1")
    assert operator.roles == Members.of([1, 2, 3], (), [4])
    assert operator.driver.admission.members.addresses == {4: "d:1"}
    assert operator.driver.status()["peers"][4]["lag"] > 0


@pytest.mark.parametrize(
    ("node", "address", "error", "text"),
    [
        (2, "d:1", AlreadyExists, "node 2 .*already"),
        (1, "d:1", AlreadyExists, "node 1 .*already"),
        (4, "b:1", AlreadyExists, "node 2 has"),
        (4, "a:1", AlreadyExists, "node 1 has"),
        (0, "d:1", InvalidInput, "id: must be 1 to"),
        (-4, "d:1", InvalidInput, "id: must be 1 to"),
        (10**9, "d:1", InvalidInput, "id: must be 1 to"),
        (4, "", InvalidInput, "address: must be host:port"),
        (4, "d", InvalidInput, "address: must be host:port"),
        (4, ":1", InvalidInput, "address: must be host:port"),
        (4, "d:", InvalidInput, "address: must be host:port"),
        (4, "d:0", InvalidInput, "address: must be host:port"),
        (4, "d:65536", InvalidInput, "address: must be host:port"),
        (4, "d:-1", InvalidInput, "address: must be host:port"),
        (4, "d:\u0661", InvalidInput, "address: must be host:port"),
        (4, "d e:1", InvalidInput, "address: must be host:port"),
        (4, "http://d:1", InvalidInput, "address: must be host:port"),
        (4, "d\n:1", InvalidInput, "address: must be host:port"),
        (4, "x" * 300 + ":1", InvalidInput, "address: must be host:port"),
    ],
)
def test_an_id_or_address_in_use_or_impossible_is_refused(
    operator: Operator, node: int, address: str, error: type[BalsaError], text: str
) -> None:
    with pytest.raises(error, match=text) as caught:
        operator.add(node, address)
    assert len(str(caught.value)) < 500
    assert operator.roles == Members.of([1, 2, 3])


@pytest.mark.parametrize("address", ["d:65535", "10.0.0.4:7000", "[::1]:7000", "node-4.example:1"])
def test_addresses_of_every_kind_are_taken(operator: Operator, address: str) -> None:
    operator.add(4, address)
    assert operator.driver.admission.members.addresses == {4: address}


def test_a_member_moves_but_not_to_where_another_is(operator: Operator) -> None:
    driver, places = operator.driver, operator.places
    operator.change(lambda: membership.moving(driver, places, 2, "e:1"))
    assert driver.admission.members.addresses == {2: "e:1"}
    places[NodeId(2)] = "e:1"
    operator.change(lambda: membership.moving(driver, places, 2, "e:1"))
    for node, address, error, text in (
        (2, "c:1", AlreadyExists, "node 3 has"),
        (4, "f:1", NotFound, "node 4 is not a member; there are 1, 2, 3"),
        (2, "nowhere", InvalidInput, "must be host:port"),
    ):
        with pytest.raises(error, match=text):
            operator.change(lambda n=node, a=address: membership.moving(driver, places, n, a))
    assert operator.roles == Members.of([1, 2, 3])


def test_a_learner_is_promoted_once_it_has_caught_up(operator: Operator) -> None:
    driver, host = operator.driver, operator.host

    def promote() -> None:
        operator.change(lambda: membership.promoting(driver, 4))

    with pytest.raises(NotFound, match="node 4 is not a member"):
        promote()
    operator.add(4, "d:1")
    with pytest.raises(NotReady, match="node 4 is not reached"):
        promote()
    operator.acknowledge(4)
    caught_up_at = driver.raft.status().last_index
    lag = membership.PROMOTION_LAG_MAX + 1
    driver.propose(1, [b""] * lag, deadline_ticks=100)
    host.settle()
    operator.acknowledge(2, 3)
    assert driver.raft.status().last_index == caught_up_at + lag
    with pytest.raises(NotReady, match=f"lags {lag} entries behind") as caught:
        promote()
    assert caught.value.retryable
    assert operator.roles.learners == (4,)
    reply(host, 4, AppendResponse(LogIndex(caught_up_at + 1)))
    promote()
    assert operator.roles == Members.of([1, 2, 3, 4])
    with pytest.raises(AlreadyExists, match="node 4 votes already"):
        promote()


def silence(operator: Operator, node: int, other: int) -> None:
    """One check of the quorum later, `node` was not heard and `other` was."""
    for _ in range(operator.driver.options.election_ticks):
        operator.driver.tick()
        operator.host.settle()
        reply(operator.host, other, HeartbeatResponse())
    assert operator.driver.is_leader
    peers = operator.driver.raft.status().peers
    assert [peers[NodeId(n)].recent_active for n in (node, other)] == [False, True]


def test_a_removal_that_would_lose_the_quorum_is_refused_unless_forced(
    operator: Operator,
) -> None:
    silence(operator, 3, other=2)
    with pytest.raises(InvalidInput, match="without node 2 only 1 of 2 voters are reached"):
        operator.remove(2)
    assert operator.roles == Members.of([1, 2, 3])
    token = operator.propose(lambda: membership.removing(operator.driver, 2, force=True))
    assert not isinstance(operator.host.answers.get(token), Failed)
    operator.acknowledge(2)
    assert operator.roles == Members.of([1, 3])


def test_the_one_that_is_not_reached_may_go(operator: Operator) -> None:
    silence(operator, 3, other=2)
    operator.remove(3)
    assert operator.roles == Members.of([1, 2])
    with pytest.raises(NotFound, match="node 3 is not a member; there are 1, 2"):
        operator.remove(3)


def test_the_last_voter_stays(operator: Operator) -> None:
    operator.remove(3)
    operator.remove(2, force=True)
    assert operator.roles == Members.of([1])
    with pytest.raises(InvalidInput, match="must keep a voter"):
        operator.change(lambda: membership.removing(operator.driver, 1, force=True), ())


def test_an_id_is_never_used_again(operator: Operator) -> None:
    operator.remove(3)
    for _ in range(2):
        with pytest.raises(InvalidInput, match="3 was removed, and an id is never used again"):
            operator.add(3, "d:1")
    assert operator.roles == Members.of([1, 2])
    # Its address is free, though.
    del operator.places[NodeId(3)]
    operator.change(lambda: membership.adding(operator.driver, operator.places, 4, "c:1"), by=(2,))
    assert operator.roles.learners == (4,)


def test_one_change_at_a_time_and_on_the_leader_only(operator: Operator) -> None:
    first = operator.propose(lambda: membership.adding(operator.driver, PLACES, 4, "d:1"))
    second = operator.propose(lambda: membership.adding(operator.driver, PLACES, 5, "e:1"))
    answer = operator.host.answers[second]
    assert isinstance(answer, Failed)
    assert isinstance(answer.error, NotReady)
    operator.acknowledge(2, 3)
    assert isinstance(operator.host.answers[first], Committed)
    assert operator.roles.learners == (4,)

    follower = Host(voters=3)
    follower.driver.change_members(7, MembersChange, deadline_ticks=5)
    follower.settle()
    assert isinstance(follower.answers[7].error, NotLeader)


def shell_of(driver: Any, refusals: dict[NodeId, str]) -> Any:
    """What a service sees of a shell."""
    return SimpleNamespace(
        driver=driver, refusals=refusals, on_ready=None, is_member=True, addresses=PLACES
    )


def ready_of(host: Host, refusals: dict[NodeId, str] | None = None) -> tuple[bool, str]:
    """What the service of a host says at `/readyz`."""
    shell = shell_of(host.driver, refusals or {})
    service = ClusterService(NodeSettings(), Pulse())
    service.bind(cast("Any", shell), cast("Any", None), cast("Any", None))
    try:
        return service.ready()
    finally:
        service.close()


def test_a_node_that_applies_its_own_removal_is_not_ready(operator: Operator) -> None:
    """The leader, which was ready until then."""
    host = operator.host
    for _ in range(operator.driver.options.heartbeat_ticks):
        operator.driver.tick()
        host.settle()
    rounds = [
        frame.body.read_round for _, _, frame in host.sent if isinstance(frame.body, Heartbeat)
    ]
    reply(host, 2, HeartbeatResponse(max(rounds)))
    assert ready_of(host) == (True, "all shards are ready")
    operator.remove(1)
    ready, reason = ready_of(operator.host)
    assert not ready
    assert reason.startswith("this node was removed from its cluster")
    assert operator.host.fatal is None


def test_a_node_that_is_told_of_its_removal_is_not_ready_and_stays() -> None:
    host = Host(voters=3)
    assert not ready_of(host)[0]
    assert ready_of(host, {NodeId(2): "403"}) == (False, "node 2 refuses this one: 403")
    body = Refused(DiskId(11), "node 1 was removed from this cluster", removed=True)
    host.driver.receive(Packet(CLUSTER, GroupId(0), NodeId(2), NodeId(1), DiskId(22), body))
    host.settle()
    ready, reason = ready_of(host)
    assert not ready
    assert reason.startswith("node 2 refuses this node: node 1 was removed")
    assert host.fatal is None, "it may still be needed for its vote"


def test_a_removed_node_answers_no_reads_and_hands_nothing_on(operator: Operator) -> None:
    operator.remove(1)

    async def scenario() -> None:
        shell = shell_of(operator.driver, {})
        service = ClusterService(NodeSettings(), Pulse())
        service.bind(cast("Any", shell), cast("Any", None), cast("Any", None))
        with pytest.raises(NotReady, match="was removed from its cluster"):
            await service.read(lambda database: None, local=False, timeout_s=1.0)
        with pytest.raises(NotReady, match="was removed"):
            await service.forward(cast("Any", None), 1.0)
        service.close()

    asyncio.run(scenario())


def test_a_change_names_roles_only(operator: Operator) -> None:
    """What goes into the log is what the rules allowed, nothing else."""
    change = membership.adding(operator.driver, PLACES, 4, "d:1")
    assert change.changes == (Change("learner", FOUR),)
    assert (change.transition, change.leaves_joint, change.enters_joint) == ("auto", False, False)
    assert membership.removing(operator.driver, 3, force=False).changes == (
        Change("remove", NodeId(3)),
    )
