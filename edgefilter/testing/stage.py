"""Conformance suite for a stage: its table follows from the samples and the settings alone (law 1).

::

    from edgefilter.testing.stage import StageSuite

    class TestGainDrift(StageSuite):
        name = "gain_drift"                # of the entry point
        settings = {"seconds": 0.5}        # of [stages.gain_drift]; the defaults if left out

The stage is run in a whole reduction of a simulated recording: noise, pulses, a carrier, and missing samples. The
reducer gives a stage exactly the rows that it declares, so a result that depends on other rows is impossible; the suite
finds results that depend on earlier blocks, on threads, on what lies in a gap, or on chance.
"""

import io
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from edgefilter.compute.threads import ThreadBackend
from edgefilter.core.chunk import Gap, Loss, clip_gaps
from edgefilter.core.config import NodeConfig
from edgefilter.core.plan import Plan, resolve
from edgefilter.core.stream import Stream
from edgefilter.core.validation import validate
from edgefilter.pipeline.product_builder import ProductBuilder
from edgefilter.pipeline.reducer import Reducer
from edgefilter.products.base import Product, to_parquet
from edgefilter.products.naming import parse
from edgefilter.sources.base import FiniteSource
from edgefilter.sources.simulated.sky import PowerSky, SkyPulse

_Tables = dict[int, dict[str, bytes]]
"""Tables by number of the block and name, as Parquet."""

_REDUCTION: dict[str, Any] = {
    "block": {"rows": 256},
    "integrate": {"cells": 1},
    "pulses": {"dm": [0, 60], "widths": 3, "bands": 1, "snr": 7},
}
_SECONDS = 2.6


class _Recording(FiniteSource):
    """Samples in memory, some of them missing."""

    def __init__(self, stream: Stream, data: NDArray[np.uint8], gaps: tuple[Gap, ...] = ()) -> None:
        super().__init__(stream, len(data))
        self._data, self._gaps = data, gaps

    def _read_samples(self, start: int, stop: int, out: NDArray[np.uint8]) -> tuple[Gap, ...]:
        out[:] = self._data[start:stop]
        return tuple(clip_gaps(self._gaps, start, stop))

    def close(self) -> None:
        """Do nothing: the samples are in memory."""


class StageSuite:
    """Tests of one stage; make a subclass with a name that begins with ``Test``.

    Attributes
    ----------
    name
        Name of the entry point in the group ``edgefilter.stages``.
    settings
        Values of its section; an empty mapping for the defaults.
    """

    name: ClassVar[str]
    settings: ClassVar[Mapping[str, Any]] = {}

    def test_a_reduction_gives_the_same_table_each_time(self) -> None:
        """Nothing of an earlier run, and no random number, may enter the table."""
        plan, recording = self._plan(), _with_gaps(_simulate())
        self._compare(_reduce(plan, recording), _reduce(plan, recording), "a second reduction of the same samples")

    def test_the_table_does_not_depend_on_the_first_block(self) -> None:
        """A node that is restarted at any block continues with the same rows."""
        plan, recording = self._plan(), _with_gaps(_simulate())
        whole = _reduce(plan, recording)
        for first in range(1, max(whole) + 1):
            part = _reduce(plan, recording, first)
            expected = {block: tables for block, tables in whole.items() if block >= first}
            self._compare(expected, part, f"a reduction that starts at block {first}")

    def test_the_table_does_not_depend_on_the_number_of_threads(self) -> None:
        """Sums must not depend on where ranges of threads are cut."""
        plan, recording = self._plan(), _simulate()
        alone = _reduce(plan, recording)
        for threads in (2, 3):
            self._compare(alone, _reduce(plan, recording, threads=threads), f"a reduction on {threads} threads")

    def test_missing_samples_have_no_effect(self) -> None:
        """What lies in a gap is unspecified: it must not enter the table (law 3)."""
        plan = self._plan()
        zeros, ones = (_reduce(plan, _with_gaps(_simulate(), value)) for value in (0, 255))
        self._compare(zeros, ones, "a reduction with other bytes in the gaps")

    def test_a_stream_of_which_all_is_lost(self) -> None:
        """Blocks without any sample are reduced without an error."""
        plan, recording = self._plan(), _simulate()
        lost = _Recording(
            recording.stream, recording.read(0, recording.samples).data, (Gap(0, recording.samples, Loss.MISSING),)
        )
        assert _reduce(plan, lost), "no block was reduced"

    def test_a_stream_of_one_channel(self) -> None:
        """The number of channels is not the stage's choice."""
        recording = _simulate(channels=1)
        assert _reduce(self._plan(recording), recording), "no block was reduced"

    def test_the_other_tables_stay_the_same(self) -> None:
        """A stage adds a table; it changes no row of another."""
        recording = _simulate()
        without = _reduce(_make_plan(recording, {}), recording)
        for block, tables in _reduce(self._plan(recording), recording).items():
            others = {table: content for table, content in tables.items() if table != self.name}
            assert others.keys() == without[block].keys(), f"block {block} has other tables without the stage"
            for table, content in others.items():
                assert _without_provenance(content) == _without_provenance(without[block][table]), (
                    f"block {block}: table {table} differs from that of a reduction without the stage {self.name}"
                )

    def test_the_table_has_rows(self) -> None:
        """A recording with pulses, a carrier and gaps gives at least one row, or the suite proves nothing."""
        made = _reduce(self._plan(), _with_gaps(_simulate()))
        assert any(self.name in tables for tables in made.values()), f"no block has a row in table {self.name}"

    def _plan(self, recording: _Recording | None = None) -> Plan:
        return _make_plan(recording or _simulate(), {"stages": {self.name: dict(self.settings)}})

    def _compare(self, expected: _Tables, found: _Tables, what: str) -> None:
        assert expected.keys() == found.keys(), f"{what} has blocks {sorted(found)}, expected {sorted(expected)}"
        for block, tables in expected.items():
            before, after = tables.get(self.name), found[block].get(self.name)
            assert before == after, (
                f"{what}: table {self.name} of block {block} differs:\n{_show(before)}\nexpected, found\n{_show(after)}"
            )


def _simulate(channels: int = 32) -> _Recording:
    """Return noise with pulses, 8 bit, 1 kHz."""
    pulses = [SkyPulse(t, dm, 3e-3, 25) for t, dm in ((0.3, 20), (0.51, 40), (1.0235, 30), (2.1, 55))]
    sky = PowerSky(_SECONDS, 5, rate=1000, channels=channels, bandwidth_mhz=4.0 * channels, pulses=pulses)
    data = np.array(sky.read(0, sky.samples).data)
    if channels > 8:
        data[: len(data) // 2, 5] = 250  # a carrier
    return _Recording(sky.stream, data)


def _with_gaps(recording: _Recording, value: int = 0) -> _Recording:
    """Return a recording without some samples; ``value`` lies in their place."""
    data = np.array(recording.read(0, recording.samples).data)
    gaps = tuple(Gap(start, stop, Loss.MISSING) for start, stop in ((0, 3), (250, 300), (1000, 1001), (1280, 1792)))
    for gap in gaps:
        data[gap.start : gap.stop] = value
    return _Recording(recording.stream, data, gaps)


def _make_plan(recording: _Recording, tree: dict[str, Any]) -> Plan:
    settings = validate(NodeConfig, _REDUCTION | tree)
    return Plan(recording.stream, resolve(settings, recording.stream, recording.samples))


def _reduce(plan: Plan, recording: _Recording, first_block: int = 0, threads: int = 1) -> _Tables:
    builder = ProductBuilder(plan, "node", "test")
    made: _Tables = {}
    with ThreadBackend(threads) as backend:
        reducer = Reducer(plan, backend, first_block)
        while reducer.next_input_block * plan.samples_per_block < recording.samples:
            for done in reducer.feed(recording.read(*reducer.window(reducer.next_input_block))):
                made[done.block] = _tables(builder.build(done).products)
        for done in reducer.finish():
            made[done.block] = _tables(builder.build(done).products)
    return made


def _tables(products: Iterable[Product]) -> dict[str, bytes]:
    return {parse(product.name).folder: product.content for product in products if product.name.endswith(".parquet")}


def _without_provenance(content: bytes) -> bytes:
    """Return a table without the columns that depend on the settings: digests, names with digests, sums of bytes."""
    table = pq.read_table(io.BytesIO(content))
    dropped = [name for name in ("config", "code", "bytes_out", "cutout") if name in table.schema.names]
    return to_parquet(table.drop_columns(dropped).replace_schema_metadata(None))


def _show(content: bytes | None) -> str:
    return "no rows" if content is None else str(pq.read_table(io.BytesIO(content)).to_pylist()[:3])
