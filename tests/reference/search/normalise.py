"""Robust statistics and normalisation in double precision."""

import numpy as np


def clipped_mean_std(values, sample=10**9):
    """Mean and scatter of all values within three sigma, from median and MAD of evenly spaced values."""
    if len(values) == 0:
        return 0.0, 0.0
    values = values.astype(np.float64)
    some = values[:: max(len(values) // sample, 1)]
    centre = np.sort(some)[len(some) // 2]
    reach = 3 * 1.482602218505602 * np.sort(np.abs(some - centre))[len(some) // 2]
    if reach == 0:
        return values.mean(), values.std()
    bulk = values[np.abs(values - centre) <= reach]
    return bulk.mean(), bulk.std() / 0.9865784


def normalise(power, weight, full, first):
    """One channel: 8 counts per sigma, and weights in 64ths; 128 values locate the bulk."""
    relative = np.where(weight > 0, np.maximum(np.floor(64 * weight.astype(float) / full + 0.5), 1), 0)
    relative[~np.isfinite(power)] = 0
    power = np.where(relative > 0, power, 0).astype(np.float64)
    none = np.zeros(len(power) - first, np.int8)
    chosen = np.arange(0, len(power), max(len(power) // 128, 1))
    chosen = chosen[relative[chosen] > 0]
    if len(chosen) < 64:
        chosen = np.flatnonzero(relative)
        chosen = chosen[:: max(len(chosen) // 128, 1)]
    if len(chosen) < 16:
        return none, none
    w = np.where(relative > 0, weight / full, 0)
    centre = np.sort(power[chosen])[len(chosen) // 2]
    off = power - centre
    distance = np.abs(off[chosen]) * np.sqrt(w[chosen])
    reach, correction = 3 * 1.482602218505602 * np.sort(distance)[len(chosen) // 2], 0.9865784
    if reach == 0 or (distance <= reach).sum() <= 0.8 * len(chosen):
        reach, correction = np.inf, 1
    bulk = (relative > 0) & (np.abs(off) * np.sqrt(w) <= reach)
    mean = (w * off)[bulk].sum() / w[bulk].sum()
    scatter = np.sqrt((w * (off - mean) ** 2)[bulk].mean()) / correction
    if scatter <= 1e-6 * abs(centre + mean):
        return none, none
    counts = np.clip(8 * (off - mean) / scatter, -80, 80) * w
    return np.floor(counts + 0.5)[first:].astype(np.int8), relative[first:].astype(np.int8)
