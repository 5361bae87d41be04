"""What a leader takes on stays bounded whichever of its parts is the slow one."""

from typing import Any

from balsadb.cluster.effects import Failed
from balsadb.cluster.performers import perform_wal
from balsadb.errors import Overloaded
from balsadb.raft import AppendResponse, Message, VoteRequest, VoteResponse
from balsadb.types import DiskId, LogIndex, NodeId, Term
from tests.simulation.register import Command, encode_command
from tests.unit.cluster.test_driver import CLUSTER, Host

LIMIT = 4000


def reply(host: Host, source: int, body: Any) -> None:
    term = host.driver.raft.status().term
    envelope = {"cluster": CLUSTER, "source_disk": DiskId(20 + source)}
    host.driver.receive(Message(NodeId(source), NodeId(1), Term(term), body, **envelope))
    host.settle()


def leader_of_three(**options: Any) -> Host:
    """Node 1 leads by the vote of node 2; both others hold its first entry."""
    host = Host(voters=3, **options)
    while not host.driver.is_leader:
        host.driver.tick()
        host.settle()
        asked = [frame.body for _, target, frame in host.sent if target == 2]
        host.sent.clear()
        for body in asked:
            if isinstance(body, VoteRequest):
                reply(host, 2, VoteResponse(pre_vote=body.pre_vote))
    for node in (2, 3):
        reply(host, node, AppendResponse(LogIndex(1)))
    return host


def test_a_slow_log_of_the_leader_is_not_outrun_by_its_followers() -> None:
    """They commit without it; what waits for its sync becomes one batch, which has a maximum."""
    host = leader_of_three(uncommitted_bytes_max=LIMIT)
    host.hold_wal = True
    for token in range(1, 100):
        data = encode_command(Command(0, token, 0, token, bytes(200)))
        host.driver.propose(token, [data], deadline_ticks=1000)
        host.settle()
        last = LogIndex(host.driver.raft.status().last_index)
        for node in (2, 3):
            reply(host, node, AppendResponse(last))
    assert host.driver.raft.status().uncommitted_bytes == 0
    assert host.driver.writer.waiting_bytes <= LIMIT + 300
    refused = host.answers[99]
    assert isinstance(refused, Failed)
    assert isinstance(refused.error, Overloaded)
    host.hold_wal = False
    (work,) = host.held
    host.held.clear()
    perform_wal(host.boot.wal, work)
    host.driver.wal_done(work.number)
    host.settle()
    host.write(200)
    host.settle()
    assert 200 not in host.answers, "proposed"
    assert host.driver.writer.waiting_bytes == 0
