"""The forwarder: groups that it merges, delays after failures, and the table of dropped products."""

import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefilter.core.errors import ConflictError
from edgefilter.core.node_sections import SpoolSection
from edgefilter.node.forwarder.process import Forwarder
from edgefilter.node.forwarder.retry import Backoff, RateLimiter
from edgefilter.products.base import Product
from edgefilter.spool import Entry, Priority, Spool
from edgefilter.spool.batches import BatchPlanner
from edgefilter.store.connect import connect
from edgefilter.store.reader import StoreReader
from edgefilter.store.verify import verify
from tests.helpers.spool_blocks import DATE, STREAM, cursor, header_products, products
from tests.helpers.store_models import DictStore, StoreWrapper

SETTINGS = SpoolSection(batch_blocks=4, batch_seconds=100, uploads=2)


def piece(block: int, table: str = "ledger", stream: str = "s-00000001", size: int = 10) -> Entry:
    name = f"{table}/node=n/date={DATE}/{stream}-{block:012d}-{block:016x}.parquet"
    return Entry(block, name, name, size, "", Priority.LEDGER, False)


def blocks(groups: list[list[Entry]]) -> list[list[int]]:
    return [[entry.id for entry in group] for group in groups]


def test_a_group_is_due_when_a_later_block_exists_or_it_has_waited() -> None:
    batches = BatchPlanner(4, 100.0)
    assert batches.due([piece(n) for n in range(3)], 0.0) == []
    assert blocks(batches.due([piece(n) for n in range(5)], 10.0)) == [[0, 1, 2, 3]]
    assert batches.due([piece(4)], 109.0) == []
    assert blocks(batches.due([piece(4)], 110.0)) == [[4]]
    assert blocks(batches.due([piece(5), piece(9, stream="t-00000002")], 111.0, flush=True)) == [[5], [9]]


def test_a_later_block_of_any_table_makes_a_group_due() -> None:
    batches = BatchPlanner(4, 100.0)
    assert blocks(batches.due([piece(1, "pulses"), piece(4, "ledger")], 0.0)) == [[1]]


def test_with_one_block_per_group_nothing_is_merged_and_nothing_waits() -> None:
    assert blocks(BatchPlanner(1, 100.0).due([piece(0), piece(1)], 0.0)) == [[0], [1]]


def test_groups_that_do_not_fit_into_memory_are_divided() -> None:
    found = BatchPlanner(8, 0.0).due([piece(n, size=30 << 20) for n in range(5)], 0.0)
    assert blocks(found) == [[0, 1], [2, 3], [4]]


@settings(max_examples=30)
@given(st.lists(st.integers(0, 40), min_size=1, unique=True), st.randoms(use_true_random=False))
def test_groups_depend_on_block_numbers_only(numbers: list[int], rng: random.Random) -> None:
    """Blocks come in order; asking for groups after each block or less often gives the same groups."""
    numbers.sort()

    def sealed(probability: float) -> list[list[int]]:
        batches, waiting, found = BatchPlanner(4, 1e9), list[Entry](), list[list[int]]()
        for number in numbers:
            waiting.append(piece(number))
            if rng.random() < probability:
                due = batches.due(waiting, 0.0)
                found += blocks(due)
                waiting = [entry for entry in waiting if all(entry not in group for group in due)]
        return found + blocks(batches.due(waiting, 0.0, flush=True))

    assert sealed(1.0) == sealed(0.3)


def test_delays_double_up_to_a_limit_with_jitter_and_end_after_success() -> None:
    backoff = Backoff(10.0, random.Random(1))
    delays = []
    for _ in range(9):
        backoff.record_failure("a", 0.0, None)
        delays.append(backoff.delay(0.0))
    for number, delay in enumerate(delays):
        longest = min(10.0, 0.5 * 2**number)
        assert longest / 2 <= delay <= longest or delay == max(delays[: number + 1])
    assert backoff.names_in_backoff(0.0) == {"a"}
    assert backoff.names_in_backoff(10.0) == set()
    backoff.record_success("b")
    assert backoff.delay(0.0) == 0.0
    assert backoff.names_in_backoff(0.0) == {"a"}
    backoff.record_failure("b", 0.0, 77.0)
    assert backoff.delay(76.0) == 1.0


def test_the_mean_rate_stays_below_the_limit() -> None:
    limiter, now, sent = RateLimiter(1000.0), 0.0, 0
    rng = random.Random(2)
    for _ in range(50):
        now += limiter.delay(now)
        size = rng.randint(1, 5000)
        assert sent <= 1000.0 * now + 1e-6
        limiter.consume(size, now)
        sent += size
    assert RateLimiter(None).delay(0.0) == 0.0


def run_forwarder(spool: Path, store: StoreWrapper | DictStore, drain: bool = True, max_steps: int = 1000) -> Forwarder:
    with Spool.open(spool, role="forwarder") as opened, Forwarder(opened, store, SETTINGS, "n1") as forwarder:
        forwarder.draining = drain
        for _ in range(max_steps):
            forwarder.step()
            if forwarder.finished:
                break
            forwarder.wait(0.01)
    return forwarder


def test_dropped_products_are_listed_in_the_store_and_not_missing(tmp_path: Path) -> None:
    with Spool.open(tmp_path, role="reducer", budget_bytes=240_000) as spool:
        for product in header_products():
            spool.put(product)
        for block in range(10):
            spool.commit(products(block), STREAM, cursor(block))
        dropped = [note.name for note in spool.dropped()]
    assert 0 < len(dropped) < 20
    store = DictStore()
    assert run_forwarder(tmp_path, store).finished
    dropped_table = StoreReader(store).table("dropped")
    assert sorted(dropped_table.column("object").to_pylist()) == sorted(dropped)
    assert set(dropped_table.column("reason").to_pylist()) == {"budget"}
    assert dropped_table.column("node").unique().to_pylist() == ["n1"]
    verdict = verify(store)
    assert verdict.problems == []
    assert len([note for note in verdict.notes if note.startswith("dropped")]) == len(dropped)
    with Spool.open(tmp_path, role="forwarder") as spool:
        assert spool.is_empty()


def test_uploads_are_ordered_by_priority_and_age(tmp_path: Path) -> None:
    order: list[str] = []

    class RecordingStore(StoreWrapper):
        def put(self, product: Product) -> None:
            order.append(product.name)
            super().put(product)

    with Spool.open(tmp_path, role="reducer") as spool:
        for block in (0, 1):
            spool.commit(products(block), STREAM, cursor(block))
    with Spool.open(tmp_path, role="forwarder") as opened:
        one = SETTINGS.model_copy(update={"uploads": 1})
        with Forwarder(opened, RecordingStore(DictStore()), one, "n1") as forwarder:
            forwarder.draining = True
            while not forwarder.finished:
                forwarder.step()
                forwarder.wait(0.01)
    folders = [name.partition("/")[0] for name in order]
    assert folders[0] == "ledger"
    assert set(folders[1:3]) == {"cutouts", "pulses"}
    assert set(folders[3:]) == {"spectra", "flags"}


def test_the_number_of_simultaneous_uploads_is_limited(tmp_path: Path) -> None:
    now, most, lock = [0], [0], threading.Lock()

    class CountingStore(StoreWrapper):
        def put(self, product: Product) -> None:
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            super().put(product)
            with lock:
                now[0] -= 1

    with Spool.open(tmp_path, role="reducer") as spool:
        spool.commit([Product(f"cutouts/{n}", b"x") for n in range(30)])
    assert run_forwarder(tmp_path, CountingStore(DictStore())).status.uploaded == 30
    assert most[0] <= SETTINGS.uploads


def test_a_conflict_does_not_stop_other_uploads(tmp_path: Path) -> None:
    class ConflictingStore(StoreWrapper):
        def put(self, product: Product) -> None:
            if product.name.endswith("/3"):
                raise ConflictError("exists with other content")
            super().put(product)

    with Spool.open(tmp_path, role="reducer") as spool:
        spool.commit([Product(f"cutouts/{n}", b"x") for n in range(9)])
    status = run_forwarder(tmp_path, ConflictingStore(DictStore())).status
    assert (status.uploaded, status.stuck, status.products, status.ready) == (8, 1, 1, True)


def test_the_command_empties_a_spool(tmp_path: Path) -> None:
    with Spool.open(tmp_path / "spool", role="reducer") as spool:
        for product in header_products():
            spool.put(product)
        for block in range(3):
            spool.commit(products(block), STREAM, cursor(block))
    command = [sys.executable, "-m", "edgefilter.cli.main", "forward", str(tmp_path / "spool")]
    done = subprocess.run(
        [*command, "--to", str(tmp_path / "store"), "--drain"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "7 products, " in done.stdout
    assert done.stdout.endswith("forwarded; 0 products wait, 0 of them stuck\n")
    assert verify(connect(tmp_path / "store")).problems == []


@pytest.mark.parametrize("words", [["absent", "--to", "store"], ["spool", "--to", "ftp://x"]])
def test_wrong_arguments_are_one_line_and_change_nothing(tmp_path: Path, words: list[str]) -> None:
    Spool.open(tmp_path / "spool", role="reducer").close()
    before = sorted(tmp_path.rglob("*"))
    command = [sys.executable, "-m", "edgefilter.cli.main", "forward", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert sorted(tmp_path.rglob("*")) == before
