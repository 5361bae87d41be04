"""What may take long (a first filter, a sorted order of ids) runs on a thread, not on the loop."""

import threading
from collections import defaultdict

import pytest

from balsadb.client import Client
from balsadb.database import Database

FILTER = {"must": [{"key": "k", "match": {"value": 1}}]}


@pytest.fixture
def client():
    with Client(path=":memory:") as opened:
        opened.create_collection("c", {"size": 2, "distance": "Dot"})
        opened.upsert("c", [{"id": 1, "vector": [1.0, 2.0], "payload": {"k": 1}}])
        yield opened


def test_a_large_upsert_is_prepared_on_a_thread(client, monkeypatch):
    threads = []
    prepare = Database.prepare

    def watched(self, *arguments):
        threads.append(threading.current_thread().name.partition("_")[0])
        return prepare(self, *arguments)

    monkeypatch.setattr(Database, "prepare", watched)
    for count in (1_024, 1_025):
        client.upsert("c", [{"id": at, "vector": [1.0, 2.0]} for at in range(count)])
    assert threads == ["balsadb-engine", "read"]


def test_where_the_work_is_done(client, monkeypatch):
    threads = defaultdict(set)

    def watch(name):
        method = getattr(Database, name)

        def watched(self, *arguments, **options):
            threads[name].add(threading.current_thread().name.partition("_")[0])
            return method(self, *arguments, **options)

        monkeypatch.setattr(Database, name, watched)

    for name in ("prepare", "info", "scroll", "count", "query"):
        watch(name)
    client.upsert("c", [{"id": 2, "vector": [1.0, 2.0]}])
    client.query("c", [1.0, 1.0])
    assert threads == {"prepare": {"balsadb-engine"}, "query": {"balsadb-engine"}}
    threads.clear()
    client.set_payload("c", {"x": 1}, filter=FILTER)
    client.delete("c", filter=FILTER)
    client.get_collection("c")
    client.scroll("c")
    client.count("c", filter=FILTER)
    client.query("c", [1.0, 1.0], filter=FILTER)
    assert set(threads) == {"prepare", "info", "scroll", "count", "query"}
    assert set.union(*threads.values()) == {"read"}
