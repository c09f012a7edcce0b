"""Plain versions of the flagging kernels, a channel at a time."""

import numpy as np


def quantile(values, fraction):
    """Order statistic of rank ⌊p n⌋; ties are spread over the room between their neighbours."""
    ordered = np.sort(values)
    rank = min(int(fraction * len(ordered)), len(ordered) - 1)
    value = float(ordered[rank])
    below, equal = int((ordered < value).sum()), int((ordered == value).sum())
    if equal < 2:
        return value
    before, after = ordered[ordered < value], ordered[ordered > value]
    low = float(before[-1]) if len(before) else None
    high = float(after[0]) if len(after) else None
    if low is not None and high is not None:
        width = (high - low) / 2
    elif high is not None:
        width = high - value
    elif low is not None:
        width = value - low
    else:
        width = 0.0
    return value + ((fraction * len(ordered) - below) / equal - 0.5) * width


def sum_threshold(values, windows, thresholds, edge=0.5):
    """SumThreshold of one channel, with trimmed ends and filled gaps."""
    values = values.astype(np.float64)
    left, marked = values.copy(), np.zeros(len(values), bool)
    for window, threshold in zip(windows, thresholds, strict=True):
        if window > len(values):
            break
        hits = [t for t in range(len(values) - window + 1) if left[t : t + window].sum() > threshold]
        for t in hits:
            marked[t : t + window] = True
        left[marked] = np.minimum(left[marked], 0.0)
    for order in (range(len(values)), reversed(range(len(values)))):
        inside = False
        for t in order:
            marked[t] &= inside or values[t] > edge
            inside = marked[t]
    support = [_support(marked), _support(marked[::-1])[::-1]]
    return marked | ((support[0] >= 2) & (support[1] >= 2))


def _support(marked):
    """What lies before each sample: 1 more a mark, 2 less a gap, from 0 to 255."""
    near, out = 0, np.zeros(len(marked), int)
    for t, mark in enumerate(marked):
        out[t] = near
        near = max(min(near + (1 if mark else -2), 255), 0)
    return out


def rise(intensity, used, low, high, bands):
    """Channels of each band that are used, above and below."""
    times, channels = intensity.shape
    counts = np.zeros((3, times, bands), int)
    for band in range(bands):
        here = slice(band * channels // bands, (band + 1) * channels // bands)
        good = used[:, here] & (high[here] > low[here])
        counts[0, :, band] = good.sum(axis=1)
        counts[1, :, band] = (good & (intensity[:, here] > high[here])).sum(axis=1)
        counts[2, :, band] = (good & (intensity[:, here] < low[here])).sum(axis=1)
    return counts
