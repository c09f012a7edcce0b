"""Breadth of a boxcar's signal by trying every part of the band."""

import numpy as np


def band_occupancy(power, weight, repeat, delays, part, trial, start, width, snr):
    power, weight = power / 8, weight / 64
    left = []
    for k, at, w, strength in zip(trial, start, width, snr, strict=True):
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
            if valid[i:j].sum() <= part * valid.sum() or j == i + 1
        ]
        left.append((signal - max(0, *pieces)) / signal)
    return np.array(left)
