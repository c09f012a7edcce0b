"""Faults between spool and store: in the end the store holds the same bytes."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from edgefilter.core.errors import ConflictError
from edgefilter.node.forwarder.process import Forwarder
from edgefilter.products.base import Product
from edgefilter.spool import Spool
from edgefilter.store.base import Store
from edgefilter.store.connect import connect
from tests.helpers.delivery import FAST_SETTINGS, contents, forward, forwarder_command, kill_both, reducer_command
from tests.helpers.servers.fault_proxy import FAULTS, FaultProxy
from tests.helpers.servers.process import Server
from tests.helpers.spool_blocks import fill_spool
from tests.helpers.store_models import DictStore, FailingStore

BLOCKS = range(11)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Content of the store without faults."""
    path = tmp_path_factory.mktemp("undisturbed")
    fill_spool(path / "spool", BLOCKS)
    store = DictStore()
    forward(path / "spool", store)
    assert len(store.objects) == 2 + 4 + 2 + 3 * 3  # headers, cut-outs, groups of pulses and of the other tables
    return store.objects


@pytest.fixture
def proxy(swift_server: Server) -> Iterator[FaultProxy]:
    with ExitStack() as stack:
        yield FaultProxy(swift_server, stack)


def test_every_store_holds_the_same_bytes_in_the_end(
    tmp_path: Path, any_store: Store, undisturbed: dict[str, bytes]
) -> None:
    fill_spool(tmp_path / "spool", BLOCKS)
    store = any_store
    status = forward(tmp_path / "spool", store).status
    assert contents(store) == undisturbed
    assert (status.uploaded, status.failed, status.products, status.bytes) == (len(undisturbed), 0, 0, 0)
    fill_spool(tmp_path / "again", BLOCKS)  # a node that has lost its spool makes the same products again
    forward(tmp_path / "again", store)
    assert contents(store) == undisturbed


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_of_server_or_network_changes_nothing(
    fault: str, tmp_path: Path, proxy: FaultProxy, store_url: Callable[[Server], str], undisturbed: dict[str, bytes]
) -> None:
    fill_spool(tmp_path / "spool", BLOCKS)
    store = connect(store_url(proxy.server), timeout=0.5 if fault == "stall" else 5.0)
    proxy.plan([fault, "", fault, fault, "", "", fault])
    status = forward(tmp_path / "spool", store).status
    assert proxy.applied == [fault] * 4
    # After a wrong checksum in an answer the object is read back, which succeeds.
    assert status.failed == (0 if fault == "wrong checksum" else 4)
    assert status.uploaded == len(undisturbed)
    assert contents(store) == undisturbed


def test_mixed_faults_change_nothing(
    tmp_path: Path, proxy: FaultProxy, store_url: Callable[[Server], str], undisturbed: dict[str, bytes]
) -> None:
    fill_spool(tmp_path / "spool", BLOCKS)
    store = connect(store_url(proxy.server), timeout=1.0)
    rng = random.Random(4)
    plan = [rng.choice([*(f for f in FAULTS if f != "stall"), ""]) for _ in range(50)]
    proxy.plan(plan)
    forward(tmp_path / "spool", store)
    assert contents(store) == undisturbed


def test_server_that_is_down_during_the_whole_run(
    tmp_path: Path, proxy: FaultProxy, store_url: Callable[[Server], str], undisturbed: dict[str, bytes]
) -> None:
    fill_spool(tmp_path / "spool", BLOCKS[:6])
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
    fill_spool(tmp_path / "spool", BLOCKS[6:])
    proxy.refuse_all.clear()
    forward(tmp_path / "spool", store)
    assert contents(store) == undisturbed


def test_forwarder_waits_for_as_long_as_a_busy_server_asks(
    tmp_path: Path, swift_server: Server, store_url: Callable[[Server], str]
) -> None:
    fill_spool(tmp_path / "spool", BLOCKS[:1])
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


def test_server_without_conditional_requests(
    tmp_path: Path, proxy: FaultProxy, store_url: Callable[[Server], str], undisturbed: dict[str, bytes]
) -> None:
    proxy.no_conditional_requests = True
    fill_spool(tmp_path / "spool", BLOCKS)
    store = connect(store_url(proxy.server))
    assert forward(tmp_path / "spool", store).status.failed == 0
    assert contents(store) == undisturbed
    with pytest.raises(ConflictError, match="other content"):
        store.put(Product(next(iter(undisturbed)), b"other"))
    assert contents(store) == undisturbed


@pytest.mark.parametrize("seed", range(3))
def test_store_that_fails_before_and_after_storing(tmp_path: Path, seed: int, undisturbed: dict[str, bytes]) -> None:
    fill_spool(tmp_path / "spool", BLOCKS)
    store = FailingStore(DictStore(), seed, failure_rate=0.8)
    forward(tmp_path / "spool", store)
    assert contents(store) == undisturbed
    assert store.failures > 2


def test_product_whose_name_has_other_bytes_in_the_store_is_quarantined_and_reported(
    tmp_path: Path, bucket: str
) -> None:
    fill_spool(tmp_path / "spool", BLOCKS[:1])
    store = connect(bucket)
    with Spool.open(tmp_path / "spool") as spool:
        taken = spool.next_entries(9)[-1]
    store.put(Product(taken.name, b"other content"))
    status = forward(tmp_path / "spool", store).status
    assert (status.stuck, status.products) == (1, 1)
    assert f"{taken.name} is there with other content" in status.last_error
    assert store.get(taken.name) == b"other content"
    with Spool.open(tmp_path / "spool", role="forwarder") as spool:
        assert [entry.name for entry in spool.stuck()] == [taken.name]
        assert "other content" in spool.stuck()[0].stuck
    store.delete([taken.name])  # as an operator does
    with Spool.open(tmp_path / "spool", role="forwarder") as spool:
        assert spool.release() == 1
    assert forward(tmp_path / "spool", store).status.stuck == 0


def test_reducer_and_forwarder_killed_at_random_moments(
    tmp_path: Path, swift_server: Server, store_url: Callable[[Server], str], undisturbed: dict[str, bytes]
) -> None:
    """Kill each twice; ``python -m benchmarks.kills`` kills each 30 times."""
    location = store_url(swift_server)
    spool = tmp_path / "spool"
    kill_both(reducer_command(spool, len(BLOCKS)), forwarder_command(spool, location), spool, kills=2, seed=7)
    assert contents(connect(location)) == undisturbed


def test_wall_clock_that_jumps_back_delays_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, bytes]
) -> None:
    """Waiting and batching use a monotonic clock; the wall clock is not read."""
    wall = time.time
    jump = 0.0
    monkeypatch.setattr(time, "time", lambda: wall() + jump)
    fill_spool(tmp_path / "spool", BLOCKS[:6])
    jump = -3600.0
    fill_spool(tmp_path / "spool", BLOCKS[6:])
    store = FailingStore(DictStore(), 3)

    def jump_back() -> None:
        nonlocal jump
        jump -= 3600.0

    forward(tmp_path / "spool", store, after_step=jump_back)
    assert contents(store) == undisturbed
