"""What one cut does, in a network of namespaces: who leads, what goes on, what is caught."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from pathlib import Path

import pytest

from balsadb.cli.local_cluster import LocalCluster, NodeProcess
from balsadb.client import Client, Options
from tests.chaos.clusters import client_of, figures, leader_of, networked, wait_for
from tests.chaos.load import PATIENT, SIZE, Writer, create
from tests.chaos.network import Network, remove_leftovers
from tests.chaos.recording import REGISTERS, Recorder, value_of
from tests.linearizability.models import Ask, check_recorded

pytestmark = pytest.mark.chaos

ELECTION_S = 1.0
"""The longest that a follower waits for a leader before it asks for votes."""
CUT_S = 10.0
GAP_S = 2.0
"""Between two writes, of a client whose pauses are short: less than a lost leader costs, more than
a busy machine."""
HEALED_S = 60.0


@pytest.fixture
def cluster(tmp_path: Path, network: Network) -> Generator[LocalCluster]:
    """Three nodes in the network, with a collection."""
    with networked(tmp_path, network) as three:
        create(three.nodes)
        yield three


def split(cluster: LocalCluster) -> tuple[NodeProcess, list[NodeProcess]]:
    leader = leader_of(cluster)
    return leader, [node for node in cluster.nodes if node is not leader]


def equal_in_the_end(cluster: LocalCluster) -> None:
    """Every node follows the same leader, and all hold the same."""
    wait_for(lambda: len({figures(node).get("leader") for node in cluster.nodes}) == 1, HEALED_S)
    with client_of(cluster.nodes, Options(timeout_s=HEALED_S)) as client:
        found = client.verify()
        assert found["equal"], found["differing"]
        assert len(found["nodes"]) == len(cluster.nodes)


def test_a_cut_has_a_direction(network: Network) -> None:
    def arrives(source: int, target: int) -> bool:
        with network.inside(target):
            listener = socket.socket(type=socket.SOCK_DGRAM)
            listener.bind((network.address(target), 9))
        with network.inside(source):
            sender = socket.socket(type=socket.SOCK_DGRAM)
        with listener, sender:
            listener.settimeout(0.5)
            sender.sendto(b"x", (network.address(target), 9))
            try:
                return listener.recv(9) == b"x"
            except TimeoutError:
                return False

    def seen() -> set[tuple[int, int]]:
        pairs = [(a, b) for a in network.numbers for b in network.numbers if a != b]
        return {pair for pair in pairs if arrives(*pair)}

    everything = seen()
    assert len(everything) == 6
    network.cut(1, 2)
    assert seen() == everything - {(1, 2)}
    network.cut_both(3, [1, 2])
    assert seen() == {(2, 1)}
    network.heal()
    assert seen() == everything
    network.unplug(2)
    assert seen() == {(1, 3), (3, 1)}
    network.plug(2)
    assert seen() == everything
    # Another process's network is not touched by the cleaning up.
    remove_leftovers()
    assert seen() == everything


def test_a_leader_cut_off_from_one_follower_stays(cluster: LocalCluster, network: Network) -> None:
    leader, (lonely, other) = split(cluster)
    term = figures(leader)["term"]
    writer = Writer([leader, other, lonely])
    try:
        wait_for(lambda: len(writer.times) > 10, 20)
        network.cut_both(leader.number, [lonely.number])
        began = time.monotonic()
        while time.monotonic() < began + CUT_S:
            for node in (leader, other):
                told = figures(node)
                assert (told["leader"], told["term"]) == (leader.number, term)
            time.sleep(0.2)
        written, gap_s = writer.count_since(began), writer.gap_s(began)
        left_out = figures(lonely)
        network.heal()
        # It comes back without an election.
        wait_for(lambda: figures(lonely).get("leader") == leader.number, HEALED_S)
        after_s = time.monotonic() - began - CUT_S
    finally:
        writer.stop()
    print(f"{written} writes in {CUT_S:g} s, longest gap {gap_s:.2f} s, back {after_s:.1f} s")
    assert left_out["leader"] == 0
    assert left_out["term"] == term
    assert written > 50
    assert gap_s < GAP_S
    assert {figures(node)["term"] for node in cluster.nodes} == {term}
    equal_in_the_end(cluster)


@pytest.mark.parametrize("way", ["hear", "send", "either"])
def test_a_leader_unable_to_hear_or_send_is_replaced(
    cluster: LocalCluster, network: Network, way: str
) -> None:
    writer = Writer(cluster.nodes)
    took: list[float] = []
    try:
        for _ in range(3):
            leader, others = split(cluster)
            for other in others:
                if way != "send":
                    network.cut(other.number, leader.number)
                if way != "hear":
                    network.cut(leader.number, other.number)
            took.append(new_leader_s(leader, others, time.monotonic()))
            # Nobody who is cut off thinks that it leads.
            wait_for(lambda node=leader: figures(node).get("role") != "leader", 5)
            network.heal()
            equal_in_the_end(cluster)
    finally:
        network.heal()
        writer.stop()
    print(f"leader unable to {way}: another after {', '.join(f'{s:.2f}' for s in took)} s")
    assert max(took) < 3 * ELECTION_S
    equal_in_the_end(cluster)


def new_leader_s(old: NodeProcess, others: Sequence[NodeProcess], began: float) -> float:
    """Seconds until the others follow another leader than the old one."""

    def agreed() -> bool:
        leaders = {figures(node).get("leader") for node in others}
        return len(leaders) == 1 and not leaders & {0, None, old.number}

    wait_for(agreed, 30)
    return time.monotonic() - began


def test_an_isolated_node_serves_nothing_stale_and_local_reads_would(
    cluster: LocalCluster, network: Network
) -> None:
    """The checker sees stale reads of real nodes: those that `local=True` asks for."""
    leader, others = split(cluster)
    recorder = Recorder()
    with client_of(others, PATIENT) as client, client_of(leader, Options(timeout_s=2)) as old:
        create(others, REGISTERS)
        write(recorder, client, 1)
        wait_for(lambda: value_of(old.with_options(local=True), REGISTERS, 1) == 1, 20)
        network.cut_both(leader.number, [node.number for node in others])
        wait_for(lambda: figures(others[0]).get("leader") not in (0, None, leader.number), 20)
        write(recorder, client, 2)
        for _ in range(3):
            recorder.record(2, Ask("read", 1), lambda: value_of(old, REGISTERS, 1))
        assert recorder.refused == 3
        assert check_recorded(recorder.history) is None
        local = old.with_options(local=True)
        recorder.record(2, Ask("read", 1), lambda: value_of(local, REGISTERS, 1))
        violation = check_recorded(recorder.history)
        assert violation is not None
        assert len(violation.longest) == 2


def write(recorder: Recorder, client: Client, value: int) -> None:
    point = {"id": 1, "vector": [1.0] * SIZE, "payload": {"value": value}}
    recorder.record(1, Ask("write", 1, value), lambda: client.upsert(REGISTERS, [point]))


def test_an_interrupted_run_leaves_nothing_for_the_next(network: Network) -> None:
    """A test process that is killed leaves its namespaces and nodes; the next removes them."""
    code = (
        "import time; from tests.chaos.network import Network; import subprocess\n"
        "network = Network(2)\n"
        "with network.up():\n"
        "    with network.inside(1):\n"
        "        child = subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
        "    print(child.pid, flush=True); time.sleep(600)\n"
    )
    run = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    with run:
        assert run.stdout is not None
        child = int(run.stdout.readline())
        names = f"bc{run.pid}"
        run.send_signal(signal.SIGKILL)
    assert names in shown()
    assert Path(f"/proc/{child}").exists()
    remove_leftovers()
    wait_for(lambda: names not in shown() and not Path(f"/proc/{child}").exists(), 10)


def shown() -> str:
    found = [["ip", "netns", "list"], ["ip", "-o", "link", "show"]]
    return "".join(
        subprocess.run(c, capture_output=True, text=True, check=True).stdout for c in found
    )
