"""Matched boxcars over dedispersed series."""

import math
from typing import NamedTuple

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


_SAMPLE = 128  # values that median and MAD are taken from


class Boxcars(NamedTuple):
    """What is searched for, and where.

    Parameters
    ----------
    first, times
        Where: times ``[first, first + times)``.
    octaves
        Number of widths: 1, 2, 4 … 2^(octaves-1).
    threshold
        Least S/N.
    cell
        Times of which only the best boxcar is reported, counted from ``first``.
    """

    first: int
    times: int
    octaves: int
    threshold: float
    cell: int


def boxcar_peaks(
    series: NDArray[np.float32],
    trials: NDArray[np.int64],
    parts: tuple[int, int],
    scale: NDArray[np.float32],
    repeat: int,
    boxcars: Boxcars,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Find the best boxcar in each cell of time.

    A boxcar of width w that starts at t belongs to time ``t + w // 2``. Its S/N is its sum over its scatter after level
    and scatter of the series were brought to 0 and 1, both measured over the times that are searched alone. The scatter
    of wide boxcars is √w, or what independent boxcars of the series show if that is more (red noise).

    Parameters
    ----------
    series
        float32 ``[trial, part, time]``, C-contiguous.
    trials
        int64: rows of ``series`` that are searched.
    parts
        The sum over parts ``[parts[0], parts[1])`` is searched.
    scale
        float32 ``[ceil(time / repeat)]``: factor of the times ``[repeat i, repeat (i + 1))`` that gives them unit
        variance in theory; 0 where there is no data.
    repeat
        Times that share a factor.
    boxcars
        Widths, threshold and times.

    Returns
    -------
    trial, time, width, snr
        One entry for each cell and trial with a boxcar at or above the threshold, ordered by trial and time.

    Raises
    ------
    ValueError
        If shapes, types or layout are not these, or a boxcar leaves the series.
    """
    if series.dtype != np.float32 or series.ndim != 3 or not series.flags.c_contiguous:
        raise ValueError("series must be C-contiguous float32 [trial, part, time]")
    length = series.shape[2]
    if scale.dtype != np.float32 or scale.shape != (-(-length // repeat),):
        raise ValueError(f"scale must be float32 [{-(-length // repeat)}], is {scale.dtype} {scale.shape}")
    if not 0 <= parts[0] < parts[1] <= series.shape[1]:
        raise ValueError(f"parts {parts} are not in [0, {series.shape[1]}]")
    first, count, octaves, _, cell = boxcars
    half = (1 << octaves) // 4
    if octaves < 1 or count < 1 or cell < 1 or first < half or first + count + half > length:
        raise ValueError(f"boxcars of {octaves} octaves at [{first}, {first + count}) leave {length} times")
    trial, time, width, snr = _peaks(series, trials, parts, np.repeat(scale, repeat)[:length], boxcars)
    return trial, time, width, snr


@kernel
def _peaks(
    series: NDArray[np.float32],
    trials: NDArray[np.int64],
    parts: tuple[int, int],
    scale: NDArray[np.float32],
    boxcars: Boxcars,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    room = 64
    trial, time, width = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.int64)
    snr = np.empty(room, np.float32)
    line, sums, spare = np.empty_like(scale), np.empty_like(scale), np.empty_like(scale)
    best, wide = np.empty(boxcars.times, np.float32), np.empty(boxcars.times, np.int32)
    gaps = bool((scale == 0.0).any())
    found = 0
    for i in trials:
        if not _normalise(series[i, parts[0] : parts[1]], scale, gaps, boxcars, spare, line):
            continue
        if not _may_reach(line, boxcars, sums, spare):
            continue
        _best(line, scale, boxcars, sums, spare, best, wide)
        for start in range(0, boxcars.times, boxcars.cell):
            at = start
            for t in range(start, min(start + boxcars.cell, boxcars.times)):
                if best[t] > best[at]:
                    at = t
            if best[at] >= boxcars.threshold:
                if found == room:
                    trial, time = np.append(trial, np.empty_like(trial)), np.append(time, np.empty_like(time))
                    width, snr = np.append(width, np.empty_like(width)), np.append(snr, np.empty_like(snr))
                    room *= 2
                trial[found], time[found], width[found], snr[found] = i, boxcars.first + at, wide[at], best[at]
                found += 1
    return trial[:found], time[:found], width[:found], snr[:found]


@kernel
def _normalise(
    parts: NDArray[np.float32],
    scale: NDArray[np.float32],
    gaps: bool,
    boxcars: Boxcars,
    some: NDArray[np.float32],
    out: NDArray[np.float32],
) -> bool:
    # Adds the parts and brings level and scatter to 0 and 1; says whether there are any data.
    out[:] = 0.0
    for p in range(parts.shape[0]):
        part = parts[p]
        for t in range(out.size):
            out[t] += part[t] * scale[t]
    used = out[boxcars.first : boxcars.first + boxcars.times]
    if gaps:
        valid = 0
        for t in range(boxcars.first, boxcars.first + boxcars.times):
            if scale[t] > 0.0:
                some[valid] = out[t]
                valid += 1
        used = some[:valid]
    if used.size == 0:
        return False
    level, scatter = 0.0, 1.0
    if used.size >= LEAST_ROWS:
        level, scatter = level_scatter(used, _SAMPLE)
        scatter = max(scatter, LEAST_SCATTER)
    low, factor = np.float32(level), np.float32(1.0 / scatter)
    for t in range(out.size):
        out[t] = (out[t] - low) * factor
    if gaps:
        for t in range(out.size):
            out[t] = out[t] if scale[t] > 0.0 else np.float32(0.0)
    return True


@kernel
def _may_reach(
    line: NDArray[np.float32], boxcars: Boxcars, sums: NDArray[np.float32], spare: NDArray[np.float32]
) -> bool:
    # Whether any boxcar reaches the threshold with the least scatter it may have: almost no series does.
    sums[:] = line
    for octave in range(boxcars.octaves):
        w = 1 << octave
        if _double(sums, w, np.float32(boxcars.threshold * math.sqrt(w) * (1.0 - 1e-6)), spare) > 0.0:
            return True
        sums, spare = spare, sums
    return False


@kernel
def _double(narrow: NDArray[np.float32], w: int, limit: np.float32, wide: NDArray[np.float32]) -> np.float32:
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
def _best(
    line: NDArray[np.float32],
    scale: NDArray[np.float32],
    boxcars: Boxcars,
    sums: NDArray[np.float32],
    spare: NDArray[np.float32],
    best: NDArray[np.float32],
    wide: NDArray[np.int32],
) -> None:
    # S/N and width of the best boxcar at each time.
    first, count = boxcars.first, boxcars.times
    best[:] = 0.0
    wide[:] = 0
    sums[:] = line
    for octave in range(boxcars.octaves):
        w = 1 << octave
        if octave:
            _double(sums, w, np.float32(np.inf), spare)
            sums, spare = spare, sums
        factor = np.float32(1.0 / _scatter(sums, scale, first, count, w, spare))
        here = sums[first - w // 2 : first - w // 2 + count]
        for t in range(count):
            value = here[t] * factor
            better = value > best[t]
            best[t] = value if better else best[t]
            wide[t] = np.int32(w) if better else wide[t]


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
    measured = level_scatter(some[:independent], _SAMPLE)[1] * (1.0 - math.sqrt(0.5 / independent))
    return float(max(theory, measured))
