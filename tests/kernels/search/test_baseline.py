import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefilter_kernels.search.baseline import node_statistics, subtract_baseline
from tests.reference.search import baseline as reference


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(1, 90),
    channels=st.sampled_from([1, 5, 128, 131]),
    nodes=st.integers(1, 4),
    lost=st.sampled_from([0.0, 0.3, 0.97, 1.0]),
    level=st.sampled_from([0.0, 100.0, 1e6]),
    seed=st.integers(0, 2**32 - 1),
)
def test_nodes_agree_with_the_reference(rows, channels, nodes, lost, level, seed):
    rng = np.random.default_rng(seed)
    weight = rng.integers(1, 9, (rows, channels)).astype(np.uint16)
    weight[rng.random(weight.shape) < lost] = 0
    power = rng.normal(level, 5 / np.sqrt(np.maximum(weight, 1))).astype(np.float32)
    power[rng.random(power.shape) < 0.02] = np.inf
    edges = np.arange(nodes + 1) * rows // nodes
    out = np.full((4, nodes, channels), np.nan, np.float32)
    node_statistics(power, weight, edges, 0, nodes, out)
    expected = reference.node_statistics(power, weight, edges)
    assert np.array_equal(out[0], expected[0])
    # Single precision of the offsets within eight rows.
    np.testing.assert_allclose(out[1], expected[1], rtol=1e-6, atol=1e-4)
    np.testing.assert_allclose(out[2:], expected[2:], rtol=1e-4, atol=1e-4)


def test_variances_of_white_noise_are_those_of_a_cell():
    rng = np.random.default_rng(1)
    weight = rng.integers(1, 5, (8192, 64)).astype(np.uint16)
    power = rng.normal(1000, 20 / np.sqrt(weight)).astype(np.float32)
    out = np.empty((4, 16, 64), np.float32)
    node_statistics(power, weight, np.arange(17) * 512, 0, 16, out)
    assert out[2].mean() == pytest.approx(400, rel=0.01)
    assert out[3].mean() == pytest.approx(400, rel=0.03)


@pytest.mark.parametrize("channels", [1, 33])
def test_the_baseline_is_linear_between_nodes(channels):
    rng = np.random.default_rng(channels)
    power, level = (rng.normal(100, 10, (rows, channels)).astype(np.float32) for rows in (70, 5))
    position = np.linspace(0, 4, 70).astype(np.float32)
    out = np.full_like(power, np.nan)
    subtract_baseline(power, level, position, 0, 30, out)
    assert np.isnan(out[30:]).all()
    subtract_baseline(power, level, position, 30, 70, out)
    np.testing.assert_allclose(out, reference.subtract_baseline(power, level, position), atol=1e-3)
