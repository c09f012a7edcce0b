"""Fraction of a boxcar's signal outside its strongest part of the band, by trying every part."""

import numpy as np


def band_occupancy(power, weight, repeat, delays, max_part, boxcars):
    power, weight = power / 8, weight / 64
    remaining_fraction = []
    for k, at, w, strength in zip(*boxcars, strict=True):
        channels = np.arange(len(power))
        times = at + delays[k]
        sums = np.array([power[c, times[c] : times[c] + w].sum() for c in channels])
        valid = weight[channels, (times + w // 2) // repeat]
        signal = strength * np.sqrt(w * valid.sum())
        sums -= (sums.sum() - signal) * valid / valid.sum()
        pieces = [
            sums[i:j].sum()
            for i in channels
            for j in range(i + 1, len(power) + 1)
            if valid[i:j].sum() <= max_part * valid.sum() or j == i + 1
        ]
        remaining_fraction.append((signal - max(0, *pieces)) / signal)
    return np.array(remaining_fraction)
