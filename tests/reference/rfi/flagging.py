"""Plain, slow versions of the flagging kernels, a channel at a time."""

from itertools import pairwise

import numpy as np


def quantile(values, fraction):
    """Return the order statistic of rank ⌊p n⌋; ties are spread evenly over the interval between their neighbours."""
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


def sum_threshold(values, windows, thresholds):
    """Return the runs of one channel by SumThreshold, with fitted ends and filled gaps, and the holes in them."""
    values = values.astype(np.float64)
    remaining, marked = values.copy(), np.zeros(len(values), bool)
    for window, threshold in zip(windows, thresholds, strict=True):
        if window > len(values):
            break
        hits = [t for t in range(len(values) - window + 1) if remaining[t : t + window].sum() > threshold]
        for t in hits:
            marked[t : t + window] = True
        remaining[marked] = np.minimum(remaining[marked], 0.0)
    fitted, holes = np.zeros((2, len(values)), bool)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], marked, [0]]).astype(int))).reshape(-1, 2)
    for number, (first, stop) in enumerate(edges):
        before = edges[number - 1, 1] if number else 0
        after = edges[number + 1, 0] if number + 1 < len(edges) else len(values)
        level = np.rint(8 * values[first:stop].mean()) / 16
        begin, end = _best_part(values[first:stop] - min(level, 1.0))
        if level >= 2.0:
            holes[first + begin : first + end] = values[first + begin : first + end] < 1
        grow = min(level, 2.0)
        earlier = 0 if begin else _growth(values[before:first][::-1] - grow)
        later = 0 if first + end < stop else _growth(values[stop:after] - grow)
        fitted[first + begin - earlier : first + end + later] = True
    support = [_neighbour_support(fitted), _neighbour_support(fitted[::-1])[::-1]]
    closed = fitted | ((support[0] >= 2) & (support[1] >= 2))
    for t in np.flatnonzero(closed & ~fitted & (values < 1)):
        a, b = np.flatnonzero(fitted[:t])[-1], t + np.flatnonzero(fitted[t:])[0]
        holes[t] = values[a - 1] + values[a] + values[b] + values[b + 1] >= 16
    return closed, holes


def _best_part(values):
    """Return the part with the largest sum; of equal ones the earliest and shortest."""
    parts = [(first, stop) for stop in range(1, len(values) + 1) for first in range(stop)]
    return max(parts, key=lambda part: (values[part[0] : part[1]].sum(), -part[1], part[0]))


def _growth(values):
    """Return the number of samples up to the largest sum before the sum has dropped by 2."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    dropped = np.flatnonzero(total < np.maximum.accumulate(total) - 2)
    return int(np.argmax(total[: dropped[0]] if len(dropped) else total))


def _neighbour_support(marked):
    """Return a count, 0 to 8, of marks before each sample: 1 more for a mark, 2 less for a gap."""
    near, out = 0, np.zeros(len(marked), int)
    for t, mark in enumerate(marked):
        out[t] = near
        near = max(min(near + (1 if mark else -2), 8), 0)
    return out


def zero_dm_counts(intensity, used, low, high, bands):
    """Return the channels of each band that are used, above ``high`` and below ``low``."""
    times, channels = intensity.shape
    counts = np.zeros((3, bands, times), int)
    for band in range(bands):
        here = slice(band * channels // bands, (band + 1) * channels // bands)
        good = used[:, here] & (high[here] > low[here])
        counts[0, band] = good.sum(axis=1)
        counts[1, band] = (good & (intensity[:, here] > high[here])).sum(axis=1)
        counts[2, band] = (good & (intensity[:, here] < low[here])).sum(axis=1)
    return counts


def find_broadband_steps(used, moved, margin):
    """Return sub-bands that move where many parts do, and few do shortly before and after, ``[band, time]``."""
    parts, many, few, raised, least, partly = 8, 5, 2, 0.4, 32, (0.4, 0.3)
    bands, times = used.shape
    number = sum(
        moved[part : part + bands // parts].sum(axis=0) > raised * used[part : part + bands // parts].sum(axis=0)
        for part in range(0, bands, bands // parts)
    )
    share = moved / np.maximum(used, 1)
    wider = np.concatenate([share[:1], share, share[-1:]])
    wide = wider[:-2] + wider[1:-1] + wider[2:] > 3 * partly[0]
    out = np.zeros(used.shape, bool)
    for t in np.flatnonzero(number >= many):
        first = last = t
        while first > 0 and number[first - 1] >= many:
            first -= 1
        while last < times - 1 and number[last + 1] >= many:
            last += 1
        before, after = number[max(first - margin, 0) : first], number[last + 1 : last + 1 + margin]
        if all(len(side) == 0 or (side <= few).any() for side in (before, after)) and used[:, t].sum() >= least:
            out[:, t] = wide[:, t] & (share[:, t] > partly[1])
    return out


def cut_tracks(marks, delay, tolerance, slack, longest):
    """Return short runs that follow one track from where the end, or the start, of the data cuts it."""
    whole = np.zeros(marks.shape, bool)
    for direction in (1, -1):
        # Reverse times so that the end of the data cuts, and channels so that the delay falls.
        even = delay[0] == delay[-1]
        channel = np.arange(len(delay))[::direction] if even else np.argsort(direction * delay, kind="stable")
        run, delays = marks[::direction, channel] != 0, direction * delay[channel]
        for c in range(len(delays) - 1):
            found = _cut_track(run, delays, c, tolerance, slack, longest)
            for first, stop, at in found:
                whole[::direction][first:stop, channel[at]] = True
    return whole


def _cut_track(run, delays, c, tolerance, slack, longest):
    times, gap = len(run), delays[c + 1] - delays[c]
    last = _runs(run[:, c])[-1:]
    if not last or last[0][1] <= times - gap - slack or last[0][1] - last[0][0] > longest:
        return []
    begin, found = last[0][0], []
    for at in range(c, -1, -1):
        near = [
            (first, stop)
            for first, stop in _runs(run[:, at])
            if abs(first - begin + delays[c] - delays[at]) <= tolerance and stop - first <= longest
        ]
        found.append((*near[0], at) if near else None)
        if found[-3:] == [None] * 3:
            break
    whole = at == 0 and found[-1] is not None
    good = [one for one in found if one is not None]
    seen = max(k for k, one in enumerate(found) if one is not None) + 1
    enough = len(good) >= (2 if whole else 8) and len(good) >= 0.75 * seen
    swept = delays[c] - delays[good[-1][2]]
    return good if enough and swept >= 4 * tolerance and begin + gap + slack >= times else []


def _runs(marked):
    return np.flatnonzero(np.diff(np.r_[False, marked, False].astype(int))).reshape(-1, 2).tolist()


def correct_clipping(power, moment4, steps, table):
    """Multiply the kurtosis, less 1, by the factor of the step of the power."""
    power = power[:, :, : moment4.shape[2]]
    with np.errstate(invalid="ignore"):
        at = np.nan_to_num(power * steps[:, None], posinf=len(table)).clip(0, len(table) - 1).astype(int)
        return power**2 + (moment4 - power**2) * table[at]


def drifting_tones(events, live):
    """Return the lines that a drifting tone fills, as ``(begin, drift_channels)``, in steps of two groups."""
    steps, channels = len(events) // 2, events.shape[1]
    steps = min(steps, 127)
    level = events[: 2 * steps].reshape(steps, 2, channels).sum(axis=1)
    max_drift = 2 * steps // 3

    begins = np.arange(-(max_drift // 2), channels + max_drift // 2)
    edges = [quarter * steps // 4 for quarter in range(5)]

    def along(begins, drift):
        """Return level and largest level of all steps of the lines of one drift, ``[line, step]``."""
        c = begins[:, None] + np.floor(drift * (np.arange(steps) + 0.5) / steps + 0.5).astype(int)
        inside = (c >= 0) & (c < channels)
        used = inside & live[np.clip(c, 0, channels - 1)]
        return np.where(used, level[np.arange(steps), np.clip(c, 0, channels - 1)], 0), 2 * used

    def sums(lines, first=0, stop=None):
        return [part[:, first:stop].sum(axis=1) for part in lines]

    found = set()
    for drift in range(-max_drift, max_drift + 1):
        lines = along(begins, drift)
        filled, most = sums(lines)
        good = (most >= steps) & (20 * filled >= (9 if steps >= 48 else 12) * most) & (drift != 0)
        for a, b in (sums(lines, *quarter) for quarter in pairwise(edges)):
            good &= (20 * a >= 7 * b) & (5 * a * most >= 3 * filled * b)
        for side, most_beside in (sums(along(begins + aside, drift)) for aside in (-3, 3)):
            good &= side / np.maximum(most_beside, 1) <= 0.4
        crossing, most_crossing = sums(along(begins + drift, -drift))
        contrast = filled / np.maximum(most, 1) - crossing / np.maximum(most_crossing, 1)
        good &= (most_crossing == 0) | (contrast > 0.25 - 1e-9)
        found |= {(int(begin), drift) for begin in begins[good]}
    return found
