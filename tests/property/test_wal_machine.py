"""The log on a disk that loses power at any operation, fails at any operation and rots, against
the model of `test_wal_model`: what was synced is there, nothing that was never written is, what is
torn is cut off, and what has rotted is refused.
"""

import contextlib
import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from balsadb.errors import Corruption, DiskFailed
from balsadb.storage import Wal, WalBatch, WalOptions, WalState
from balsadb.storage.files import SECTOR_BYTES
from tests.property.test_wal_model import HEADER, Model, batch_of
from tests.simulation.disk import SimDisk, SimulatedCrash

actions = st.sampled_from("append append append overwrite mark install".split())
counts = st.integers(0, 6)
sizes = st.integers(0, 900)
soon = st.integers(1, 7)
share = st.integers(0, 1 << 20)


class WalMachine(RuleBasedStateMachine):
    """`possible`: what a power cut may leave; the first was synced, the last is what was written
    last."""

    @initialize(segment_bytes=st.sampled_from([4096, 8192, 1 << 20]), seed=share)
    def start(self, segment_bytes: int, seed: int) -> None:
        self.options = WalOptions(segment_bytes, segment_bytes // 4)
        self.rng = random.Random(seed)
        self.disk = SimDisk()
        self.model = Model()
        self.possible = [WalState(None, None, [])]
        self.wal = self.opened()[0]

    def opened(self) -> tuple[Wal, WalState]:
        return Wal.create_or_open(self.disk, "wal", HEADER, self.options)

    def recovered(self) -> None:
        """Open after a power cut; what is found is durable, and the only possibility from now."""
        self.wal, state = self.opened()
        assert state in self.possible, list(self.disk.log)
        self.model = Model(state.hard_state, state.snapshot, {e.index: e for e in state.entries})
        self.possible = [state]

    def put(self, batch: WalBatch) -> None:
        """Its state is possible from the moment that the write begins."""
        self.model.write(batch)
        self.possible.append(self.model.state())
        self.wal.write(batch)

    def step(self, action: str, count: int, size: int, flag: bool) -> None:
        """A write and perhaps its sync, or a sync and a compaction."""
        batch = batch_of(self.model, action, count, size, flag)
        if batch is not None:
            self.put(batch)
        if batch is None or flag:
            self.wal.sync()
            self.possible = self.possible[-1:]
        if batch is None:
            self.wal.compact(self.model.floor)

    @rule(action=actions, count=counts, size=sizes, flag=st.booleans())
    def write(self, action: str, count: int, size: int, flag: bool) -> None:
        self.step(action, count, size, flag)

    @rule()
    def sync_and_compact(self) -> None:
        before = self.model.state()
        self.step("none", 0, 0, flag=True)
        assert self.model.state() == before

    @rule()
    def reopen(self) -> None:
        """Without a power cut nothing is lost, synced or not."""
        self.wal.close()
        self.possible = self.possible[-1:]
        self.recovered()

    @rule()
    def lose_power(self) -> None:
        self.disk.crash(self.rng)
        self.recovered()

    @rule(at=soon, again=soon, action=actions, count=counts, size=sizes, flag=st.booleans())
    def lose_power_at(
        self, at: int, again: int, action: str, count: int, size: int, flag: bool
    ) -> None:
        """In the middle of a write, a sync, a roll or a compaction, and again in the recovery."""
        self.disk.crash_at(at)
        with contextlib.suppress(SimulatedCrash):
            self.step(action, count, size, flag)
            self.step("none", 0, 0, flag=True)
        self.disk.crash(self.rng)
        self.disk.crash_at(again)
        with contextlib.suppress(SimulatedCrash):
            self.opened()[0].close()
        self.disk.crash(self.rng)
        self.recovered()

    @rule(at=soon, action=actions, count=counts, size=sizes)
    def fail_at(self, at: int, action: str, count: int, size: int) -> None:
        """After a failure the log takes nothing more; the next start finds what was synced."""
        self.disk.fail_at(at)
        try:
            self.step(action, count, size, flag=True)
            self.step("none", 0, 0, flag=True)
        except DiskFailed:
            with pytest.raises(DiskFailed):
                self.wal.sync()
            with pytest.raises(DiskFailed):
                self.wal.write(WalBatch())
        self.disk.crash(self.rng)
        self.recovered()

    @precondition(lambda self: len(self.possible) == 1)
    @rule(where=share, bit=st.integers(0, 7), which=share)
    def rot(self, where: int, bit: int, which: int) -> None:
        """One bit of what is durable: refused and left as it is. One bit of what was never written
        may pass for torn, and then nothing is missing."""
        names = self.disk.listdir("wal")
        path = f"wal/{names[which % len(names)]}"
        content = self.disk.content(path)
        written = -(-len(content.rstrip(b"\0")) // SECTOR_BYTES) * SECTOR_BYTES
        at = where % len(content)
        self.disk.flip_bit(path, at * 8 + bit)
        rotten = self.disk.content(path)
        try:
            wal, state = self.opened()
        except Corruption:
            assert self.disk.content(path) == rotten
            self.disk.flip_bit(path, at * 8 + bit)
        else:
            wal.close()
            assert at >= written, f"bit {bit} of byte {at} of {path} went unnoticed"
            assert state == self.possible[0]
        self.wal.close()
        self.recovered()

    def teardown(self) -> None:
        if hasattr(self, "wal"):
            self.reopen()


TestWalMachine = WalMachine.TestCase
TestWalMachine.settings = settings(
    max_examples=30, stateful_step_count=25, deadline=None, derandomize=True
)
