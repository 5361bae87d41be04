"""How tests are shared out among the processes of `make test` (pytest-xdist)."""

from pathlib import Path

import pytest

from balsadb.cli.first_start import compile_once

HERE = Path(__file__).parent
ON_PORTS = ("chaos", "conformance", "docs", "unit/cli", "unit/client", "unit/cluster")
"""Folders whose tests look for free ports and start nodes on them: one after another, or one would
take the port that another has just found free."""


def pytest_configure(config: pytest.Config) -> None:
    """Kernels are compiled once, before the processes start."""
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        compile_once()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file stays in one process, for its fixtures; all that starts nodes too."""
    for item in items:
        file = item.path.relative_to(HERE).as_posix()
        group = "ports" if file.startswith(ON_PORTS) else file
        item.add_marker(pytest.mark.xdist_group(group))
