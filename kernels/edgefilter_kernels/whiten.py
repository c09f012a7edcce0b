"""Robust level and scatter, and channels brought to zero mean and unit variance."""

import numpy as np
from numpy.typing import NDArray

from edgefilter_kernels.jit import kernel

_MAD_TO_SIGMA = 1.482602218505602
_CLIP = 3.0
# Standard deviation of a unit Gaussian that is cut at ±3.
_CLIPPED_SIGMA = 0.9865784


@kernel
def median(values: NDArray[np.float32]) -> float:
    """Middle of ``values`` (the upper one of two); puts them in another order.

    Parameters
    ----------
    values
        float32 ``[n]``, n > 0, finite.
    """
    low, high, middle = 0, values.size - 1, values.size // 2
    while low < high:  # Hoare's selection
        pivot = values[(low + high) // 2]
        left, right = low, high
        while left <= right:
            while values[left] < pivot:
                left += 1
            while values[right] > pivot:
                right -= 1
            if left <= right:
                values[left], values[right] = values[right], values[left]
                left += 1
                right -= 1
        if middle <= right:
            high = right
        elif middle >= left:
            low = left
        else:
            break
    return float(values[middle])


@kernel
def level_scatter(values: NDArray[np.float32], sample: int) -> tuple[float, float]:
    """Mean and standard deviation of the bulk of ``values``, whatever a minority of outliers does.

    Median and MAD of an evenly spaced sample say where the bulk is; mean and standard deviation of all values within
    three sigma of it follow, corrected for the cut. Values of which more than half are equal (few bits) have no MAD:
    they give their plain mean and standard deviation.

    Parameters
    ----------
    values
        float32 ``[n]``, finite, not changed.
    sample
        Least number of values that median and MAD are taken from (all, if there are fewer).

    Returns
    -------
    level, scatter
        Both 0 if there are no values.
    """
    count = values.size
    if count == 0:
        return 0.0, 0.0
    step = max(count // sample, 1)
    some = values[::step].copy()
    centre = median(some)
    for i in range(some.size):
        some[i] = abs(some[i] - centre)
    reach = _CLIP * _MAD_TO_SIGMA * median(some)
    correction = _CLIPPED_SIGMA
    if reach == 0.0:
        reach, correction = np.inf, 1.0
    kept, total, square = 0, 0.0, 0.0
    for i in range(count):
        off = values[i] - centre
        inside = abs(off) <= reach
        kept += inside
        off = off if inside else 0.0
        total += off
        square += off * off
    mean = total / kept
    return centre + mean, np.sqrt(max(square / kept - mean * mean, 0.0)) / correction


@kernel
def whiten_channel(
    power: NDArray[np.float32],
    weight: NDArray[np.uint16],
    full: int,
    learn: int,
    limit: float,
    first: int,
    out: NDArray[np.float32],
    share: NDArray[np.float32],
) -> None:
    """Bring one channel to zero mean and a variance of ``weight / full``.

    What a row of weight w contributes is (x - level) / scatter · w / full: so every cell counts the same in a sum.

    Parameters
    ----------
    power
        float32 ``[time]``.
    weight
        uint16 ``[time]``: cells that a row is the mean of; 0 is no data.
    full
        Weight of a complete row.
    learn
        Level and scatter come from rows ``[0, learn)``, or from all if those hold fewer than 64 valid rows.
    limit
        Values are cut at ± this many sigma.
    first
        Row that goes to ``out[0]``.
    out, share
        float32 ``[n]``, ``n >= time - first``: results and ``weight / full``, 0 where there is no data. All 0 if
        there are fewer than 16 valid rows or they do not scatter.
    """
    out[:] = 0.0
    share[:] = 0.0
    good = np.empty(power.size, np.float32)
    root = np.empty(power.size, np.float32)
    count, partial = 0, False
    for t in range(power.size):
        if t == learn and count >= 64:
            break
        if weight[t] > 0 and np.isfinite(power[t]):
            good[count] = power[t]
            root[count] = np.sqrt(weight[t] / full)
            partial |= weight[t] != full
            count += 1
    if count < 16:
        return
    level, scatter = level_scatter(good[:count], 1024)
    if partial:
        for i in range(count):
            good[i] = (good[i] - level) * root[i]
        scatter = level_scatter(good[:count], 1024)[1]
    # Rounding of a constant channel is no scatter.
    if scatter <= 1e-6 * abs(level):
        return
    for t in range(first, power.size):
        if weight[t] > 0 and np.isfinite(power[t]):
            part = weight[t] / full
            out[t - first] = min(max((power[t] - level) / scatter, -limit), limit) * part
            share[t - first] = part
