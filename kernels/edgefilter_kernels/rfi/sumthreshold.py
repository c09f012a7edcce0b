"""SumThreshold: find runs of samples in time whose sum exceeds a limit, even where each sample is faint.

The method is that of Offringa et al. (2010, MNRAS 405, 155), along time only. Samples that a shorter window has marked
count as 0 for the longer windows. A window shows that there is a run, not where it ends: each run is then fitted to the
samples, so that a strong run does not take its surroundings with it, and its faint flanks are found. The kernels work
on a few vector registers of channels at a time, with data in the cache.

The lengths of the windows are chosen in :mod:`edgefilter.stages.rfi.sumthreshold`.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgefilter_kernels.jit import kernel
from edgefilter_kernels.rfi.intensity import LANES
from edgefilter_kernels.simd.bitmask64 import (
    PREFETCH_TIMES,
    clear_above,
    clear_below,
    first_bit,
    prefetch_range,
    single_above,
    single_below,
    spread_row,
    sums_above,
    sums_below,
    thread_scratch,
)  # fmt: skip

_LaneCounts = tuple[np.uint64, np.uint64, np.uint64, np.uint64, np.uint64, np.uint64, np.uint64, np.uint64]

_EDGE_FRACTION = 0.5
"""Fraction of a run's mean level that is the level of its edges: half way between the run and no signal."""
_MAX_EDGE = 1.0
"""Highest edge level inside the windows, sigma: the end of a strong run may be faint."""
_GROWTH_EDGE = 2.0
"""Highest edge level beyond the windows, sigma: 2 % of noise samples exceed it."""
_STRONG_LEVEL = 4.0
"""Mean level of a run of separate pulses, sigma: from this level on, samples in it that are like noise are holes."""
_NOISE_LEVEL = 1.0
"""Level below which a sample is like noise, sigma."""
_MAX_DROP = 2.0
"""Drop of the sum above the edge level, sigma, at which a run stops to grow."""
_EDGE_STEPS = 16.0
"""Steps of edge levels per sigma: with coarse steps, the rounding of a mean does not change an edge."""


class RunWindows(NamedTuple):
    """Windows of SumThreshold and their limits.

    Parameters
    ----------
    lengths
        int64 ``[window]``, ascending: samples.
    limits
        float32 ``[2, window]``: the sum over a window must exceed the first, or fall below minus the second; infinite
        for never.
    """

    lengths: Any
    limits: Any


@kernel
def find_runs(
    values: NDArray[np.float32], windows: RunWindows, grow: bool, found: NDArray[np.uint64],
    holes: NDArray[np.uint64], remaining: NDArray[np.float32], scratch_planes: NDArray[np.uint64],
) -> None:  # fmt: skip
    """Find the runs of one tile of :data:`LANES` channels, on both sides of 0; see :func:`sum_threshold`.

    Parameters
    ----------
    values
        float32 ``[time, lane]``.
    windows
        Windows and limits.
    grow
        Whether runs may go on beyond the windows.
    found
        Output, uint64 ``[2, time]``: a plane of bits a side, see :mod:`edgefilter_kernels.simd.bitmask64`.
    holes
        Output, as ``found``: samples of strong runs that are like noise.
    remaining, scratch_planes
        float32 ``[time, lane]`` and uint64 ``[2, time]``, scratch.
    """
    lengths, limits = windows
    remaining[:] = values
    for side in range(2):
        plane, none = found[side], np.uint64(0)
        plane[:] = none
        holes[side] = none
        some = False
        for j in range(len(lengths)):
            limit = limits[side, j]
            if lengths[j] > len(values) or limit == np.inf:
                continue
            inside = _windows_over_limit(remaining, lengths[j], limit, side, scratch_planes)
            any_ = none
            for t in range(len(plane)):
                plane[t] |= inside[t]
                any_ |= inside[t]
            if any_ != none:
                some = True
                if lengths[j] > 1 and side == 0:
                    clear_above(remaining, len(values), inside)
                elif lengths[j] > 1:
                    clear_below(remaining, len(values), inside)
        if some:
            sign = np.float32(1 - 2 * side)
            _fit_runs(values, sign, grow, plane, scratch_planes[0], holes[side])
            _close_gaps(scratch_planes[0], scratch_planes[1], plane)
            _find_holes(values, sign, scratch_planes[0], plane, holes[side])


@kernel
def _windows_over_limit(
    values: NDArray[np.float32], window: int, limit: np.float32, side: int, scratch_planes: NDArray[np.uint64]
) -> NDArray[np.uint64]:
    """Return the plane of samples in windows whose sum exceeds the limit; a window of 1 sets its samples to 0."""
    times = len(values)
    if window == 1:
        if side == 0:
            single_above(values, times, limit, values, scratch_planes[0])
        else:
            single_below(values, times, limit, values, scratch_planes[0])
        ends: NDArray[np.uint64] = scratch_planes[0]
        return ends
    if side == 0:
        sums_above(values, times, window, limit, scratch_planes[0])
    else:
        sums_below(values, times, window, limit, scratch_planes[0])
    any_ = np.uint64(0)
    for t in range(times):
        any_ |= scratch_planes[0, t]
    # Extend the ends of windows to whole windows, by doubling.
    now, other = scratch_planes[0], scratch_planes[1]
    reach = 1
    while any_ and reach < window:
        step = min(reach, window - reach)
        for t in range(times - step):
            other[t] = now[t] | now[t + step]
        other[times - step :] = now[times - step :]
        now, other = other, now
        reach += step
    inside: NDArray[np.uint64] = now
    return inside


@kernel
def _fit_runs(
    values: NDArray[np.float32], sign: float, grow: bool, marks: NDArray[np.uint64], fitted: NDArray[np.uint64],
    holes: NDArray[np.uint64],
) -> None:  # fmt: skip
    """Fit each run's begin and end to where its sum above the edge level is largest."""
    times = len(values)
    begin, before = np.zeros(LANES, np.int64), np.zeros(LANES, np.int64)
    one, inside, none = np.uint64(1), np.uint64(0), np.uint64(0)
    fitted[:] = none
    for t in range(times + 1):
        row = marks[t] if t < times else none
        change = row ^ inside
        while change != none:
            i = first_bit(change)
            lane = one << np.uint64(i)
            change ^= lane
            if row & lane != none:
                begin[i] = t
                continue
            level = _edge_level(values, sign, i, begin[i], t)
            first, stop = _best_part(values, sign, i, begin[i], t, min(level, np.float32(_MAX_EDGE)))
            if level >= np.float32(_EDGE_FRACTION * _STRONG_LEVEL):
                for u in range(first, stop):
                    if sign * values[u, i] < np.float32(_NOISE_LEVEL):
                        holes[u] |= lane
            if grow:
                edge = min(level, np.float32(_GROWTH_EDGE))
                first += _growth(values, sign, i, marks, (first - 1, before[i] - 1, -1), edge)
                stop += _growth(values, sign, i, marks, (stop, times, 1), edge)
            for u in range(first, stop):
                fitted[u] |= lane
            before[i] = t
        inside = row


@kernel
def _edge_level(values: NDArray[np.float32], sign: float, i: int, first: int, stop: int) -> float:
    """Return the edge level of a run ``[first, stop)`` of lane ``i``."""
    total = np.float32(0.0)
    for t in range(first, stop):
        total += sign * values[t, i]
    steps = np.rint(np.float32(_EDGE_STEPS * _EDGE_FRACTION) * total / np.float32(stop - first))
    level: float = steps / np.float32(_EDGE_STEPS)
    return level


@kernel
def _best_part(values: NDArray[np.float32], sign: float, i: int, first: int, stop: int, edge: float) -> tuple[int, int]:
    """Find the part of a run whose sum above ``edge`` is largest."""
    begin, end, start = first, first, first
    best, total = np.float32(0.0), np.float32(0.0)
    for t in range(first, stop):
        total += sign * values[t, i] - edge
        if total <= 0:
            total, start = np.float32(0.0), t + 1
        elif total > best:
            best, begin, end = total, start, t + 1
    return begin, end


@kernel
def _growth(
    values: NDArray[np.float32], sign: float, i: int, marks: NDArray[np.uint64], times: tuple[int, int, int],
    edge: float,
) -> int:  # fmt: skip
    """Return how far a run grows along a range of times: to where its sum above ``edge`` is largest before it drops."""
    first, stop, step = times
    lane, none = np.uint64(1) << np.uint64(i), np.uint64(0)
    best, total, end = np.float32(0.0), np.float32(0.0), first
    for t in range(first, stop, step):
        total += sign * values[t, i] - edge
        if total < best - np.float32(_MAX_DROP) or marks[t] & lane != none:
            break
        if total > best:
            best, end = total, t + step
    return end - first


@kernel
def _count_neighbours(row: np.uint64, near: _LaneCounts) -> _LaneCounts:
    """Update each lane's count, 0 to 8, of run samples nearby: one more with a sample of the run, two less without.

    A count is the number of set bits of a lane in the eight words.
    """
    a, b, c, d, e, f, g, h = near
    out = ~row
    return (
        row | (out & c), (row & a) | (out & d), (row & b) | (out & e), (row & c) | (out & f), (row & d) | (out & g),
        (row & e) | (out & h), row & f, row & g,
    )  # fmt: skip


@kernel
def _close_gaps(marks: NDArray[np.uint64], behind: NDArray[np.uint64], closed: NDArray[np.uint64]) -> None:
    """Fill gaps inside a run: those with at least two run samples, and twice their length of them, on either side.

    A filled gap is no longer than 4 samples, since counts end at 8.
    """
    none = np.uint64(0)
    nothing = (none, none, none, none, none, none, none, none)
    near = nothing
    for t in range(len(marks)):
        behind[t] = near[1]
        if marks[t] | near[0] != none:
            near = _count_neighbours(marks[t], near)
    near = nothing
    for back in range(len(marks)):
        t = len(marks) - 1 - back
        closed[t] = marks[t] | (behind[t] & near[1])
        if marks[t] | near[0] != none:
            near = _count_neighbours(marks[t], near)


@kernel
def _find_holes(
    values: NDArray[np.float32], sign: float, fitted: NDArray[np.uint64], closed: NDArray[np.uint64],
    holes: NDArray[np.uint64],
) -> None:  # fmt: skip
    """Find holes among the filled gaps: noise-like samples between two pairs of samples with a strong mean."""
    none, one = np.uint64(0), np.uint64(1)
    for t in range(len(closed)):
        gaps = closed[t] & ~fitted[t]
        while gaps != none:
            i = first_bit(gaps)
            lane = one << np.uint64(i)
            gaps ^= lane
            if sign * values[t, i] >= np.float32(_NOISE_LEVEL):
                continue
            a, b = t - 1, t + 1
            while fitted[a] & lane == none:
                a -= 1
            while fitted[b] & lane == none:
                b += 1
            beside = values[a - 1, i] + values[a, i] + values[b, i] + values[b + 1, i]
            if sign * beside >= np.float32(4 * _STRONG_LEVEL):
                holes[t] |= lane


@kernel
def _sum_threshold(
    values: NDArray[np.float32], windows: RunWindows, bit: int, marks: NDArray[np.uint8],
    scratch: tuple[NDArray[np.float32], NDArray[np.uint64]], start: int, stop: int,
) -> None:  # fmt: skip
    times = values.shape[0]
    tiles, planes = scratch
    tile, remaining = tiles[0], tiles[1]
    tile[:] = np.float32(0.0)
    row = np.empty(LANES, np.uint8)
    if start < 0:  # tells the compiler that no index counts from the end
        return
    for c0 in range(start, stop, LANES):
        lanes = min(LANES, stop - c0)
        for t in range(times):
            prefetch_range(values, (t + PREFETCH_TIMES) * values.shape[1] + c0, lanes)
            source, target = values[t, c0 : c0 + lanes], tile[t]
            for i in range(len(source)):
                target[i] = source[i]
        find_runs(tile, windows, True, planes[:2], planes[2:4], remaining, planes[4:6])
        for t in range(times):
            if planes[0, t] != np.uint64(0):
                spread_row((planes[0, t],), (bit,), row, 0)
                found = marks[t, c0 : c0 + lanes]
                for i in range(len(found)):
                    found[i] |= row[i]


def check_sum_threshold(
    values: NDArray[np.float32], windows: NDArray[np.int64], thresholds: NDArray[np.float32], marks: NDArray[np.uint8]
) -> None:
    """Check that the arguments of :func:`sum_threshold` fit together.

    Parameters
    ----------
    values, windows, thresholds, marks
        As of :func:`sum_threshold`, on the host or on a GPU.

    Raises
    ------
    ValueError
        If shapes or types do not fit together.
    """
    if values.shape != marks.shape or windows.shape != thresholds.shape or values.ndim != 2:
        raise ValueError(f"values {values.shape}, marks {marks.shape} and windows {windows.shape} do not fit together")
    if values.dtype != np.float32 or marks.dtype != np.uint8 or thresholds.dtype != np.float32:
        raise ValueError("values and thresholds must be float32 and marks uint8")


def sum_threshold(
    values: NDArray[np.float32],
    windows: NDArray[np.int64],
    thresholds: NDArray[np.float32],
    bit: int,
    marks: NDArray[np.uint8],
    start: int,
    stop: int,
) -> None:
    """Mark runs of time in channels ``[start, stop)`` whose sum exceeds the threshold of their length.

    Parameters
    ----------
    values
        float32 ``[time, channel]``, finite, in standard deviations of noise of mean 0; unused samples are 0.
    windows
        int64 ``[window]``, ascending lengths of runs.
    thresholds
        float32 ``[window]``: of the sum over a window, in which samples that a shorter window has marked count as 0. A
        run begins and ends where its sum above half its mean level is largest; short gaps in it are filled.
    bit
        Mark of a run.
    marks
        uint8 ``[time, channel]``, changed in place.
    start, stop
        Channels to work on.

    Raises
    ------
    ValueError
        If shapes or types do not fit together.
    """
    check_sum_threshold(values, windows, thresholds, marks)
    if np.any(np.diff(windows) <= 0) or np.any(windows < 1):
        raise ValueError(f"windows {windows.tolist()} must ascend from 1 or more")
    limits = np.stack([thresholds, np.full_like(thresholds, np.inf)])
    _sum_threshold(values, RunWindows(windows, limits), bit, marks, thread_scratch(len(values)), start, stop)
