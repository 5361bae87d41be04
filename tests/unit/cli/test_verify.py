"""`balsadb cluster verify`: who differs and who is only not reached are told apart."""

import pytest
from typer.testing import CliRunner

from balsadb.cli.app import app
from balsadb.client import Client
from balsadb.cluster.replicas import Digests, compare
from balsadb.types import LogIndex, NodeId

ONE: Digests = {"ids": "aa", "links": "bb"}
OTHER: Digests = {"ids": "aa", "links": "cc"}
NOT_REACHED = "node 3 cannot be reached from this node"


@pytest.mark.parametrize(
    ("nodes", "code", "said"),
    [
        ([ONE, ONE, ONE], 0, ["equal at log index 9"]),
        ([ONE, OTHER, ONE], 1, ["DIFFERENT: links at log index 9"]),
        (
            [ONE, ONE, NOT_REACHED],
            3,
            [f"not compared: {NOT_REACHED}", "equal on node 1, 2 at log index 9"],
        ),
        (
            [ONE, OTHER, "no digests were taken"],
            1,
            ["not compared: node 3: no digests were taken", "DIFFERENT: links at log index 9"],
        ),
    ],
)
def test_a_node_that_is_not_reached_does_not_differ(
    monkeypatch: pytest.MonkeyPatch, nodes: list[Digests | str], code: int, said: list[str]
) -> None:
    found = compare(LogIndex(9), {NodeId(node): taken for node, taken in enumerate(nodes, 1)})

    def verify(_: Client) -> dict[str, object]:
        return found

    monkeypatch.setattr(Client, "verify", verify)
    arguments = ["cluster", "verify", "--url", "http://127.0.0.1:1"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == code
    assert done.stdout.splitlines()[4:] == said
    assert CliRunner().invoke(app, [*arguments, "--json"]).exit_code == code
