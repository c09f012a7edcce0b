import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefilter_kernels.boxcar import Boxcars, boxcar_peaks
from tests.reference.boxcar import boxcar_peaks as reference


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
    # The parts of a band add up, and only the trials that are asked for are searched.
    part = rng.normal(size=series.shape).astype(np.float32)
    parts = np.ascontiguousarray(np.stack([part, series - part, part], axis=1))
    trials = np.array([0, 2])
    found = boxcar_peaks(parts, trials, (0, 2), scale, 8, Boxcars(20, count, octaves, 5.0, 32))
    expected = [event for event in reference(series, scale, 8, 20, count, octaves, 5.0, 32) if event[0] != 1]
    # Sums in another order may bring an event over the threshold: such are not compared.
    strong = {(i, t): (w, snr) for i, t, w, snr in zip(*found, strict=True) if snr > 5.01}
    assert {(i, t, w) for (i, t), (w, _) in strong.items()} <= {(i, t, w) for i, t, w, _ in expected}
    for i, t, w, snr in expected:
        if snr > 5.01:
            assert strong[i, t] == (w, pytest.approx(snr, rel=2e-3))


def test_red_noise_does_not_make_wide_events():
    rng = np.random.default_rng(3)
    slow = np.repeat(rng.normal(size=300), 16)[:4200] * 0.8
    series = (rng.normal(size=4200) + slow).astype(np.float32)[None]
    assert len(search(series[:, None], np.ones(525, np.float32), Boxcars(40, 4096, 5, 6.0, 32))[0]) == 0


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


def test_a_series_without_data_is_silent():
    series = np.full((1, 1, 64), 1e3, np.float32)
    assert len(search(series, np.zeros(8, np.float32), Boxcars(8, 40, 5, 6.0, 32))[0]) == 0


def test_refuses_boxcars_that_leave_the_series():
    series = np.zeros((1, 1, 64), np.float32)
    with pytest.raises(ValueError, match="leave"):
        search(series, np.ones(8, np.float32), Boxcars(4, 40, 5, 6.0, 32))
    with pytest.raises(ValueError, match="scale"):
        search(series, np.ones(7, np.float32), Boxcars(8, 8, 5, 6.0, 32))
    with pytest.raises(ValueError, match="series"):
        search(series[:, :, ::2], np.ones(4, np.float32), Boxcars(8, 10, 2, 6.0, 32))
    with pytest.raises(ValueError, match="parts"):
        boxcar_peaks(series, np.arange(1), (0, 2), np.ones(8, np.float32), 8, Boxcars(8, 8, 2, 6.0, 32))
