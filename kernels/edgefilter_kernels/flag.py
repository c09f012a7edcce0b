"""Statistics of time-channel cells, and the marking of those that stand out.

Intensity of a cell is the sum of its first ``hands`` products. A cell is used while its flags are 0. Kernels work on a
range of channels or of times, whichever their results are independent along.
"""

import numpy as np
from numpy.typing import NDArray

from edgefilter_kernels.jit import kernel

BANDS = 8
"""Sub-bands into which :func:`time_statistics` divides the channels."""

GROUP = 16
"""Neighbouring times that :func:`channel_statistics` groups to see slow changes."""

_CLIP = 5.0  # robust sigma beyond which a value does not enter the clipped mean and deviation
_WINSOR = 4.0  # sigma to which a cell's share in the mean of the band is limited


@kernel
def _kurtosis(
    power: NDArray[np.float32],
    moment4: NDArray[np.float32],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    gain: NDArray[np.float64],
    bit: int,
    flags: NDArray[np.uint16],
    start: int,
    stop: int,
) -> None:
    for t in range(start, stop):
        if gain[t] <= 0.0:
            continue
        for c in range(flags.shape[1]):
            if flags[t, c]:
                continue
            for h in range(moment4.shape[2]):
                mean = np.float64(power[t, c, h])
                if mean > 0.0:
                    estimate = gain[t] * (moment4[t, c, h] / (mean * mean) - 1.0)
                    if not low[t] <= estimate <= high[t]:
                        flags[t, c] |= np.uint16(bit)


def kurtosis(
    power: NDArray[np.float32],
    moment4: NDArray[np.float32],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    gain: NDArray[np.float64],
    bit: int,
    flags: NDArray[np.uint16],
    start: int,
    stop: int,
) -> None:
    r"""Mark unflagged cells of times ``[start, stop)`` whose spectral kurtosis lies outside ``[low, high]``.

    The estimator of Nita & Gary (2010, MNRAS 406, L60) for M spectra, d = 1:
    ``SK = (M+1)/(M-1) (M S2/S1² - 1)``, where S1 and S2 are sums of \|v\|² and \|v\|⁴.

    Parameters
    ----------
    power
        float32 ``[time, channel, product]``: the first products are means of \|v\|² of the hands.
    moment4
        float32 ``[time, channel, hand]``: mean of \|v\|⁴.
    low, high
        float64 ``[time]``: bounds.
    gain
        float64 ``[time]``: ``(M+1)/(M-1)``; no cell is marked where it is 0.
    bit
        The flag to set.
    flags
        uint16 ``[time, channel]``, changed in place.
    start, stop
        Times to work on.

    Raises
    ------
    ValueError
        If shapes do not fit together.
    """
    _fit(power, flags, moment4.shape[-1])
    times = len(power)
    if moment4.shape[:2] != flags.shape or not (low.shape == high.shape == gain.shape == (times,)):
        raise ValueError(f"moment4 {moment4.shape} and bounds {low.shape} do not go with cells {power.shape}")
    _kurtosis(power, moment4, low, high, gain, bit, flags, start, stop)


@kernel
def _slow_deviation(
    power: NDArray[np.float32],
    hands: int,
    flags: NDArray[np.uint16],
    c: int,
    mean: float,
    median: float,
    reach: float,
) -> float:
    groups, square = 0, 0.0
    for first in range(0, power.shape[0] - GROUP + 1, GROUP):
        used, total = 0, 0.0
        for t in range(first, first + GROUP):
            if flags[t, c] == 0:
                value = power[t, c, 0]
                for h in range(1, hands):
                    value += power[t, c, h]
                if abs(value - median) <= reach:
                    used += 1
                    total += value - mean
        if used:
            groups += 1
            square += total * total / used
    return float(np.sqrt(square / groups)) if groups else 0.0


@kernel
def _channel_statistics(
    power: NDArray[np.float32],
    hands: int,
    flags: NDArray[np.uint16],
    statistics: NDArray[np.float64],
    start: int,
    stop: int,
) -> None:
    values = np.empty(power.shape[0], np.float32)
    for c in range(start, stop):
        count = 0
        for t in range(power.shape[0]):
            if flags[t, c] == 0:
                value = power[t, c, 0]
                for h in range(1, hands):
                    value += power[t, c, h]
                values[count] = value
                count += 1
        statistics[0, c] = count
        statistics[1:, c] = 0.0
        if count == 0:
            continue
        used = values[:count]
        median = np.float64(np.median(used))
        mad = np.float64(np.median(np.abs(used - np.float32(median))))
        # Data of one or two bits may have no median deviation though they vary: then nothing is clipped.
        reach = _CLIP * 1.4826 * mad if mad > 0.0 else np.inf
        kept, total = 0, 0.0
        for i in range(count):
            if abs(used[i] - median) <= reach:
                kept += 1
                total += used[i]
        mean = total / kept if kept else median
        square = 0.0
        for i in range(count):
            if abs(used[i] - median) <= reach:
                square += (used[i] - mean) ** 2
        statistics[1, c] = median
        statistics[2, c] = mad
        statistics[3, c] = mean
        statistics[4, c] = np.sqrt(square / kept) if kept else 0.0
        statistics[5, c] = _slow_deviation(power, hands, flags, c, mean, median, reach)


def channel_statistics(
    power: NDArray[np.float32],
    hands: int,
    flags: NDArray[np.uint16],
    statistics: NDArray[np.float64],
    start: int,
    stop: int,
) -> None:
    """Find robust statistics over the used times of channels ``[start, stop)``.

    Parameters
    ----------
    power
        float32 ``[time, channel, product]``.
    hands
        Products that add up to the intensity.
    flags
        uint16 ``[time, channel]``.
    statistics
        Output, float64 ``[6, channel]``: number of used times; median; median absolute deviation (MAD); mean and
        standard deviation of what lies within 5 × 1.4826 MAD of the median (of all if the MAD is 0); the deviation that
        groups of 16 times show, root mean square of (sum of deviations from the mean) / √used, which is the standard
        deviation if times are independent. 0 without times.
    start, stop
        Channels to work on.

    Raises
    ------
    ValueError
        If shapes do not fit together.
    """
    _fit(power, flags, hands)
    if statistics.shape != (6, flags.shape[1]):
        raise ValueError(f"statistics are {statistics.shape}, must be {(6, flags.shape[1])}")
    _channel_statistics(power, hands, flags, statistics, start, stop)


@kernel
def _time_statistics(
    power: NDArray[np.float32],
    hands: int,
    flags: NDArray[np.uint16],
    centre: NDArray[np.float64],
    scale: NDArray[np.float64],
    mean: NDArray[np.float64],
    count: NDArray[np.int64],
    raised: NDArray[np.int64],
    start: int,
    stop: int,
) -> None:
    channels = power.shape[1]
    for t in range(start, stop):
        total = 0.0
        mean[t] = 0.0
        count[t] = 0
        raised[t] = 0
        for band in range(BANDS):
            used, above = 0, 0
            for c in range(band * channels // BANDS, (band + 1) * channels // BANDS):
                if flags[t, c] or not scale[c] > 0.0:
                    continue
                value = np.float64(power[t, c, 0])
                for h in range(1, hands):
                    value += power[t, c, h]
                z = (value - centre[c]) / scale[c]
                used += 1
                above += z > 1.0
                total += min(max(z, -_WINSOR), _WINSOR)
            count[t] += used
            raised[t] += used > 0 and 5 * above >= 2 * used
        if count[t]:
            mean[t] = total / count[t]


def time_statistics(
    power: NDArray[np.float32],
    hands: int,
    flags: NDArray[np.uint16],
    centre: NDArray[np.float64],
    scale: NDArray[np.float64],
    mean: NDArray[np.float64],
    count: NDArray[np.int64],
    raised: NDArray[np.int64],
    start: int,
    stop: int,
) -> None:
    """Find how far the band stands out at times ``[start, stop)``.

    Parameters
    ----------
    power, hands, flags
        As for :func:`channel_statistics`.
    centre, scale
        float64 ``[channel]``: what a cell is measured by; a channel of scale 0 is left out.
    mean
        Output, float64 ``[time]``: mean of ``(intensity - centre) / scale`` over used channels, each limited to ±4.
    count
        Output, int64 ``[time]``: used channels.
    raised
        Output, int64 ``[time]``: sub-bands, of 8, in which at least 40 % of the used channels lie above ``+ scale``.
    start, stop
        Times to work on.

    Raises
    ------
    ValueError
        If shapes do not fit together.
    """
    _fit(power, flags, hands)
    times, channels = flags.shape
    if not (centre.shape == scale.shape == (channels,) and mean.shape == count.shape == raised.shape == (times,)):
        raise ValueError(f"scales {scale.shape} and outputs {mean.shape} do not go with cells {power.shape}")
    _time_statistics(power, hands, flags, centre, scale, mean, count, raised, start, stop)


@kernel
def _outlying_cells(
    power: NDArray[np.float32],
    hands: int,
    centre: NDArray[np.float64],
    scale: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    bit: int,
    flags: NDArray[np.uint16],
    start: int,
    stop: int,
) -> None:
    for t in range(start, stop):
        for c in range(power.shape[1]):
            if flags[t, c] or not scale[c] > 0.0:
                continue
            value = np.float64(power[t, c, 0])
            for h in range(1, hands):
                value += power[t, c, h]
            z = (value - centre[c]) / scale[c]
            if not low[t] <= z <= high[t]:
                flags[t, c] |= np.uint16(bit)


def outlying_cells(
    power: NDArray[np.float32],
    hands: int,
    centre: NDArray[np.float64],
    scale: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    bit: int,
    flags: NDArray[np.uint16],
    start: int,
    stop: int,
) -> None:
    """Mark unflagged cells of times ``[start, stop)`` whose ``(intensity - centre) / scale`` leaves ``[low, high]``.

    Parameters
    ----------
    power, hands
        As for :func:`channel_statistics`.
    centre, scale
        float64 ``[channel]``; a channel of scale 0 is left alone.
    low, high
        float64 ``[time]``: bounds.
    bit
        The flag to set.
    flags
        uint16 ``[time, channel]``, changed in place.
    start, stop
        Times to work on.

    Raises
    ------
    ValueError
        If shapes do not fit together.
    """
    _fit(power, flags, hands)
    times, channels = flags.shape
    if not (centre.shape == scale.shape == (channels,) and low.shape == high.shape == (times,)):
        raise ValueError(f"scales {scale.shape} and bounds {low.shape} do not go with cells {power.shape}")
    _outlying_cells(power, hands, centre, scale, low, high, bit, flags, start, stop)


def _fit(power: NDArray[np.float32], flags: NDArray[np.uint16], hands: int) -> None:
    if power.ndim != 3 or power.shape[:2] != flags.shape or not 1 <= hands <= power.shape[2]:
        raise ValueError(f"cells {power.shape} of {hands} hands do not go with flags {flags.shape}")
    if power.dtype != np.float32 or flags.dtype != np.uint16:
        raise ValueError(f"cells must be float32 and flags uint16, not {power.dtype} and {flags.dtype}")
    if not (power.flags.c_contiguous and flags.flags.c_contiguous):
        raise ValueError("cells and flags must be C-contiguous")
