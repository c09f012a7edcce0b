import numpy as np
import pytest
from edgefilter_kernels.boxcar import boxcar_peaks
from edgefilter_kernels.whiten import level_scatter, median
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reference.boxcar import boxcar_peaks as reference
from tests.reference.boxcar import level_scatter as reference_level


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-5, 5), min_size=1, max_size=200))
def test_median_selects(values):
    assert median(np.array(values, np.float32)) == sorted(values)[len(values) // 2]


@pytest.mark.parametrize("count", [0, 1, 2, 100, 500])
def test_level_and_scatter_agree_with_the_reference(count):
    values = np.random.default_rng(count).normal(3, 2, count).astype(np.float32)
    np.testing.assert_allclose(level_scatter(values, 1000), reference_level(values), rtol=1e-4, atol=1e-6)


def test_outliers_do_not_move_level_and_scatter():
    values = np.random.default_rng(0).normal(size=4096).astype(np.float32)
    values[:200] += 50
    level, scatter = level_scatter(values, 512)
    assert abs(level) < 0.05
    assert abs(scatter - 1) < 0.05


def test_values_of_one_bit_have_their_plain_mean_and_scatter():
    values = (np.random.default_rng(0).random(4096) < 0.3).astype(np.float32)
    np.testing.assert_allclose(level_scatter(values, 512), (values.mean(), values.std()), rtol=1e-5)


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
    found = boxcar_peaks(series, scale, 8, 20, count, octaves, 5.0, 32)
    expected = reference(series, scale, 8, 20, count, octaves, 5.0, 32)
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
    assert len(boxcar_peaks(series, np.ones(525, np.float32), 8, 40, 4096, 5, 6.0, 32)[0]) == 0


def test_refuses_boxcars_that_leave_the_series():
    series = np.zeros((1, 64), np.float32)
    with pytest.raises(ValueError, match="leave"):
        boxcar_peaks(series, np.ones(8, np.float32), 8, 4, 40, 5, 6.0, 32)
    with pytest.raises(ValueError, match="scale"):
        boxcar_peaks(series, np.ones(7, np.float32), 8, 8, 40, 5, 6.0, 32)
    with pytest.raises(ValueError, match="series"):
        boxcar_peaks(series[:, ::2], np.ones(4, np.float32), 8, 8, 10, 2, 6.0, 32)
