import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefilter_kernels.search.boxcar import Boxcars, boxcar_peaks, dedispersed_peaks
from edgefilter_kernels.search.dedisperse import add_subbands
from tests.reference.search.boxcar import boxcar_peaks as reference


@settings(max_examples=20, deadline=None)
@given(
    count=st.sampled_from([40, 300, 500]),
    octaves=st.integers(1, 6),
    gaps=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_agrees_with_the_reference(count, octaves, gaps, seed):
    rng = np.random.default_rng(seed)
    series = rng.normal(size=(3, count + 41)).astype(np.float32)
    for line in series:
        at, width = rng.integers(20, count), rng.integers(1, 20)
        line[at : at + width] += 20 / np.sqrt(width)
    scale = rng.uniform(0.8, 1.2, -(-series.shape[1] // 8)).astype(np.float32)
    if gaps:
        scale[rng.random(len(scale)) < 0.2] = 0
    # Parts of a band are added, and only the given trials are searched.
    part = rng.normal(size=series.shape).astype(np.float32)
    parts = np.ascontiguousarray(np.stack([part, series - part, part], axis=1))
    trials = np.array([0, 2])
    boxcars = Boxcars(20, count, octaves, 5.0, 32)
    found = boxcar_peaks(parts, trials, (0, 2), scale, 8, boxcars)
    expected = [event for event in reference(series, scale, 8, boxcars) if event[0] != 1]
    # Sums in another order may lift an event over the threshold: events close to it are not compared.
    strong = {(i, t): (w, snr) for i, t, w, snr in zip(*found, strict=True) if snr > 5.01}
    assert {(i, t, w) for (i, t), (w, _) in strong.items()} <= {(i, t, w) for i, t, w, _ in expected}
    for i, t, w, snr in expected:
        if snr > 5.01:
            assert strong[i, t] == (w, pytest.approx(snr, rel=2e-3))


@pytest.mark.parametrize(("times", "octaves"), [(4096, 5), (4096, 8), (1024, 8), (512, 8)])
def test_red_noise_does_not_make_wide_events(times, octaves):
    # Also where there are only a few boxcars of the greatest width: 32, 8 and 4.
    rng, half = np.random.default_rng(3), 64
    length = times + 2 * half
    slow = np.repeat(rng.normal(size=(20, length // 16 + 1)), 16, axis=1)[:, :length] * 0.8
    series = (rng.normal(size=(20, length)) + slow).astype(np.float32)
    boxcars = Boxcars(half, times, octaves, 6.0, 32)
    assert len(search(series[:, None], np.ones(length // 8, np.float32), boxcars)[0]) == 0


def search(series, scale, boxcars):
    return boxcar_peaks(series, np.arange(len(series)), (0, series.shape[1]), scale, 8, boxcars)


def test_every_cell_of_a_loud_series_is_reported():
    series = np.random.default_rng(0).normal(size=(3, 1, 4200)).astype(np.float32)
    series[:, :, 8::32] += 100
    trial, time, width, snr = search(series, np.ones(525, np.float32), Boxcars(2, 4096, 2, 7.0, 32))
    assert len(trial) == 3 * 128
    assert (np.diff(trial) >= 0).all()
    assert ((time % 32 == 8) & (width == 1)).all()
    assert (snr > 50).all()


def test_a_series_without_data_has_no_peaks():
    series = np.full((1, 1, 64), 1e3, np.float32)
    assert len(search(series, np.zeros(8, np.float32), Boxcars(8, 40, 5, 6.0, 32))[0]) == 0


def test_boxcars_that_leave_the_series_are_refused():
    series = np.zeros((1, 1, 64), np.float32)
    with pytest.raises(ValueError, match="leave"):
        search(series, np.ones(8, np.float32), Boxcars(4, 40, 5, 6.0, 32))
    with pytest.raises(ValueError, match="scale"):
        search(series, np.ones(7, np.float32), Boxcars(8, 8, 5, 6.0, 32))
    with pytest.raises(ValueError, match="series"):
        search(series[:, :, ::2], np.ones(4, np.float32), Boxcars(8, 10, 2, 6.0, 32))
    with pytest.raises(ValueError, match="parts"):
        boxcar_peaks(series, np.arange(1), (0, 2), np.ones(8, np.float32), 8, Boxcars(8, 8, 2, 6.0, 32))


@pytest.mark.parametrize(("octaves", "gap"), [(1, False), (2, False), (4, True), (6, False), (7, False)])
def test_dedispersed_peaks_equal_dedispersion_and_then_boxcars(octaves, gap):
    rng = np.random.default_rng(octaves)
    sums = rng.normal(scale=100, size=(12, 1100)).astype(np.int16)
    for width in (1, 2, 4, 8, 16, 32, 64):
        at = rng.integers(100, 900)
        sums[:, at : at + width] += np.int16(400 / np.sqrt(width))
    starts = rng.integers(0, 3, (19, 12))
    parts, bands = np.array([0, 3, 6, 12]), np.array([[0, 3], [0, 2], [2, 3]])
    trial_bands = np.array([(trial, band) for trial in range(19) for band in range(3) if trial % 3 or not band])
    channels = np.array([12, 6, 6])
    scale = np.repeat((0.01 / np.sqrt(channels)).astype(np.float32)[:, None], 1096, axis=1)
    scale[1, 400:408] = 0 if gap else scale[1, 0]
    boxcars = Boxcars(40, 1016, octaves, 6.0, 32)
    entry, time, width, snr = dedispersed_peaks(sums, parts, starts, trial_bands, bands, scale, boxcars)
    series = np.empty((19, 3, 1096), np.float32)
    add_subbands(sums, parts, starts, series)
    expected = []
    for number, (trial, band) in enumerate(trial_bands):
        one = boxcar_peaks(series, np.array([trial]), tuple(bands[band]), scale[band, ::8].copy(), 8, boxcars)
        expected += [(number, *event) for event in zip(*(column.tolist() for column in one[1:]), strict=True)]
    assert list(zip(*(column.tolist() for column in (entry, time, width, snr)), strict=True)) == expected
    assert len(expected) > 20
    assert set(width.tolist()) <= {1 << octave for octave in range(octaves)}


@settings(max_examples=50, deadline=None)
@given(octave=st.integers(0, 6), above=st.booleans(), seed=st.integers(0, 2**32 - 1))
def test_no_boxcar_above_the_threshold_is_missed(octave, above, seed):
    """A boxcar of any width just above the threshold is found, and one just below is not."""
    rng = np.random.default_rng(seed)
    w = 1 << octave
    # Without noise, so that only the boxcar counts; the measured scatter has a lower bound.
    line = rng.choice([-1e-3, 1e-3], 240 + 2 * 64).astype(np.float32)
    at = int(rng.integers(64, 64 + 240 - w))
    line[at : at + w] = 6.0 / np.sqrt(w) * (1.01 if above else 0.97)
    found = boxcar_peaks(
        line[None, None], np.array([0]), (0, 1), np.ones(46, np.float32), 8, Boxcars(64, 240, 7, 6.0, 400)
    )
    assert found[2].tolist() == [w] * above


def test_invalid_trial_bands_and_tracks_are_refused():
    sums, starts, parts = np.zeros((4, 80), np.int16), np.zeros((2, 4), np.int64), np.array([0, 4])
    scale, boxcars = np.ones((1, 64), np.float32), Boxcars(8, 40, 5, 6.0, 32)
    whole = np.array([[0, 1]])
    with pytest.raises(ValueError, match="trial_bands"):
        dedispersed_peaks(sums, parts, starts, np.array([[2, 0]]), whole, scale, boxcars)
    with pytest.raises(ValueError, match="trial_bands"):
        dedispersed_peaks(sums, parts, starts, np.array([[1, 0], [0, 0]]), whole, scale, boxcars)
    with pytest.raises(ValueError, match="bands"):
        dedispersed_peaks(sums, parts, starts, np.array([[0, 0]]), np.array([[0, 2]]), scale, boxcars)
    with pytest.raises(ValueError, match="scale"):
        dedispersed_peaks(sums, parts, starts, np.array([[0, 0]]), whole, scale[0], boxcars)
    with pytest.raises(ValueError, match="span"):
        dedispersed_peaks(sums, parts, starts + 20, np.array([[0, 0]]), whole, scale, boxcars)
