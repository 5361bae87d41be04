"""The house rules that no other tool checks, each a function from one source file to findings.

A rule gets a `Source` and yields `Finding`s. `RULES` lists all of them; `test_tree.py` runs them
over the tree and `test_rules.py` shows for each that it catches what it is for.
"""

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
KERNEL_FUNCTION_LINES_MAX = 120
PARAMETERS_MAX = 6
KERNEL_PARAMETERS_MAX = 12
LINE_LENGTH_MAX = 100

GRAB_BAGS = frozenset({"utils", "util", "helpers", "helper", "common", "misc", "manager"})

PURE_IMPORTS = frozenset(
    "asyncio time random socket os pathlib threading logging subprocess tempfile".split()
)
"""What a pure package may not import: clocks, sockets, disks, threads, chance."""
PURE_PACKAGES: dict[str, frozenset[str]] = {
    "columns": frozenset({"threading"}),  # one lock between the writer and chunk readers
    "index": frozenset(),
    "raft": frozenset(),
    "database": frozenset(),
}
"""Pure package -> the imports it may have all the same."""
PURE_EXCEPTIONS: dict[str, frozenset[str]] = {
    # The readers-writer lock of a collection: it blocks threads, it does not start them.
    "src/balsadb/database/locks.py": frozenset({"threading"}),
    # Where compiled kernels are kept between runs: Numba writes there, not the index.
    "src/balsadb/index/kernel_cache.py": frozenset({"os", "pathlib", "tempfile"}),
}
OPENS_FILES = "src/balsadb/storage/files.py"
"""The only engine module that opens files; the command line and bare-index files are listed too."""
MAY_OPEN_FILES = (OPENS_FILES, "src/balsadb/cli/", "src/balsadb/cluster/settings.py")
ENGINE = ("columns", "index", "raft", "database", "storage", "cluster", "embedded")

BROAD_EXCEPT_ALLOWED = (
    "src/balsadb/cluster/shell.py",  # the host loop: whatever escapes ends the process, loudly
    "src/balsadb/cluster/driver.py",  # an apply that raises is reported as fatal, not lost
    "src/balsadb/cluster/workers.py",  # a job's exception becomes the job's answer
    "tests/simulation/",  # whatever a simulated node raises is a finding with its seed
    "src/balsadb/server/",  # HTTP error handlers: an unforeseen error is a 500, not a hang
)

BLAS_CALLS = frozenset("dot vdot inner matmul tensordot multi_dot".split())

MACHINE_PATH = re.compile(r"(?<![\w.])/(?:work|root|Users|home/\w+)/|/tmp/" + "balsa")
REGISTRY_HOST = re.compile(
    r"(?i)\bpypi\." + r"org\b|pythonhosted\." + r"org|--(?:extra-)?index-" + "url"
)


@dataclass(frozen=True)
class Finding:
    """One violation: where and what."""

    path: str
    line: int
    rule: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}: {self.text}"


@dataclass(frozen=True)
class Source:
    """One file: its path from the root of the repository ('/'-joined) and its text."""

    path: str
    text: str

    @cached_property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(self.tree))

    @property
    def is_python(self) -> bool:
        return self.path.endswith(".py")

    @property
    def package(self) -> str:
        """`raft` for src/balsadb/raft/log.py; empty outside the packages."""
        parts = self.path.split("/")
        in_package = parts[:2] == ["src", "balsadb"] and len(parts) > 3
        return parts[2] if in_package else ""

    @property
    def is_kernel(self) -> bool:
        name = PurePosixPath(self.path).name
        return bool(self.package) and bool(re.fullmatch(r"kernels.*\.py|.*_kernels\.py", name))

    def finding(self, line: int, rule: Callable[..., object], text: str) -> Finding:
        return Finding(self.path, line, rule.__name__, text)


Rule = Callable[[Source], Iterator[Finding]]
FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


def functions(source: Source) -> Iterator[FunctionNode]:
    """Every function and method of the file."""
    for node in source.nodes:
        if isinstance(node, FunctionNode):
            yield node


def file_size(source: Source) -> Iterator[Finding]:
    """A file has at most 500 lines."""
    if len(source.lines) > FILE_LINES_MAX:
        yield source.finding(1, file_size, f"{len(source.lines)} lines, at most {FILE_LINES_MAX}")


def line_length(source: Source) -> Iterator[Finding]:
    """A line has at most 100 characters."""
    for number, line in enumerate(source.lines, 1):
        if len(line) > LINE_LENGTH_MAX:
            yield source.finding(number, line_length, f"{len(line)} characters")


def function_size(source: Source) -> Iterator[Finding]:
    """A function has at most 70 lines, a kernel 120."""
    limit = KERNEL_FUNCTION_LINES_MAX if source.is_kernel else FUNCTION_LINES_MAX
    for node in functions(source):
        length = (node.end_lineno or node.lineno) - node.lineno + 1
        if length > limit:
            text = f"{node.name} has {length} lines, at most {limit}"
            yield source.finding(node.lineno, function_size, text)


def parameter_count(source: Source) -> Iterator[Finding]:
    """A function has at most 6 parameters besides self, a kernel 12. Routes, commands and the bare
    index, whose parameters *are* their documented contract, may have more."""
    limit = KERNEL_PARAMETERS_MAX if source.is_kernel else PARAMETERS_MAX
    contracts = ("src/balsadb/server/routes", "src/balsadb/embedded/index.py")
    if source.package == "cli" or source.path.startswith(contracts):
        return
    if source.path.startswith("tests/"):
        return
    for node in functions(source):
        arguments = node.args
        names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
        count = len(names) - (bool(names) and names[0] in {"self", "cls"})
        if count > limit:
            text = f"{node.name} has {count} parameters, at most {limit}"
            yield source.finding(node.lineno, parameter_count, text)


def module_docstring(source: Source) -> Iterator[Finding]:
    """Every module says what it is."""
    if not ast.get_docstring(source.tree) and not source.path.startswith("tests/"):
        yield source.finding(1, module_docstring, "no module docstring")


def public_docstring(source: Source) -> Iterator[Finding]:
    """Every public class and function of the package says what it does."""
    if not source.path.startswith("src/"):
        return
    for node in source.tree.body:
        if not isinstance(node, FunctionNode | ast.ClassDef) or node.name.startswith("_"):
            continue
        if not ast.get_docstring(node):
            yield source.finding(node.lineno, public_docstring, f"{node.name} has no docstring")


def module_name(source: Source) -> Iterator[Finding]:
    """No grab-bag modules: a module is named after what is in it."""
    for part in PurePosixPath(source.path).with_suffix("").parts:
        words = part.lower().split("_")
        if GRAB_BAGS & set(words):
            yield source.finding(1, module_name, f"`{part}` names nothing")


def imported_modules(source: Source) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every import statement."""
    for node in source.nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.lineno, node.module


def purity(source: Source) -> Iterator[Finding]:
    """Pure packages import no clock, socket, disk, thread or chance."""
    if source.package not in PURE_PACKAGES:
        return
    allowed = PURE_PACKAGES[source.package] | PURE_EXCEPTIONS.get(source.path, frozenset())
    for line, name in imported_modules(source):
        top = name.split(".")[0]
        if top in PURE_IMPORTS and top not in allowed:
            yield source.finding(line, purity, f"{source.package} is pure: no `{top}`")


def no_async_in_pure(source: Source) -> Iterator[Finding]:
    """Pure packages are synchronous."""
    if source.package not in PURE_PACKAGES:
        return
    for node in source.nodes:
        if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith):
            yield source.finding(node.lineno, no_async_in_pure, "async in a pure package")


def no_global_randomness(source: Source) -> Iterator[Finding]:
    """No engine code draws from a process-global generator."""
    if source.package not in PURE_PACKAGES:
        return
    for node in source.nodes:
        if isinstance(node, ast.Attribute) and ast.unparse(node).startswith(
            ("np.random", "numpy.random")
        ):
            yield source.finding(node.lineno, no_global_randomness, ast.unparse(node))


def opening_files(source: Source) -> Iterator[Finding]:
    """Only storage/files.py opens files in the engine: the simulator fails what goes through it."""
    if source.package not in ENGINE or source.path.startswith(MAY_OPEN_FILES):
        return
    for node in source.nodes:
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"open", "os.open", "io.open"}:
            yield source.finding(node.lineno, opening_files, f"use {OPENS_FILES}")


def no_print(source: Source) -> Iterator[Finding]:
    """Only the command line prints."""
    if not source.path.startswith("src/") or source.package == "cli":
        return
    for node in source.nodes:
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "print":
            yield source.finding(node.lineno, no_print, "print outside cli")


def no_unfinished(source: Source) -> Iterator[Finding]:
    """No notes to self in comments: what is missing stands in the chapter or is built."""
    reader = io.StringIO(source.text).readline
    for token in tokenize.generate_tokens(reader):
        if token.type != tokenize.COMMENT:
            continue
        if re.search(r"\b(TODO|FIXME|XXX|HACK)\b", token.string):
            yield source.finding(token.start[0], no_unfinished, token.string)


def broad_except(source: Source) -> Iterator[Finding]:
    """Only the host loop and the HTTP error handlers catch everything; a handler that ends by
    raising again catches nothing."""
    if source.path.startswith(BROAD_EXCEPT_ALLOWED):
        return
    for node in source.nodes:
        if not isinstance(node, ast.ExceptHandler):
            continue
        caught = ast.unparse(node.type) if node.type else "everything"
        broad = caught in {"Exception", "BaseException", "everything"}
        if broad and not isinstance(node.body[-1], ast.Raise):
            yield source.finding(node.lineno, broad_except, f"catches {caught}")


def bare_task(source: Source) -> Iterator[Finding]:
    """A task that nobody keeps can be collected while it runs, and its exception is lost."""
    for node in source.nodes:
        if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
            continue
        called = ast.unparse(node.value.func)
        owner, _, name = called.rpartition(".")
        grouped = "group" in owner.lower()  # a TaskGroup keeps its tasks
        if name in {"create_task", "ensure_future"} and not grouped:
            yield source.finding(node.lineno, bare_task, f"{called} is dropped")


def no_blas(source: Source) -> Iterator[Finding]:
    """No matrix product by BLAS: its threads keep spinning after each call, for milliseconds in
    which they take a processor from whatever runs beside. `np.einsum` or a kernel does not."""
    for node in source.nodes if source.path.startswith("src/") else ():
        called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
        by_name = called.rpartition(".")[2] in BLAS_CALLS
        by_sign = isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.MatMult)
        if by_name or by_sign:
            yield source.finding(node.lineno, no_blas, ast.unparse(node))


def machine_path(source: Source) -> Iterator[Finding]:
    """No path of somebody's machine."""
    for number, line in enumerate(source.lines, 1):
        if MACHINE_PATH.search(line):
            yield source.finding(number, machine_path, line.strip())


def registry_host(source: Source) -> Iterator[Finding]:
    """No package index address: pip's own configuration says where packages come from."""
    for number, line in enumerate(source.lines, 1):
        if REGISTRY_HOST.search(line):
            yield source.finding(number, registry_host, line.strip())


PYTHON_RULES: tuple[Rule, ...] = (
    file_size,
    line_length,
    function_size,
    parameter_count,
    module_docstring,
    public_docstring,
    module_name,
    purity,
    no_async_in_pure,
    no_global_randomness,
    opening_files,
    no_print,
    no_unfinished,
    broad_except,
    bare_task,
    no_blas,
)
TEXT_RULES: tuple[Rule, ...] = (machine_path, registry_host)
RULES = PYTHON_RULES + TEXT_RULES


def check(source: Source) -> list[Finding]:
    """All findings of all rules that apply to the file."""
    rules = RULES if source.is_python else TEXT_RULES
    return [finding for rule in rules for finding in rule(source)]
