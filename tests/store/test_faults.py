"""What goes wrong between spool and store changes nothing of what is in the store in the end."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from edgefilter.core.config import SpoolSection
from edgefilter.core.errors import ConflictError
from edgefilter.node.forwarder.process import Forwarder
from edgefilter.products.base import Product
from edgefilter.spool import Spool
from edgefilter.store.base import Store
from edgefilter.store.connect import connect
from tests.helpers.servers.fault_proxy import FAULTS, FaultProxy
from tests.helpers.servers.process import Server
from tests.helpers.spool_blocks import STREAM, cursor, header_products, products
from tests.helpers.store_models import DictStore, FailingStore

BLOCKS = 11
FAST_SETTINGS = SpoolSection(batch_blocks=5, retry_seconds=0.02, request_seconds=2, uploads=3)

Contents = dict[str, bytes]


def fill(path: Path, blocks: range = range(BLOCKS)) -> None:
    with Spool.open(path, role="reducer") as spool:
        for product in header_products():
            spool.put(product)
        for block in blocks:
            spool.commit(products(block), STREAM, cursor(block))


def forward(
    path: Path, store: Store, settings: SpoolSection = FAST_SETTINGS, after_step: Callable[[], None] = lambda: None
) -> Forwarder:
    """Empty a spool into a store."""
    with Spool.open(path, role="forwarder") as spool:
        with Forwarder(spool, store, settings, "n1", rng=random.Random(1)) as forwarder:
            forwarder.draining = True
            until = time.monotonic() + 120
            while not forwarder.finished:
                assert time.monotonic() < until, forwarder.status
                forwarder.step()
                after_step()
                forwarder.wait(0.05)
        assert spool.is_empty() or forwarder.status.stuck
    return forwarder


def contents(store: Store) -> Contents:
    return {name: store.get(name) for name in store.names()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Contents:
    """What is in the store when nothing goes wrong."""
    path = tmp_path_factory.mktemp("undisturbed")
    fill(path / "spool")
    store = DictStore()
    forward(path / "spool", store)
    assert len(store.objects) == 2 + 4 + 2 + 3 * 3  # headers, cut-outs, groups of pulses and of the other tables
    return store.objects


@pytest.fixture
def proxy(swift_server: Server) -> Iterator[FaultProxy]:
    with ExitStack() as stack:
        yield FaultProxy(swift_server, stack)


def test_every_store_ends_with_the_same_bytes(tmp_path: Path, any_store: Store, undisturbed: Contents) -> None:
    fill(tmp_path / "spool")
    store = any_store
    status = forward(tmp_path / "spool", store).status
    assert contents(store) == undisturbed
    assert (status.uploaded, status.failed, status.products, status.bytes) == (len(undisturbed), 0, 0, 0)
    fill(tmp_path / "again")  # a node that has lost its memory makes the same again
    forward(tmp_path / "again", store)
    assert contents(store) == undisturbed


@pytest.mark.parametrize("fault", FAULTS)
def test_what_a_server_or_network_does_changes_nothing(
    fault: str, tmp_path: Path, proxy: FaultProxy, store_url: Callable[[Server], str], undisturbed: Contents
) -> None:
    fill(tmp_path / "spool")
    store = connect(store_url(proxy.server), timeout=0.5 if fault == "stall" else 5.0)
    proxy.plan([fault, "", fault, fault, "", "", fault])
    status = forward(tmp_path / "spool", store).status
    assert proxy.applied == [fault] * 4
    # A wrong checksum in an answer is found to be wrong by reading the object back.
    assert status.failed == (0 if fault == "wrong checksum" else 4)
    assert status.uploaded == len(undisturbed)
    assert contents(store) == undisturbed


def test_all_faults_together(
    tmp_path: Path, proxy: FaultProxy, store_url: Callable[[Server], str], undisturbed: Contents
) -> None:
    fill(tmp_path / "spool")
    store = connect(store_url(proxy.server), timeout=1.0)
    rng = random.Random(4)
    plan = [rng.choice([*(f for f in FAULTS if f != "stall"), ""]) for _ in range(50)]
    proxy.plan(plan)
    forward(tmp_path / "spool", store)
    assert contents(store) == undisturbed


def test_a_server_that_is_absent_for_the_whole_run_and_then_back(
    tmp_path: Path, proxy: FaultProxy, store_url: Callable[[Server], str], undisturbed: Contents
) -> None:
    fill(tmp_path / "spool", range(6))
    store = connect(store_url(proxy.server), timeout=1.0)
    proxy.refuse_all.set()
    opened = Spool.open(tmp_path / "spool", role="forwarder")
    with opened as spool, Forwarder(spool, store, FAST_SETTINGS, "n1") as forwarder:
        while forwarder.status.failed < 5:
            forwarder.step()
            forwarder.wait(0.01)
        assert not forwarder.status.ready
        assert forwarder.status.uploaded == 0
        assert "cannot write" in forwarder.status.last_error
    fill(tmp_path / "spool", range(6, BLOCKS))
    proxy.refuse_all.clear()
    forward(tmp_path / "spool", store)
    assert contents(store) == undisturbed


def test_a_busy_server_is_left_alone_for_as_long_as_it_asks(
    tmp_path: Path, swift_server: Server, store_url: Callable[[Server], str]
) -> None:
    fill(tmp_path / "spool", range(1))
    now = 1000.0
    with ExitStack() as stack:
        proxy = FaultProxy(swift_server, stack, retry_after="77")
        store = connect(store_url(proxy.server))
        proxy.plan(["503"])
        spool = stack.enter_context(Spool.open(tmp_path / "spool", role="forwarder"))
        settings = FAST_SETTINGS.model_copy(update={"uploads": 1})
        forwarder = stack.enter_context(Forwarder(spool, store, settings, "n1", clock=lambda: now))
        forwarder.draining = True
        while not forwarder.status.failed:
            forwarder.step()
            forwarder.wait(0.01)
        now += 76.0
        for _ in range(3):
            forwarder.step()
            forwarder.wait(0.01)
        assert forwarder.status.uploaded == 0
        now += 2.0
        while not forwarder.finished:
            forwarder.step()
            forwarder.wait(0.01)
        assert forwarder.status.ready


def test_a_server_that_knows_no_conditional_requests(
    tmp_path: Path, proxy: FaultProxy, store_url: Callable[[Server], str], undisturbed: Contents
) -> None:
    proxy.no_conditional_requests = True
    fill(tmp_path / "spool")
    store = connect(store_url(proxy.server))
    assert forward(tmp_path / "spool", store).status.failed == 0
    assert contents(store) == undisturbed
    with pytest.raises(ConflictError, match="other content"):
        store.put(Product(next(iter(undisturbed)), b"other"))
    assert contents(store) == undisturbed


@pytest.mark.parametrize("seed", range(3))
def test_a_store_that_fails_before_and_after_storing(tmp_path: Path, seed: int, undisturbed: Contents) -> None:
    fill(tmp_path / "spool")
    store = FailingStore(DictStore(), seed, failure_rate=0.8)
    forward(tmp_path / "spool", store)
    assert contents(store) == undisturbed
    assert store.failures > 2


def test_a_name_that_exists_with_other_bytes_is_kept_and_told(tmp_path: Path, bucket: str) -> None:
    fill(tmp_path / "spool", range(1))
    store = connect(bucket)
    with Spool.open(tmp_path / "spool") as spool:
        taken = spool.next_entries(9)[-1]
    store.put(Product(taken.name, b"somebody else's"))
    status = forward(tmp_path / "spool", store).status
    assert (status.stuck, status.products) == (1, 1)
    assert f"{taken.name} is there with other content" in status.last_error
    assert store.get(taken.name) == b"somebody else's"
    with Spool.open(tmp_path / "spool", role="forwarder") as spool:
        assert [entry.name for entry in spool.stuck()] == [taken.name]
        assert "other content" in spool.stuck()[0].stuck
    store.delete([taken.name])  # an operator has decided
    with Spool.open(tmp_path / "spool", role="forwarder") as spool:
        assert spool.release() == 1
    assert forward(tmp_path / "spool", store).status.stuck == 0


REDUCER = """
import sys
from edgefilter.spool import Spool
from tests.helpers.spool_blocks import STREAM, SAMPLES, cursor, header_products, products
with Spool.open(sys.argv[1], role="reducer", wait=30) as spool:
    known = spool.cursor(STREAM)
    for product in header_products():
        spool.put(product)
    for block in range(known.next_sample // SAMPLES if known else 0, int(sys.argv[2])):
        print(block, flush=True)
        spool.commit(products(block), STREAM, cursor(block))
"""


def run_and_kill(command: list[str], rng: random.Random, environment: dict[str, str]) -> int | None:
    """Run a program; kill it at a random moment after a random number of lines; its exit status if it ended before."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(rng.randint(1, 12)):
            if not process.stdout.readline():
                break
        try:
            process.wait(rng.uniform(0, 0.02))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            return None
        return process.returncode


def test_reducer_and_forwarder_killed_at_random_moments(
    tmp_path: Path, swift_server: Server, store_url: Callable[[Server], str], undisturbed: Contents
) -> None:
    """Few kills here; ``python -m benchmarks.kills`` does 30 of each."""
    location = store_url(swift_server)
    reducer = [sys.executable, "-c", REDUCER, str(tmp_path / "spool"), str(BLOCKS)]
    forwarder = [sys.executable, "-c", FORWARDER, str(tmp_path / "spool"), location]
    kill_both(reducer, forwarder, tmp_path / "spool", kills=2, seed=7)
    assert contents(connect(location)) == undisturbed


FORWARDER = """
import sys
from edgefilter.core.config import SpoolSection
from edgefilter.node.forwarder.process import Forwarder
from edgefilter.spool import Spool
from edgefilter.store.connect import connect
settings = SpoolSection(batch_blocks=5, retry_seconds=0.02, request_seconds=5, uploads=1, batch_seconds=86400)
with Spool.open(sys.argv[1], role="forwarder", wait=30) as spool:
    with Forwarder(spool, connect(sys.argv[2], create=True), settings, "n1") as forwarder:
        forwarder.draining = len(sys.argv) > 3
        while not (forwarder.draining and forwarder.finished):
            forwarder.step()
            print(forwarder.status.uploaded, flush=True)
            forwarder.wait(0.01)
"""


def kill_both(reducer: list[str], forwarder: list[str], spool: Path, kills: int, seed: int) -> None:
    """Kill each so often at random moments, restarting it each time; then let both end."""
    rng = random.Random(seed)
    environment = dict(os.environ)
    for _ in range(kills):
        run_and_kill(reducer, rng, environment)
        run_and_kill(forwarder, rng, environment)
    subprocess.run(reducer, check=True, stdout=subprocess.DEVNULL, env=environment)
    subprocess.run([*forwarder, "drain"], check=True, stdout=subprocess.DEVNULL, env=environment)
    with Spool.open(spool, role="forwarder") as left:
        assert left.is_empty()
        assert list((spool / "payload").iterdir()) == []


def test_a_clock_that_jumps_back_an_hour_delays_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: Contents
) -> None:
    """Waiting and batching go by a clock that never jumps: the wall clock is not even read."""
    wall = time.time
    jump = 0.0
    monkeypatch.setattr(time, "time", lambda: wall() + jump)
    fill(tmp_path / "spool", range(6))
    jump = -3600.0
    fill(tmp_path / "spool", range(6, BLOCKS))
    store = FailingStore(DictStore(), 3)

    def back() -> None:
        nonlocal jump
        jump -= 3600.0

    forward(tmp_path / "spool", store, after_step=back)
    assert contents(store) == undisturbed
