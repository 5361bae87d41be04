"""The runner of seeds: order, tables, exit statuses, whatever the number of processes."""

from collections import Counter

import pytest

from tests.seeds import BLOCK, Run, Suite, main, table_of, tell_all


def run_even(seed: int) -> Run:
    """Only odd seeds find something."""
    if seed % 2:
        raise ValueError(f"odd: {seed}")
    return Run(10, f"{seed:x}", Counter({"fault": seed}))


def run_well(seed: int) -> Run:
    """No seed finds anything."""
    return Run(1, "", Counter({"rare": 1}) if seed == 3 else Counter())


SUITES = (Suite("even", "", run_even), Suite("well", "all pass", run_well))


def test_results_come_in_order_of_the_seeds_from_any_number_of_processes() -> None:
    seeds = range(5, 5 + 3 * BLOCK + 1)
    alone = list(tell_all(SUITES[0], seeds, 1))
    assert [told.seed for told in alone] == list(seeds)
    assert [told[:3] for told in tell_all(SUITES[0], seeds, 2)] == [told[:3] for told in alone]


def test_failures_are_lines_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert main("", SUITES, ["--seeds", "4", "--start", "2"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "seed 3: ValueError: odd: 3"
    assert lines[1] == "seed 5: ValueError: odd: 5"
    assert "| fault | 6 | 2 (100%) |" in lines
    assert lines[-1].startswith("4 seeds, 20 events, ")
    assert lines[-1].endswith(" seeds an hour, failed: [3, 5]")


def test_the_first_failure_can_be_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    assert main("", SUITES, ["--seeds", "9", "--first"]) == 1
    assert capsys.readouterr().out.splitlines()[-1].endswith("failed: [1]")


def test_a_suite_is_chosen_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main("", SUITES, ["--well", "--seeds", "8", "--verbose"]) == 0
    out = capsys.readouterr().out
    assert "seed 7: 1 events" in out
    assert "| rare | 1 | 1 (12%) |" in out
    assert out.rstrip().endswith("failed: none")


def test_the_table_is_in_order_of_the_kinds() -> None:
    table = table_of(Counter(split=3, crash=9), Counter(split=2, crash=4), 4)
    assert table.splitlines()[2:] == ["| crash | 9 | 4 (100%) |", "| split | 3 | 2 (50%) |"]
