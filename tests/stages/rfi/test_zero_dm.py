"""Drift of the whole band is the gain of the receiver, and is not flagged."""

import numpy as np
import pytest

import edgefilter

SPECTRA, TIMES, CHANNELS = 192, 4096, 512
FREQUENCIES = np.linspace(1300e6, 1400e6, CHANNELS)


def flagged(power, **settings):
    flags = edgefilter.flag(
        power, accumulated=SPECTRA, sample_time=0.25e-3, frequencies=FREQUENCIES, threads=2, **settings
    )  # fmt: skip
    return flags & ~edgefilter.FLAGS["tagged"] != 0


def drifting_gain_noise(part):
    """Return noise with a relative gain drift of ``part``, far above the scatter of the mean of a long window."""
    noise = np.random.default_rng(7).gamma(SPECTRA, 1 / SPECTRA, (TIMES, CHANNELS))
    return noise * (1 + part * np.sin(np.linspace(0, 5, TIMES)))[:, None]


@pytest.mark.parametrize("part", [0.01, 0.03])
@pytest.mark.parametrize("zero_dm_sigma", [1.0, 0.0])
def test_noise_of_a_receiver_whose_gain_drifts_is_hardly_flagged(part, zero_dm_sigma):
    assert flagged(drifting_gain_noise(part), zero_dm_sigma=zero_dm_sigma).mean() < 1e-3


def test_interference_on_a_drifting_gain_is_found_where_it_is():
    power, truth = drifting_gain_noise(0.01), np.zeros((TIMES, CHANNELS), np.bool_)
    for begin, channel in ((300, 20), (2000, 60), (3500, 100)):
        truth[begin : begin + 200, channel : channel + 3] = True
    truth[1000, :] = True
    found = flagged(np.where(truth, 1.3 * power, power))
    assert found[truth].mean() > 0.98
    assert found[~truth].mean() < 2e-3


def test_a_rise_of_a_quarter_of_the_channels_is_not_taken_for_gain():
    power, busy = drifting_gain_noise(0.0), np.zeros(CHANNELS, np.bool_)
    for first in range(10, 500, 100):
        busy[first : first + 25] = True
    power[1000:2000, busy] *= 1.2
    found = flagged(power)
    assert found[1000:2000, busy].mean() > 0.95
    assert found[:, ~busy].mean() < 1e-3


def with_burst(sigma, cells, gain=0.0, rows=slice(None)):
    """Return noise with a burst of the whole band at time 2000, in standard deviations of a cell."""
    power = drifting_gain_noise(gain)
    power[2000 : 2000 + cells, rows] += sigma / np.sqrt(SPECTRA)
    return power


@pytest.mark.parametrize(("sigma", "cells"), [(0.5, 1), (0.3, 4), (0.3, 6)])
@pytest.mark.parametrize("gain", [0.0, 0.01])
def test_a_burst_that_is_weak_in_each_channel_is_found_by_the_whole_band(sigma, cells, gain):
    found = flagged(with_burst(sigma, cells, gain))
    assert found[2000 : 2000 + cells].mean() > 0.9
    found[2000 - cells : 2000 + 2 * cells] = False
    assert found.mean() < 1e-3


def test_a_step_of_the_gain_is_no_burst():
    power = drifting_gain_noise(0.0)
    power[2000:] *= 1.03
    assert flagged(power).mean() < 1e-3


def test_a_burst_of_less_than_half_of_the_band_is_no_burst_of_the_whole_band():
    assert flagged(with_burst(0.6, 4, rows=slice(0, 200)))[2000:2004, 200:].mean() < 0.01
