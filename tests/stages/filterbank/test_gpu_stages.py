"""Stages on a card against the same stages on the processor."""

import numpy as np
import pytest

from edgefilter.compute.threads import ThreadBackend
from edgefilter.core.cells import Cells, Flag
from edgefilter.core.chunk import Chunk, Gap, Loss
from edgefilter.core.stream import Encoding
from edgefilter.stages.filterbank.channelise import Channeliser
from edgefilter.stages.filterbank.integrate import Integrator
from edgefilter.stages.filterbank.unpack import Unpacker
from edgefilter.stages.rfi.stage import FlagStage
from tests.kernels.cuda.filterbank.test_channeliser import MOMENT4, POWER
from tests.stages.filterbank import test_channelise, test_integrate, test_unpack
from tests.stages.rfi import test_stage

# Level, quantile and sums of a run differ by rounding, a few parts in a million: so may the flags of cells whose sum is
# that near to a threshold, and what a flag of theirs brings with it. Of noise, 1e-5 of the cells are.
MAX_DIFFERENT_FRACTION = 1e-4


def assert_near(found, expected, bound):
    np.testing.assert_allclose(found, expected, rtol=0, atol=bound * max(float(expected.max()), 1e-30))


@pytest.mark.parametrize("gaps", [(), (Gap(2100, 2400, Loss.MISSING),)])
@pytest.mark.parametrize("encoding", [Encoding.SIGNED, Encoding.FLOAT])
def test_cells_of_voltages_are_those_of_the_processor(gpu_backend, gaps, encoding):
    bits = 32 if encoding is Encoding.FLOAT else 8
    plan = test_channelise.plan_of(fine=32, spectra=4, bits=bits, encoding=encoding)
    raw = test_channelise.raw_of(plan, 1, gaps)
    with ThreadBackend(2) as backend:
        on_cpu = Channeliser(plan, backend).reduce(raw)
    on_gpu = Channeliser(plan, gpu_backend).reduce(raw).map_arrays(gpu_backend.to_host)
    assert (on_gpu.start, on_gpu.products) == (on_cpu.start, on_cpu.products)
    np.testing.assert_array_equal(on_gpu.flags, on_cpu.flags)
    np.testing.assert_array_equal(on_gpu.accumulated, on_cpu.accumulated)
    assert_near(on_gpu.power, on_cpu.power, POWER)
    assert_near(on_gpu.moment4, on_cpu.moment4, MOMENT4)


def flag_on_both(gpu_backend, plan, cells):
    ours = cells.map_arrays(gpu_backend.to_device)
    with ThreadBackend(2) as backend:
        FlagStage(plan, backend).reduce(cells)
    FlagStage(plan, gpu_backend).reduce(ours)
    return ours.map_arrays(gpu_backend.to_host), cells


def assert_same_flags(found, expected):
    assert np.count_nonzero(found.flags != expected.flags) <= MAX_DIFFERENT_FRACTION * expected.flags.size
    assert found.tagged.dtype == expected.tagged.dtype
    assert abs(found.tagged - expected.tagged).sum() <= MAX_DIFFERENT_FRACTION * expected.flags.size
    assert len(found.cost) == len(expected.cost) > 0
    for one, other in zip(found.cost, expected.cost, strict=True):
        assert one.lost == pytest.approx(other.lost, abs=1e-3)


def test_flags_of_voltages_are_those_of_the_processor(gpu_backend):
    cells = test_stage.gaussian_voltages(np.random.default_rng(1), 512, 128, 64)
    test_stage.add_tone(cells, (slice(100, 300), slice(30, 32)), 0.5)
    test_stage.add_tone(cells, (slice(None), slice(77, 78)), 0.03)
    test_stage.add_tone(cells, (slice(None), slice(99, 100)), 0.3)
    cells.power[60:63] *= 0.5  # the whole band
    cells.power[200:320, 90:92] *= 1.5
    cells.flags[400:420] = Flag.LOST
    cells.power[400:420] = 0
    cells.accumulated[400:420] = 0
    plan = test_stage.voltage_plan(fine=128, mask=((1385.0, 1386.0),), protect=((1390.0, 1392.0),))
    found, expected = flag_on_both(gpu_backend, plan, cells)
    assert_same_flags(found, expected)
    seen = np.bitwise_or.reduce(expected.flags, axis=None)
    for flag in (Flag.LOST, Flag.MASK, Flag.ZERO_DM, Flag.KURTOSIS, Flag.POWER, Flag.CARRIER):
        assert seen & flag, flag


@pytest.mark.parametrize("digital", [False, True])
def test_flags_of_power_are_those_of_the_processor(gpu_backend, digital):
    power = test_stage.noise(np.random.default_rng(2), 512, 128)
    power[100:300, 42:44] += 40
    arrival = test_stage.sweep(test_stage.power_plan(128), 100, 30)
    for channel, at in enumerate(arrival):
        power[at : at + 3, channel] += 60
    cells = test_stage.power_cells(np.rint(power / 20) if digital else power)
    found, expected = flag_on_both(gpu_backend, test_stage.power_plan(128), cells)
    assert_same_flags(found, expected)
    assert (expected.flags[100:300, 42:44] & Flag.POWER).any()


def test_rows_and_accounts_are_those_of_the_processor(gpu_backend):
    rng = np.random.default_rng(4)
    power, flags = rng.random((24, 40, 1)).astype(np.float32), rng.integers(0, 3, (24, 40)).astype(np.uint16)
    cells = Cells(24, power, flags, ("I",), np.zeros(24, np.int32))
    plan = test_integrate.plan_of(40, 4)
    with ThreadBackend(1) as backend:
        on_cpu = Integrator(plan, backend).reduce(cells, 3, 21)
    on_gpu = Integrator(plan, gpu_backend).reduce(cells.map_arrays(gpu_backend.to_device), 3, 21)
    for name in ("spectrum", "good", "occupancy", "raised"):
        np.testing.assert_array_equal(getattr(on_gpu, name), getattr(on_cpu, name))
    np.testing.assert_array_equal(on_gpu.rows.stokes, on_cpu.rows.stokes)
    np.testing.assert_array_equal(on_gpu.rows.weight, on_cpu.rows.weight)


def test_numbers_of_power_are_those_of_the_processor(gpu_backend):
    plan = test_unpack.plan_of(32, Encoding.FLOAT)
    values = (
        np.random.default_rng(5).normal(1, 1, (plan.samples_per_block, plan.stream.values_per_sample)).astype("<f4")
    )
    values[3, 4] = np.nan
    raw = Chunk(0, values.view(np.uint8), (Gap(5, 9, Loss.MISSING),))
    with ThreadBackend(1) as backend:
        on_cpu = Unpacker(plan, backend).reduce(raw)
    on_gpu = Unpacker(plan, gpu_backend).reduce(raw).map_arrays(gpu_backend.to_host)
    np.testing.assert_array_equal(on_gpu.power, on_cpu.power)
    np.testing.assert_array_equal(on_gpu.flags, on_cpu.flags)
    assert on_gpu.flags[3, 4] == on_gpu.flags[6, 0] == Flag.LOST
