"""Each house rule catches what it is for, and lets the good form pass."""

import pytest

from tests.tidy import rules

DOC = '"""A module."""\n'


def lines(count: int) -> str:
    return "    x = 1\n" * count


def signature(count: int) -> str:
    names = ", ".join(f"p{i}" for i in range(count))
    return f"def f({names}):\n    pass\n"


SRC = "src/balsadb/cluster/part.py"
PURE = "src/balsadb/raft/part.py"
KERNEL = "src/balsadb/index/kernels_search.py"

CAUGHT = [
    (rules.file_size, SRC, DOC + "x = 1\n" * 500),
    (rules.line_length, SRC, "x = '" + "y" * 100 + "'\n"),
    (rules.function_size, SRC, "def f():\n" + lines(70)),
    (rules.function_size, KERNEL, "def f():\n" + lines(120)),
    (rules.function_size, SRC, "class C:\n    async def f():\n" + "        x = 1\n" * 70),
    (rules.parameter_count, SRC, signature(7)),
    (rules.parameter_count, SRC, "def f(a, b, c, *, d, e, f, g): ...\n"),
    (rules.parameter_count, KERNEL, signature(13)),
    (rules.module_docstring, SRC, "x = 1\n"),
    (rules.public_docstring, SRC, DOC + "def f(): ...\n"),
    (rules.public_docstring, SRC, DOC + "class C: ...\n"),
    (rules.module_name, "src/balsadb/cluster/utils.py", DOC),
    (rules.module_name, "src/balsadb/client/http_helpers.py", DOC),
    (rules.module_name, "tests/common/test_x.py", DOC),
    (rules.purity, PURE, "import time\n"),
    (rules.purity, PURE, "from os.path import join\n"),
    (rules.purity, PURE, "def f():\n    import asyncio.events\n"),
    (rules.purity, "src/balsadb/database/part.py", "import threading\n"),
    (rules.no_async_in_pure, PURE, "async def f(): ...\n"),
    (rules.no_global_randomness, "src/balsadb/index/part.py", "x = np.random.rand(3)\n"),
    (rules.opening_files, SRC, "with open('x') as f: ...\n"),
    (rules.no_print, SRC, "print('x')\n"),
    (rules.no_unfinished, SRC, "x = 1  # TO" + "DO later\n"),
    (rules.no_unfinished, SRC, "# FIX" + "ME\n"),
    (rules.broad_except, SRC, "try: ...\nexcept Exception: ...\n"),
    (rules.broad_except, SRC, "try: ...\nexcept BaseException as e: log(e)\n"),
    (rules.broad_except, SRC, "try: ...\nexcept: ...\n"),
    (rules.bare_task, SRC, "asyncio.create_task(f())\n"),
    (rules.bare_task, SRC, "loop.create_task(f())\n"),
    (rules.no_blas, SRC, "x = a @ b\n"),
    (rules.no_blas, SRC, "x = np.dot(a, b)\n"),
    (rules.machine_path, "README.md", "cd /" + "root/x\n"),
    (rules.machine_path, "README.md", "see /" + "home/someone/x\n"),
    (rules.registry_host, "constraints.txt", "--index-" + "url x\n"),
    (rules.registry_host, "README.md", "https://pypi." + "org/simple\n"),
]

PASSES = [
    (rules.file_size, SRC, "x = 1\n" * 500),
    (rules.line_length, SRC, "x" * 100 + "\n"),
    (rules.function_size, SRC, "def f():\n" + lines(69)),
    (rules.function_size, KERNEL, "def f():\n" + lines(119)),
    (rules.parameter_count, SRC, signature(6)),
    (rules.parameter_count, SRC, "class C:\n    def f(self, a, b, c, d, e, f): ...\n"),
    (rules.parameter_count, KERNEL, signature(12)),
    (rules.parameter_count, "src/balsadb/cli/serve.py", signature(9)),
    (rules.module_docstring, SRC, DOC),
    (rules.public_docstring, SRC, DOC + "def _f(): ...\nclass C:\n    '''Doc.'''\n"),
    (rules.module_name, "src/balsadb/raft/progress.py", DOC),
    (rules.purity, SRC, "import time\n"),
    (rules.purity, PURE, "import collections\n"),
    (rules.purity, "src/balsadb/columns/part.py", "import threading\n"),
    (rules.purity, "src/balsadb/database/locks.py", "import threading\n"),
    (rules.no_async_in_pure, SRC, "async def f(): ...\n"),
    (rules.no_global_randomness, SRC, "x = np.random.default_rng(1)\n"),
    (rules.opening_files, rules.OPENS_FILES, "open('x')\n"),
    (rules.no_print, "src/balsadb/cli/demo.py", "print('x')\n"),
    (rules.no_unfinished, SRC, "x = 'TO" + "DO'\n"),
    (rules.broad_except, SRC, "try: ...\nexcept ValueError: ...\n"),
    (rules.broad_except, SRC, "try: ...\nexcept BaseException:\n    undo()\n    raise\n"),
    (rules.broad_except, "src/balsadb/cluster/shell.py", "try: ...\nexcept Exception: ...\n"),
    (rules.bare_task, SRC, "task = asyncio.create_task(f())\n"),
    (rules.bare_task, SRC, "group.create_task(f())\n"),
    (rules.no_blas, SRC, "x = np.einsum('qd,nd->qn', a, b)\n"),
    (rules.no_blas, "bench/part.py", "x = a @ b\n"),
    (rules.machine_path, "README.md", "/dashboard /collections/x ./data\n"),
    (rules.registry_host, "README.md", "pip install balsadb\n"),
]


@pytest.mark.parametrize(("rule", "path", "text"), CAUGHT)
def test_a_violation_is_caught(rule: rules.Rule, path: str, text: str) -> None:
    findings = list(rule(rules.Source(path, text)))
    assert findings
    assert findings[0].rule == rule.__name__


@pytest.mark.parametrize(("rule", "path", "text"), PASSES)
def test_the_good_form_passes(rule: rules.Rule, path: str, text: str) -> None:
    assert list(rule(rules.Source(path, text))) == []


def test_every_rule_has_both_tests() -> None:
    assert {rule for rule, _, _ in CAUGHT} == set(rules.RULES)
    assert {rule for rule, _, _ in PASSES} == set(rules.RULES)


def test_a_file_is_checked_by_every_rule_that_applies() -> None:
    bad = rules.Source(SRC, "print(1)  # TO" + "DO\n")
    found = {finding.rule for finding in rules.check(bad)}
    assert found == {"module_docstring", "no_print", "no_unfinished"}
    assert rules.check(rules.Source("notes.md", "x" * 200)) == []
