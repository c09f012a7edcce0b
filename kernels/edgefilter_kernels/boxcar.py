"""Matched boxcars over dedispersed series."""

import math

import numpy as np
from numpy.typing import NDArray

from edgefilter_kernels.jit import kernel
from edgefilter_kernels.whiten import level_scatter

LEAST_ROWS = 256
"""Valid values that the level and scatter of a series are worth measuring from."""
LEAST_BOXCARS = 64
"""Independent boxcars of one width that their scatter is worth measuring from."""
LEAST_SCATTER = 0.9
"""Least scatter that is believed of a series whose scatter is 1 in theory."""


def boxcar_peaks(
    series: NDArray[np.float32],
    scale: NDArray[np.float32],
    repeat: int,
    first: int,
    count: int,
    octaves: int,
    threshold: float,
    cell: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Find the best boxcar in each cell of time.

    Boxcars have widths 1, 2, 4 … 2^(octaves-1). A boxcar of width w that starts at t belongs to time ``t + w // 2``.
    Its S/N is its sum over its scatter after level and scatter of the series were brought to 0 and 1, both measured
    over ``[first, first + count)`` alone. The scatter of wide boxcars is √w, or what independent boxcars of the series
    show if that is more (red noise).

    Parameters
    ----------
    series
        float32 ``[trial, time]``, C-contiguous.
    scale
        float32 ``[ceil(time / repeat)]``: factor of the times ``[repeat i, repeat (i + 1))`` that gives them unit
        variance in theory; 0 where there is no data.
    repeat
        Times that share a factor.
    first, count
        Times that are searched.
    octaves
        Number of widths.
    threshold
        Least S/N.
    cell
        Times in a cell; cells count from ``first``.

    Returns
    -------
    trial, time, width, snr
        One entry for each cell and trial with a boxcar at or above the threshold, ordered by trial and time.

    Raises
    ------
    ValueError
        If shapes, types or layout are not these, or a boxcar leaves the series.
    """
    if series.dtype != np.float32 or series.ndim != 2 or not series.flags.c_contiguous:
        raise ValueError("series must be C-contiguous float32 [trial, time]")
    if scale.dtype != np.float32 or scale.shape != (-(-series.shape[1] // repeat),):
        raise ValueError(f"scale must be float32 [{-(-series.shape[1] // repeat)}], is {scale.dtype} {scale.shape}")
    half = (1 << octaves) // 4
    if octaves < 1 or count < 1 or cell < 1 or first < half or first + count + half > series.shape[1]:
        raise ValueError(f"boxcars of {octaves} octaves at [{first}, {first + count}) leave {series.shape[1]} times")
    most = len(series) * -(-count // cell)
    trial, time, width = np.empty(most, np.int64), np.empty(most, np.int64), np.empty(most, np.int64)
    snr = np.empty(most, np.float32)
    found = _peaks(series, np.repeat(scale, repeat), first, count, octaves, threshold, cell, trial, time, width, snr)
    return trial[:found].copy(), time[:found].copy(), width[:found].copy(), snr[:found].copy()


@kernel
def _peaks(
    series: NDArray[np.float32],
    scale: NDArray[np.float32],
    first: int,
    count: int,
    octaves: int,
    threshold: float,
    cell: int,
    trial: NDArray[np.int64],
    time: NDArray[np.int64],
    width: NDArray[np.int64],
    snr: NDArray[np.float32],
) -> int:
    sums = np.empty(series.shape[1], np.float32)
    some = np.empty(count, np.float32)
    best = np.empty(count, np.float32)
    wide = np.empty(count, np.int32)
    found = 0
    for i in range(series.shape[0]):
        if not _normalise(series[i], scale, first, count, some, sums):
            continue
        best[:] = 0.0
        wide[:] = 0
        for octave in range(octaves):
            w = 1 << octave
            if octave:
                for t in range(sums.size - w + 1):
                    sums[t] = sums[t] + sums[t + w // 2]
            factor = np.float32(1.0 / _scatter(sums, scale, first, count, w, some))
            here = sums[first - w // 2 : first - w // 2 + count]
            for t in range(count):
                value = here[t] * factor
                better = value > best[t]
                best[t] = value if better else best[t]
                wide[t] = w if better else wide[t]
        for start in range(0, count, cell):
            at = start
            for t in range(start, min(start + cell, count)):
                if best[t] > best[at]:
                    at = t
            if best[at] >= threshold:
                trial[found], time[found], width[found], snr[found] = i, first + at, wide[at], best[at]
                found += 1
    return found


@kernel
def _normalise(
    series: NDArray[np.float32],
    scale: NDArray[np.float32],
    first: int,
    count: int,
    some: NDArray[np.float32],
    out: NDArray[np.float32],
) -> bool:
    # Brings level and scatter to 0 and 1; says whether there are any data.
    valid = 0
    for t in range(series.size):
        out[t] = series[t] * scale[t]
    for t in range(first, first + count):
        if scale[t] > 0.0:
            some[valid] = out[t]
            valid += 1
    if valid == 0:
        return False
    level, scatter = 0.0, 1.0
    if valid >= LEAST_ROWS:
        level, scatter = level_scatter(some[:valid], 512)
        scatter = max(scatter, LEAST_SCATTER)
    low, factor = np.float32(level), np.float32(1.0 / scatter)
    for t in range(series.size):
        out[t] = (out[t] - low) * factor if scale[t] > 0.0 else np.float32(0.0)
    return True


@kernel
def _scatter(
    sums: NDArray[np.float32], scale: NDArray[np.float32], first: int, count: int, w: int, some: NDArray[np.float32]
) -> float:
    theory = math.sqrt(w)
    if w == 1 or count < LEAST_BOXCARS * w:
        return theory
    independent = 0
    for t in range(first, first + count - w + 1, w):
        if scale[t] > 0.0 and scale[t + w - 1] > 0.0:
            some[independent] = sums[t]
            independent += 1
    if independent < LEAST_BOXCARS:
        return theory
    # One standard error less than measured: the greater of two estimates is otherwise always too great.
    measured = level_scatter(some[:independent], 128)[1] * (1.0 - math.sqrt(0.5 / independent))
    return float(max(theory, measured))
