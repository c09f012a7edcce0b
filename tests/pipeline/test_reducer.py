"""Law 1: products are a function of samples, settings and code, and nothing else. Law 4: the account is exact."""

import io
import random
from functools import cache

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefilter.compute.threads import ThreadBackend
from edgefilter.core.chunk import Chunk, Gap, Loss
from edgefilter.core.config import NodeConfig
from edgefilter.core.plan import Plan, resolve
from edgefilter.core.validation import validate
from edgefilter.node.ring import RingReader
from edgefilter.pipeline.product_builder import ProductBuilder
from edgefilter.pipeline.reducer import Reducer, count_cells
from edgefilter.products.naming import parse
from edgefilter.sources.base import Source
from tests.helpers.recordings import VOLTAGE, MemorySource, power, voltage

Products = dict[int, dict[str, bytes]]


@cache
def oversampled() -> tuple[Plan, MemorySource]:
    return voltage_with({"channelise": {"channels": 32, "oversampling": "4/3"}})


def voltage_with(settings: dict) -> tuple[Plan, MemorySource]:
    _, recording = voltage()
    stream = recording.stream
    return Plan(stream, resolve(validate(NodeConfig, VOLTAGE | settings), stream, recording.samples)), recording


@cache
def drifting() -> tuple[Plan, MemorySource]:
    """The gain wanders by a third of a sigma in all channels, in 0.9 s."""
    plan, recording = power()
    value = recording.data.astype(float)
    wander = np.sin(2 * np.pi * np.arange(len(value)) / float(plan.stream.rate) / 0.9)
    value += 0.3 * value.std(axis=0) * wander[:, None]
    return plan, MemorySource(recording.stream, np.clip(np.rint(value), 0, 255).astype(np.uint8))


def reduce(plan: Plan, source: Source | RingReader, samples: int, first_block: int = 0, threads: int = 1) -> Products:
    products: Products = {}
    harvester = ProductBuilder(plan, "node", "test")

    def collect(blocks):
        for done in blocks:
            expected = done.samples.expected
            assert expected == done.samples.received + sum(done.samples.lost.values())
            assert count_cells(done) >= done.cutout_cells
            products[done.block] = {item.name: item.content for item in harvester.build(done).products}

    with ThreadBackend(threads) as backend:
        reducer = Reducer(plan, backend, first_block)
        while reducer.next_input_block * plan.samples_per_block < samples:
            collect(reducer.feed(source.read(*reducer.window(reducer.next_input_block))))
        collect(reducer.finish())
    return products


def with_gaps(recording: MemorySource, seed: int) -> MemorySource:
    """The same recording with some of it missing, and nonsense where it is."""
    rng = random.Random(seed)
    edges = sorted(rng.sample(range(recording.samples // 50, recording.samples), 8))
    gaps = tuple(
        Gap(a, min(b, a + recording.samples // 40), Loss.MISSING) for a, b in zip(edges[::2], edges[1::2], strict=True)
    )
    data = recording.data.copy()
    for gap in gaps:
        data[gap.start : gap.stop] = rng.randrange(256)
    return MemorySource(recording.stream, data, gaps)


@pytest.mark.parametrize("make", [power, voltage, drifting])
def test_pulses_are_found_and_each_block_balances(make):
    plan, recording = make()
    products = reduce(plan, recording, recording.samples)
    assert sorted(products) == list(range(-(-recording.samples // plan.samples_per_block)))
    assert any(parse(name).folder == "pulses" for block in products.values() for name in block)


@pytest.mark.parametrize("oversampling", ["1", "4/3", "32/27"])
def test_a_pulse_through_the_filterbank_keeps_its_time(oversampling):
    # Without flaggers: a pulse this bright and a band this narrow are at their mercy.
    off = dict.fromkeys(("kurtosis_sigma", "power_sigma", "zero_dm_sigma", "carrier_sigma", "channel_sigma"), 0)
    channelise = {"channels": 32, "oversampling": oversampling}
    # A band this narrow tells DM 20 from 0 only just; in so short a range of DM nothing is rejected for that.
    pulses = {"dm": (15, 25)}
    plan, recording = voltage_with({"channelise": channelise, "flag": off, "pulses": pulses})
    found = []
    for block in reduce(plan, recording, recording.samples).values():
        for name, content in block.items():
            if parse(name).folder == "pulses":
                found += pq.ParquetFile(io.BytesIO(content)).read().to_pylist()
    best = max(found, key=lambda row: row["snr"])
    assert abs(best["seconds"] - 0.13) < 2e-3
    assert best["snr"] > 0.7 * 30


@pytest.mark.parametrize("make", [power, voltage])
def test_zeros_that_a_recorder_wrote_are_lost_like_a_gap(make):
    plan, recording = make()
    # From before a pulse into its sweep.
    start, stop = (plan.samples_per_block * number // 100 for number in (20, 45))
    zeros = recording.data.copy()
    zeros[start:stop] = 0
    written = reduce(plan, MemorySource(recording.stream, zeros), recording.samples)
    gap = Gap(start, stop, Loss.MISSING)
    missing = reduce(plan, MemorySource(recording.stream, recording.data, (gap,)), recording.samples)
    (ledger,) = (pq.read_table(io.BytesIO(written[0][name])) for name in written[0] if parse(name).folder == "ledger")
    assert ledger.column("lost_filled").to_pylist() == [stop - start]
    for block, products in written.items():
        others = {name: content for name, content in missing[block].items() if parse(name).folder != "ledger"}
        assert others == {name: content for name, content in products.items() if parse(name).folder != "ledger"}


@pytest.mark.parametrize("make", [power, voltage])
@given(seed=st.integers(0, 2**32), losses=st.booleans())
@settings(max_examples=6, deadline=None)
def test_frames_and_their_order_change_nothing(make, seed, losses):
    plan, recording = make()
    recording = with_gaps(recording, seed) if losses else recording
    rng = random.Random(seed)
    frames = []
    for start, stop in recording.present_ranges():
        cuts = sorted(rng.sample(range(start + 1, stop), min(9, stop - start - 1)))
        frames += list(zip([start, *cuts], [*cuts, stop], strict=True))
    first, *others = frames  # a run begins with its first frame
    rng.shuffle(others)
    frames = [first, *others, *rng.sample(others, len(others) // 2)]
    with recording.as_ring(frames) as ring:
        assert reduce(plan, ring, recording.samples) == reduce(plan, recording, recording.samples)


@pytest.mark.parametrize("make", [power, voltage])
def test_what_lies_under_a_gap_reaches_no_product(make):
    plan, recording = make()
    one = with_gaps(recording, 5)
    other = MemorySource(one.stream, one.data.copy(), one.gaps)
    for gap in one.gaps:
        other.data[gap.start : gap.stop] = 0x7F
    plain = [UnmaskedSource(one), UnmaskedSource(other)]
    assert reduce(plan, plain[0], one.samples) == reduce(plan, plain[1], one.samples)


class UnmaskedSource:
    """Hands out the recording's bytes as they are, also under gaps."""

    def __init__(self, recording: MemorySource) -> None:
        self._recording = recording

    def read(self, start: int, stop: int) -> Chunk:
        whole = self._recording
        data = np.full((stop - start, whole.stream.sample_bytes), 0x55, np.uint8)
        here, there = max(start, 0), min(stop, whole.samples)
        if here < there:
            data[here - start : there - start] = whole.data[here:there]
        return Chunk(start, data, whole.read(start, stop).gaps)


@pytest.mark.parametrize("make", [power, voltage, oversampled, drifting])
def test_a_reducer_that_starts_at_any_block_makes_the_same_products(make):
    plan, recording = make()
    whole = reduce(plan, recording, recording.samples)
    for first in range(1, len(whole)):
        later = reduce(plan, recording, recording.samples, first)
        assert later == {block: items for block, items in whole.items() if block >= first}


@pytest.mark.parametrize("make", [power, voltage, drifting])
def test_threads_change_nothing(make):
    plan, recording = make()
    one, three = (reduce(plan, recording, recording.samples, threads=threads) for threads in (1, 3))
    assert one == three


def test_all_samples_lost_is_an_account_and_no_candidate():
    plan, recording = power()
    empty = MemorySource(recording.stream, recording.data, (Gap(0, recording.samples, Loss.MISSING),))
    chunky = UnmaskedSource(empty)
    products = reduce(plan, chunky, empty.samples)
    assert not [name for block in products.values() for name in block if parse(name).folder in ("pulses", "cutouts")]


def test_a_window_of_another_block_is_refused():
    plan, recording = power()
    with ThreadBackend(1) as backend:
        reducer = Reducer(plan, backend)
        start, stop = reducer.window(1)
        with pytest.raises(ValueError, match="window"):
            list(reducer.feed(recording.read(start, stop)))


def test_the_ledger_books_every_cell_of_the_stream_once(tmp_path):
    plan, recording = power()
    products = reduce(plan, with_gaps(recording, 9), recording.samples)
    cells = 0
    for block in products.values():
        for name, content in block.items():
            if parse(name).folder == "ledger":
                (tmp_path / "row.parquet").write_bytes(content)
                cells += pq.ParquetFile(tmp_path / "row.parquet").read()["cells"][0].as_py()
    assert cells == recording.samples * plan.channels


@pytest.mark.parametrize(("make", "least"), [(power, 5), (voltage, 1)])
def test_a_card_finds_the_same_pulses(gpu_backend, make, least):
    plan, recording = make()
    expected = find_pulses(plan, recording, ThreadBackend(1))
    assert len(expected) >= least
    # The card sums in another order.
    np.testing.assert_allclose(find_pulses(plan, recording, gpu_backend), expected, rtol=1e-5)


def find_pulses(plan: Plan, recording: MemorySource, backend: ThreadBackend) -> list[tuple[float, ...]]:
    with backend:
        reducer = Reducer(plan, backend)
        done = []
        while reducer.next_input_block * plan.samples_per_block < recording.samples:
            done += reducer.feed(recording.read(*reducer.window(reducer.next_input_block)))
        done += reducer.finish()
    found = [(block.block, kept.pulse) for block in done for kept in block.pulses]
    return [(block, pulse.row, pulse.dm, pulse.width_rows, pulse.snr) for block, pulse in found]
