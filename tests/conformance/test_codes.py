"""8-bit codes on a real node: made by the linker on its own, shown, kept over a restart."""

import time

import numpy as np
import pytest

import balsadb
from balsadb.database import limits
from balsadb.index import planner
from tests.conformance.conftest import Rest
from tests.conformance.local_service import serve_node

SIZE = 16
COUNT = 700


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Codes for few rows, in many edits, and no graph: only the codes give the linker work."""
    monkeypatch.setattr(limits, "CODES_ROWS_MIN", 600)
    monkeypatch.setattr(planner, "CODE_ELEMENTS", 100 * 64)


def figures(rest):
    return rest.ok("GET", "/cluster")["balsadb"]["codes"]


def until(rest, rows):
    deadline = time.monotonic() + 10
    while (found := figures(rest)) != {"epoch": 1, "rows": rows, "coded": rows}:
        assert time.monotonic() < deadline, found
        time.sleep(0.02)


def test_the_linker_makes_codes_without_a_tail_to_link(tmp_path):
    vectors = np.random.default_rng(5).normal(size=(COUNT, SIZE)).astype(np.float32)
    for start in range(2):
        with serve_node(str(tmp_path)) as live:
            rest = Rest(live)
            with balsadb.Client(live.url) as client:
                if start == 0:
                    params = {"size": SIZE, "distance": "Cosine"}
                    client.create_collection("films", params)
                    client.create_collection("plain", params, quantization_config="Disabled")
                    for name in ("films", "plain"):
                        client.upsert_batch(name, list(range(COUNT)), vectors)
                until(rest, COUNT)
                info = client.get_collection("films")
                assert info.status == "green"
                state = info.balsadb.vectors[""]
                assert (state.quantization, state.quantisers) == ("int8", 1)
                assert state.code_rows == state.coded_rows == COUNT
                assert state.graph_version == 1 + -(-COUNT // 100)
                assert client.get_collection("plain").balsadb.vectors[""].code_rows == 0
                answers = [
                    [
                        (point.id, point.score)
                        for point in client.query(name, vectors[0], quantization=how)
                    ]
                    for name in ("films", "plain")
                    for how in ({}, {"ignore": True}, {"oversampling": 3.0, "rescore": False})
                ]
                assert all(answer == answers[0] for answer in answers)
                assert answers[0][0][0] == 0
            text = rest.send("GET", "/metrics").text
            for name in ("balsadb_code_rows 700.0", "balsadb_coded_rows 700.0"):
                assert name in text
            assert "balsadb_quantisers 1.0" in text
            rest.client.close()
