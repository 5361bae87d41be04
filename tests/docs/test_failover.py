"""What `bench/failover.py` calls a gap, and the table that is made of its gaps."""

from bench import tables
from bench.failover import Ack, Round, gap_s, holds, silence_s, summary

ACKS = [Ack(0.0, 1.0), Ack(1.0, 2.0), Ack(2.0, 2.6), Ack(4.0, 5.0), Ack(5.0, 5.5)]
"""The leader is harmed at 2.5: the third write was begun before and is answered after it."""


def rounds(**gaps: dict[str, list[float]]) -> list[Round]:
    return [
        Round(system, kind, "leader", gap, 1.0, 10)
        for kind, found in gaps.items()
        for system, values in found.items()
        for gap in values
    ]


def test_a_gap_ends_with_a_write_that_was_begun_after_the_fault() -> None:
    assert gap_s(ACKS, 2.5) == 5.0 - 2.0


def test_a_silence_counts_if_it_overlaps_the_time_asked_for() -> None:
    assert silence_s(ACKS, 2.5, 5.2) == 5.0 - 2.6
    assert silence_s(ACKS, 5.1, 5.4) == 5.5 - 5.0
    assert silence_s(ACKS, 5.6, 9.0) == 9.0 - 5.5, "it may not have ended"


def test_medians_quartiles_and_the_ratio() -> None:
    gaps = {"balsadb": [100.0, 200.0, 300.0, 400.0, 900.0], "etcd": [600.0]}
    found = summary(rounds(kill=gaps), ["balsadb", "etcd"], ["kill"])["kill"]
    assert found["balsadb"]["gap_ms"] == {
        "median": 300.0,
        "lower": 200.0,
        "upper": 400.0,
        "worst": 900.0,
    }
    assert found["ratio"] == 2.0
    result = {"versions": {"balsadb": "1", "etcd": "3"}, "kinds": {"kill": found}}
    assert "| SIGKILL | balsadb | 300 | 200 | 400 | 900 |" in tables.failover(result)


def test_what_must_hold_may_not() -> None:
    names = ["balsadb", "etcd"]

    def fine(kind: str, ours: float, theirs: float) -> bool:
        gaps = rounds(**{kind: {"balsadb": [ours], "etcd": [theirs]}})
        return holds(summary(gaps, names, [kind]))

    assert fine("kill", 400, 900)
    assert not fine("kill", 400, 300)
    assert not fine("kill", 1100, 1200)
    assert fine("pause", 1100, 1200)
    assert not fine("pause", 1300, 1200)
    assert fine("stop", 90, 20)
    assert not fine("stop", 110, 200)
