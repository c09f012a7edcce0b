import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgefilter_kernels.rfi.broadband_steps import sudden
from edgefilter_kernels.rfi.cell_statistics import ABOVE, DIP, GROUP, HIGH, HOLE, LOW, RUN, SKY, evidence
from edgefilter_kernels.rfi.combine import combine
from edgefilter_kernels.rfi.dispersion_tracks import count_tracks, drop_tones, find_tracks, keep_short, mark_tracks
from edgefilter_kernels.rfi.drifting_tones import DRIFT, find_drifts, lines_of, mark_drifts, steps_of
from edgefilter_kernels.rfi.edge_tracks import mark_cut
from edgefilter_kernels.rfi.quantile import channel_quantiles
from edgefilter_kernels.rfi.quantisation import unclip
from edgefilter_kernels.rfi.sumthreshold import sum_threshold
from edgefilter_kernels.rfi.zero_dm import BANDS, rise
from tests.reference.rfi import flagging as reference

shapes = {
    "times": st.integers(1, 90),
    "channels": st.integers(1, 150),
    "hands": st.integers(1, 3),
    "lost": st.sampled_from([0.0, 0.3, 1.0]),
    "levels": st.sampled_from([2, 4, 100_000]),
    "seed": st.integers(0, 1000),
}


def cells_of(times, channels, hands, lost, levels, seed):
    rng = np.random.default_rng(seed)
    power = rng.integers(-levels // 3, levels, (times, channels, hands)).astype(np.float32)
    flags = np.where(rng.random((times, channels)) < lost, 1, 0).astype(np.uint16)
    return power, flags, int(rng.integers(0, times + 1)), int(rng.integers(0, channels + 1))


@settings(deadline=None, max_examples=30)
@given(**shapes, step=st.integers(1, 4))
def test_quantiles_are_those_of_a_sort_wherever_channels_are_cut(step, **shape):
    power, flags, _, cut = cells_of(**shape)
    channels, fractions = flags.shape[1], np.array([0.3, 0.05])
    whole, pieces = np.full((2, 2, channels), np.nan)
    count = np.zeros((2, channels), np.int64)
    channel_quantiles(power, shape["hands"], flags, step, fractions, whole, count, 0, channels)
    channel_quantiles(power, shape["hands"], flags, step, fractions, pieces, count, 0, cut)
    channel_quantiles(power, shape["hands"], flags, step, fractions, pieces, count, cut, channels)
    np.testing.assert_array_equal(whole, pieces)
    used, intensity = flags[::step] == 0, power[::step].sum(axis=2)
    np.testing.assert_array_equal(count[0], used.sum(axis=0))
    assert (whole[:, ~used.any(axis=0)] == 0).all()
    for c in np.flatnonzero(used.any(axis=0)):
        expected = [reference.quantile(intensity[used[:, c], c], p) for p in fractions]
        np.testing.assert_allclose(whole[:, c], expected, rtol=1e-6, atol=1e-12)  # what is left of ties at 0


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
    channels=st.integers(1, 70), share=st.sampled_from([0.3, 0.6, 0.9]), strength=st.sampled_from([3.0, 8.0]),
    seed=st.integers(0, 1000),
)  # fmt: skip
def test_between_strong_pulses_what_is_like_noise_is_a_hole(channels, share, strength, seed):
    rng, times = np.random.default_rng(seed), 120
    values = rng.normal(0, 1, (times, channels))
    for c in range(channels):
        on = slice(rng.integers(times), rng.integers(times))
        values[on, c] += np.where(rng.random(len(values[on])) < share, strength * rng.uniform(0.7, 2, 1), 0)
    values = (np.rint(values * 64) / 64).astype(np.float32)  # sums are exact
    windows = 2 ** np.arange(7)
    limits = np.full((2, 7), np.inf, np.float32)
    limits[0] = 4.1 * np.sqrt(windows)
    no_kurtosis = np.zeros((times, channels, 0), np.float32), np.zeros(1, np.int64) + 1, np.zeros((2, 1), np.float32)
    flags, of_channels = np.zeros((times, channels), np.uint16), np.zeros((2, channels), np.float32)
    of_channels[1], of_times = 1, np.zeros((4, times), np.float32)
    of_times[0] = 1
    marks, groups = np.zeros((times, channels), np.uint8), np.zeros((-(-times // 16), channels), np.uint8)
    evidence(
        values[:, :, None], no_kurtosis[0], 1, flags, of_channels, of_times, windows, limits, *no_kurtosis[1:], 2.0,
        1.0, marks, groups, np.zeros((2, 4, channels)), 0, channels,
    )  # fmt: skip
    for c in range(channels):
        found, holes = reference.sum_threshold(values[:, c], windows.tolist(), limits[0].tolist())
        np.testing.assert_array_equal(marks[:, c] & (RUN | HOLE), np.where(holes, HOLE, np.where(found, RUN, 0)))


@settings(deadline=None, max_examples=30)
@given(**shapes)
def test_rises_are_counted_as_the_reference_does(**shape):
    power, flags, cut, _ = cells_of(**shape)
    times, channels = flags.shape
    low, high = np.full(channels, 0.5, np.float32), np.full(channels, shape["levels"] / 2, np.float32)
    high[::5] = low[::5]
    counts = np.zeros((3, BANDS, times), np.int32)
    rise(power, shape["hands"], flags, low, high, counts, 0, cut)
    rise(power, shape["hands"], flags, low, high, counts, cut, times)
    np.testing.assert_array_equal(counts, reference.rise(power.sum(axis=2), flags == 0, low, high, BANDS))


@settings(deadline=None, max_examples=60)
@given(
    times=st.integers(1, 60), most=st.integers(0, 40), often=st.sampled_from([0.05, 0.3, 0.7, 1.0]),
    shortly=st.integers(1, 6), side=st.sampled_from([1, 2]), seed=st.integers(0, 10_000),
)  # fmt: skip
def test_what_moves_suddenly_is_what_the_reference_finds(times, most, often, shortly, side, seed):
    rng = np.random.default_rng(seed)
    counts = np.zeros((3, BANDS, times), np.int32)
    counts[0] = rng.integers(0, most + 1, (BANDS, times))
    part = np.where(rng.random(times) < often, rng.uniform(0.2, 1.0, times), 0.1)
    counts[1:] = rng.binomial(counts[0], part, (2, BANDS, times))
    before = rng.random((times, BANDS)) < 0.01
    out = before.copy()
    sudden(counts, side, shortly, out)
    expected = reference.sudden(counts[0], counts[side], shortly)
    np.testing.assert_array_equal(out, before | expected.T)


@settings(deadline=None, max_examples=30)
@given(
    times=st.integers(1, 20), channels=st.integers(1, 200), filled=st.sampled_from([0.0, 0.05, 1.0]),
    seed=st.integers(0, 1000),
)  # fmt: skip
def test_marks_become_what_the_tables_say(times, channels, filled, seed):
    rng = np.random.default_rng(seed)
    tables = np.where(rng.random((2, 256)) < filled, rng.integers(0, 1 << 16, (2, 256)), 0).astype(np.uint16)
    marks = np.where(rng.random((times, channels)) < filled, rng.integers(0, 256, (times, channels)), 0).astype(
        np.uint8
    )
    which, whole = rng.random(channels) < 0.3, np.where(rng.random(channels) < 0.1, 32, 0).astype(np.uint16)
    flags = rng.integers(0, 3, (times, channels)).astype(np.uint16)
    found = tables[which.astype(int), marks] | whole
    expected, cut = np.where(flags & 1, flags, flags | found), int(rng.integers(0, times + 1))
    combine(marks, tables, which, whole, 1, flags, 0, cut)
    combine(marks, tables, which, whole, 1, flags, cut, times)
    np.testing.assert_array_equal(flags, expected)


@pytest.mark.parametrize(("enters", "line"), [(100, 50), (-40, 350), (250, 50)])
def test_a_track_is_found_and_a_vertical_line_is_not(enters, line):
    """Whenever it enters the band: before the data begin, too."""
    times, channels, edges = 400, 64, np.array([0, 16, 32, 48, 64])
    marks = np.zeros((times, channels), np.uint8)
    at = enters + 4 * np.arange(channels)
    inside = (at >= 0) & (at < times)
    at, on = at[inside], np.arange(channels)[inside]
    marks[at, on] = 1
    marks[line] = 1
    live = np.ones(channels, np.bool_)
    delays = (np.arange(channels)[None, :] * np.array([[2], [4]])).astype(np.int32)
    first = np.minimum.reduceat(delays, edges[:-1], axis=1)
    doublings = np.ones(2, np.int64)
    counts, hits = np.empty((4, 2, 200), np.uint8), np.empty((3, 2, 200), np.uint8)
    count_tracks(marks, 1, 2, live, edges, delays, first, doublings, counts, 0, 4)
    find_tracks(counts, first, np.full(4, 16), 0.75, 20, hits, 0, 3)
    full = np.add.reduceat(inside, edges[:-1]) == 16
    np.testing.assert_array_equal(hits[:, 0].any(axis=1), full[1:] & full[:-1])
    assert not hits[:, 1].any()
    mark_tracks(hits, 2, edges, delays, first, doublings, marks, 0, 4)
    assert (marks[at, on] & SKY).all()
    assert not (marks[line] & SKY).any()


@pytest.mark.parametrize(("tones", "stays"), [(0.15, True), (0.6, False)])
def test_a_track_of_tones_is_forgotten_and_one_with_what_noise_has_is_not(tones, stays):
    times, channels = 400, 64
    delays = (4 * np.arange(channels)[None, :]).astype(np.int32)
    edges, first = np.array([0, 32, 64]), np.array([[0, 128]], np.int32)
    marks = np.zeros((times, channels), np.uint8)
    marks[50 + 4 * np.arange(channels), np.arange(channels)] = RUN
    low = np.random.default_rng(1).random(channels) < tones
    marks[marks != 0] |= np.where(low, DIP, 0).astype(np.uint8)
    hits = np.zeros((1, 1, times), np.uint8)
    hits[0, 0, 50] = 1
    drop_tones(hits, 1, edges, delays, first, np.ones(1, np.int64), np.ones(channels, np.bool_), marks, 0, 1)
    assert hits[0, 0, 50] == stays


def cut(marks, delay, reach=3, slack=6, longest=12):
    """What the kernel marks, and what the reference does, of one track."""
    expected = reference.cut_tracks(marks, delay, reach, slack, longest)
    channels = marks.shape[1]
    given = np.ones(channels, np.bool_), np.full(channels, longest), np.asarray(delay, np.int32)[None]
    for start, stop in ((0, channels // 3), (channels // 3, channels)):
        mark_cut(marks, 1, reach, slack, channels, *given, start, stop)
    return marks & SKY != 0, expected


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
    marks = (rng.random((times, channels)) < noise).astype(np.uint8) * np.uint8(RUN)
    for c in np.flatnonzero(rng.random(channels) >= missing):
        marks[slice(*np.clip([enters + delay[c], enters + delay[c] + width], 0, times)), c] |= RUN
    found, expected = cut(marks, delay)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("enters", [90, -90])
def test_a_sweep_that_an_end_cuts_is_kept_and_what_comes_at_once_is_not(order, enters):
    times, channels = 120, 40
    delay = (4 * np.arange(channels))[::order]
    sweep, burst = np.zeros((2, times, channels), np.uint8)
    for c in range(channels):
        sweep[slice(*np.clip([enters + delay[c], enters + delay[c] + 3], 0, times)), c] = RUN
    burst[-10:] = burst[:10] = RUN
    assert (cut(sweep, delay)[0] == (sweep & RUN != 0)).all()
    assert not cut(burst, delay)[0].any()


def drifts(groups, live, cut=0.0):
    steepest, outside, lines = lines_of(*groups.shape)
    hits, cut = np.full((1 + 2 * steepest, lines), 7, np.uint8), int(cut * (1 + 2 * steepest))
    find_drifts(groups, live, hits, 0, cut)
    find_drifts(groups, live, hits, cut, len(hits))
    return hits, {(int(i) - outside, int(line) - steepest) for line, i in np.argwhere(hits)}


@settings(deadline=None, max_examples=40)
@given(
    groups=st.sampled_from([48, 51, 94, 96, 255, 256]), channels=st.integers(1, 40), begin=st.integers(-5, 45),
    moves=st.integers(-20, 20), filled=st.sampled_from([0.5, 0.8, 1.0]), noise=st.sampled_from([0.0, 0.16, 0.4, 0.7]),
    gone=st.sampled_from([0.0, 0.1, 0.5]), cut=st.floats(0, 1), seed=st.integers(0, 1000),
)  # fmt: skip
def test_drifting_tones_are_those_of_the_reference(groups, channels, begin, moves, filled, noise, gone, cut, seed):
    rng = np.random.default_rng(seed)
    events = rng.random((groups, channels)) < noise
    at = np.rint(begin + moves * np.linspace(0, 1, groups)).astype(int)
    on = (at >= 0) & (at < channels) & (rng.random(groups) < filled)
    events[on, at[on]] = True
    live = rng.random(channels) >= gone
    _, found = drifts(events * np.uint8(ABOVE), live, cut)
    assert found == reference.drifting_tones(events, live)


@pytest.mark.parametrize("times", [768, 16 * 256 - 3, 16 * 300, 16 * 1100])
@pytest.mark.parametrize("moves", [2, -9])
def test_the_whole_line_of_a_drifting_tone_is_marked(times, moves):
    """In blocks of any length, to their last cell, and with channels that are masked on the way."""
    marks, groups = np.full((times, 40), RUN | ABOVE, np.uint8), np.zeros((-(-times // GROUP), 40), np.uint8)
    marks[::3], marks[::5] = RUN | HIGH | SKY, RUN | LOW
    before = marks.copy()
    at = 20 + moves * np.arange(times) / times
    groups[np.arange(len(groups)), np.rint(at[::GROUP]).astype(int)] = ABOVE
    live = np.arange(40) != 20 + moves // 2
    hits, found = drifts(groups, live)
    assert found
    assert all(abs(begin - 20) <= 1 and abs(begin + some - 20 - moves) <= 1 for begin, some in found)
    mark_drifts(hits, marks, 0, times // 3)
    mark_drifts(hits, marks, times // 3, times)
    drift = np.where(before & (LOW | SKY), before, DRIFT | ABOVE)
    on = np.arange(times), np.rint(at).astype(int)
    np.testing.assert_array_equal(marks[on], drift[on])
    for off in (slice(16 + min(moves, 0)), slice(25 + max(moves, 0), None)):
        np.testing.assert_array_equal(marks[:, off], before[:, off])


@pytest.mark.parametrize("moves", [1, 3])
def test_what_stays_or_is_wide_does_not_drift(moves):
    live = np.ones(40, np.bool_)
    stays, wide, late = np.zeros((3, 256, 40), np.uint8)
    on = np.random.default_rng(1).random(256) < 0.75
    stays[on, 20:22] = wide[on, 10:30] = ABOVE
    at = np.rint(20 + moves * np.arange(256) / 256).astype(int)
    late[np.arange(64, 256), at[64:]] = ABOVE
    assert not any(drifts(events, live)[1] for events in (stays, wide, late))


def test_few_steps_have_no_lines():
    assert steps_of(47) == (2, 0)
    assert lines_of(47, 40) == (0, 0, 0)
    assert drifts(np.full((47, 40), ABOVE, np.uint8), np.ones(40, np.bool_))[0].shape == (1, 0)
    mark_drifts(np.zeros((1, 0), np.uint8), np.zeros((47 * GROUP, 40), np.uint8), 0, 47 * GROUP)


def test_short_runs_are_kept():
    marks = np.zeros((20, 2), np.uint8)
    marks[3:6, 0] = marks[:10, 1] = 1
    keep_short(marks, 4, 0, 2)
    assert (marks[3:6, 0] == 1 | SKY).all()
    assert (marks[:10, 1] == 1).all()


def test_arrays_that_do_not_fit_are_refused():
    power, flags = np.ones((4, 3, 1), np.float32), np.zeros((4, 2), np.uint16)
    with pytest.raises(ValueError, match="do not go with flags"):
        channel_quantiles(power, 1, flags, 1, np.array([0.3]), np.zeros((1, 2)), np.zeros((2, 2), np.int64), 0, 2)
    values, marks = np.ones((4, 2), np.float32), np.zeros((4, 2), np.uint8)
    with pytest.raises(ValueError, match="do not go with marks"):
        mark_cut(marks, 1, 1, 1, 1, np.ones(3, np.bool_), np.ones(2, int), np.zeros((1, 2), np.int32), 0, 2)
    with pytest.raises(ValueError, match="must be uint8"):
        mark_cut(values, 1, 1, 1, 1, np.ones(2, np.bool_), np.ones(2, int), np.zeros((1, 2), np.int32), 0, 2)
    with pytest.raises(ValueError, match="do not go with uint8 groups"):
        find_drifts(marks, np.ones(3, np.bool_), marks, 0, 1)
    with pytest.raises(ValueError, match="do not go with marks"):
        mark_drifts(marks, marks, 0, 1)
    with pytest.raises(ValueError, match="must be uint8"):
        mark_drifts(marks, values, 0, 1)
    with pytest.raises(ValueError, match="must ascend"):
        sum_threshold(values, np.array([2, 1]), np.ones(2, np.float32), 1, marks, 0, 2)


@settings(deadline=None, max_examples=30)
@given(
    times=st.integers(1, 20), channels=st.integers(1, 40), hands=st.integers(1, 2), products=st.integers(2, 4),
    cut=st.integers(0, 20), seed=st.integers(0, 1000),
)  # fmt: skip
def test_fourth_moments_are_unclipped_as_the_reference_does(times, channels, hands, products, cut, seed):
    rng = np.random.default_rng(seed)
    power = rng.exponential(1, (times, channels, products)).astype(np.float32)
    power[rng.random(power.shape) < 0.1] = rng.choice([0.0, -1.0, 1e6, 1e18, np.nan, np.inf])
    with np.errstate(invalid="ignore"):
        moment4 = power[:, :, :hands] ** 2 * rng.uniform(1, 3, (times, channels, hands)).astype(np.float32)
    steps, table = rng.uniform(0, 9, channels).astype(np.float32), rng.uniform(1, 5, 16).astype(np.float32)
    out, cut = np.full_like(moment4, -1), min(cut, times)
    unclip(power, moment4, steps, table, out, 0, cut)
    unclip(power, moment4, steps, table, out, cut, times)
    # Three roundings of 6e-8, of numbers that do not cancel.
    np.testing.assert_allclose(out, reference.unclip(power, moment4, steps, table), rtol=5e-7)


def test_fourth_moments_that_do_not_fit_are_refused():
    some, table = np.ones((4, 3, 1), np.float32), np.ones(3, np.float32)
    with pytest.raises(ValueError, match="do not go with powers"):
        unclip(some[:3], some, table, table, some, 0, 3)
    with pytest.raises(ValueError, match="must be float32"):
        unclip(some, some, table.astype(float), table, some, 0, 3)
