import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefilter_kernels.flag import (
    BANDS,
    GROUP,
    channel_statistics,
    kurtosis,
    outlying_cells,
    time_statistics,
)
from tests.reference import flag as reference

BIT = 4

shapes = {
    "times": st.integers(1, 70),
    "channels": st.integers(1, 20),
    "hands": st.integers(1, 2),
    "lost": st.sampled_from([0.0, 0.3, 1.0]),
    "seed": st.integers(0, 1000),
    "levels": st.sampled_from([2, 4, 1000]),  # one-bit data have no median deviation
}


def cells_of(times, channels, hands, lost, seed, levels):
    rng = np.random.default_rng(seed)
    power = rng.integers(0, levels, (times, channels, hands)).astype(np.float32)
    flags = np.where(rng.random((times, channels)) < lost, 1, 0).astype(np.uint16)
    return power, flags, int(rng.integers(0, times + 1)), int(rng.integers(0, channels + 1))


@settings(deadline=None, max_examples=40)
@given(**shapes)
def test_channel_statistics_equal_the_reference_wherever_channels_are_cut(**shape):
    power, flags, _, cut = cells_of(**shape)
    hands = shape["hands"]
    whole, pieces = np.full((2, 6, power.shape[1]), np.nan)
    channel_statistics(power, hands, flags, whole, 0, power.shape[1])
    channel_statistics(power, hands, flags, pieces, 0, cut)
    channel_statistics(power, hands, flags, pieces, cut, power.shape[1])
    np.testing.assert_array_equal(whole, pieces)
    plain = reference.channel_statistics(power.sum(axis=2), flags == 0, GROUP)
    np.testing.assert_allclose(whole, plain, rtol=1e-6, atol=1e-6)


@settings(deadline=None, max_examples=40)
@given(**shapes)
def test_time_statistics_equal_the_reference_wherever_times_are_cut(**shape):
    power, flags, cut, _ = cells_of(**shape)
    hands = shape["hands"]
    times, channels = flags.shape
    centre, scale = np.full(channels, shape["levels"] / 2 + 0.03), np.full(channels, shape["levels"] / 3)
    scale[::5] = 0.0
    whole = np.zeros(times), np.zeros(times, np.int64), np.zeros(times, np.int64)
    pieces = np.zeros(times), np.zeros(times, np.int64), np.zeros(times, np.int64)
    time_statistics(power, hands, flags, centre, scale, *whole, 0, times)
    time_statistics(power, hands, flags, centre, scale, *pieces, 0, cut)
    time_statistics(power, hands, flags, centre, scale, *pieces, cut, times)
    plain = reference.time_statistics(power.sum(axis=2), flags == 0, centre, scale, BANDS)
    for one, other, expected in zip(whole, pieces, plain, strict=True):
        np.testing.assert_array_equal(one, other)
        np.testing.assert_allclose(one, expected, rtol=1e-6, atol=1e-6)


@settings(deadline=None, max_examples=30)
@given(**shapes)
def test_kurtosis_marks_what_the_reference_finds_outside_the_bounds(**shape):
    _, flags, cut, _ = cells_of(**shape)
    rng = np.random.default_rng(shape["seed"])
    spectra = 20
    squares = rng.exponential(3.0, (spectra, *flags.shape, shape["hands"]))
    power, moment4 = squares.mean(axis=0).astype(np.float32), (squares**2).mean(axis=0).astype(np.float32)
    times = len(flags)
    low, high, gain = np.full(times, 0.7), np.full(times, 1.3), np.full(times, (spectra + 1) / (spectra - 1))
    gain[::7] = 0.0
    estimate = reference.kurtosis(power, moment4, spectra)
    outside = ((estimate < 0.7) | (estimate > 1.3)).any(axis=2) & (flags == 0) & (gain > 0)[:, None]
    marked = flags.copy()
    kurtosis(power, moment4, low, high, gain, BIT, marked, 0, cut)
    kurtosis(power, moment4, low, high, gain, BIT, marked, cut, times)
    np.testing.assert_array_equal(marked, flags | np.where(outside, BIT, 0))


@settings(deadline=None, max_examples=30)
@given(**shapes)
def test_outlying_cells_are_those_outside_the_bounds(**shape):
    power, flags, cut, _ = cells_of(**shape)
    times, channels = flags.shape
    centre, scale = np.full(channels, shape["levels"] / 2), np.full(channels, shape["levels"] / 4)
    scale[::4] = 0.0
    low, high = np.full(times, -1.5), np.full(times, 1.0)
    intensity = power.astype(np.float64).sum(axis=2)
    outside = (intensity < centre - 1.5 * scale) | (intensity > centre + scale)
    outside &= (scale > 0) & (flags == 0)
    marked = flags.copy()
    outlying_cells(power, shape["hands"], centre, scale, low, high, BIT, marked, 0, cut)
    outlying_cells(power, shape["hands"], centre, scale, low, high, BIT, marked, cut, times)
    np.testing.assert_array_equal(marked, flags | np.where(outside, BIT, 0))


def test_arrays_that_do_not_fit_are_refused():
    power, flags = np.ones((4, 3, 1), np.float32), np.zeros((4, 3), np.uint16)
    channel, time, count = np.ones(3), np.ones(4), np.zeros(4, np.int64)
    with pytest.raises(ValueError, match="do not go with flags"):
        channel_statistics(power, 2, flags, np.zeros((6, 3)), 0, 3)
    with pytest.raises(ValueError, match="contiguous"):
        channel_statistics(power[:, ::-1], 1, flags, np.zeros((6, 3)), 0, 3)
    with pytest.raises(ValueError, match="float32"):
        channel_statistics(power.astype(np.float64), 1, flags, np.zeros((6, 3)), 0, 3)
    with pytest.raises(ValueError, match="must be"):
        channel_statistics(power, 1, flags, np.zeros((5, 3)), 0, 3)
    with pytest.raises(ValueError, match="do not go with cells"):
        time_statistics(power, 1, flags, time, channel, time, count, count, 0, 4)
    with pytest.raises(ValueError, match="do not go with cells"):
        outlying_cells(power, 1, channel, channel, channel, time, BIT, flags, 0, 4)
    with pytest.raises(ValueError, match="do not go with cells"):
        kurtosis(power, power, time, time, channel, BIT, flags, 0, 4)
