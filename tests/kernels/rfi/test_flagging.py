import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgefilter_kernels.rfi.broadband_steps import find_broadband_steps
from edgefilter_kernels.rfi.cell_statistics import (
    DISPERSED,
    EVENT,
    GROUP_TIMES,
    HIGH_KURTOSIS,
    KURTOSIS_DIP,
    LOW_KURTOSIS,
    POWER_RUN,
    RUN_HOLE,
    CellScales,
    CellStatistics,
    CellThresholds,
    cell_statistics,
)
from edgefilter_kernels.rfi.combine import FlagRules, combine
from edgefilter_kernels.rfi.dispersed_marks import drop_tones, mark_short_runs, mark_tracks
from edgefilter_kernels.rfi.dispersion_tracks import count_tracks, find_tracks
from edgefilter_kernels.rfi.drifting_tones import (
    DRIFTING_TONE,
    LineLayout,
    find_drifting_tones,
    line_layout,
    mark_drifting_tones,
)
from edgefilter_kernels.rfi.edge_tracks import EdgeLimits, mark_edge_tracks
from edgefilter_kernels.rfi.intensity import PowerCells
from edgefilter_kernels.rfi.quantile import channel_quantiles
from edgefilter_kernels.rfi.quantisation import correct_clipping
from edgefilter_kernels.rfi.sumthreshold import RunWindows, sum_threshold
from edgefilter_kernels.rfi.zero_dm import ZERO_DM_BANDS, zero_dm_counts
from tests.helpers.dispersion_tracks import tracks_of
from tests.reference.rfi import flagging as reference

shape_strategies = {
    "times": st.integers(1, 90),
    "channels": st.integers(1, 150),
    "n_pols": st.integers(1, 3),
    "lost": st.sampled_from([0.0, 0.3, 1.0]),
    "levels": st.sampled_from([2, 4, 100_000]),
    "seed": st.integers(0, 1000),
}


def make_cells(times, channels, n_pols, lost, levels, seed):
    rng = np.random.default_rng(seed)
    power = rng.integers(-levels // 3, levels, (times, channels, n_pols)).astype(np.float32)
    flags = np.where(rng.random((times, channels)) < lost, 1, 0).astype(np.uint16)
    return power, flags, int(rng.integers(0, times + 1)), int(rng.integers(0, channels + 1))


@settings(deadline=None, max_examples=30)
@given(**shape_strategies, step=st.integers(1, 4))
def test_quantiles_are_those_of_a_sort_wherever_channels_are_cut(step, **shape):
    power, flags, _, cut = make_cells(**shape)
    channels, fractions = flags.shape[1], np.array([0.3, 0.05])
    whole, pieces = np.full((2, 2, channels), np.nan)
    count = np.zeros((2, channels), np.int64)
    cells = PowerCells(power, shape["n_pols"], flags)
    channel_quantiles(cells, step, fractions, whole, count, 0, channels)
    channel_quantiles(cells, step, fractions, pieces, count, 0, cut)
    channel_quantiles(cells, step, fractions, pieces, count, cut, channels)
    np.testing.assert_array_equal(whole, pieces)
    used, intensity = flags[::step] == 0, power[::step].sum(axis=2)
    np.testing.assert_array_equal(count[0], used.sum(axis=0))
    assert (whole[:, ~used.any(axis=0)] == 0).all()
    for c in np.flatnonzero(used.any(axis=0)):
        expected = [reference.quantile(intensity[used[:, c], c], p) for p in fractions]
        np.testing.assert_allclose(whole[:, c], expected, rtol=1e-6, atol=1e-12)  # rounding of ties at 0


@settings(deadline=None, max_examples=30)
@given(times=st.integers(1, 200), channels=st.integers(1, 70), seed=st.integers(0, 1000))
@example(times=36, channels=59, seed=0)
def test_runs_are_those_of_the_reference_wherever_channels_are_cut(times, channels, seed):
    rng = np.random.default_rng(seed)
    # Quarters: sums are exact in any order.
    values = np.round(4 * rng.normal(0, 1, (times, channels))).astype(np.float32) / 4
    for _ in range(3):
        first, length, c = rng.integers(times), rng.integers(1, 60), rng.integers(channels)
        values[first : first + length, c] += np.float32(1.5)
    windows = 2 ** np.arange(7)
    thresholds = (3.1 * np.sqrt(windows)).astype(np.float32)
    marks = np.zeros(values.shape, np.uint8)
    cut = int(rng.integers(0, channels + 1))
    sum_threshold(values, windows, thresholds, 4, marks, 0, cut)
    sum_threshold(values, windows, thresholds, 4, marks, cut, channels)
    for c in range(channels):
        expected, _ = reference.sum_threshold(values[:, c], windows.tolist(), thresholds.tolist())
        np.testing.assert_array_equal(marks[:, c], np.where(expected, 4, 0))


@settings(deadline=None, max_examples=20)
@given(
    channels=st.integers(1, 70), duty=st.sampled_from([0.3, 0.6, 0.9]), strength=st.sampled_from([3.0, 8.0]),
    seed=st.integers(0, 1000),
)  # fmt: skip
def test_noise_between_strong_pulses_is_a_hole(channels, duty, strength, seed):
    rng, times = np.random.default_rng(seed), 120
    values = rng.normal(0, 1, (times, channels))
    for c in range(channels):
        on = slice(rng.integers(times), rng.integers(times))
        values[on, c] += np.where(rng.random(len(values[on])) < duty, strength * rng.uniform(0.7, 2, 1), 0)
    values = (np.rint(values * 64) / 64).astype(np.float32)  # sums are exact
    windows = 2 ** np.arange(7)
    limits = np.full((2, 7), np.inf, np.float32)
    limits[0] = 4.1 * np.sqrt(windows)
    no_kurtosis = RunWindows(np.ones(1, np.int64), np.zeros((2, 1), np.float32))
    thresholds = CellThresholds(RunWindows(windows, limits), no_kurtosis, 2.0, 1.0)
    zeros, ones = (np.full((2, max(times, channels)), value, np.float32) for value in (0, 1))
    per_channel, per_time = (zeros[0, :channels], ones[0, :channels]), (ones[1, :times], *zeros[:2, :times])
    scales = CellScales(*per_channel, *per_time, zeros[1, :times])
    marks, groups = np.zeros((times, channels), np.uint8), np.zeros((-(-times // 16), channels), np.uint8)
    cells = PowerCells(values[:, :, None], 1, np.zeros((times, channels), np.uint16))
    out = CellStatistics(marks, groups, np.zeros((2, 4, channels)))
    cell_statistics(cells, np.zeros((times, channels, 0), np.float32), scales, thresholds, out, 0, channels)
    for c in range(channels):
        found, holes = reference.sum_threshold(values[:, c], windows.tolist(), limits[0].tolist())
        np.testing.assert_array_equal(
            marks[:, c] & (POWER_RUN | RUN_HOLE), np.where(holes, RUN_HOLE, np.where(found, POWER_RUN, 0))
        )


@settings(deadline=None, max_examples=30)
@given(**shape_strategies)
def test_counts_of_the_zero_dm_test_are_those_of_the_reference(**shape):
    power, flags, cut, _ = make_cells(**shape)
    times, channels = flags.shape
    low, high = np.full(channels, 0.5, np.float32), np.full(channels, shape["levels"] / 2, np.float32)
    high[::5] = low[::5]
    counts = np.zeros((3, ZERO_DM_BANDS, times), np.int32)
    cells = PowerCells(power, shape["n_pols"], flags)
    zero_dm_counts(cells, low, high, counts, 0, cut)
    zero_dm_counts(cells, low, high, counts, cut, times)
    np.testing.assert_array_equal(
        counts, reference.zero_dm_counts(power.sum(axis=2), flags == 0, low, high, ZERO_DM_BANDS)
    )


@settings(deadline=None, max_examples=60)
@given(
    times=st.integers(1, 60), most=st.integers(0, 40), often=st.sampled_from([0.05, 0.3, 0.7, 1.0]),
    margin=st.integers(1, 6), side=st.sampled_from([1, 2]), seed=st.integers(0, 10_000),
)  # fmt: skip
def test_broadband_steps_are_those_of_the_reference(times, most, often, margin, side, seed):
    rng = np.random.default_rng(seed)
    counts = np.zeros((3, ZERO_DM_BANDS, times), np.int32)
    counts[0] = rng.integers(0, most + 1, (ZERO_DM_BANDS, times))
    part = np.where(rng.random(times) < often, rng.uniform(0.2, 1.0, times), 0.1)
    counts[1:] = rng.binomial(counts[0], part, (2, ZERO_DM_BANDS, times))
    before = rng.random((times, ZERO_DM_BANDS)) < 0.01
    out = before.copy()
    find_broadband_steps(counts, side, margin, out)
    expected = reference.find_broadband_steps(counts[0], counts[side], margin)
    np.testing.assert_array_equal(out, before | expected.T)


@settings(deadline=None, max_examples=30)
@given(
    times=st.integers(1, 20), channels=st.integers(1, 200), filled=st.sampled_from([0.0, 0.05, 1.0]),
    seed=st.integers(0, 1000),
)  # fmt: skip
def test_marks_become_the_flags_of_the_tables(times, channels, filled, seed):
    rng = np.random.default_rng(seed)
    tables = np.where(rng.random((2, 256)) < filled, rng.integers(0, 1 << 16, (2, 256)), 0).astype(np.uint16)
    marks = np.where(rng.random((times, channels)) < filled, rng.integers(0, 256, (times, channels)), 0).astype(
        np.uint8
    )
    table_index, whole = rng.random(channels) < 0.3, np.where(rng.random(channels) < 0.1, 32, 0).astype(np.uint16)
    flags = rng.integers(0, 3, (times, channels)).astype(np.uint16)
    found = tables[table_index.astype(int), marks] | whole
    expected, cut = np.where(flags & 1, flags, flags | found), int(rng.integers(0, times + 1))
    rules = FlagRules(tables, table_index, whole, 1)
    combine(marks, rules, flags, 0, cut)
    combine(marks, rules, flags, cut, times)
    np.testing.assert_array_equal(flags, expected)


@pytest.mark.parametrize(("enters", "line"), [(100, 50), (-40, 350), (250, 50)])
def test_a_track_is_found_and_a_vertical_line_is_not(enters, line):
    """The track is found also if it enters the band before the data begin."""
    times, channels, edges = 400, 64, np.array([0, 16, 32, 48, 64])
    marks = np.zeros((times, channels), np.uint8)
    at = enters + 4 * np.arange(channels)
    inside = (at >= 0) & (at < times)
    at, on = at[inside], np.arange(channels)[inside]
    marks[at, on] = 1
    marks[line] = 1
    live = np.ones(channels, np.bool_)
    delays = (np.arange(channels)[None, :] * np.array([[2], [4]])).astype(np.int32)
    tracks = tracks_of(edges, delays, np.ones(2, np.int64), step=2)
    counts, hits = np.empty((4, 2, 200), np.uint8), np.empty((3, 2, 200), np.uint8)
    count_tracks(marks, 2, live, tracks, counts, 0, 4)
    find_tracks(counts, tracks, np.full(4, 16), hits, 0, 3)
    full = np.add.reduceat(inside, edges[:-1]) == 16
    np.testing.assert_array_equal(hits[:, 0].any(axis=1), full[1:] & full[:-1])
    assert not hits[:, 1].any()
    mark_tracks(hits, tracks, marks, 0, 4)
    assert (marks[at, on] & DISPERSED).all()
    assert not (marks[line] & DISPERSED).any()


@pytest.mark.parametrize(("tones", "stays"), [(0.15, True), (0.6, False)])
def test_a_track_with_the_low_kurtosis_of_tones_is_dropped(tones, stays):
    times, channels = 400, 64
    delays = (4 * np.arange(channels)[None, :]).astype(np.int32)
    tracks = tracks_of(np.array([0, 32, 64]), delays, np.ones(1, np.int64), step=1)
    marks = np.zeros((times, channels), np.uint8)
    marks[50 + 4 * np.arange(channels), np.arange(channels)] = POWER_RUN
    low = np.random.default_rng(1).random(channels) < tones
    marks[marks != 0] |= np.where(low, KURTOSIS_DIP, 0).astype(np.uint8)
    hits = np.zeros((1, 1, times), np.uint8)
    hits[0, 0, 50] = 1
    drop_tones(hits, tracks, np.ones(channels, np.bool_), marks, 0, 1)
    assert hits[0, 0, 50] == stays


def mark_edges(marks, delay, tolerance=3, slack=6, longest=12):
    """Return the marks of the kernel and of the reference for one track."""
    expected = reference.cut_tracks(marks, delay, tolerance, slack, longest)
    channels = marks.shape[1]
    tracks = tracks_of(np.array([0, channels]), np.asarray(delay, np.int32)[None], np.ones(1, np.int64), step=1)
    live, limits = np.ones(channels, np.bool_), EdgeLimits(tolerance, slack, channels)
    for start, stop in ((0, channels // 3), (channels // 3, channels)):
        mark_edge_tracks(marks, tracks, live, np.full(channels, longest), limits, start, stop)
    return marks & DISPERSED != 0, expected


@settings(deadline=None, max_examples=60)
@given(
    enters=st.integers(-200, 200),
    width=st.integers(1, 16),
    slope=st.integers(0, 6),
    order=st.sampled_from([1, -1]),
    noise=st.sampled_from([0.0, 0.02, 0.1]),
    missing=st.sampled_from([0.0, 0.2]),
    seed=st.integers(0, 1000),
)
def test_cut_tracks_are_those_of_the_reference(enters, width, slope, order, noise, missing, seed):
    times, channels, rng = 150, 24, np.random.default_rng(seed)
    delay = (slope * np.arange(channels))[::order]
    marks = (rng.random((times, channels)) < noise).astype(np.uint8) * np.uint8(POWER_RUN)
    for c in np.flatnonzero(rng.random(channels) >= missing):
        marks[slice(*np.clip([enters + delay[c], enters + delay[c] + width], 0, times)), c] |= POWER_RUN
    found, expected = mark_edges(marks, delay)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("enters", [90, -90])
def test_a_sweep_that_an_end_cuts_is_kept_and_a_broadband_burst_is_not(order, enters):
    times, channels = 120, 40
    delay = (4 * np.arange(channels))[::order]
    sweep, burst = np.zeros((2, times, channels), np.uint8)
    for c in range(channels):
        sweep[slice(*np.clip([enters + delay[c], enters + delay[c] + 3], 0, times)), c] = POWER_RUN
    burst[-10:] = burst[:10] = POWER_RUN
    assert (mark_edges(sweep, delay)[0] == (sweep & POWER_RUN != 0)).all()
    assert not mark_edges(burst, delay)[0].any()


def find_lines(groups, live, cut=0.0):
    layout = line_layout(*groups.shape)
    hits, cut = np.full(layout.shape, 7, np.uint8), int(cut * layout.shape[0])
    find_drifting_tones(groups, live, hits, 0, cut)
    find_drifting_tones(groups, live, hits, cut, len(hits))
    return hits, {(int(i) - layout.margin, int(line) - layout.max_drift) for line, i in np.argwhere(hits)}


@settings(deadline=None, max_examples=40)
@given(
    shape=st.tuples(st.sampled_from([48, 51, 94, 96, 255, 256]), st.integers(1, 40)),
    begin=st.integers(-5, 45), drift=st.integers(-20, 20), filled=st.sampled_from([0.5, 0.8, 1.0]),
    rates=st.tuples(st.sampled_from([0.0, 0.16, 0.4, 0.7]), st.sampled_from([0.0, 0.1, 0.5])),
    cut=st.floats(0, 1), seed=st.integers(0, 1000),
)  # fmt: skip
def test_drifting_tones_are_those_of_the_reference(shape, begin, drift, filled, rates, cut, seed):
    (groups, channels), (noise, dead) = shape, rates
    rng = np.random.default_rng(seed)
    events = rng.random((groups, channels)) < noise
    at = np.rint(begin + drift * np.linspace(0, 1, groups)).astype(int)
    on = (at >= 0) & (at < channels) & (rng.random(groups) < filled)
    events[on, at[on]] = True
    live = rng.random(channels) >= dead
    _, found = find_lines(events * np.uint8(EVENT), live, cut)
    assert found == reference.drifting_tones(events, live)


@pytest.mark.parametrize("times", [768, 16 * 256 - 3, 16 * 300, 16 * 1100])
@pytest.mark.parametrize("moves", [2, -9])
def test_the_whole_line_of_a_drifting_tone_is_marked(times, moves):
    """The line is marked in blocks of any length, to the last cell, and across masked channels."""
    marks, groups = (
        np.full((times, 40), POWER_RUN | EVENT, np.uint8),
        np.zeros((-(-times // GROUP_TIMES), 40), np.uint8),
    )
    marks[::3], marks[::5] = POWER_RUN | HIGH_KURTOSIS | DISPERSED, POWER_RUN | LOW_KURTOSIS
    before = marks.copy()
    at = 20 + moves * np.arange(times) / times
    groups[np.arange(len(groups)), np.rint(at[::GROUP_TIMES]).astype(int)] = EVENT
    live = np.arange(40) != 20 + moves // 2
    hits, found = find_lines(groups, live)
    assert found
    assert all(abs(begin - 20) <= 1 and abs(begin + some - 20 - moves) <= 1 for begin, some in found)
    mark_drifting_tones(hits, marks, 0, times // 3)
    mark_drifting_tones(hits, marks, times // 3, times)
    drift = np.where(before & (LOW_KURTOSIS | DISPERSED), before, DRIFTING_TONE | EVENT)
    on = np.arange(times), np.rint(at).astype(int)
    np.testing.assert_array_equal(marks[on], drift[on])
    for off in (slice(16 + min(moves, 0)), slice(25 + max(moves, 0), None)):
        np.testing.assert_array_equal(marks[:, off], before[:, off])


@pytest.mark.parametrize("moves", [1, 3])
def test_constant_wide_and_late_signals_are_no_drifting_tones(moves):
    live = np.ones(40, np.bool_)
    stays, wide, late = np.zeros((3, 256, 40), np.uint8)
    on = np.random.default_rng(1).random(256) < 0.75
    stays[on, 20:22] = wide[on, 10:30] = EVENT
    at = np.rint(20 + moves * np.arange(256) / 256).astype(int)
    late[np.arange(64, 256), at[64:]] = EVENT
    assert not any(find_lines(events, live)[1] for events in (stays, wide, late))


def test_few_steps_have_no_lines():
    assert line_layout(47, 40) == LineLayout(groups_per_step=2, steps=0, max_drift=0, margin=0, lines=0)
    assert find_lines(np.full((47, 40), EVENT, np.uint8), np.ones(40, np.bool_))[0].shape == (1, 0)
    mark_drifting_tones(np.zeros((1, 0), np.uint8), np.zeros((47 * GROUP_TIMES, 40), np.uint8), 0, 47 * GROUP_TIMES)


def test_short_runs_are_kept():
    marks = np.zeros((20, 2), np.uint8)
    marks[3:6, 0] = marks[:10, 1] = 1
    mark_short_runs(marks, 4, 0, 2)
    assert (marks[3:6, 0] == 1 | DISPERSED).all()
    assert (marks[:10, 1] == 1).all()


def test_arrays_that_do_not_fit_are_refused():
    power, flags = np.ones((4, 3, 1), np.float32), np.zeros((4, 2), np.uint16)
    with pytest.raises(ValueError, match="do not go with flags"):
        channel_quantiles(
            PowerCells(power, 1, flags), 1, np.array([0.3]), np.zeros((1, 2)), np.zeros((2, 2), np.int64), 0, 2
        )
    values, marks = np.ones((4, 2), np.float32), np.zeros((4, 2), np.uint8)
    tracks = tracks_of(np.array([0, 2]), np.zeros((1, 2), np.int32), np.ones(1, np.int64), step=1)
    with pytest.raises(ValueError, match="do not go with marks"):
        mark_edge_tracks(marks, tracks, np.ones(3, np.bool_), np.ones(2, int), EdgeLimits(1, 1, 1), 0, 2)
    with pytest.raises(ValueError, match="must be uint8"):
        mark_edge_tracks(values, tracks, np.ones(2, np.bool_), np.ones(2, int), EdgeLimits(1, 1, 1), 0, 2)
    with pytest.raises(ValueError, match="do not go with uint8 groups"):
        find_drifting_tones(marks, np.ones(3, np.bool_), marks, 0, 1)
    with pytest.raises(ValueError, match="do not go with marks"):
        mark_drifting_tones(marks, marks, 0, 1)
    with pytest.raises(ValueError, match="must be uint8"):
        mark_drifting_tones(marks, values, 0, 1)
    with pytest.raises(ValueError, match="must ascend"):
        sum_threshold(values, np.array([2, 1]), np.ones(2, np.float32), 1, marks, 0, 2)


@settings(deadline=None, max_examples=30)
@given(
    times=st.integers(1, 20), channels=st.integers(1, 40), n_pols=st.integers(1, 2), products=st.integers(2, 4),
    cut=st.integers(0, 20), seed=st.integers(0, 1000),
)  # fmt: skip
def test_corrected_fourth_moments_are_those_of_the_reference(times, channels, n_pols, products, cut, seed):
    rng = np.random.default_rng(seed)
    power = rng.exponential(1, (times, channels, products)).astype(np.float32)
    power[rng.random(power.shape) < 0.1] = rng.choice([0.0, -1.0, 1e6, 1e18, np.nan, np.inf])
    with np.errstate(invalid="ignore"):
        moment4 = power[:, :, :n_pols] ** 2 * rng.uniform(1, 3, (times, channels, n_pols)).astype(np.float32)
    steps, table = rng.uniform(0, 9, channels).astype(np.float32), rng.uniform(1, 5, 16).astype(np.float32)
    out, cut = np.full_like(moment4, -1), min(cut, times)
    correct_clipping(power, moment4, steps, table, out, 0, cut)
    correct_clipping(power, moment4, steps, table, out, cut, times)
    # Three roundings of 6e-8, of numbers that do not cancel.
    np.testing.assert_allclose(out, reference.correct_clipping(power, moment4, steps, table), rtol=5e-7)


def test_fourth_moments_that_do_not_fit_are_refused():
    some, table = np.ones((4, 3, 1), np.float32), np.ones(3, np.float32)
    with pytest.raises(ValueError, match="do not go with powers"):
        correct_clipping(some[:3], some, table, table, some, 0, 3)
    with pytest.raises(ValueError, match="must be float32"):
        correct_clipping(some, some, table.astype(float), table, some, 0, 3)
