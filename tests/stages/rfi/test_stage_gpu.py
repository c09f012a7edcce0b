"""The flagging stage on a GPU against the same stage on the processor."""

import numpy as np
import pytest

from edgefilter.compute.threads import ThreadBackend
from edgefilter.core.cells import Flag
from edgefilter.stages.rfi.stage import FlagStage
from tests.helpers.flag_scenes import (
    add_tone,
    gaussian_voltages,
    noise,
    power_cells,
    power_plan,
    sweep,
    voltage_plan,
)

# Level, quantile and sums of a run differ by rounding, a few parts in a million. So the flags of cells whose sum is
# that close to a threshold may differ, and flags that follow from theirs: 1e-5 of the cells of noise.
MAX_DIFFERENT_FRACTION = 1e-4


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


def test_flags_of_voltages_equal_those_of_the_processor(gpu_backend):
    cells = gaussian_voltages(np.random.default_rng(1), 512, 128, 64)
    add_tone(cells, (slice(100, 300), slice(30, 32)), 0.5)
    add_tone(cells, (slice(None), slice(77, 78)), 0.03)
    add_tone(cells, (slice(None), slice(99, 100)), 0.3)
    cells.power[60:63] *= 0.5  # the whole band
    cells.power[200:320, 90:92] *= 1.5
    cells.flags[400:420] = Flag.LOST
    cells.power[400:420] = 0
    cells.accumulated[400:420] = 0
    plan = voltage_plan(fine=128, mask=((1385.0, 1386.0),), protect=((1390.0, 1392.0),))
    found, expected = flag_on_both(gpu_backend, plan, cells)
    assert_same_flags(found, expected)
    seen = np.bitwise_or.reduce(expected.flags, axis=None)
    for flag in (Flag.LOST, Flag.MASK, Flag.ZERO_DM, Flag.KURTOSIS, Flag.POWER, Flag.CARRIER):
        assert seen & flag, flag


@pytest.mark.parametrize("digital", [False, True])
def test_flags_of_power_equal_those_of_the_processor(gpu_backend, digital):
    power = noise(np.random.default_rng(2), 512, 128)
    power[100:300, 42:44] += 40
    arrival = sweep(power_plan(128), 100, 30)
    for channel, at in enumerate(arrival):
        power[at : at + 3, channel] += 60
    cells = power_cells(np.rint(power / 20) if digital else power)
    found, expected = flag_on_both(gpu_backend, power_plan(128), cells)
    assert_same_flags(found, expected)
    assert (expected.flags[100:300, 42:44] & Flag.POWER).any()
