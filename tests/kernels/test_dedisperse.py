import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefilter_kernels.dedisperse import MOST_CHANNELS, dedisperse
from tests.reference.dedisperse import dedisperse as reference


def cut(rng, count, most=10**9):
    """Random edges from 0 to count, at most ``most`` apart."""
    inner = rng.choice(np.arange(1, count), rng.integers(0, count), replace=False) if count > 1 else []
    return np.array(sorted({0, count, *inner, *range(0, count, most)}), np.int64)


@settings(max_examples=25, deadline=None)
@given(
    channels=st.integers(1, 70),
    trials=st.integers(1, 6),
    length=st.sampled_from([0, 1, 7, 300, 2048, 2100]),
    extreme=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_is_the_reference_to_the_last_count(channels, trials, length, extreme, seed):
    rng = np.random.default_rng(seed)
    edges = cut(rng, channels, MOST_CHANNELS)
    parts = cut(rng, len(edges) - 1)
    coarse = rng.integers(0, 9, channels)
    fine = rng.integers(0, 50, (trials, len(edges) - 1))
    # Bytes at their ends: no sum may overflow.
    power = np.full((channels, length + 70), -128, np.int8)
    if not extreme:
        power = rng.integers(-128, 128, power.shape, np.int8)
    out = np.full((trials, len(parts) - 1, length), np.nan, np.float32)
    expected = np.empty_like(out)
    dedisperse(power, 5, edges, parts, coarse, fine, out)
    reference(power, 5, edges, parts, coarse, fine, expected)
    np.testing.assert_array_equal(out, expected)


def test_a_full_sub_band_of_eight_does_not_overflow():
    power = np.full((8 * MOST_CHANNELS, 40), -128, np.int8)
    edges = np.arange(0, len(power) + 1, MOST_CHANNELS)
    out = np.empty((1, 1, 40), np.float32)
    dedisperse(power, 0, edges, np.array([0, 8]), np.zeros(len(power), np.int64), np.zeros((1, 8), np.int64), out)
    assert (out == -128.0 * len(power)).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"power": np.zeros((4, 20))}, "int8"),
        ({"power": np.zeros((4, 40), np.int8)[:, ::2]}, "contiguous"),
        ({"coarse": np.array([0, 0, 0, 11])}, "span"),
        ({"coarse": np.array([-1, 0, 0, 0])}, "span"),
        ({"edges": np.array([0, 2, 2])}, "edges must rise"),
        ({"parts": np.array([0, 3])}, "parts must rise"),
        ({"fine": np.zeros((2, 3), np.int64)}, "shapes"),
    ],
)
def test_refuses_what_it_cannot_sum(change, message):
    good = {
        "power": np.zeros((4, 20), np.int8),
        "edges": np.array([0, 2, 4]),
        "parts": np.array([0, 2]),
        "coarse": np.zeros(4, np.int64),
        "fine": np.zeros((2, 2), np.int64),
    }
    arguments = good | change
    with pytest.raises(ValueError, match=message):
        dedisperse(first=0, out=np.empty((2, 1, 10), np.float32), **arguments)


def test_refuses_a_sub_band_that_could_overflow():
    many = MOST_CHANNELS + 1
    with pytest.raises(ValueError, match="at most"):
        dedisperse(
            np.zeros((many, 20), np.int8),
            0,
            np.array([0, many]),
            np.array([0, 1]),
            np.zeros(many, np.int64),
            np.zeros((1, 1), np.int64),
            np.empty((1, 1, 10), np.float32),
        )
