"""The route table and its matcher; the status table; what the package may import."""

import subprocess
import sys

import pytest

from balsadb import errors
from balsadb.api import limits
from balsadb.api.routes import BY_OPERATION, OPEN_PATHS, ROUTES, MethodNotAllowed, build_path, match
from balsadb.api.statuses import STATUSES, code_of_status, wire_error
from balsadb.database import limits as database_limits
from balsadb.embedded.operations import Operations

TEXTS = {"healthz", "livez", "readyz", "metrics"}


def test_each_route_is_found_by_its_own_path():
    for route in ROUTES:
        values = [f"v {number}/é" for number, _ in enumerate(route.parameters)]
        found = match(route.method, build_path(route, *values))
        assert found.route is route
        assert list(found.values.values()) == values


def test_operations_are_unique_and_exist():
    assert len(BY_OPERATION) == len(ROUTES)
    for route in ROUTES:
        assert hasattr(Operations, route.operation) or route.operation in TEXTS, route.operation
        assert route.result is not None
        assert (route.body is None) or route.example is not None
    assert {route.path for route in ROUTES} >= OPEN_PATHS


@pytest.mark.parametrize("path", ["/nope", "/collections/", "/collections/a/", "/collections//x"])
def test_unknown_paths(path):
    with pytest.raises(errors.NotFound) as caught:
        match("GET", path)
    assert not isinstance(caught.value, MethodNotAllowed)


def test_wrong_method_says_which_are_right():
    with pytest.raises(MethodNotAllowed) as caught:
        match("POST", "/collections/a")
    assert caught.value.allowed == ["DELETE", "GET", "PATCH", "PUT"]


def leaves(kind):
    """The tree of `balsadb.errors` and what the wire adds; a client's own errors never travel."""
    if kind.__module__ in ("balsadb.errors", "balsadb.api.routes"):
        yield kind
    for child in kind.__subclasses__():
        yield from leaves(child)


def test_every_error_has_a_status():
    codes = {kind.code for kind in leaves(errors.BalsaError)}
    assert codes - set(STATUSES) == set()
    assert set(STATUSES) - codes == set()
    for kind in leaves(errors.Unavailable):
        assert wire_error(kind.code).status in (429, 503)
    for kind in leaves(errors.InvalidInput):
        assert 400 <= wire_error(kind.code).status < 500
    assert wire_error("no such code").status == 500


def test_a_status_alone_has_a_code():
    for line in STATUSES.values():
        assert wire_error(code_of_status(line.status)).status == line.status
    assert code_of_status(599) == "internal"


def test_limits_are_those_of_the_database():
    for name in ("PAGE_MAX", "OFFSET_MAX", "EF_MAX", "BATCH_POINTS_MAX", "DIMENSION_MAX"):
        assert getattr(limits, name) == getattr(database_limits, name), name
    assert limits.NAME_CHARACTERS_MAX == database_limits.NAME_LENGTH_MAX


def test_the_wire_contract_imports_nothing_heavy():
    code = (
        "import sys, balsadb.api.routes, balsadb.api.slices, balsadb.api.envelope\n"
        "heavy = {'numpy', 'numba', 'fastapi', 'starlette', 'pydantic', 'httpx2', 'asyncio'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
