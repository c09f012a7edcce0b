"""Boxcars over one dedispersed series: a fast test against the threshold, then the best boxcar at each time."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgefilter_kernels.jit import kernel
from edgefilter_kernels.search.normalise import clipped_mean_std

MIN_TIMES = 256
"""Least number of valid values from which the level and scatter of a series are measured."""
MIN_BOXCARS = 16
"""Least number of independent boxcars of one width from which their scatter is measured."""
MIN_STD = 0.9
"""Lower bound of the measured scatter of a series, which is 1 for white noise."""

_SAMPLE = 128  # values from which median and MAD are computed


class Boxcars(NamedTuple):
    """Widths, threshold and times of a boxcar search.

    Parameters
    ----------
    first, times
        Times ``[first, first + times)`` are searched.
    octaves
        Number of widths: 1, 2, 4 … 2^(octaves-1).
    threshold
        Least S/N.
    interval
        Times of a cell, counted from ``first``: only the best boxcar of a cell is reported.
    """

    first: int
    times: int
    octaves: int
    threshold: float
    interval: int


@kernel
def search_series(
    number: int,
    parts: NDArray[np.float32],
    scale: NDArray[np.float32],
    has_gaps: bool,
    boxcars: Boxcars,
    work: NDArray[np.float32],
    found: list[tuple[int, int, int, np.float32]],
) -> None:
    """Append the best boxcar of each cell of a series to a list.

    Parameters
    ----------
    number
        Number of the series.
    parts
        float32 ``[part, time]``: their sum is searched.
    scale
        float32 ``[time]``: factor that gives white noise unit variance; 0 where there is no data.
    has_gaps
        Whether any factor is 0.
    boxcars
        Widths, threshold and times.
    work
        float32 ``[5, time]``: scratch memory.
    found
        List of (number, time, width, S/N) to append to.
    """
    series, sums, buffer = work[0], work[1], work[2]
    mean, std = _sum_parts(parts, scale, has_gaps, boxcars, buffer, series)
    if std == 0.0 or not (has_gaps or _passes_coarse_test(series, mean, std, boxcars, sums, buffer)):
        return
    _normalise(series, scale, has_gaps, mean, std)
    if not _may_reach_threshold(series, boxcars, sums, buffer):
        return
    best, wide = work[3, : boxcars.times], work[4, : boxcars.times]
    _find_best_boxcars(series, scale, boxcars, sums, buffer, best, wide)
    for start in range(0, boxcars.times, boxcars.interval):
        at = start
        for t in range(start, min(start + boxcars.interval, boxcars.times)):
            if best[t] > best[at]:
                at = t
        if best[at] >= boxcars.threshold:
            found.append((number, boxcars.first + at, int(wide[at]), best[at]))


@kernel
def _sum_parts(
    parts: NDArray[np.float32],
    scale: NDArray[np.float32],
    has_gaps: bool,
    boxcars: Boxcars,
    some: NDArray[np.float32],
    out: NDArray[np.float32],
) -> tuple[float, float]:
    # Adds the parts; returns level and scatter, the scatter 0 if there are no data.
    for t in range(out.size):
        out[t] = parts[0, t] * scale[t]
    for p in range(1, parts.shape[0]):
        part = parts[p]
        for t in range(out.size):
            out[t] += part[t] * scale[t]
    used = out[boxcars.first : boxcars.first + boxcars.times]
    if has_gaps:
        valid = 0
        for t in range(boxcars.first, boxcars.first + boxcars.times):
            if scale[t] > 0.0:
                some[valid] = out[t]
                valid += 1
        used = some[:valid]
    if used.size == 0:
        return 0.0, 0.0
    if used.size < MIN_TIMES:
        return 0.0, 1.0
    mean, std = clipped_mean_std(used, _SAMPLE)
    return mean, max(std, MIN_STD)


@kernel
def _normalise(
    series: NDArray[np.float32], scale: NDArray[np.float32], has_gaps: bool, mean: float, std: float
) -> None:
    # Brings level and scatter to 0 and 1.
    low, factor = np.float32(mean), np.float32(1.0 / std)
    for t in range(series.size):
        series[t] = (series[t] - low) * factor
    if has_gaps:
        for t in range(series.size):
            series[t] = series[t] if scale[t] > 0.0 else np.float32(0.0)


@kernel
def _passes_coarse_test(
    series: NDArray[np.float32],
    mean: float,
    std: float,
    boxcars: Boxcars,
    sums: NDArray[np.float32],
    buffer: NDArray[np.float32],
) -> bool:
    # Whether a boxcar may reach the threshold: few series do. A boxcar of width 2 w is two of width w, of which one has
    # at least half of the sum, so every other width is enough. The margin covers rounding: series that pass are tested
    # again, exactly.
    limit = boxcars.threshold * std * (1.0 - 1e-4)
    above = _sum_pairs(series, np.float32(limit + mean), np.float32(limit + 2 * mean), sums)
    octave = 3
    while above == 0.0 and octave < boxcars.octaves:
        w = 1 << octave
        above = _sum_quadruples(sums, w, np.float32(limit * math.sqrt(w / 2) + w * mean), buffer)
        sums, buffer = buffer, sums
        octave += 2
    return bool(above > 0.0)


@kernel
def _sum_pairs(series: NDArray[np.float32], one: np.float32, two: np.float32, wide: NDArray[np.float32]) -> np.float32:
    # Sums of two times, and how many of them, and of the times, reach their limits.
    above = np.float32(series[-1] >= one)
    early, late = series[:-1], series[1:]
    for t in range(early.size):
        total = early[t] + late[t]
        wide[t] = total
        above += np.float32((total >= two) | (early[t] >= one))
    return above


@kernel
def _sum_quadruples(narrow: NDArray[np.float32], w: int, limit: np.float32, wide: NDArray[np.float32]) -> np.float32:
    # Sums of w times out of sums of w / 4, and how many of them reach the limit.
    above = np.float32(0.0)
    h, count = w // 4, narrow.size - w + 1
    one, two = narrow[:count], narrow[h : count + h]
    three, four = narrow[2 * h : count + 2 * h], narrow[3 * h : count + 3 * h]
    for t in range(count):
        total = (one[t] + two[t]) + (three[t] + four[t])
        wide[t] = total
        above += np.float32(total >= limit)
    return above


@kernel
def _may_reach_threshold(
    series: NDArray[np.float32], boxcars: Boxcars, sums: NDArray[np.float32], buffer: NDArray[np.float32]
) -> bool:
    # Whether any boxcar reaches the threshold with the smallest possible scatter: almost no series does.
    sums[:] = series
    for octave in range(boxcars.octaves):
        w = 1 << octave
        if _sum_halves(sums, w, np.float32(boxcars.threshold * math.sqrt(w) * (1.0 - 1e-6)), buffer) > 0.0:
            return True
        sums, buffer = buffer, sums
    return False


@kernel
def _sum_halves(narrow: NDArray[np.float32], w: int, limit: np.float32, wide: NDArray[np.float32]) -> np.float32:
    # Sums of w times out of sums of w / 2, and how many of them reach the limit.
    above = np.float32(0.0)
    h = w // 2
    early, late = narrow[: narrow.size - w + 1], narrow[h : narrow.size - w + 1 + h]
    for t in range(early.size):
        total = early[t] + late[t] if h else early[t]
        wide[t] = total
        above += np.float32(total >= limit)
    return above


@kernel
def _find_best_boxcars(
    series: NDArray[np.float32],
    scale: NDArray[np.float32],
    boxcars: Boxcars,
    sums: NDArray[np.float32],
    buffer: NDArray[np.float32],
    best: NDArray[np.float32],
    wide: NDArray[np.float32],
) -> None:
    # S/N and width of the best boxcar at each time.
    first, count = boxcars.first, boxcars.times
    best[:] = 0.0
    wide[:] = 0.0
    sums[:] = series
    excess = 1.0
    for octave in range(boxcars.octaves):
        w = 1 << octave
        if octave:
            _sum_halves(sums, w, np.float32(np.inf), buffer)
            sums, buffer = buffer, sums
            measured = _boxcar_excess(sums, scale, first, count, w, buffer)
            # Too few boxcars: red noise has at least the excess of the narrower ones.
            excess = max(measured, 1.0) if measured > 0.0 else excess
        factor = np.float32(1.0 / (excess * math.sqrt(w)))
        here = sums[first - w // 2 : first - w // 2 + count]
        for t in range(count):
            value = here[t] * factor
            better = value > best[t]
            best[t] = value if better else best[t]
            wide[t] = np.float32(w) if better else wide[t]


@kernel
def _boxcar_excess(
    sums: NDArray[np.float32], scale: NDArray[np.float32], first: int, count: int, w: int, some: NDArray[np.float32]
) -> float:
    # Scatter of independent boxcars over that of white noise; 0 if there are too few.
    independent = 0
    for t in range(first, first + count - w + 1, w):
        if scale[t] > 0.0 and scale[t + w - 1] > 0.0:
            some[independent] = sums[t]
            independent += 1
    if independent < MIN_BOXCARS:
        return 0.0
    # One standard error less than measured: the maximum of two estimates is biased upwards.
    measured = clipped_mean_std(some[:independent], _SAMPLE)[1] * (1.0 - math.sqrt(0.5 / independent))
    return float(measured / math.sqrt(w))
