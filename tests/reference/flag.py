"""Flagging statistics in plain NumPy. ``intensity`` and ``used`` are ``[time, channel]``."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def kurtosis(power: NDArray[Any], moment4: NDArray[Any], spectra: int) -> NDArray[Any]:
    """Return the generalised spectral kurtosis of every cell and hand."""
    s1, s2 = spectra * power.astype(np.float64), spectra * moment4.astype(np.float64)
    return (spectra + 1) / (spectra - 1) * (spectra * s2 / s1**2 - 1)


def channel_statistics(intensity: NDArray[Any], used: NDArray[Any], group: int) -> NDArray[Any]:
    """Return count, median, MAD, clipped mean, clipped deviation and slow deviation, ``[6, channel]``."""
    result = np.zeros((6, intensity.shape[1]))
    for c in range(intensity.shape[1]):
        values = intensity[used[:, c], c].astype(np.float64)
        if len(values) == 0:
            continue
        median = np.median(values)
        mad = np.median(np.abs(values - median))
        reach = 5 * 1.4826 * mad if mad > 0 else np.inf
        kept = values[np.abs(values - median) <= reach]
        squares = []
        for first in range(0, len(intensity) - group + 1, group):
            run = slice(first, first + group)
            part = intensity[run, c][used[run, c] & (np.abs(intensity[run, c] - median) <= reach)]
            if len(part):
                squares.append((part - kept.mean()).sum() ** 2 / len(part))
        slow = np.sqrt(np.mean(squares)) if squares else 0.0
        result[:, c] = len(values), median, mad, kept.mean(), kept.std(), slow
    return result


def time_statistics(
    intensity: NDArray[Any], used: NDArray[Any], centre: NDArray[Any], scale: NDArray[Any], bands: int
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return mean of the limited z, used channels and raised sub-bands, each ``[time]``."""
    used = used & (scale > 0)
    z = (intensity - centre) / np.where(scale > 0, scale, 1)
    count = used.sum(axis=1)
    mean = (np.clip(z, -4, 4) * used).sum(axis=1) / np.maximum(count, 1)
    channels = intensity.shape[1]
    raised = np.zeros(len(intensity), np.int64)
    for band in range(bands):
        part = slice(band * channels // bands, (band + 1) * channels // bands)
        among, above = used[:, part].sum(axis=1), (used & (z > 1))[:, part].sum(axis=1)
        raised += (among > 0) & (above >= 0.4 * among)
    return mean, count, raised
