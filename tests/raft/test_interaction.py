"""Scenario files of another implementation. The folder is not part of this repository: the tests
skip where it is absent."""

import pytest

from tests.raft.scenario import UNSUPPORTED, Scenario
from tests.raft.test_quorum import DATA

FOLDER = DATA / "interaction"
FILES = sorted(FOLDER.glob("*.txt")) if FOLDER.is_dir() else []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_scenario(path):
    text = path.read_text()
    for word, reason in UNSUPPORTED.items():
        if word in text:
            pytest.skip(reason)
    assert Scenario().run(path) > 0
