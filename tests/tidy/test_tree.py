"""The whole tree keeps the house rules."""

from pathlib import Path

import pytest

import balsadb
from tests.tidy import rules

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("src", "tests", "bench", "examples", "typings", ".ci")
TEXT_SUFFIXES = {".py", ".pyi", ".md", ".toml", ".txt", ".in", ".sh", ".yml", ".yaml", ".html", ""}


def files() -> list[Path]:
    found = [path for path in ROOT.iterdir() if path.is_file()]
    for folder in FOLDERS:
        found += (path for path in (ROOT / folder).rglob("*") if path.is_file())
    return sorted(
        path for path in found if path.suffix in TEXT_SUFFIXES and "__pycache__" not in path.parts
    )


def test_the_tree_is_tidy() -> None:
    findings: list[str] = []
    for path in files():
        source = rules.Source(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
        findings += (str(finding) for finding in rules.check(source))
    assert not findings, "\n" + "\n".join(findings)


def test_the_walk_sees_the_tree() -> None:
    seen = {path.relative_to(ROOT).as_posix() for path in files()}
    assert {"src/balsadb/errors.py", "tests/tidy/rules.py", "Makefile", ".ci/run"} <= seen


def test_public_names_are_exactly_those_listed() -> None:
    public = {name for name in dir(balsadb) if not name.startswith("_")}
    packages = {path.name for path in (ROOT / "src/balsadb").iterdir()}
    packages |= {Path(name).stem for name in packages}
    assert public - packages <= set(balsadb.__all__)
    for name in balsadb.__all__:
        assert getattr(balsadb, name) is not None
    assert balsadb.__all__ == sorted(balsadb.__all__)


def test_every_package_opens_with_a_chapter() -> None:
    for path in sorted((ROOT / "src/balsadb").glob("*/__init__.py")):
        docstring = rules.ast.get_docstring(rules.Source(path.name, path.read_text()).tree) or ""
        assert len(docstring) > 400, f"{path.parent.name}: the chapter is missing or too short"


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = balsadb.nonsense  # pyright: ignore[reportAttributeAccessIssue]
