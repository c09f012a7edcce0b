import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefilter_kernels.search.dedisperse import MAX_CHANNELS, add_channels, add_subbands
from tests.reference.search import dedisperse as reference


def random_edges(rng, count, most=10**9):
    """Random edges from 0 to count, at most ``most`` apart."""
    inner = rng.choice(np.arange(1, count), rng.integers(0, count), replace=False) if count > 1 else []
    return np.array(sorted({0, count, *inner, *range(0, count, most)}), np.int64)


@settings(max_examples=25, deadline=None)
@given(
    channels=st.integers(1, 70),
    groups=st.integers(1, 6),
    length=st.sampled_from([0, 1, 7, 64, 300, 2100]),
    extreme=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_both_stages_equal_the_reference_exactly(channels, groups, length, extreme, seed):
    rng = np.random.default_rng(seed)
    edges = random_edges(rng, channels, MAX_CHANNELS)
    # Extreme bytes: no sum may overflow.
    power = np.full((channels, length + 70), -128, np.int8)
    if not extreme:
        power = rng.integers(-128, 128, power.shape, np.int8)
    starts = rng.integers(0, 60, (groups, channels))
    sums, expected = np.full((2, groups, len(edges) - 1, length + 10), 9, np.int16)
    add_channels(power, edges, starts, sums)
    reference.add_channels(power, edges, starts, expected)
    np.testing.assert_array_equal(sums, expected)
    parts = random_edges(rng, len(edges) - 1)
    starts = rng.integers(0, 11, (5, len(edges) - 1))
    out, expected = np.full((2, 5, len(parts) - 1, length), np.nan, np.float32)
    add_subbands(sums[-1], parts, starts, out)
    reference.add_subbands(sums[-1], parts, starts, expected)
    np.testing.assert_array_equal(out, expected)


def test_full_sub_bands_do_not_overflow():
    power = np.full((16 * MAX_CHANNELS, 80), -128, np.int8)
    sums, out = np.empty((1, 16, 80), np.int16), np.empty((1, 1, 80), np.float32)
    add_channels(power, np.arange(0, len(power) + 1, MAX_CHANNELS), np.zeros((1, len(power)), np.int64), sums)
    add_subbands(sums[0], np.array([0, 16]), np.zeros((1, 16), np.int64), out)
    assert (out == -128.0 * len(power)).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"power": np.zeros((4, 20))}, "int8"),
        ({"power": np.zeros((4, 40), np.int8)[:, ::2]}, "contiguous"),
        ({"starts": np.array([[0, 0, 0, 11]])}, "span"),
        ({"starts": np.array([[-1, 0, 0, 0]])}, "span"),
        ({"edges": np.array([0, 2, 2])}, "edges must ascend"),
        ({"starts": np.zeros((2, 4), np.int64)}, "shapes"),
    ],
)
def test_channels_that_cannot_be_summed_are_refused(change, message):
    good = {"power": np.zeros((4, 20), np.int8), "edges": np.array([0, 2, 4]), "starts": np.zeros((1, 4), np.int64)}
    with pytest.raises(ValueError, match=message):
        add_channels(out=np.empty((1, 2, 10), np.int16), **(good | change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sums": np.zeros((2, 20))}, "int16"),
        ({"starts": np.array([[0, 11]])}, "span"),
        ({"parts": np.array([0, 3])}, "parts must ascend"),
        ({"starts": np.zeros((2, 2), np.int64)}, "shapes"),
    ],
)
def test_sub_bands_that_cannot_be_summed_are_refused(change, message):
    good = {"sums": np.zeros((2, 20), np.int16), "parts": np.array([0, 2]), "starts": np.zeros((1, 2), np.int64)}
    with pytest.raises(ValueError, match=message):
        add_subbands(out=np.empty((1, 1, 10), np.float32), **(good | change))


def test_a_sub_band_that_could_overflow_is_refused():
    many = MAX_CHANNELS + 1
    with pytest.raises(ValueError, match="at most"):
        add_channels(
            np.zeros((many, 20), np.int8),
            np.array([0, many]),
            np.zeros((1, many), np.int64),
            np.empty((1, 1, 10), np.int16),
        )
