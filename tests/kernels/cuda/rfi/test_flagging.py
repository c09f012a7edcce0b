"""CUDA versions of the flagging kernels against those of the CPU, in one range and in two, for uneven shapes."""

import numpy as np
import pytest

from edgefilter.stages.rfi.block import tuple_to_device
from edgefilter_kernels.cuda.rfi import (
    cell_statistics,
    combine,
    dispersed_marks,
    dispersion_tracks,
    drifting_tones,
    edge_tracks,
    quantile,
    quantisation,
    sumthreshold,
    zero_dm,
)
from edgefilter_kernels.rfi import cell_statistics as cpu_cell_statistics
from edgefilter_kernels.rfi import combine as cpu_combine
from edgefilter_kernels.rfi import dispersed_marks as cpu_dispersed_marks
from edgefilter_kernels.rfi import dispersion_tracks as cpu_dispersion_tracks
from edgefilter_kernels.rfi import drifting_tones as cpu_drifting_tones
from edgefilter_kernels.rfi import edge_tracks as cpu_edge_tracks
from edgefilter_kernels.rfi import quantile as cpu_quantile
from edgefilter_kernels.rfi import quantisation as cpu_quantisation
from edgefilter_kernels.rfi import sumthreshold as cpu_sumthreshold
from edgefilter_kernels.rfi import zero_dm as cpu_zero_dm
from edgefilter_kernels.rfi.intensity import PowerCells
from edgefilter_kernels.rfi.sumthreshold import RunWindows
from tests.helpers.dispersion_tracks import tracks_of

ROUNDING = 2e-6
"""Rounding error of a sliding sum of up to 64 numbers of about 1 in single precision."""

SHAPES = [(1, 1, 1), (17, 9, 2), (300, 70, 1), (529, 41, 2), (90, 130, 4)]


def make_cells(times, channels, products, seed=0, spectra=64):
    """Return noise with bursts, a tone, a dead channel and lost cells; ``spectra`` voltages in a cell."""
    rng = np.random.default_rng(seed)
    n_pols = min(products, 2)
    power = rng.gamma(spectra, 1 / spectra, (times, channels, products)).astype(np.float32)
    moment4 = (2 * power[:, :, :n_pols] ** 2 * rng.normal(1, 0.1, (times, channels, n_pols))).astype(np.float32)
    for _ in range(6):
        first, length, c = rng.integers(times), rng.integers(1, 80), rng.integers(channels)
        power[first : first + length, c] *= np.float32(rng.uniform(1.1, 3))
    power[:, channels // 2] *= 2
    pulsed = rng.random(times) < 0.6
    power[pulsed, channels // 4] *= np.float32(2.5)
    moment4[pulsed, channels // 4] *= np.float32(12)
    flags = (rng.random((times, channels)) < 0.03).astype(np.uint16)
    flags[:, channels // 3] = channels > 5
    return power, moment4, flags, n_pols


def run_in_two_ranges(run, count, cut):
    """Run over a range in two parts, of which one may be empty."""
    run(0, cut)
    run(cut, count)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("step", [1, 3])
@pytest.mark.parametrize("few_bits", [False, True])
def test_quantiles(gpu_backend, shape, step, few_bits):
    power, _, flags, n_pols = make_cells(*shape)
    if few_bits:
        power = np.rint(3 * power)
    channels, fractions = shape[1], np.array([0.3, 0.05])
    expected, count = np.zeros((2, channels)), np.zeros((2, channels), np.int64)
    cells = PowerCells(power, n_pols, flags)
    cpu_quantile.channel_quantiles(cells, step, fractions, expected, count, 0, channels)
    given = fractions, np.full((2, channels), np.nan), np.full((2, channels), -1)
    fractions, out, number = (gpu_backend.to_device(array) for array in given)
    on_gpu = tuple_to_device(cells, gpu_backend), step, fractions, out, number
    run_in_two_ranges(lambda a, b: quantile.channel_quantiles(*on_gpu, a, b), channels, 2 * channels // 3)
    np.testing.assert_array_equal(gpu_backend.to_host(number), count)
    # Values are exact; tied values are interpolated in double precision.
    np.testing.assert_allclose(gpu_backend.to_host(out), expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("shape", SHAPES)
def test_counts_of_the_zero_dm_test(gpu_backend, shape):
    power, _, flags, n_pols = make_cells(*shape)
    times, channels = flags.shape
    centre = n_pols * np.ones(channels, np.float32)
    low, high = centre * np.float32(0.9), centre * np.float32(1.1)
    high[::7] = low[::7]
    expected = np.zeros((3, 32, times), np.int32)
    cells = PowerCells(power, n_pols, flags)
    cpu_zero_dm.zero_dm_counts(cells, low, high, expected, 0, times)
    counts = gpu_backend.to_device(np.full((3, 32, times), -1, np.int32))
    on_gpu = tuple_to_device(cells, gpu_backend), gpu_backend.to_device(low), gpu_backend.to_device(high), counts
    run_in_two_ranges(lambda a, b: zero_dm.zero_dm_counts(*on_gpu, a, b), times, times // 3)
    np.testing.assert_array_equal(gpu_backend.to_host(counts), expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_fourth_moments_that_are_corrected_for_clipping(gpu_backend, shape):
    power, moment4, _, _ = make_cells(*shape)
    moment4 += power[:, :, : moment4.shape[2]] ** 2
    times, channels, _ = moment4.shape
    power[::5, ::3] = np.float32(np.nan)
    power[1::5, ::3] = np.float32(np.inf)
    rng = np.random.default_rng(1)
    steps, table = rng.uniform(0, 9, channels).astype(np.float32), rng.uniform(1, 5, 16).astype(np.float32)
    expected = np.zeros_like(moment4)
    cpu_quantisation.correct_clipping(power, moment4, steps, table, expected, 0, times)
    out = gpu_backend.to_device(np.zeros_like(moment4))
    on_gpu = *(gpu_backend.to_device(array) for array in (power, moment4, steps, table)), out
    run_in_two_ranges(lambda a, b: quantisation.correct_clipping(*on_gpu, a, b), times, times // 3)
    # Three roundings of 6e-8, of numbers that hardly cancel.
    np.testing.assert_allclose(gpu_backend.to_host(out), expected, rtol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_flags_of_marks(gpu_backend, shape):
    times, channels, _ = shape
    rng = np.random.default_rng(1)
    marks, tables = rng.integers(0, 256, (times, channels)).astype(np.uint8), rng.integers(0, 9, (2, 256)) << 3
    table_index, channel = rng.random(channels) < 0.5, (rng.random(channels) < 0.2) * np.uint16(64)
    flags = rng.integers(0, 3, (times, channels)).astype(np.uint16)
    rules = cpu_combine.FlagRules(tables.astype(np.uint16), table_index, channel, 1)
    gpu_result = gpu_backend.to_device(flags)
    cpu_combine.combine(marks, rules, flags, 0, times)
    on_gpu = gpu_backend.to_device(marks), tuple_to_device(rules, gpu_backend), gpu_result
    run_in_two_ranges(lambda a, b: combine.combine(*on_gpu, a, b), times, times // 2)
    np.testing.assert_array_equal(gpu_backend.to_host(gpu_result), flags)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("exact", [True, False])
def test_runs(gpu_backend, shape, exact):
    times, channels, _ = shape
    rng = np.random.default_rng(times)
    values = rng.normal(0, 1, (times, channels)).astype(np.float32)
    for _ in range(channels):
        first, length, c = rng.integers(times), rng.integers(1, 90), rng.integers(channels)
        values[first : first + length, c] += np.float32(rng.uniform(0.5, 6))
    windows = 2 ** np.arange(7)
    thresholds = (3.1 * np.sqrt(windows)).astype(np.float32)
    if exact:  # quarters: sums are exact in any order
        values = np.round(4 * values) / 4
    else:
        assert_no_sum_near_threshold(values, windows, thresholds)
    expected = rng.integers(0, 4, values.shape).astype(np.uint8)
    marks = gpu_backend.to_device(expected)
    cpu_sumthreshold.sum_threshold(values, windows, thresholds, 4, expected, 0, channels)
    on_gpu = gpu_backend.to_device(values), gpu_backend.to_device(windows), gpu_backend.to_device(thresholds), 4, marks
    run_in_two_ranges(lambda a, b: sumthreshold.sum_threshold(*on_gpu, a, b), channels, channels // 3)
    np.testing.assert_array_equal(gpu_backend.to_host(marks), expected)


def assert_no_sum_near_threshold(values, windows, thresholds):
    """Assert that no sum is within rounding of its threshold, where marks may differ."""
    for window, threshold in zip(windows, thresholds, strict=True):
        total = np.cumsum(np.pad(values.astype(float), ((1, 0), (0, 0))), axis=0)
        near = np.abs(total[window:] - total[:-window] - threshold) < ROUNDING * window
        assert not near.any()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kurtosis", [True, False])
def test_cell_statistics(gpu_backend, shape, kurtosis):
    power, moment4, flags, n_pols = make_cells(*shape)
    times, channels = flags.shape
    kurtosis_pols = n_pols if kurtosis else 0
    rng = np.random.default_rng(2)
    weight, gain_drift = np.where(rng.random(times) < 0.1, 0.9, 1), rng.normal(0, 0.3, times)
    per_channel = np.full(channels, n_pols), np.full(channels, 8 / np.sqrt(n_pols))
    scales = *per_channel, weight, gain_drift, np.full(times, 65 / 63), np.full(times, 4)
    scales = cpu_cell_statistics.CellScales(*(scale.astype(np.float32) for scale in scales))
    windows, kurtosis_lengths = 2 ** np.arange(7), 4 ** np.arange(4)
    limits = np.stack([3.5 * np.sqrt(windows), np.full(7, np.inf)]).astype(np.float32)
    kurtosis_limits = np.stack([3 * np.sqrt(kurtosis_lengths), 2.5 * np.sqrt(kurtosis_lengths)]).astype(np.float32)
    runs = RunWindows(windows, limits), RunWindows(kurtosis_lengths, kurtosis_limits)
    cells, moment4 = PowerCells(power, n_pols, flags), np.ascontiguousarray(moment4[:, :, :kurtosis_pols])

    def outputs():
        groups = np.full((-(-times // 16), channels), 255, np.uint8)
        return cpu_cell_statistics.CellStatistics(
            np.full(flags.shape, 255, np.uint8), groups, np.zeros((2, 4, channels))
        )

    expected, gpu_result = outputs(), tuple_to_device(outputs(), gpu_backend)
    thresholds = cpu_cell_statistics.CellThresholds(*runs, 2.0, 1.0)
    cpu_cell_statistics.cell_statistics(cells, moment4, scales, thresholds, expected, 0, channels)
    thresholds = cpu_cell_statistics.CellThresholds(*(tuple_to_device(run, gpu_backend) for run in runs), 2.0, 1.0)
    cells, scales = (tuple_to_device(group, gpu_backend) for group in (cells, scales))
    on_gpu = cells, gpu_backend.to_device(moment4), scales, thresholds, gpu_result
    run_in_two_ranges(lambda a, b: cell_statistics.cell_statistics(*on_gpu, a, b), channels, channels // 3)
    marks, groups, moments = (gpu_backend.to_host(array) for array in gpu_result)
    np.testing.assert_array_equal(marks, expected[0])
    assert times < 100 or (marks & cpu_cell_statistics.RUN_HOLE).any()
    np.testing.assert_array_equal(groups, expected[1])
    # Squares of values of about 1, summed in single precision over 16 times.
    np.testing.assert_allclose(moments, expected[2], rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(moments[:, 0], expected[2][:, 0])


@pytest.mark.parametrize(("times", "channels", "step"), [(1, 16, 1), (260, 64, 2), (701, 50, 2), (333, 33, 1)])
def test_tracks(gpu_backend, times, channels, step):
    rng = np.random.default_rng(times)
    marks = (rng.random((times, channels)) < 0.03).astype(np.uint8) * np.uint8(8)
    edges = np.array([g * channels // 4 for g in range(5)])
    delays = (np.arange(channels)[None] * np.array([[-3], [0], [1], [2.5], [40]])).astype(np.int32)
    log2_window = np.array([0, 1, 1, 2, 3])
    for s, enters in ((0, times // 2), (2, 100), (3, -20), (4, 10)):
        at = enters + step * delays[s]
        on = (at >= 0) & (at < times)
        marks[at[on], np.flatnonzero(on)] |= cpu_cell_statistics.POWER_RUN | (
            cpu_cell_statistics.KURTOSIS_DIP if s == 2 else 0
        )
    marks[50:90, channels // 2] |= 1
    marks |= (rng.random(marks.shape) < 0.15) * np.uint8(cpu_cell_statistics.KURTOSIS_DIP)
    live = rng.random(channels) < 0.9
    live[: edges[1]] = times != 333  # a segment without live channels
    tracks = tracks_of(edges, delays, log2_window, step)
    number = np.add.reduceat(live, edges[:-1]).astype(np.int64)
    steps = -(-times // step)
    counts, hits = np.full((4, 5, steps), 255, np.uint8), np.full((3, 5, steps), 255, np.uint8)
    given = marks, counts, hits, live, number
    our_marks, our_counts, our_hits, our_live, our_number = (gpu_backend.to_device(array) for array in given)
    cpu_dispersion_tracks.count_tracks(marks, step, live, tracks, counts, 0, 4)
    cpu_dispersion_tracks.find_tracks(counts, tracks, number, hits, 0, 3)
    clean = hits.copy()
    cpu_dispersed_marks.drop_tones(clean, tracks, live, marks, 0, 3)
    cpu_dispersed_marks.mark_tracks(clean, tracks, marks, 0, 4)
    tracks = tuple_to_device(tracks, gpu_backend)
    run_in_two_ranges(
        lambda a, b: dispersion_tracks.count_tracks(our_marks, step, our_live, tracks, our_counts, a, b), 4, 1
    )
    np.testing.assert_array_equal(gpu_backend.to_host(our_counts), counts)
    run_in_two_ranges(lambda a, b: dispersion_tracks.find_tracks(our_counts, tracks, our_number, our_hits, a, b), 3, 2)
    np.testing.assert_array_equal(gpu_backend.to_host(our_hits), hits)
    run_in_two_ranges(lambda a, b: dispersed_marks.drop_tones(our_hits, tracks, our_live, our_marks, a, b), 3, 1)
    np.testing.assert_array_equal(gpu_backend.to_host(our_hits), clean)
    run_in_two_ranges(lambda a, b: dispersed_marks.mark_tracks(our_hits, tracks, our_marks, a, b), 4, 3)
    np.testing.assert_array_equal(gpu_backend.to_host(our_marks), marks)
    if times > 1:
        assert clean.any()
        assert (clean < hits).any()
        assert (marks & cpu_cell_statistics.DISPERSED).any()


@pytest.mark.parametrize(("times", "channels", "tracks"), [(1, 16, 3), (300, 70, 3), (150, 40, 0)])
@pytest.mark.parametrize("order", [1, -1])
def test_tracks_that_are_cut(gpu_backend, times, channels, tracks, order):
    rng = np.random.default_rng(times)
    delays = (np.arange(channels)[::order] * np.array([[1], [2], [4]])).astype(np.int32)[:tracks]
    marks = (rng.random((times, channels)) < 0.02).astype(np.uint8)
    marks |= (rng.random(marks.shape) < 0.15) * np.uint8(cpu_cell_statistics.KURTOSIS_DIP)
    for s, enters in ((1, times - 90), (2, -200)) if tracks else ():
        for c in range(channels):
            at = enters + 2 * delays[s, c] + rng.integers(3)
            marks[max(at, 0) : max(at + 5, 0), c] |= cpu_cell_statistics.POWER_RUN
    live = rng.random(channels) < 0.9
    tracks = tracks_of(np.array([0, channels]), delays, np.ones(tracks, np.int64), step=2)
    longest, limits = np.full(channels, 9), cpu_edge_tracks.EdgeLimits(4, 8, 60)
    gpu_result = gpu_backend.to_device(marks)
    on_gpu = tuple_to_device(tracks, gpu_backend), gpu_backend.to_device(live), gpu_backend.to_device(longest)
    cpu_edge_tracks.mark_edge_tracks(marks, tracks, live, longest, limits, 0, channels)
    run_in_two_ranges(
        lambda a, b: edge_tracks.mark_edge_tracks(gpu_result, *on_gpu, limits, a, b), channels, channels // 3
    )
    np.testing.assert_array_equal(gpu_backend.to_host(gpu_result), marks)
    assert (marks & cpu_cell_statistics.DISPERSED).any() == (times > 1 and len(delays) > 0)


@pytest.mark.parametrize(("times", "channels"), [(1, 16), (783, 40), (1600, 70), (4099, 33), (6400, 20)])
def test_drifting_tones(gpu_backend, times, channels):
    rng = np.random.default_rng(times)
    groups = (rng.random((-(-times // 16), channels)) < 0.16) * np.uint8(8)
    live = rng.random(channels) < 0.95
    live[5] = True
    for begin, drift_channels in ((5, 4), (channels - 2, -7), (channels // 2, 12)):
        at = np.rint(begin + drift_channels * np.linspace(0, 1, len(groups))).astype(int)
        on = at < channels
        groups[on, at[on]] = 8
    hits = np.full(cpu_drifting_tones.line_layout(*groups.shape).shape, 7, np.uint8)
    marks = rng.integers(0, 64, (times, channels), np.uint8)
    gpu_result, our_hits = gpu_backend.to_device(marks), gpu_backend.to_device(hits)
    cpu_drifting_tones.find_drifting_tones(groups, live, hits, 0, len(hits))
    cpu_drifting_tones.mark_drifting_tones(hits, marks, 0, times)
    on_gpu = gpu_backend.to_device(groups), gpu_backend.to_device(live), our_hits
    run_in_two_ranges(lambda a, b: drifting_tones.find_drifting_tones(*on_gpu, a, b), len(hits), len(hits) // 3)
    np.testing.assert_array_equal(gpu_backend.to_host(our_hits), hits)
    run_in_two_ranges(lambda a, b: drifting_tones.mark_drifting_tones(our_hits, gpu_result, a, b), times, times // 3)
    np.testing.assert_array_equal(gpu_backend.to_host(gpu_result), marks)
    assert hits.any() == (marks & cpu_drifting_tones.DRIFTING_TONE).any() == (times > 1)


@pytest.mark.parametrize("longest", [1, 4])
def test_short_runs(gpu_backend, longest):
    marks = (np.random.default_rng(3).random((200, 19)) < 0.6).astype(np.uint8)
    gpu_result = gpu_backend.to_device(marks)
    cpu_dispersed_marks.mark_short_runs(marks, longest, 2, 15)
    run_in_two_ranges(lambda a, b: dispersed_marks.mark_short_runs(gpu_result, longest, 2 + a, 2 + b), 13, 5)
    np.testing.assert_array_equal(gpu_backend.to_host(gpu_result), marks)


def test_arrays_that_do_not_fit_are_refused(gpu_backend):
    given = np.ones((4, 3, 1), np.float32), np.zeros((4, 2), np.uint16), np.zeros((4, 2), np.uint8)
    power, flags, marks = (gpu_backend.to_device(array) for array in given)
    with pytest.raises(ValueError, match="do not go with flags"):
        zero_dm.zero_dm_counts(PowerCells(power, 1, flags), power, power, power, 0, 2)
    with pytest.raises(ValueError, match="must be uint8"):
        dispersed_marks.mark_short_runs(flags, 1, 0, 2)
    tracks = tracks_of(np.array([0, 2]), np.zeros((1, 2), np.int32), np.ones(1, np.int64), step=1)
    with pytest.raises(ValueError, match="do not go with marks"):
        edge_tracks.mark_edge_tracks(marks, tracks, power, power, cpu_edge_tracks.EdgeLimits(1, 1, 1), 0, 2)
    with pytest.raises(ValueError, match="do not go with uint16 groups"):
        drifting_tones.find_drifting_tones(flags, power, power, 0, 1)
    with pytest.raises(ValueError, match="do not go with marks"):
        drifting_tones.mark_drifting_tones(power, marks, 0, 1)
