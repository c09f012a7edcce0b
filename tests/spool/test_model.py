"""The spool compared with a dict, with the process killed between any two system calls."""

import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from edgefilter.core.errors import SpoolFullError
from edgefilter.products.base import Product
from edgefilter.spool import Cursor, Spool
from tests.helpers.spools import entries, make_product, payload_files, product_names
from tests.helpers.syscalls import can_trace, run_until

BUDGET = 12_000
FOLDERS = ("ledger", "pulses", "cutouts", "spectra", "flags")

pytestmark = pytest.mark.skipif(not can_trace(), reason="this machine does not allow ptrace of a child process")

State = tuple[tuple[str, ...], tuple[str, ...], int]


class Model:
    """Expected content of a spool: names in the order of arrival and sizes, dropped names, the cursor."""

    def __init__(self) -> None:
        self.held: dict[str, int] = {}
        self.dropped: list[str] = []
        self.next_sample = 0

    def copy(self) -> "Model":
        other = Model()
        other.held, other.dropped, other.next_sample = dict(self.held), list(self.dropped), self.next_sample
        return other

    def commit(self, block: list[Product], next_sample: int) -> list["Model"]:
        """Return all states that a crash may leave behind; the last is that of a completed commit."""
        states = [self.copy()]
        now = self.copy()
        excess = sum(now.held.values()) + sum(len(p.content) for p in block) - BUDGET
        for name in [n for n in now.held if n.startswith(("spectra", "flags"))]:
            if excess > 0:
                excess -= now.held.pop(name)
                now.dropped.append(name)
        states.append(now.copy())  # eviction is a transaction of its own
        for product in [p for p in block if p.name.startswith(("spectra", "flags"))]:
            if excess > 0:
                excess -= len(product.content)
                block = [p for p in block if p is not product]
                now.dropped.append(product.name)
        if excess > 0:
            return states
        now.held |= {product.name: len(product.content) for product in block}
        now.next_sample = next_sample
        return [*states, now]

    def state(self) -> State:
        return tuple(sorted(self.held)), tuple(sorted(self.dropped)), self.next_sample


class SpoolMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "spool"
        self.model = Model()
        self.number = 0

    def teardown(self) -> None:
        self.folder.cleanup()

    def inspect_spool(self) -> State:
        """Return the state after the spool is reopened; check that every row has its file and every file its row."""
        with Spool.open(self.path, role="reducer", budget_bytes=BUDGET):
            pass
        with Spool.open(self.path, role="forwarder") as spool:
            found = entries(spool)
            assert all(spool.read(entry) is not None for entry in found)
            assert payload_files(self.path) == sorted(entry.file for entry in found)
            payload_totals = spool.payload_totals().values()
            assert sum(total.files for total in payload_totals) == len(found)
            assert sum(total.bytes for total in payload_totals) == sum(entry.size for entry in found)
            cursor = spool.cursor("s")
            dropped = tuple(sorted(record.name for record in spool.dropped()))
            return tuple(sorted(entry.name for entry in found)), dropped, cursor.next_sample if cursor else 0

    def run_or_kill(self, work: Callable[[], None], stops: int | None, states: list[Model]) -> None:
        """Run ``work``, or kill it at a system call; check that the spool is in one of the expected states."""
        if stops is None:
            work()
        elif run_until(work, stops) is not None:
            stops = None
        found = self.inspect_spool()
        expected = {model.state(): model for model in (states if stops is not None else states[-1:])}
        assert found in expected
        self.model = expected[found].copy()

    @initialize()
    def begin(self) -> None:
        Spool.open(self.path, role="reducer").close()

    @rule(
        folders=st.lists(st.sampled_from(FOLDERS), min_size=1, max_size=4, unique=True),
        size=st.integers(1, 3000),
        stops=st.none() | st.integers(0, 700),
    )
    def commit(self, folders: list[str], size: int, stops: int | None) -> None:
        self.number += 1
        block = [make_product(folder, self.number, size) for folder in folders]
        cursor = Cursor(self.number)

        def work() -> None:
            opened = Spool.open(self.path, role="reducer", budget_bytes=BUDGET)
            with opened as spool, contextlib.suppress(SpoolFullError):
                spool.commit(block, "s", cursor)

        self.run_or_kill(work, stops, self.model.commit(block, self.number))

    @rule(stops=st.none() | st.integers(0, 500), data=st.data())
    def deliver(self, stops: int | None, data: st.DataObject) -> None:
        if not self.model.held:
            return
        name = data.draw(st.sampled_from(sorted(self.model.held)))

        def work() -> None:
            with Spool.open(self.path, role="forwarder") as spool:
                spool.seal(spool.unsealed())
                spool.mark_delivered(next(entry for entry in spool.next_entries(1000) if entry.name == name))

        after = self.model.copy()
        del after.held[name]
        self.run_or_kill(work, stops, [self.model, after])

    @rule(stops=st.none() | st.integers(0, 500))
    def merge(self, stops: int | None) -> None:
        self.number += 1
        product = make_product("ledger", self.number, 50)
        with Spool.open(self.path) as spool:
            merged = [entry.name for entry in spool.unsealed() if entry.name.startswith("ledger")]
        if len(merged) < 2:
            return

        def work() -> None:
            with Spool.open(self.path, role="forwarder") as spool:
                spool.merge([entry for entry in spool.unsealed() if entry.name in merged], product)

        after = self.model.copy()
        after.held = {n: size for n, size in after.held.items() if n not in merged} | {product.name: 50}
        self.run_or_kill(work, stops, [self.model, after])

    @invariant()
    def only_spectra_and_flags_are_dropped(self) -> None:
        assert all(name.startswith(("spectra", "flags")) for name in self.model.dropped)


SpoolMachine.TestCase.settings = settings(max_examples=15, stateful_step_count=8, deadline=None)
TestSpool = SpoolMachine.TestCase


def test_commit_killed_at_any_system_call_is_complete_or_absent(tmp_path: Path) -> None:
    """Test every twelfth stop; ``python -m benchmarks.spool --kills`` tests all of them."""
    block = [make_product(folder, 1) for folder in FOLDERS]

    def work() -> None:
        with Spool.open(path, role="reducer") as spool:
            spool.commit(block, "s", Cursor(1))

    seen: set[bool] = set()
    stops = 0
    while True:
        path = tmp_path / str(stops)
        Spool.open(path, role="reducer").close()
        ended = run_until(work, stops)
        with Spool.open(path, role="reducer") as spool:
            there = product_names(spool)
            done = spool.cursor("s") is not None
            assert there == (sorted(product.name for product in block) if done else [])
            assert len(payload_files(path)) == len(there)
            seen.add(done)
            if not done:  # the next owner makes the block again
                assert spool.commit(block, "s", Cursor(1))
        if ended is not None:
            break
        stops += 12
    assert seen == {True, False}
    assert stops > 200
