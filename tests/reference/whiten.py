"""Robust statistics and whitening in double precision."""

import numpy as np


def level_scatter(values):
    """Median and MAD of all values, then mean and scatter within three sigma."""
    if len(values) == 0:
        return 0.0, 0.0
    values = values.astype(np.float64)
    centre = np.sort(values)[len(values) // 2]
    reach = 3 * 1.482602218505602 * np.sort(np.abs(values - centre))[len(values) // 2]
    if reach == 0:
        return values.mean(), values.std()
    bulk = values[np.abs(values - centre) <= reach]
    return bulk.mean(), bulk.std() / 0.9865784


def whiten_channel(power, weight, full, learn, limit, first):
    share = np.where(np.isfinite(power), weight / full, 0)
    power = np.where(share > 0, power, 0).astype(np.float64)
    rows = slice(0, learn) if (share[:learn] > 0).sum() >= 64 else slice(None)
    good = share[rows] > 0
    level, scatter = level_scatter(power[rows][good])
    if (share[rows][good] != 1).any():
        scatter = level_scatter(((power - level) * np.sqrt(share))[rows][good])[1]
    if good.sum() < 16 or scatter == 0:
        return np.zeros(len(power) - first), np.zeros(len(power) - first)
    return (np.clip((power - level) / scatter, -limit, limit) * share)[first:], share[first:]
