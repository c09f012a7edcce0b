import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefilter.compute.threads import ThreadBackend
from edgefilter.core.cells import Cells, Flag
from edgefilter.stages.filterbank.integrate import Integrator, stokes_matrix
from tests.helpers.power_blocks import integration_plan


def cells_of(power, flags, products=("I",), start=0):
    return Cells(start, power, flags, products, np.zeros(len(power), np.int32))


@settings(deadline=None, max_examples=30)
@given(
    rows=st.integers(1, 4),
    per_row=st.integers(1, 4),
    channels=st.integers(1, 40),
    lost=st.sampled_from([0.0, 0.2, 1.0]),
    seed=st.integers(0, 1000),
    data=st.data(),
)
def test_every_channel_balances_exactly(rows, per_row, channels, lost, seed, data):
    rng = np.random.default_rng(seed)
    shape = (rows * per_row, channels)
    flags = np.where(rng.random(shape) < 0.3, rng.integers(1, 32, shape) * 2, 0)
    flags = np.where(rng.random(shape) < lost, Flag.LOST, flags).astype(np.uint16)
    first = data.draw(st.integers(0, shape[0]))
    last = data.draw(st.integers(first, shape[0]))
    power = rng.random((*shape, 1)).astype(np.float32)
    with ThreadBackend(3) as backend:
        reduced = Integrator(integration_plan(channels, per_row), backend).reduce(cells_of(power, flags), first, last)

    np.testing.assert_array_equal(reduced.occupancy.sum(axis=0) + reduced.good, last - first)
    assert (reduced.raised >= reduced.occupancy).all()
    np.testing.assert_array_equal(np.isnan(reduced.spectrum[0]), reduced.good == 0)
    assert reduced.rows.weight.sum() == (flags == 0).sum()


def test_cells_outside_the_extent_are_not_counted():
    flags = np.full((8, 2), Flag.LOST, np.uint16)
    flags[2:6] = 0
    power = np.ones((8, 2, 1), np.float32)
    reduced = Integrator(integration_plan(2, 4), ThreadBackend(1)).reduce(cells_of(power, flags, start=16), 2, 6)
    np.testing.assert_array_equal(reduced.good, [4, 4])
    assert reduced.occupancy.sum() == 0
    np.testing.assert_array_equal(reduced.rows.weight, [[2, 2], [2, 2]])
    assert reduced.rows.start == 4


def test_a_cell_is_counted_under_its_lowest_flag():
    flags = np.array([[Flag.CHANNEL | Flag.POWER], [Flag.ZERO_DM], [Flag.LOST], [0]], np.uint16)
    reduced = Integrator(integration_plan(1, 1), ThreadBackend(1)).reduce(
        cells_of(np.ones((4, 1, 1), np.float32), flags)
    )
    counted = dict(zip(Flag, reduced.occupancy[:, 0].tolist(), strict=True))
    assert counted == dict.fromkeys(Flag, 0) | {Flag.LOST: 1, Flag.POWER: 1, Flag.ZERO_DM: 1}
    assert dict(zip(Flag, reduced.raised[:, 0].tolist(), strict=True))[Flag.CHANNEL] == 1


def test_tagged_cells_are_counted_and_used():
    cells = cells_of(np.ones((4, 1, 1), np.float32), np.zeros((4, 1), np.uint16))
    cells.tagged = np.array([3])
    reduced = Integrator(integration_plan(1, 1), ThreadBackend(1)).reduce(cells)
    assert reduced.good.tolist() == [4]
    assert dict(zip(Flag, reduced.raised[:, 0].tolist(), strict=True))[Flag.TAGGED] == 3


@pytest.mark.parametrize(
    ("products", "values"),
    [(("AA", "BB", "CR", "CI"), (5.0, 3.0, 0.5, -0.25)), (("I", "Q", "U", "V"), (8.0, 2.0, 1.0, -0.5))],
)
def test_full_stokes_from_polarisations_and_from_stokes(products, values):
    power = np.tile(np.float32(values), (4, 3, 1))
    reduced = Integrator(integration_plan(3, 2, products, "IQUV"), ThreadBackend(1)).reduce(
        cells_of(power, np.zeros((4, 3), np.uint16), products)
    )
    np.testing.assert_allclose(reduced.spectrum[:, 0], [8, 2, 1, -0.5])
    np.testing.assert_allclose(reduced.rows.stokes[:, 1, 2], [8, 2, 1, -0.5])


def test_intensity_is_the_sum_of_the_polarisations_or_the_only_one():
    np.testing.assert_array_equal(stokes_matrix(("XX", "YY", "CR", "CI"), "I"), [[1, 1, 0, 0]])
    np.testing.assert_array_equal(stokes_matrix(("XX", "YY"), "I"), [[1, 1]])
    np.testing.assert_array_equal(stokes_matrix(("XX",), "I"), [[1]])
    np.testing.assert_array_equal(stokes_matrix(("I", "Q", "U", "V"), "I"), [[1, 0, 0, 0]])
    with pytest.raises(ValueError, match="do not hold"):
        stokes_matrix(("XX", "YY"), "IQUV")


def test_cells_that_are_not_whole_rows_are_rejected():
    with pytest.raises(ValueError, match="not whole rows"):
        Integrator(integration_plan(2, 4), ThreadBackend(1)).reduce(
            cells_of(np.ones((6, 2, 1), np.float32), np.zeros((6, 2), np.uint16))
        )
