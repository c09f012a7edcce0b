import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefilter_kernels.whiten import level_scatter, median, whiten_channel
from tests.reference import whiten as reference


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-5, 5), min_size=1, max_size=200))
def test_median_selects(values):
    assert median(np.array(values, np.float32)) == sorted(values)[len(values) // 2]


@pytest.mark.parametrize("count", [0, 1, 2, 100, 500])
def test_level_and_scatter_agree_with_the_reference(count):
    values = np.random.default_rng(count).normal(3, 2, count).astype(np.float32)
    np.testing.assert_allclose(level_scatter(values, 1000), reference.level_scatter(values), rtol=1e-4, atol=1e-6)


def test_outliers_do_not_move_level_and_scatter():
    values = np.random.default_rng(0).normal(size=4096).astype(np.float32)
    values[:200] += 50
    level, scatter = level_scatter(values, 512)
    assert abs(level) < 0.05
    assert abs(scatter - 1) < 0.05


def test_values_of_one_bit_have_their_plain_mean_and_scatter():
    values = (np.random.default_rng(0).random(4096) < 0.3).astype(np.float32)
    np.testing.assert_allclose(level_scatter(values, 512), (values.mean(), values.std()), rtol=1e-5)


@pytest.mark.parametrize("full", [1, 8])
@pytest.mark.parametrize("learn", [0, 200, 900])
def test_a_channel_agrees_with_the_reference(full, learn):
    rng = np.random.default_rng(full + learn)
    weight = rng.integers(0, full + 1, 1000).astype(np.uint16)
    power = rng.normal(100, 5 / np.sqrt(np.maximum(weight, 1))).astype(np.float32)
    power[[3, 500, 999]] = 1e6, np.nan, -1e6
    out, share = np.full(950, 9, np.float32), np.full(950, 9, np.float32)
    whiten_channel(power, weight, full, learn, 10.0, 100, out, share)
    expected, expected_share = reference.whiten_channel(power, weight, full, learn, 10.0, 100)
    np.testing.assert_allclose(out[:900], expected, atol=1e-4)
    np.testing.assert_allclose(share[:900], expected_share, rtol=1e-6)
    assert not out[900:].any()
    assert not share[900:].any()


@pytest.mark.parametrize("rows", [15, 1000])
def test_a_channel_without_scatter_or_data_has_no_weight(rows):
    power, weight = np.full(1000, 0.1, np.float32), np.zeros(1000, np.uint16)
    weight[:rows] = 1
    out, share = np.empty(1000, np.float32), np.empty(1000, np.float32)
    whiten_channel(power, weight, 1, 1000, 10.0, 0, out, share)
    assert not out.any()
    assert not share.any()
