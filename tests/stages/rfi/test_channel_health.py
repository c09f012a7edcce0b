"""Carriers are found; lines, and channels with interference for a part of the time, are not taken for carriers."""

import numpy as np
import pytest

import edgefilter

SPECTRA, CHANNELS = 64, 128
FREQUENCIES = np.linspace(1300e6, 1350e6, CHANNELS)
TONE_CHANNELS = np.arange(8, CHANNELS, 16)


def flagged(power, moment4=None):
    flags = edgefilter.flag(
        power, moment4, accumulated=SPECTRA, sample_time=0.25e-3, frequencies=FREQUENCIES, threads=2
    )  # fmt: skip
    return flags & edgefilter.FLAGS["carrier"] != 0


def detected(rng, times, tone=0.0, line=0.0):
    """Return mean square and fourth power of voltages; tone and line are relative to the noise of a channel."""
    power, fourth = np.zeros((2, times, CHANNELS))
    amplitude = np.sqrt(np.broadcast_to(tone, CHANNELS))
    scale = np.sqrt(0.5 * (1 + np.broadcast_to(line, CHANNELS)))
    for _ in range(SPECTRA):
        voltage = rng.standard_normal((2, times, CHANNELS), np.float32) * scale.astype(np.float32)
        square = (voltage[0] + amplitude) ** 2 + voltage[1] ** 2
        power += square / SPECTRA
        fourth += square**2 / SPECTRA
    return power, fourth


@pytest.mark.parametrize("neighbour_fraction", [0.0, 0.6])
def test_a_carrier_of_a_tenth_of_the_noise_is_found_and_a_narrow_line_is_not(neighbour_fraction):
    """The tone lies in one channel, or between two."""
    rng, excess = np.random.default_rng(3), np.zeros(CHANNELS)
    excess[TONE_CHANNELS], excess[TONE_CHANNELS + 1] = 0.125, 0.125 * neighbour_fraction
    assert flagged(*detected(rng, 4096, tone=excess))[:, TONE_CHANNELS].mean() > 0.8
    assert flagged(*detected(rng, 4096, line=excess)).mean() == 0


def test_a_channel_with_interference_for_a_third_of_the_time_is_no_carrier():
    """Its background lies above the residual cells, which scatter less than noise at that background."""
    rng, times = np.random.default_rng(4), 8192
    power = rng.gamma(SPECTRA, 1 / SPECTRA, (times, CHANNELS))
    for c in TONE_CHANNELS:
        for begin in rng.integers(0, times, 40):
            power[begin : begin + 80, c] *= 2.5
    assert flagged(power).mean() == 0
