"""Flags over environment over file over defaults, from one table."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from balsadb.cli import settings
from balsadb.cli.app import app
from balsadb.cluster.settings import NodeSettings
from balsadb.errors import InvalidInput
from balsadb.storage import WalOptions


def write(folder: Path, text: str) -> str:
    file = folder / "node.toml"
    file.write_text(text)
    return str(file)


def test_the_table_has_every_field_once() -> None:
    fields = [field.name for field in msgspec.structs.fields(NodeSettings)]
    assert sorted(setting.field for setting in settings.TABLE) == sorted(fields)
    assert len(settings.BY_KEY) == len(settings.TABLE) == len(settings.BY_FIELD)


def test_defaults_alone_are_the_documented_ones() -> None:
    assert settings.load({}, {}, None) == NodeSettings()


def test_each_source_wins_over_the_next(tmp_path: Path) -> None:
    file = write(tmp_path, "port = 1\npeer_port = 2\nnode = 3\ntick_ms = 100\n")
    environment = {"BALSADB_PORT": "11", "BALSADB_PEER_PORT": "12", "OTHER": "x"}
    found = settings.load({"port": 21, "host": None}, environment, file)
    assert (found.port, found.peer_port, found.node, found.tick_ms) == (21, 12, 3, 100)
    assert found.host == NodeSettings().host


def test_members_have_the_same_meaning_everywhere(tmp_path: Path) -> None:
    members = {1: "a:1", 2: "b:2"}
    file = write(tmp_path, '[initial_members]\n2 = "b:2"\n1 = "a:1"\n')
    assert settings.load({}, {}, file).members == members
    assert settings.load({}, {"BALSADB_INITIAL_MEMBERS": "2=b:2, 1=a:1"}, None).members == members
    assert settings.load({"members": "1=a:1,2=b:2"}, {}, None).members == members


@pytest.mark.parametrize(
    ("flags", "environment", "text", "field"),
    [
        ({"port": "x"}, {}, "", "--port"),
        ({"port": 70000}, {}, "", "port"),
        ({}, {"BALSADB_PORT": "sixty"}, "", "BALSADB_PORT"),
        ({}, {"BALSADB_INITIAL_MEMBERS": "1:a"}, "", "BALSADB_INITIAL_MEMBERS"),
        ({"members": "0=a:1"}, {}, "", "--initial-members"),
        ({"members": "1=a:1,1=b:1"}, {}, "", "--initial-members"),
        ({"members": "2=a:1"}, {}, "", "--initial-members"),
        ({}, {"BALSADB_INITIAL_MEMBERS": "2=a:1"}, "", "BALSADB_INITIAL_MEMBERS"),
        ({}, {}, "node = 2\n[initial_members]\n1 = 'a:1'", "node.toml: initial_members"),
        ({"members": "1=a:70000"}, {}, "", "--initial-members"),
        ({"members": "1=a:1,2=a:1"}, {}, "", "--initial-members"),
        ({"members": "1=a:1", "port": 7, "peer_port": 7}, {}, "", "--peer-port"),
        ({}, {}, "prot = 1", "prot"),
        ({}, {}, "port = 'x'", "port"),
        ({}, {}, "data = 1", "data"),
        ({}, {}, "port = ", "--config"),
        ({"host": "0.0.0.0"}, {}, "", "--host"),
        ({"peer_host": "0.0.0.0"}, {}, "", "--peer-host"),
        ({"host": ""}, {}, "", "--host"),
        ({"node": 0}, {}, "", "--node"),
        ({"node": 1 << 40}, {}, "", "--node"),
        ({"data": ""}, {}, "", "--data"),
        ({"data": "a\0b"}, {}, "", "--data"),
        ({}, {"BALSADB_CLUSTER_NAME": " "}, "", "BALSADB_CLUSTER_NAME"),
        ({"dialect_version": "new"}, {}, "", "--dialect-version"),
        ({"tick_ms": 0}, {}, "", "--tick-ms"),
        ({"heartbeat_ticks": 0}, {}, "", "--heartbeat-ticks"),
        ({"heartbeat_ticks": 10}, {}, "", "--heartbeat-ticks"),
        ({"wal_segment_bytes": 4095}, {}, "", "--wal-segment-bytes"),
        ({"wal_segment_bytes": (256 << 20) + 1}, {}, "", "--wal-segment-bytes"),
        ({"log_tail_bytes": -1}, {}, "", "--log-tail-bytes"),
        ({"log_tail_bytes": 64 << 20}, {}, "", "--log-tail-bytes"),
        ({"checkpoint_log_bytes": 512 << 20}, {}, "", "--checkpoint-log-bytes"),
        ({"log_bytes_max": 1 << 60}, {}, "", "--log-bytes-max"),
        ({"request_timeout_s": 0.0}, {}, "", "--request-timeout-s"),
        ({}, {"BALSADB_REQUEST_TIMEOUT_S": "nan"}, "", "BALSADB_REQUEST_TIMEOUT_S"),
        ({}, {}, "request_timeout_s = inf", "node.toml: request_timeout_s"),
        ({"request_timeout_s": 3601.0}, {}, "", "--request-timeout-s"),
        ({"link_threads": 0}, {}, "", "--link-threads"),
        ({"link_threads": 257}, {}, "", "--link-threads"),
    ],
)
def test_what_is_wrong_is_named(
    flags: dict[str, Any], environment: dict[str, str], text: str, field: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput) as caught:
        settings.load(flags, environment, write(tmp_path, text))
    assert field in caught.value.field


def test_a_rule_between_two_settings_names_what_was_typed() -> None:
    with pytest.raises(InvalidInput) as caught:
        settings.load({}, {"BALSADB_ELECTION_TICKS": "2"}, None)
    said = "--heartbeat-ticks: must be below BALSADB_ELECTION_TICKS; they are 2 and 2"
    assert caught.value.message == said


@pytest.mark.parametrize(
    "settings",
    [
        NodeSettings(wal_segment_bytes=4 << 10, link_threads=256, request_timeout_s=3600.0),
        NodeSettings(wal_segment_bytes=256 << 20, log_tail_bytes=0, heartbeat_ticks=1),
        NodeSettings(port=0, peer_port=0, members={1: "[::1]:65535"}),
    ],
)
def test_the_ends_of_the_ranges_are_allowed(settings: NodeSettings) -> None:
    settings.check()


@pytest.mark.parametrize("segment_bytes", [(4 << 10) - 1, 4 << 10, 256 << 20, (256 << 20) + 1])
def test_segments_are_those_that_the_log_takes(segment_bytes: int) -> None:
    def is_taken(make: Callable[[], object]) -> bool:
        try:
            make()
        except ValueError:  # an InvalidInput is one, too
            return False
        return True

    assert is_taken(NodeSettings(wal_segment_bytes=segment_bytes).check) == is_taken(
        lambda: WalOptions(segment_bytes=segment_bytes)
    )


def test_a_wrong_setting_ends_serve_with_2_and_one_line() -> None:
    command = [sys.executable, "-m", "balsadb.cli", "serve", "--initial-members", "2=a:1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    rule = "must contain this node, number 1; or it came later: --join"
    assert done.stderr == f"balsadb: --initial-members: {rule}\n"


def test_a_missing_file_is_named() -> None:
    with pytest.raises(InvalidInput, match="cannot read nowhere"):
        settings.load({}, {}, "nowhere.toml")


def test_a_written_file_reads_back(tmp_path: Path) -> None:
    made = NodeSettings(
        node=2,
        data='a "quoted" folder\\x',
        request_timeout_s=2.5,
        members={1: "a:1", 2: "b:2"},
        cluster_secret="s",
    )
    text = settings.to_toml(made)
    assert settings.load({}, {}, write(tmp_path, text)) == made
    assert "tick_ms" not in text


def test_the_help_page_shows_every_flag_and_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    shown = CliRunner().invoke(app, ["serve", "--help"])
    assert shown.exit_code == 0
    for setting in settings.TABLE:
        assert setting.flag in shown.stdout
        assert f"[{setting.variable}]" in shown.stdout


def test_serve_hands_over_what_it_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[NodeSettings] = []

    def run(found: NodeSettings) -> int:
        seen.append(found)
        return 7

    monkeypatch.setattr("balsadb.server.run.run", run)
    monkeypatch.setattr("balsadb.cli.first_start.compile_once", lambda: None)
    monkeypatch.setenv("BALSADB_PEER_PORT", "5")
    file = write(tmp_path, "tick_ms = 70\n")
    ended = CliRunner().invoke(app, ["serve", "--config", file, "--port", "4", "--node", "9"])
    assert ended.exit_code == 7
    assert seen == [NodeSettings(node=9, port=4, peer_port=5, tick_ms=70)]


def test_first_members_and_join_the_nearer_to_the_command_counts(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text('node = 1\ninitial_members = "1=a:1,2=b:1"\n')
    joined = settings.load({"node": "4", "join": "a:1"}, {}, str(file))
    assert (joined.node, joined.join, joined.members) == (4, "a:1", {})
    told = settings.load({"node": "4"}, {"BALSADB_JOIN": "a:1"}, str(file))
    assert (told.join, told.members) == ("a:1", {})
    file.write_text('node = 1\njoin = "a:1"\n')
    first = settings.load({"members": "1=c:1"}, {"BALSADB_JOIN": "a:1"}, str(file))
    assert (first.join, first.members) == ("", {1: "c:1"})
    file.write_text('node = 1\ninitial_members = "1=a:1"\njoin = "a:1"\n')
    with pytest.raises(InvalidInput, match="join"):
        settings.load({}, {}, str(file))
