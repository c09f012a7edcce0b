"""The spool against a dict, with crashes between any two system calls."""

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
from tests.helpers.syscalls import can_trace, run_until
from tests.spool.test_spool import make_product

BUDGET = 12_000
FOLDERS = ("ledger", "pulses", "cutouts", "spectra", "flags")

pytestmark = pytest.mark.skipif(not can_trace(), reason="this machine lets no process trace its child (ptrace)")

State = tuple[tuple[str, ...], tuple[str, ...], int]


class Model:
    """What a spool should hold: names in the order they came, sizes, what was dropped, the cursor."""

    def __init__(self) -> None:
        self.held: dict[str, int] = {}
        self.dropped: list[str] = []
        self.next_sample = 0

    def copy(self) -> "Model":
        other = Model()
        other.held, other.dropped, other.next_sample = dict(self.held), list(self.dropped), self.next_sample
        return other

    def commit(self, block: list[Product], next_sample: int) -> list["Model"]:
        """All states that a crash may leave behind, the last one being that of a commit that ended."""
        states = [self.copy()]
        now = self.copy()
        excess = sum(now.held.values()) + sum(len(p.content) for p in block) - BUDGET
        for name in [n for n in now.held if n.startswith(("spectra", "flags"))]:
            if excess > 0:
                excess -= now.held.pop(name)
                now.dropped.append(name)
        states.append(now.copy())  # making room is a step of its own
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
        """What is there once a successor has opened it; every row has its file and every file its row."""
        with Spool.open(self.path, role="reducer", budget_bytes=BUDGET):
            pass
        with Spool.open(self.path, role="forwarder") as spool:
            entries = [*spool.next_entries(1000), *spool.unsealed(), *spool.stuck()]
            assert all(spool.read(entry) is not None for entry in entries)
            files = {file.name for file in (self.path / "payload").iterdir()}
            assert files == {entry.file for entry in entries}
            payload_totals = spool.payload_totals().values()
            assert sum(total.files for total in payload_totals) == len(entries)
            assert sum(total.bytes for total in payload_totals) == sum(entry.size for entry in entries)
            cursor = spool.cursor("s")
            dropped = tuple(sorted(note.name for note in spool.dropped()))
            return tuple(sorted(e.name for e in entries)), dropped, cursor.next_sample if cursor else 0

    def run_or_kill(self, work: Callable[[], None], stops: int | None, states: list[Model]) -> None:
        """Do something, or be killed in the middle of it; what is left is one of some states."""
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
    def what_must_not_be_dropped_never_was(self) -> None:
        assert all(name.startswith(("spectra", "flags")) for name in self.model.dropped)


SpoolMachine.TestCase.settings = settings(max_examples=15, stateful_step_count=8, deadline=None)
TestSpool = SpoolMachine.TestCase


def test_a_commit_survives_a_kill_at_any_system_call(tmp_path: Path) -> None:
    """Every twelfth stop here; ``python -m benchmarks.spool --kills`` goes through all of them."""
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
            there = sorted(entry.name for entry in (*spool.next_entries(9), *spool.unsealed()))
            done = spool.cursor("s") is not None
            assert there == (sorted(product.name for product in block) if done else [])
            assert len(list((path / "payload").iterdir())) == len(there)
            seen.add(done)
            if not done:  # its successor makes the block again
                assert spool.commit(block, "s", Cursor(1))
        if ended is not None:
            break
        stops += 12
    assert seen == {True, False}
    assert stops > 200
