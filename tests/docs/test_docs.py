"""The documentation is true: what it shows runs, what it names exists, what it tabulates agrees."""

import ast
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import pytest
from rich.console import Console

from balsadb import errors
from balsadb.cli.demo import load_films
from balsadb.cli.films import Films, load
from balsadb.cli.local_cluster import ClusterPlan, LocalCluster
from balsadb.cli.settings import TABLE
from balsadb.client import Client
from bench import chart
from tests.docs import tables
from tests.docs.blocks import (
    DOCUMENTS,
    ROOT,
    Block,
    Step,
    blocks,
    missing,
    rewrite,
    run,
    script,
    steps,
)
from tests.tidy import rules

ALL = [block for path in DOCUMENTS for block in blocks(path)]
CONSOLE = [block for block in ALL if block.language == "console" and block.reason is None]
WITH_PYTHON = [path for path in DOCUMENTS if script(path)]
NOT_RUN = [block for block in ALL if block.reason is not None]
FROM_THE_CHECKOUT = ("python -m tests.", "python -m pytest", "python bench/")

PATH_NAME = re.compile(r"`((?:src|tests|bench|docs|examples|typings)/[^`\s:]*)(?:::(\w+))?`")
PACKAGE_PATH = re.compile(r"`((?:api|cluster|database|index|raft|storage)/\w+\.py)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]*)(?:#([^)]+))?\)")


def name_of(value: Path | Block) -> str:
    return str(value.relative_to(ROOT)) if isinstance(value, Path) else str(value)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Three nodes on free ports, in a folder `data`, where the commands look for them."""
    folder = tmp_path_factory.mktemp("docs")
    found = LocalCluster.create_or_open(folder / "data", ClusterPlan.on_free_ports(3))
    try:
        found.start()
        found.wait_ready()
        yield found
    finally:
        found.stop()


@pytest.fixture
def ports(cluster: LocalCluster) -> dict[int, int]:
    """The documented port of each node and its own; the cluster is empty."""
    with Client(cluster.nodes[0].url) as client:
        for name in client.collections():
            client.delete_collection(name)
    return {6333 + 10 * place: node.port for place, node in enumerate(cluster.nodes)}


# ----------------------------------------------------------------------------- what runs


@pytest.mark.parametrize("path", WITH_PYTHON, ids=name_of)
def test_python(path: Path, ports: dict[int, int], tmp_path: Path) -> None:
    program = tmp_path / path.name.replace(".md", ".py")
    program.write_text(rewrite(script(path), ports), encoding="utf-8")
    done = run(["python", "-W", "error::ResourceWarning", str(program)], tmp_path)
    assert done.returncode == 0, done.stderr
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    left = [one for one in tmp_path.iterdir() if one != program]
    for one in left:  # where a reader tries it in the checkout
        assert f"/{one.name}{'/' if one.is_dir() else ''}" in ignored


def test_verify_prints_what_the_readme_shows(ports: dict[int, int]) -> None:
    films = load()
    few = Films(films.vectors[:9], films.payloads[:9])
    with Client(f"http://127.0.0.1:{ports[6333]}") as client:
        load_films(client, few, Console(quiet=True))
        columns = {node["columns"] for node in client.verify()["nodes"].values()}
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert {int(found) for found in re.findall(r"(\d+) columns of 3 nodes", text)} == columns
    url = f"http://127.0.0.1:{ports[6333]}"
    printed = run(["balsadb", "cluster", "verify", "--url", url], ROOT).stdout
    *table, verdict = printed.splitlines()
    assert verdict.startswith("equal at log index ")
    assert "$ balsadb cluster verify\n" + "\n".join(table) + "\nequal at" in text


@pytest.mark.parametrize("block", CONSOLE, ids=name_of)
def test_console(block: Block, ports: dict[int, int], cluster: LocalCluster) -> None:
    for step in steps(block):
        follow(step, ports, cluster)


def follow(step: Step, ports: dict[int, int], cluster: LocalCluster) -> None:
    command = rewrite(step.command, ports)
    folder = ROOT if command.startswith(FROM_THE_CHECKOUT) else cluster.folder.parent
    if command.startswith("curl ") and not shutil.which("curl"):
        pytest.skip("curl is not installed")
    if command.startswith("./start_cluster.sh"):
        if not (ROOT / ".venv" / ".installed").exists():
            pytest.skip("made by `make setup`")
        command = command.replace("./", f"{ROOT}/", 1) + f" --data {cluster.folder}"
    done = run(["bash", "-o", "pipefail", "-c", command], folder)
    assert done.returncode == 0, f"{step.command}\n{done.stdout}{done.stderr}"
    line = missing(step.expected, done.stdout)
    assert not line, f"{step.command} did not print {line!r} but\n{done.stdout}"


def test_output_is_compared() -> None:
    printed = "node 1  pid 77  started\nready after 3.1 s\n"
    assert missing(("node 2 pid 5 already running", "ready ... s"), printed) == ""
    assert missing(("ready after 1.0 s", "node 1 pid 1 started"), printed) != ""
    assert missing(("node 1 pid 77 stopped",), printed) == "node 1 pid 77 stopped"


@pytest.mark.parametrize("block", NOT_RUN, ids=name_of)
def test_what_is_not_run_is_at_least_possible(block: Block) -> None:
    if block.language == "python":
        ast.parse(block.text)
        return
    flags = {setting.flag for setting in TABLE} | {"--config"}
    for step in steps(block):
        assert run(["bash", "-n", "-c", step.command], ROOT).returncode == 0
        if step.command.startswith("balsadb serve"):
            assert set(re.findall(r"--[a-z-]+", step.command)) <= flags
        for variable in re.findall(r"BALSADB_\w+", step.command):
            assert variable in {setting.variable for setting in TABLE}


def test_blocks_of_every_language_are_known() -> None:
    assert {block.language for block in ALL} <= {"python", "console", "json"}
    for block in ALL:
        if block.language == "json":
            msgspec.json.decode(block.text)


# ----------------------------------------------------------------------------- what agrees


def test_tables_are_those_of_the_code() -> None:
    used: set[str] = set()
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        used |= {found[2] for found in tables.MARKED.finditer(text)}
        advice = "run `python -m tests.docs.tables`"
        assert tables.rewritten(text) == text, f"{path.name} is out of date: {advice}"
    assert used == set(tables.TABLES)


def test_every_storage_error_has_its_advice() -> None:
    text = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    kinds = [kind for kind in tables.error_classes() if issubclass(kind, errors.StorageError)]
    assert len(kinds) > 5
    for kind in kinds:
        assert f"| `{kind.__name__}` |" in text


def test_the_chart_is_drawn_from_the_results() -> None:
    assert chart.CHART.read_text(encoding="utf-8") == chart.draw(chart.RESULTS)


def test_the_table_of_recall_is_that_of_the_results() -> None:
    rows = [
        f"| {point['ef']} | {point['recall']:.3f} | {point['queries_per_s']:,.0f} |"
        for point in chart.read_index(chart.RESULTS)
    ]
    assert "\n".join(rows) in (ROOT / "docs/index.md").read_text(encoding="utf-8")


def test_the_figures_of_the_readme_are_those_of_the_results() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    process, local, leader, follower, filtered = (
        one.p50_ms for one in chart.read_latencies(chart.RESULTS)
    )
    index = msgspec.json.decode((chart.RESULTS / "index.json").read_bytes())
    recall = {point["ef"]: point["recall"] for point in index["curve"]["balsadb"]}
    for figures in (
        f"| {process:.2f} ms |",
        f"| {leader:.1f} ms, {follower:.1f} ms |",
        f"| {local:.1f} ms |",
        f"| {filtered:.1f} ms |",
        f"| {recall[64]:.3f} |",
        f"| {index['build']['balsadb']['build_s']:.1f} s |",
        f"| {demo('gap_ms_writes')}, {demo('gap_ms_searches')}, {demo('gap_ms_local_searches')} ms",
        f"| {demo('caught_up_s'):.1f} s |",
        f"| {demo('load_s'):.1f} s |",
    ):
        assert figures in text, figures


def demo(figure: str) -> Any:
    """The median of a figure over the runs of the demo."""
    runs = sorted(chart.RESULTS.glob("demo-*.json"))
    return median(msgspec.json.decode(path.read_bytes())["figures"][figure] for path in runs)


# ----------------------------------------------------------------------------- what exists


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_what_is_named_exists(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for name, test in PATH_NAME.findall(text):
        assert (ROOT / name).exists(), name
        if test:
            source = (ROOT / name).read_text(encoding="utf-8")
            assert re.search(rf"^(async )?def {test}\(", source, re.MULTILINE), f"{name}::{test}"
    for name in PACKAGE_PATH.findall(text):
        assert (ROOT / "src/balsadb" / name).exists(), name
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^\s*|\$ )make ([a-z]+)", text, re.MULTILINE)) <= targets


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    for target, anchor in LINK.findall(path.read_text(encoding="utf-8")):
        assert "://" not in target
        there = (path.parent / target).resolve() if target else path
        assert there.exists(), target
        if anchor:
            heads = re.findall(r"^#+ (.+)$", there.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
            assert anchor in slugs, f"{target}#{anchor}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_the_text_is_tidy(path: Path) -> None:
    source = rules.Source(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
    assert rules.check(source) == []


def test_every_decision_is_listed() -> None:
    folder = ROOT / "docs/design"
    listed = (folder / "README.md").read_text(encoding="utf-8")
    decisions = list(folder.glob("0*.md"))
    assert len(decisions) > 5
    for path in decisions:
        assert f"]({path.name})" in listed


def test_the_architecture_names_every_package_and_dependency() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    for path in (ROOT / "src/balsadb").glob("*/__init__.py"):
        assert f"`src/balsadb/{path.parent.name}/`" in text
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.search(r"^dependencies = \[\n(.*?)^\]", project, re.DOTALL | re.MULTILINE)
    assert listed
    for name in re.findall(r'"([\w-]+)>', listed[1]):
        assert f"`{name}`" in text
