"""Members come, get a vote, move and go, while writes and searches run."""

from pathlib import Path

import pytest

from balsadb.cli import films
from balsadb.cli.failover import Searcher, Writer
from balsadb.client import Client
from balsadb.errors import AlreadyExists, InvalidInput, NotFound, NotReady
from tests.chaos.clusters import Newcomer, figures, leader_of, missing_on, running, wait_for

pytestmark = pytest.mark.chaos

COLLECTION = "films"


def lag_of(client: Client, node: int) -> int | None:
    return next(one["lag"] for one in client.members() if one["id"] == node)


def test_two_come_and_two_go_under_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The newcomers get a checkpoint, not the whole log.
    monkeypatch.setenv("BALSADB_CHECKPOINT_LOG_BYTES", str(1 << 20))
    monkeypatch.setenv("BALSADB_LOG_TAIL_BYTES", str(128 << 10))
    found = films.load()
    with running(tmp_path, 3) as cluster:
        urls = [node.url for node in cluster.nodes]
        with Client(urls) as client:
            client.create_collection(COLLECTION, {"size": 128, "distance": "Cosine"})
            client.upload(COLLECTION, found.vectors[:6_000], payloads=found.payloads[:6_000])
        newcomers = [Newcomer(cluster, 4), Newcomer(cluster, 5)]
        everybody = [*urls, *(node.url for node in newcomers)]
        writer = Writer(everybody, COLLECTION, found.vectors)
        searcher = Searcher(urls[0], COLLECTION, found.vectors)
        try:
            with Client(everybody) as client:
                for node in newcomers:
                    node.start()  # it is taken in by the member that it asks
                    wait_for(node.is_ready, 60)
                    wait_for(lambda number=node.number: (lag_of(client, number) or 0) < 100, 60)
                    client.promote_member(node.number)
                roles = {one["id"]: one["role"] for one in client.members()}
                assert roles == dict.fromkeys(range(1, 6), "voter")
                searcher_ended = searcher.stop()
                leader = leader_of(cluster)
                other = next(node for node in cluster.nodes if node is not leader)
                for gone in (other, leader):
                    client.remove_member(gone.number)
                    wait_for(lambda gone=gone: not gone.is_ready(), 20)
                    gone.kill()
                left = {one["id"]: one["role"] for one in client.members()}
                assert left == dict.fromkeys(
                    {1, 2, 3, 4, 5} - {other.number, leader.number}, "voter"
                )
                written = writer.stop()
                assert searcher_ended.errors == []
                assert written.errors == []
                assert len(written.times) > 50
                stay = [node for node in cluster.nodes if node not in (other, leader)]
                commit = max(figures(node)["commit"] for node in [*stay, *newcomers])
                for node in [*stay, *newcomers]:
                    wait_for(lambda node=node: figures(node)["applied"] >= commit, 60)
                    assert missing_on(node, COLLECTION, [*range(6_000), *writer.written]) == []
                assert client.verify()["equal"]
                # The new ones are a majority of their own: one of them may die.
                newcomers[0].kill()
                client.upsert(COLLECTION, [{"id": 7, "vector": found.vectors[7].tolist()}])
        finally:
            for node in newcomers:
                node.kill()


def test_what_an_operator_may_not_do(tmp_path: Path) -> None:
    with running(tmp_path, 3) as cluster:
        newcomer = Newcomer(cluster, 4)
        with Client([node.url for node in cluster.nodes]) as client:
            before = client.members()
            taken = before[1]["address"]
            for error, act in (
                (AlreadyExists, lambda: client.add_member(2, "127.0.0.1:9")),
                (AlreadyExists, lambda: client.add_member(4, taken)),
                (InvalidInput, lambda: client.add_member(4, "nowhere")),
                (InvalidInput, lambda: client.add_member(4, "a b:7")),
                (InvalidInput, lambda: client.add_member(0, "127.0.0.1:9")),
                (NotFound, lambda: client.promote_member(4)),
                (NotFound, lambda: client.remove_member(9)),
                (NotFound, lambda: client.move_member(9, "127.0.0.1:9")),
                (InvalidInput, lambda: client.transfer(9)),
            ):
                with pytest.raises(error):
                    act()
            assert [one["id"] for one in client.members()] == [one["id"] for one in before]
            client.promote_member(1)  # it votes: what holds already is no error
            for _ in range(2):
                client.add_member(4, newcomer.address)
            assert len(client.members()) == 4
            with pytest.raises(NotReady, match="not reached"):
                client.promote_member(4)  # it does not run
            down = next(node for node in cluster.nodes if node is not leader_of(cluster))
            down.kill()
            up = next(n for n in cluster.nodes if n not in (down, leader_of(cluster)))
            wait_for(lambda: not active(client, down.number), 20)
            with pytest.raises(InvalidInput, match="no majority"):
                client.remove_member(up.number)
            client.remove_member(down.number)
            down.start()
            wait_for(lambda: "removed" in down.log_file.read_text(), 30)
            assert not down.is_ready()
            down.kill()
            with pytest.raises(InvalidInput, match="never used again"):
                client.add_member(down.number, "127.0.0.1:9")


def active(client: Client, node: int) -> bool:
    return bool(next(one["active"] for one in client.members() if one["id"] == node))


def test_a_member_moves_to_another_address(tmp_path: Path) -> None:
    with running(tmp_path, 3) as cluster:
        first, second = Newcomer(cluster, 4), None
        try:
            with Client([node.url for node in cluster.nodes]) as client:
                first.start()
                wait_for(first.is_ready, 60)
                wait_for(lambda: (lag_of(client, 4) or 0) < 100, 30)
                client.promote_member(4)
                client.transfer(4)
                assert figures(first)["role"] == "leader"
                first.kill()
                second = Newcomer(cluster, 4)
                client.move_member(4, second.address)
                second.start()
                wait_for(second.is_ready, 60)
                assert {one["id"]: one["address"] for one in client.members()}[4] == second.address
        finally:
            for node in filter(None, (first, second)):
                node.kill()
