import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefilter_kernels.search.normalise import (
    NormalisedPower,
    clipped_mean_std,
    max_pool,
    median,
    normalise,
    tscrunch2,
)
from tests.reference.search import normalise as reference


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-5, 5), min_size=1, max_size=200))
def test_median_is_the_upper_middle_value(values):
    assert median(np.array(values, np.float32)) == sorted(values)[len(values) // 2]


@pytest.mark.parametrize("count", [0, 1, 2, 100, 500])
def test_level_and_scatter_agree_with_the_reference(count):
    values = np.random.default_rng(count).normal(3, 2, count).astype(np.float32)
    np.testing.assert_allclose(clipped_mean_std(values, 1000), reference.clipped_mean_std(values), rtol=1e-4, atol=1e-6)


def test_outliers_do_not_move_level_and_scatter():
    values = np.random.default_rng(0).normal(size=4096).astype(np.float32)
    values[:200] += 50
    level, scatter = clipped_mean_std(values, 512)
    assert abs(level) < 0.05
    assert abs(scatter - 1) < 0.05


def test_one_bit_values_give_their_plain_mean_and_scatter():
    values = (np.random.default_rng(0).random(4096) < 0.3).astype(np.float32)
    np.testing.assert_allclose(clipped_mean_std(values, 512), (values.mean(), values.std()), rtol=1e-5)


@settings(max_examples=25, deadline=None)
@given(
    rows=st.sampled_from([1, 15, 64, 200, 1000]),
    channels=st.integers(1, 70),
    full=st.sampled_from([1, 3, 8, 100]),
    lost=st.sampled_from([0.0, 0.3, 0.97, 1.0]),
    first=st.integers(0, 1),
    seed=st.integers(0, 2**32 - 1),
)
def test_channels_agree_with_the_reference(rows, channels, full, lost, first, seed):
    rng = np.random.default_rng(seed)
    weight = rng.integers(1, full + 1, (rows, channels)).astype(np.uint16)
    weight[rng.random(weight.shape) < lost] = 0
    power = rng.normal(100, 5 / np.sqrt(np.maximum(weight, 1))).astype(np.float32)
    power[rng.random(power.shape) < 0.01] = 1e6
    power[rng.random(power.shape) < 0.01] = np.nan
    power[rng.random(power.shape) < 0.01] = -np.inf
    value, relative = np.full((2, channels, rows - first), 99, np.int8)
    normalise(power, weight, full, first, 1, channels, NormalisedPower(value, relative))
    assert (value[0] == 99).all()  # outside the channels to normalise
    for c in range(1, channels):
        expected, expected_relative = reference.normalise(power[:, c], weight[:, c], full, first)
        assert np.array_equal(relative[c], expected_relative)
        # One count apart where single precision rounds the other way.
        assert (abs(value[c].astype(int) - expected) <= 1).all()
        assert (value[c] != expected).mean() < 0.02 if len(expected) > 100 else True


@pytest.mark.parametrize("rows", [15, 1000])
def test_a_channel_without_scatter_or_data_has_no_weight(rows):
    power, weight = np.full((1000, 1), 0.1, np.float32), np.zeros((1000, 1), np.uint16)
    weight[:rows] = 1
    value, relative = np.full((2, 1, 1000), 9, np.int8)
    normalise(power, weight, 1, 0, 0, 1, NormalisedPower(value, relative))
    assert not value.any()
    assert not relative.any()


def test_one_bit_with_a_drift_keeps_its_scatter():
    # Without its baseline, more than half of the values of one bit lie close together, but none is equal to another.
    rng = np.random.default_rng(5)
    one = (rng.random((4096, 8)) < np.linspace(0.55, 0.75, 4096)[:, None]).astype(np.float32)
    power = one - np.linspace(0, 0.2, 4096, dtype=np.float32)[:, None]
    value, relative = np.empty((2, 8, 4096), np.int8)
    normalise(power, np.ones(power.shape, np.uint16), 1, 0, 0, 8, NormalisedPower(value, relative))
    assert (value / 8).std() == pytest.approx(1, rel=0.02)


def test_normalised_noise_has_the_variance_of_its_weight():
    rng = np.random.default_rng(1)
    weight = rng.integers(1, 5, (8192, 8)).astype(np.uint16)
    power = rng.normal(1000, 20 / np.sqrt(weight)).astype(np.float32)
    value, relative = np.empty((2, 8, 8192), np.int8)
    normalise(power, weight, 4, 0, 0, 8, NormalisedPower(value, relative))
    for part in (16, 32, 48, 64):
        assert (value[relative == part] / 8).var() == pytest.approx(part / 64, rel=0.03)
    assert abs(value.mean()) < 0.1


@settings(max_examples=20, deadline=None)
@given(channels=st.integers(1, 5), times=st.integers(0, 40), seed=st.integers(0, 1000))
def test_tscrunch_and_max_pool(channels, times, seed):
    value = np.random.default_rng(seed).integers(-127, 128, (channels, 2 * times)).astype(np.int8)
    out = np.empty((channels, times), np.int8)
    tscrunch2(value, out)
    pairs = value.reshape(channels, times, 2).astype(int)
    assert np.array_equal(out, np.clip(np.rint(pairs.sum(axis=2) * np.float32(np.sqrt(0.5))), -127, 127))
    max_pool(np.abs(value), 2, out)
    assert np.array_equal(out, np.abs(pairs).max(axis=2))
