import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefilter_kernels.dedisperse import dedisperse
from tests.reference.dedisperse import dedisperse as reference


@settings(max_examples=25, deadline=None)
@given(
    channels=st.integers(1, 40),
    trials=st.integers(1, 6),
    length=st.sampled_from([0, 1, 7, 300, 2048, 2100]),
    seed=st.integers(0, 2**32 - 1),
)
def test_agrees_with_the_reference(channels, trials, length, seed):
    rng = np.random.default_rng(seed)
    cuts = rng.choice(np.arange(1, channels), rng.integers(0, channels), replace=False) if channels > 1 else []
    edges = np.array([0, *sorted(cuts), channels], np.int64)
    coarse = rng.integers(0, 9, channels)
    fine = rng.integers(0, 50, (trials, len(edges) - 1))
    power = rng.normal(size=(channels, length + 70)).astype(np.float32)
    out, expected = np.full((trials, length), np.nan, np.float32), np.empty((trials, length), np.float32)
    dedisperse(power, 5, edges, coarse, fine, out)
    reference(power, 5, edges, coarse, fine, expected)
    np.testing.assert_allclose(out, expected, atol=2e-5)


def test_a_trial_does_not_depend_on_its_company():
    rng = np.random.default_rng(1)
    edges = np.array([0, 10, 21, 32])
    coarse, fine = rng.integers(0, 5, 32), rng.integers(0, 40, (5, 3))
    power = rng.normal(size=(32, 3000)).astype(np.float32)
    together, alone = np.empty((5, 2900), np.float32), np.empty((1, 2900), np.float32)
    dedisperse(power, 0, edges, coarse, fine, together)
    for i in range(5):
        dedisperse(power, 0, edges, coarse, fine[i : i + 1], alone)
        assert (alone[0] == together[i]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"power": np.zeros((4, 20))}, "float32"),
        ({"coarse": np.array([0, 0, 0, 11])}, "span"),
        ({"coarse": np.array([-1, 0, 0, 0])}, "span"),
        ({"edges": np.array([0, 2, 2])}, "rise"),
        ({"fine": np.zeros((2, 3), np.int64)}, "shapes"),
    ],
)
def test_refuses_what_it_cannot_sum(change, message):
    good = {
        "power": np.zeros((4, 20), np.float32),
        "edges": np.array([0, 2, 4]),
        "coarse": np.zeros(4, np.int64),
        "fine": np.zeros((2, 2), np.int64),
    }
    arguments = good | change
    with pytest.raises(ValueError, match=message):
        dedisperse(first=0, out=np.empty((2, 10), np.float32), **arguments)
