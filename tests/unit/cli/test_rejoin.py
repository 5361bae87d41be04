"""`balsadb node rejoin`: what is refused, what is changed, and that it may be repeated."""

from pathlib import Path
from typing import Any

import pytest

from balsadb.cli.rejoin import Plan, carry_out, next_steps, plan_of
from balsadb.cluster.settings import NodeSettings
from balsadb.errors import (
    AlreadyExists,
    DataDirInUse,
    InvalidInput,
    NewerFormat,
    OutcomeUnknown,
    QuorumLost,
)
from balsadb.storage import DataDir, RealFiles
from balsadb.types import ClusterId, NodeId

MEMBERS = {1: "a:1", 2: "b:1", 3: "c:1"}


class FakeCluster:
    """A cluster as a member tells of it."""

    def __init__(self, members: dict[int, str] | None = None) -> None:
        self.now = dict(MEMBERS if members is None else members)
        self.removed: list[int] = []
        self.asked: list[str] = []
        self.fails: dict[str, Exception] = {}

    def members(self) -> list[dict[str, Any]]:
        return [{"id": node, "address": address} for node, address in self.now.items()]

    def cluster(self) -> dict[str, Any]:
        return {"balsadb": {"removed": self.removed}}

    def add_member(self, node: int, address: str) -> None:
        self._ask("add")
        if address in self.now.values():
            raise AlreadyExists("the address is taken")
        self.now[node] = address

    def remove_member(self, node: int, *, force: bool = False) -> None:
        self._ask(f"remove{' by force' if force else ''}")
        del self.now[node]
        self.removed.append(node)

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if what in self.fails:
            raise self.fails[what]


def node_dir(folder: Path, node: int = 3) -> Path:
    """The data directory of a node, as its first start left it."""
    DataDir.open(RealFiles(str(folder)), NodeId(node), ClusterId(7), lambda: 99).close()
    return folder


def plan(folder: Path, **changes: Any) -> Plan:
    return Plan(**{"old": 3, "new": 4, "address": "c:1", "data": folder, **changes})


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "LOCK"
    }


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_directory_is_moved_and_the_new_id_takes_the_place_of_the_old(tmp_path: Path) -> None:
    data, cluster, said = node_dir(tmp_path / "node3"), FakeCluster(), []
    before = content(data)
    carry_out(plan(data), cluster, said.append)
    assert cluster.asked == ["remove", "add"]
    assert cluster.now == {1: "a:1", 2: "b:1", 4: "c:1"}
    assert names(tmp_path) == ["node3.node3-set-aside"]
    assert content(tmp_path / "node3.node3-set-aside") == before
    assert said[-1] == "node 4 at c:1 is a learner"


def test_it_may_be_repeated_at_any_step(tmp_path: Path) -> None:
    data, cluster = node_dir(tmp_path / "node3"), FakeCluster()
    cluster.fails["add"] = QuorumLost("later")
    with pytest.raises(QuorumLost):
        carry_out(plan(data), cluster, lambda _: None)
    cluster.fails.clear()
    for _ in range(2):
        carry_out(plan(data), cluster, lambda _: None)
    assert cluster.asked == ["remove", "add", "add"]
    assert names(tmp_path) == ["node3.node3-set-aside"]


def test_a_second_time_the_directory_gets_another_name(tmp_path: Path) -> None:
    for turn in range(3):
        data = node_dir(tmp_path / "node3")
        carry_out(plan(data), FakeCluster(), lambda _: None)
        assert len(names(tmp_path)) == turn + 1
    assert names(tmp_path)[1:] == ["node3.node3-set-aside-2", "node3.node3-set-aside-3"]


def test_what_the_cluster_refuses_changes_nothing(tmp_path: Path) -> None:
    data, cluster = node_dir(tmp_path / "node3"), FakeCluster()
    before = content(data)
    cluster.fails["remove"] = InvalidInput("node", "no majority")
    with pytest.raises(InvalidInput, match="no majority"):
        carry_out(plan(data), cluster, lambda _: None)
    assert content(data) == before
    assert names(tmp_path) == ["node3"]
    assert cluster.now == MEMBERS
    carry_out(plan(data, force=True), cluster, lambda _: None)
    assert "remove by force" in cluster.asked


def test_a_removal_of_unknown_outcome_is_not_undone(tmp_path: Path) -> None:
    """It may have happened: the old directory must not be started again."""
    data, cluster = node_dir(tmp_path / "node3"), FakeCluster()
    cluster.fails["remove"] = OutcomeUnknown("no answer")
    with pytest.raises(OutcomeUnknown):
        carry_out(plan(data), cluster, lambda _: None)
    assert names(tmp_path) == ["node3.node3-set-aside"]


def test_a_number_in_use_is_refused_first(tmp_path: Path) -> None:
    data, cluster = node_dir(tmp_path / "node3"), FakeCluster()
    for new in (1, 2):
        with pytest.raises(AlreadyExists, match=f"node {new} is a member already"):
            carry_out(plan(data, new=new), cluster, lambda _: None)
    assert (cluster.asked, names(tmp_path)) == ([], ["node3"])


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"address": "b:1"}, AlreadyExists, "b:1 already exists: node 2 has it"),
        ({"new": 7}, InvalidInput, "--new-id: node 7 was removed from this cluster for good"),
        ({"new": 1, "address": "a:1"}, AlreadyExists, "node 1 is a member already, at a:1"),
    ],
)
def test_what_the_cluster_would_refuse_later_is_refused_first(
    tmp_path: Path, changes: dict[str, Any], error: type[Exception], said: str
) -> None:
    """When the old id is gone it is too late: it never comes back."""
    data, cluster = node_dir(tmp_path / "node3"), FakeCluster()
    told: list[str] = []
    cluster.removed.append(7)
    before = content(data)
    with pytest.raises(error, match=said):
        carry_out(plan(data, **changes), cluster, told.append)
    assert (cluster.asked, cluster.now, told) == ([], MEMBERS, [])
    assert names(tmp_path) == ["node3"]
    assert content(data) == before


@pytest.mark.parametrize("address", ["bogus", "c:", ":1", "c:99999", "http://c:1"])
def test_what_is_no_address_is_refused_before_anybody_is_asked(
    tmp_path: Path, address: str
) -> None:
    settings = NodeSettings(node=3, members=MEMBERS, data=str(tmp_path))
    with pytest.raises(InvalidInput, match="--address: must be host:port, not"):
        plan_of(settings, 4, address)


def test_a_directory_in_use_or_of_others_stays_where_it_is(tmp_path: Path) -> None:
    cluster, data = FakeCluster(), node_dir(tmp_path / "node3")
    lock = RealFiles(str(data)).lock("LOCK")
    with pytest.raises(DataDirInUse):
        carry_out(plan(data), cluster, lambda _: None)
    lock.release()
    other = node_dir(tmp_path / "node2", 2)
    with pytest.raises(InvalidInput, match="the directory of node 2, not of node 3"):
        carry_out(plan(other), cluster, lambda _: None)
    again = node_dir(tmp_path / "node4", 4)
    with pytest.raises(InvalidInput, match="joined anew"):
        carry_out(plan(again), cluster, lambda _: None)
    assert cluster.asked == []
    assert names(tmp_path) == ["node2", "node3", "node4"]


def test_a_directory_of_a_newer_version_is_not_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("balsadb.storage.datadir.FORMAT_VERSION", 2)
        data = node_dir(tmp_path / "node3")
    cluster = FakeCluster()
    with pytest.raises(NewerFormat):
        carry_out(plan(data), cluster, lambda _: None)
    assert (cluster.asked, names(tmp_path)) == ([], ["node3"])


@pytest.mark.parametrize("damage", ["identity gone", "identity rotten", "all gone", "no directory"])
def test_any_damage_will_do(tmp_path: Path, damage: str) -> None:
    data, cluster = tmp_path / "node3", FakeCluster()
    if damage != "no directory":
        node_dir(data)
    if damage == "identity gone":
        (data / "IDENTITY").unlink()
    elif damage == "identity rotten":
        (data / "IDENTITY").write_bytes(b"{}")
    elif damage == "all gone":
        for path in sorted(data.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
    carry_out(plan(data), cluster, lambda _: None)
    assert cluster.now[4] == "c:1"
    assert not data.exists() or names(data) == []


def test_the_plan_is_made_of_the_settings(tmp_path: Path) -> None:
    settings = NodeSettings(node=3, members=MEMBERS, data=str(tmp_path))
    assert plan_of(settings, 4, None) == plan(tmp_path)
    assert plan_of(settings, 4, "d:9").address == "d:9"
    joined = NodeSettings(node=5, join="a:1", peer_host="e", peer_port=9)
    assert plan_of(joined, 6, None).address == "e:9"
    for bad, new, field in ((settings, 3, "--new-id"), (settings, 0, "--new-id")):
        with pytest.raises(InvalidInput, match=field):
            plan_of(bad, new, None)
    with pytest.raises(InvalidInput, match="--config"):
        plan_of(NodeSettings(node=3), 4, None)


def test_the_next_steps_are_commands(tmp_path: Path) -> None:
    flags, others = ["--config", "/etc/my node.toml"], ["a:1", "b:1"]
    said = next_steps(plan(tmp_path), flags, others, "http://a:6333")
    assert "  balsadb serve --config '/etc/my node.toml' --node 4 --join a:1,b:1" in said
    assert "  balsadb cluster promote 4 --url http://a:6333" in said
