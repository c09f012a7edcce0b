import numpy as np
import pytest

from edgefilter_kernels.search.band_occupancy import FoundBoxcars, band_occupancy
from tests.reference.search.band_occupancy import band_occupancy as reference


def arguments_of(power, weight, delays, width, snr):
    number = np.arange(len(width))
    return power, weight, 8, delays, 0.25, FoundBoxcars(number % len(delays), number, width, snr.astype(np.float32))


@pytest.mark.parametrize("seed", range(3))
def test_is_at_least_that_of_the_reference_which_tries_every_part(seed):
    # The kernel tries only the widest part that ends at each channel: noise may make a narrower one a little stronger.
    rng = np.random.default_rng(seed)
    power = np.rint(8 * rng.normal(size=(24, 96)) + 16).astype(np.int8)
    weight = np.full((24, 12), 64, np.int8)
    weight[rng.integers(0, 24, 5)] = 0
    power[weight[:, 0] == 0] = 0
    arguments = arguments_of(power, weight, rng.integers(0, 20, (3, 24)), np.array([1, 2, 4, 8, 16]), np.full(5, 12.0))
    result, expected = band_occupancy(*arguments), reference(*arguments)
    assert (result >= expected - 1e-6).all()
    assert (result <= expected + 0.15).all()


def test_distinguishes_a_signal_of_all_channels_from_one_of_a_few():
    delays = np.zeros((1, 40), np.int64)
    weight = np.full((40, 8), 64, np.int8)
    everywhere = np.full((40, 64), 8, np.int8)
    few = np.zeros((40, 64), np.int8)
    few[7:10] = 8 * 40 // 3
    snr = np.array([np.sqrt(40.0)])
    assert band_occupancy(*arguments_of(everywhere, weight, delays, np.array([1]), snr))[0] == pytest.approx(0.75)
    assert band_occupancy(*arguments_of(few, weight, delays, np.array([1]), snr))[0] == pytest.approx(0, abs=0.01)
