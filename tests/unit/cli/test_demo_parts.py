"""The demo's arithmetic: gaps, checks, films."""

import os
import signal
import subprocess
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from balsadb.cli import demo, films
from balsadb.cli.failover import Outcome
from balsadb.cli.local_cluster import ClusterPlan, LocalCluster
from balsadb.cli.report import Report
from balsadb.errors import InvalidInput


def test_the_gap_is_the_longest_pause_that_ends_after_the_kill() -> None:
    outcome = Outcome([0.0, 5.0, 5.1, 6.3, 6.4], [])
    assert outcome.gap_ms(5.05) == pytest.approx(1200)
    assert outcome.gap_ms(6.35) == pytest.approx(100)
    assert outcome.count_after(5.05) == 3


def test_no_success_after_the_kill_is_an_endless_gap() -> None:
    assert Outcome([0.0, 1.0], []).gap_ms(2.0) == float("inf")
    assert Outcome([], []).gap_ms(0.0) == float("inf")


def test_a_report_holds_only_if_every_check_held() -> None:
    report = Report()
    assert not report.ok
    report.check("one", True, "fine")
    assert report.ok
    report.note("how fast", "very")
    assert report.ok
    report.check("two", False, "not fine")
    report.figures["gap_ms"] = 12
    assert not report.ok
    found = msgspec.json.decode(report.to_json())
    assert (found["ok"], found["figures"]) == (False, {"gap_ms": 12})
    assert [check["name"] for check in found["checks"]] == ["one", "how fast", "two"]
    console = Console(record=True, width=100)
    report.show(console)
    shown = console.export_text()
    assert "FAILED" in shown
    assert "Not all held." in shown


def test_a_child_that_outlives_its_node_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "GONE_TIMEOUT_S", 0.5)
    cluster = LocalCluster(tmp_path, ClusterPlan.on_free_ports(1))
    command = ["sh", "-c", "sleep 60 & echo $!"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as node:
        assert node.stdout is not None
        child = int(node.stdout.readline())
        cluster.nodes[0].sessions.append(node.pid)
        assert node.wait() == 0
        try:
            assert demo._left_running(cluster) == [child]
        finally:
            os.kill(child, signal.SIGKILL)
    assert demo._left_running(cluster) == []


def test_the_films_are_all_there() -> None:
    found = films.load()
    assert found.vectors.shape == (36_273, 128)
    assert len(found.payloads) == 36_273
    row = found.find("Rocky III", 1982)
    nearest = (found.vectors @ found.vectors[row]).argsort()[::-1][1]
    assert found.payloads[nearest]["title"] == "Rocky IV"
    with pytest.raises(InvalidInput):
        found.find("Rocky III", 1900)
