"""Signals that must not be flagged: dispersed pulses, band-limited bursts and spectral lines, as power above the noise.

Drifting tones, which must not be flagged either, are coherent, and therefore drawn as events.
"""

import numpy as np
from numpy.typing import NDArray

from benchmarks.rfi.events import EVENT, TONE, Grid

SIGNALS = ("pulse", "burst", "line", "tone")

_DISPERSION_MS_GHZ2 = 4.148808


def draw_sky(grid: Grid, seed: int, sigma: float) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Draw pulses, bursts and lines.

    Parameters
    ----------
    grid
        Bins of the scene.
    seed
        Seed of the random numbers.
    sigma
        Height of the peaks above the noise, in standard deviations of a bin.

    Returns
    -------
    tuple
        float32 ``[time, channel]``: excess over noise of 1; int8 ``[time, channel]``: index of :data:`SIGNALS` in bins
        of at least half the peak, -1 for none.
    """
    random = np.random.default_rng(seed)
    peak = sigma / np.sqrt(grid.accumulated)
    power = np.zeros((grid.times, grid.channels), np.float32)
    kind = np.full(power.shape, -1, np.int8)
    dms = np.exp(random.uniform(np.log(20), np.log(1500), 12))
    dms[:3] = 20, 50, 500
    for number, dm in enumerate(dms):
        banded = number % 3 == 2
        start = grid.times * (number + random.uniform(0, 0.5)) / len(dms)
        width = np.exp(random.uniform(np.log(0.3e-3), np.log(5e-3)))
        low, high = (0.0, grid.channels)
        if banded:
            low = random.uniform(0, 0.6) * grid.channels
            high = low + 0.35 * grid.channels
        shape = _pulse(grid, dm, start * grid.sample_time, width, low, high)
        power += np.float32(peak) * shape
        kind[shape > 0.5] = SIGNALS.index("burst" if banded else "pulse")
    for _ in range(5):
        middle, width = random.uniform(20, grid.channels - 20), random.uniform(1.0, 10.0)
        shape = np.exp(-0.5 * ((np.arange(grid.channels) - middle) / (width / 2.355)) ** 2)
        power += np.float32(peak) * shape.astype(np.float32)
        kind[:, shape > 0.5] = SIGNALS.index("line")
    return power, kind


def draw_tones(grid: Grid, seed: int, sigma: float) -> NDArray[np.void]:
    """Draw tones that drift over 2 to 40 channels throughout the scene.

    Parameters
    ----------
    grid
        Bins of the scene.
    seed
        Seed of the random numbers.
    sigma
        Power, in standard deviations of a bin.

    Returns
    -------
    ndarray
        :data:`EVENT` ``[event]``.
    """
    random = np.random.default_rng(seed)
    power, events = sigma / np.sqrt(grid.accumulated), []
    n_slices = grid.channels // 64
    for slice_number in range(n_slices):  # with one tone each, so that none crosses another
        drift = np.exp(random.uniform(np.log(2.0), np.log(40.0)))
        low = 64 * slice_number + random.uniform(4.0, 60.0 - drift)
        ends = (low, low + drift) if random.random() < 0.5 else (low + drift, low)
        events.append((-1, TONE, 0, grid.voltages, *ends, power))
    return np.array(events, EVENT)


def _pulse(grid: Grid, dm: float, start: float, width: float, low: float, high: float) -> NDArray[np.float32]:
    """Return the mean over each bin of a Gaussian pulse, ``width`` s wide at half maximum and smeared in channels."""
    f = grid.frequencies / 1e9
    delay = start + 1e-3 * _DISPERSION_MS_GHZ2 * dm * (f**-2 - f.max() ** -2)
    step = f[1] - f[0]
    smear = 2e-3 * _DISPERSION_MS_GHZ2 * dm * step / f**3
    sigma = np.hypot(width / 2.355, smear / np.sqrt(12))
    c = np.arange(grid.channels)
    gain = np.where((c >= low) & (c < high), 1.0, 0.0)
    power = np.zeros((grid.times, grid.channels), np.float32)
    for fine in range(4):
        t = (np.arange(grid.times)[:, None] + (fine + 0.5) / 4) * grid.sample_time
        power += 0.25 * gain * np.exp(-0.5 * ((t - delay) / sigma) ** 2)
    return power
