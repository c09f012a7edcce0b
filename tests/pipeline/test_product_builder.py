"""From a reduced block to its products: values arrive in the tables that hold them."""

import io

import numpy as np
import pyarrow.parquet as pq
import pytest

from edgefilter.core.cells import Flag, Rows
from edgefilter.core.chunk import SampleAccount
from edgefilter.core.config import Reduction
from edgefilter.core.plan import Plan, resolve
from edgefilter.core.reduced_block import CutoutRows, IntegratedBlock, KeptPulse, PulseCandidate, ReducedBlock
from edgefilter.core.stream import Encoding, SampleKind, Stream
from edgefilter.pipeline.product_builder import BlockProducts, ProductBuilder
from edgefilter.products.naming import parse

CHANNELS, CELLS = 8, 100
STREAM = Stream("sky", SampleKind.POWER, 0, 1000, CHANNELS, 1.5e9, -1e6, ("I",), 8, Encoding.UNSIGNED)  # type: ignore[arg-type]
PLAN = Plan(STREAM, resolve(Reduction(), STREAM))


def pulse(snr: float, row: float) -> PulseCandidate:
    return PulseCandidate(row, 50.0, 0.5, 2, snr, 1492.5, 1500.5, 3)


def reduced_block(*pulses: KeptPulse) -> ReducedBlock:
    occupancy = np.zeros((len(Flag), CHANNELS), np.int64)
    occupancy[list(Flag).index(Flag.LOST)] = 5
    occupancy[list(Flag).index(Flag.POWER), 3] = 20
    occupancy[list(Flag).index(Flag.TAGGED)] = 1
    good = CELLS - 5 - 20 * (np.arange(CHANNELS) == 3)
    rows = Rows(0, np.ones((1, 4, CHANNELS), np.float32), np.ones((4, CHANNELS), np.uint16))
    integrated = IntegratedBlock(rows, np.ones((1, CHANNELS)), good, occupancy, occupancy)
    return ReducedBlock(0, SampleAccount(CELLS, CELLS, {}), integrated, 30, pulses, 7)


def tables(made: BlockProducts) -> dict[str, list[dict[str, object]]]:
    return {
        parse(product.name).folder: pq.read_table(io.BytesIO(product.content)).to_pylist()
        for product in made.products
        if product.name.endswith(".parquet")
    }


def test_a_pulse_says_which_part_of_its_sweep_was_not_used() -> None:
    made = ProductBuilder(PLAN, "n1", "1").build(
        reduced_block(KeptPulse(pulse(9.0, 2), 0.25, None), KeptPulse(pulse(8.0, 9), 0.0, None))
    )
    rows = tables(made)["pulses"]
    assert [row["flagged"] for row in rows] == [0.25, 0.0]
    assert [row["snr"] for row in rows] == [9.0, 8.0]
    assert rows[0]["width"] == pytest.approx(2 * PLAN.row_seconds)
    assert [row.flagged for row in made.pulses] == [0.25, 0.0]


def test_pulses_that_overlap_share_the_cutout_that_they_name() -> None:
    level = np.ones((1, CHANNELS), np.float32)
    first, power = np.full(CHANNELS, 16), np.ones((1, 4, CHANNELS), np.float32)
    rows = CutoutRows(0, first, power, np.ones((4, CHANNELS), np.uint16), level, level)
    made = ProductBuilder(PLAN, "n1", "1").build(
        reduced_block(*(KeptPulse(pulse(snr, 17), 0.0, kept) for snr, kept in ((9, rows), (8, rows), (7, None))))
    )
    cutouts = [product.name for product in made.products if product.name.startswith("cutouts/")]
    assert len(cutouts) == 1
    assert [row["cutout"] for row in tables(made)["pulses"]] == [*cutouts * 2, ""]


def test_the_ledger_comes_last_and_counts_all_others() -> None:
    made = ProductBuilder(PLAN, "n1", "1").build(reduced_block())
    assert "pulses" not in tables(made)
    assert parse(made.products[-1].name).folder == "ledger"
    (row,) = tables(made)["ledger"]
    assert row["bytes_out"] == sum(len(product.content) for product in made.products[:-1])
    assert row["cells"] == CHANNELS * CELLS
    assert (row["cells_lost"], row["flagged_power"], row["cells_kept"]) == (5 * CHANNELS, 20, 30)
    assert row["cells_discarded"] == CHANNELS * (CELLS - 5) - 20 - 30
    assert row["candidates_overflow"] == 7
    assert row["backend"] == "cpu"
