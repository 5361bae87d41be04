"""The checker against brute force, and what it must be able to decide."""

import itertools
import math
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.linearizability.checker import UNKNOWN, Operation, Undecided, check
from tests.linearizability.histories import BadHistory, read_jepsen, read_lines, write_lines
from tests.linearizability.models import Ask, Collection, Points, Register, check_recorded

ROOT = Path(__file__).resolve().parents[2]


def explained(history: list[Operation]) -> bool:
    """By trying every order of every choice of unknown operations."""
    known = [operation for operation in history if operation.is_known]
    unknown = [operation for operation in history if not operation.is_known]
    for count in range(len(unknown) + 1):
        for some in itertools.combinations(unknown, count):
            if any(map(fits, itertools.permutations([*known, *some]))):
                return True
    return False


def fits(order: tuple[Operation, ...]) -> bool:
    state, model = Register().init(), Register()
    for at, operation in enumerate(order):
        if any(later.returned < operation.called for later in order[at + 1 :]):
            return False
        right, state = model.step(state, operation.request, operation.result)
        if not right:
            return False
    return True


def some_history(draw: random.Random) -> list[Operation]:
    """Six operations at most on one register of a few values, most with an answer that fits."""
    history: list[Operation] = []
    times = draw.sample(range(100), 12)
    value = None
    for number in range(draw.randrange(1, 7)):
        called, returned = sorted(times[2 * number : 2 * number + 2])
        kind = draw.choice(["read", "write", "cas"])
        ask = Ask(kind, None, draw.randrange(2), draw.choice([None, 0, 1]))
        result = None
        if kind == "read":
            result = value if draw.random() < 0.6 else draw.choice([None, 0, 1])
        elif kind == "cas":
            result = draw.random() < 0.5
        if kind == "write" or result is True:
            value = ask.value
        if draw.random() < 0.15:
            returned, result = math.inf, UNKNOWN
        history.append(Operation(number, called, returned, ask, result))
    return history


def test_it_agrees_with_brute_force():
    draw = random.Random(1)
    yes = 0
    for _ in range(10_000):
        history = some_history(draw)
        expected = explained(history)
        assert (check(Register(), history) is None) == expected, history
        yes += expected
    assert 2_000 < yes < 8_000, "both kinds must be common"


def run_of(count: int, *, processes: int, lost: float, seed: int) -> list[Operation]:
    """A history of one register that is linearizable: each takes effect at a moment of its own."""
    draw = random.Random(seed)
    free = [0.0] * processes
    spans: list[tuple[float, float, float, int]] = []
    for _ in range(count):
        process = min(range(processes), key=lambda one: free[one])
        called = free[process] + draw.random()
        moment = called + draw.random() * 3
        returned = moment + draw.random() * 3
        free[process] = returned
        spans.append((moment, called, returned, process))
    state, history = None, list[Operation]()
    for _, called, returned, process in sorted(spans):
        ask = Ask(draw.choice(["read", "write", "cas"]), 7, draw.randrange(5), draw.randrange(5))
        _, after = Register().step(state, ask, UNKNOWN)
        result = state if ask.kind == "read" else after != state or state == ask.expected
        if ask.kind == "cas":
            result = state == ask.expected
        state = after
        if draw.random() < lost:
            history.append(Operation(process, called, math.inf, ask, UNKNOWN))
        else:
            history.append(Operation(process, called, returned, ask, result))
    return history


@pytest.mark.parametrize("lost", [0, 0.005])
@pytest.mark.parametrize("seed", range(2))
def test_a_thousand_operations_of_one_key_are_decided(seed, lost):
    history = run_of(1_000, processes=10, lost=lost, seed=seed)
    assert check(Register(), history, seconds=60) is None
    reads = [at for at, one in enumerate(history) if one.request.kind == "read" and one.is_known]
    at = reads[len(reads) // 2]
    wrong = [*history]
    wrong[at] = wrong[at]._replace(result="never written")
    violation = check(Register(), wrong, seconds=60)
    assert violation is not None
    assert 0 < len(violation.longest) < 1_000


def test_keys_are_checked_one_by_one():
    history = [
        operation._replace(request=operation.request._replace(key=key))
        for key in range(20)
        for operation in run_of(100, processes=5, lost=0.05, seed=key)
    ]
    assert check(Register(), history) is None
    assert len(list(Register().partition(history))) == 20


def test_it_gives_up_in_time():
    history = [
        Operation(number, 0, math.inf, Ask("write", None, number), UNKNOWN) for number in range(24)
    ]
    history.append(Operation(99, 1, 2, Ask("read"), "never written"))
    with pytest.raises(Undecided):
        check(Register(), history, seconds=0.2)


def points(*rows):
    return [
        Operation(number, called, returned, Points(*request), result)
        for number, (called, returned, request, result) in enumerate(rows)
    ]


def test_a_search_sees_one_moment_of_all_points():
    writes = [(0, 1, ("upsert", 1, "a"), None), (2, 5, ("upsert", 2, "b"), None)]
    both = frozenset({(1, "a"), (2, "b")})
    for result, right in ((both, True), (frozenset({(1, "a")}), True), (frozenset(), False)):
        history = points(*writes, (3, 4, ("search",), result), (6, 7, ("count",), 2))
        assert (check(Collection(), history) is None) == right
    half = frozenset({(2, "b")})  # the later one without the earlier
    assert check(Collection(), points(*writes, (3, 4, ("search",), half))) is not None


def test_conditional_writes_and_deletes():
    rows = [
        (0, 1, ("insert", 1, "a"), None),
        (2, 3, ("insert", 1, "b"), None),
        (4, 5, ("retrieve", 1), "a"),
        (6, 7, ("update", 2, "c"), None),
        (8, 9, ("retrieve", 2), None),
        (10, 11, ("delete", 1), None),
        (12, 13, ("retrieve", 1), None),
    ]
    assert check(Collection(), points(*rows)) is None
    for at, wrong in ((2, "b"), (4, "c"), (6, "a")):
        changed = [*rows]
        changed[at] = (*changed[at][:3], wrong)
        assert check(Collection(), points(*changed)) is not None


JEPSEN = """INFO  jepsen.util - 0 :invoke :write 1
INFO  jepsen.util - 1	:invoke	:read	nil
INFO  jepsen.util - 0 :ok :write 1
INFO  jepsen.util - 1 :ok :read {seen}
INFO  jepsen.util - 2 :invoke :cas [1 4]
something else entirely
INFO  jepsen.util - 2 :info :cas :timed-out
INFO  jepsen.util - 3 :invoke :cas [2 3]
INFO  jepsen.util - 3 :fail :cas [2 3]
INFO  jepsen.util - 4 :invoke :read nil
INFO  jepsen.util - 4 :ok :read 4
INFO  jepsen.util - 5 :invoke :read nil
INFO  jepsen.util - 5 :fail :read :timed-out
INFO  jepsen.util - 6 :invoke :write 9
"""


@pytest.mark.parametrize(("seen", "right"), [("1", True), ("nil", True), ("4", False)])
def test_logs_of_jepsen_are_read(tmp_path, seen, right):
    path = tmp_path / "etcd.log"
    path.write_text(JEPSEN.replace("{seen}", seen))
    ended = subprocess.run(
        [sys.executable, "-m", "tests.linearizability", "--jepsen", str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == (0 if right else 1), ended.stdout + ended.stderr
    assert ("NOT" in ended.stdout) != right


@pytest.mark.parametrize(
    "text",
    ["0 :ok :read 1", "0 :invoke :write 1\n0 :invoke :write 2"],
)
def test_a_broken_log_names_its_line(text):
    with pytest.raises(BadHistory, match="line"):
        read_jepsen(text.splitlines())


def test_our_own_lines_are_read():
    lines = [
        '{"process": 1, "called": 0, "returned": 1, "kind": "write", "key": "a", "value": 3}',
        "",
        '{"process": 2, "called": 2, "kind": "cas", "key": "a", "value": 4, "expected": 3}',
        '{"process": 3, "called": 3, "returned": 4, "kind": "read", "key": "a", "result": 4}',
    ]
    history = read_lines(lines)
    assert check(Register(), history) is None
    assert [operation.is_known for operation in history] == [True, False, True]
    for bad in ("{", '{"process": 1}', lines[0].replace("write", "swap")):
        with pytest.raises(BadHistory, match="line 2"):
            read_lines([lines[0], bad])
    late = lines[0].replace('"called": 0', '"called": 5')
    with pytest.raises(BadHistory, match="before it was called"):
        read_lines([late])


RECORDED = """\
{"process": 1,"called": 0, "returned": 1, "kind": "upsert", "collection": "c", "key": 1, "value": 3}
{"process": 1, "called": 0, "returned": 1, "kind": "write", "key": 1, "value": 9}
{"process": 2, "called": 2, "returned": 3, "kind": "cas", "key": 1, "value": 8, "expected": 9}
{"process": 2, "called": 4, "returned": 5, "kind": "read", "key": 1, "result": 8}
{"process": 3, "called": 2, "kind": "delete", "collection": "c", "key": 1}
{"process": 4, "called": 3, "returned": 4, "kind": "search", "collection": "c", "result": [[1, 3]]}
{"process": 4, "called": 5, "returned": 6, "kind": "count", "collection": "c", "result": 0}
{"process": 4, "called": 5, "returned": 6, "kind": "count", "collection": "d", "result": 0}
{"process": 4, "called": 7, "returned": 8, "kind": "retrieve", "collection": "c", "key": 1}
""".splitlines()


def test_histories_of_registers_and_collections_are_written_and_read():
    history = read_lines(RECORDED)
    assert check_recorded(history) is None
    again = list(write_lines(history))
    assert read_lines(again) == history
    # A compare-and-set whose answer did not say whether it was done is done if it could be.
    undone = RECORDED[3].replace('"result": 8', '"result": 9')
    assert check_recorded(read_lines([*RECORDED[:3], undone, *RECORDED[4:]])) is not None
    for at, old, new in (
        (5, "[[1, 3]]", "[[1, 2]]"),
        (6, '"result": 0', '"result": 2'),
        (7, '"result": 0', '"result": 1'),
        (8, '"key": 1', '"key": 1, "result": 3'),
    ):
        changed = [*RECORDED]
        changed[at] = changed[at].replace(old, new)
        assert check_recorded(read_lines(changed)) is not None, changed[at]
    with pytest.raises(BadHistory, match="line 6"):
        read_lines([*RECORDED[:5], RECORDED[5].replace("[[1, 3]]", "[7]")])


def test_a_file_of_collections_is_checked(tmp_path):
    path = tmp_path / "history.jsonl"
    path.write_text("\n".join(RECORDED))
    command = [sys.executable, "-m", "tests.linearizability", str(path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "linearizable: 9 operations\n"), ended.stderr
    path.write_text(
        "\n".join(RECORDED)
        .replace("[[1, 3]]", "[]")
        .replace('"called": 2, "kind": "delete"', '"called": 9, "kind": "delete"')
    )
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "NOT linearizable" in ended.stdout
