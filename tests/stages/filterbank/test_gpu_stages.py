"""Stages of the filterbank on a GPU against the same stages on the processor."""

import numpy as np
import pytest

from edgefilter.compute.threads import ThreadBackend
from edgefilter.core.cells import Cells, Flag
from edgefilter.core.chunk import Chunk, Gap, Loss
from edgefilter.core.stream import Encoding
from edgefilter.stages.filterbank.channelise import Channeliser
from edgefilter.stages.filterbank.integrate import Integrator
from edgefilter.stages.filterbank.unpack import Unpacker
from tests.helpers.filterbanks import MOMENT4_TOLERANCE, POWER_TOLERANCE
from tests.helpers.power_blocks import integration_plan, packed_power_plan
from tests.helpers.voltage_blocks import voltage_block, voltage_plan


def assert_close(found, expected, tolerance):
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * max(float(expected.max()), 1e-30))


@pytest.mark.parametrize("gaps", [(), (Gap(2100, 2400, Loss.MISSING),)])
@pytest.mark.parametrize("encoding", [Encoding.SIGNED, Encoding.FLOAT])
def test_cells_of_voltages_equal_those_of_the_processor(gpu_backend, gaps, encoding):
    bits = 32 if encoding is Encoding.FLOAT else 8
    plan = voltage_plan(fine=32, spectra=4, bits=bits, encoding=encoding)
    raw = voltage_block(plan, 1, gaps)
    with ThreadBackend(2) as backend:
        on_cpu = Channeliser(plan, backend).reduce(raw)
    on_gpu = Channeliser(plan, gpu_backend).reduce(raw).map_arrays(gpu_backend.to_host)
    assert (on_gpu.start, on_gpu.products) == (on_cpu.start, on_cpu.products)
    np.testing.assert_array_equal(on_gpu.flags, on_cpu.flags)
    np.testing.assert_array_equal(on_gpu.accumulated, on_cpu.accumulated)
    assert_close(on_gpu.power, on_cpu.power, POWER_TOLERANCE)
    assert_close(on_gpu.moment4, on_cpu.moment4, MOMENT4_TOLERANCE)


def test_rows_and_counts_equal_those_of_the_processor(gpu_backend):
    rng = np.random.default_rng(4)
    power, flags = rng.random((24, 40, 1)).astype(np.float32), rng.integers(0, 3, (24, 40)).astype(np.uint16)
    cells = Cells(24, power, flags, ("I",), np.zeros(24, np.int32))
    plan = integration_plan(40, 4)
    with ThreadBackend(1) as backend:
        on_cpu = Integrator(plan, backend).reduce(cells, 3, 21)
    on_gpu = Integrator(plan, gpu_backend).reduce(cells.map_arrays(gpu_backend.to_device), 3, 21)
    for name in ("spectrum", "good", "occupancy", "raised"):
        np.testing.assert_array_equal(getattr(on_gpu, name), getattr(on_cpu, name))
    np.testing.assert_array_equal(on_gpu.rows.stokes, on_cpu.rows.stokes)
    np.testing.assert_array_equal(on_gpu.rows.weight, on_cpu.rows.weight)


def test_cells_of_power_equal_those_of_the_processor(gpu_backend):
    plan = packed_power_plan(32, Encoding.FLOAT)
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
