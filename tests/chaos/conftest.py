"""What a machine may not have; a test that needs it is skipped with the reason."""

from collections.abc import Generator

import pytest

from tests.chaos.network import Network, why_not


@pytest.fixture
def network() -> Generator[Network]:
    """A network for three nodes, in namespaces."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    wires = Network(3)
    with wires.up():
        yield wires
