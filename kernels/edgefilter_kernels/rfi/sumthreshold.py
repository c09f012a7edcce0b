"""SumThreshold: runs of time whose sum stands out, however faint each sample of them is.

After Offringa et al. (2010, MNRAS 405, 155), along time alone. What a shorter window has marked counts as 0 for the
longer ones. A window says that there is a run, not where it ends: every run is then fitted to the samples, so that a
strong one does not drag its surroundings along, and the faint flanks of a strong one are found. A few vector registers
of channels at a time, data in the cache.
"""

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
"""Of a run's mean level, that its ends must exceed: half way between the run and nothing is the likeliest edge."""
_MAX_EDGE = 1.0
"""What suffices in any case, sigma: the end of a strong run may be faint."""
_GROWTH_EDGE = 2.0
"""What suffices for samples beyond the windows, sigma: noise does it in 2 of 100 cases."""
_STRONG_LEVEL = 4.0
"""Mean level of a run, sigma, from which on a sample of it that is like noise is a hole: the run is of pulses."""
_NOISE_LEVEL = 1.0
"""What a hole is below, sigma."""
_MAX_DROP = 2.0
"""By how much the sum above that level may fall, sigma, before a run that grows is at its end."""
_EDGE_STEPS = 16.0
"""Levels of edges are multiples of 1/16 sigma: no rounding of a mean decides."""


@kernel
def find_runs(
    values: NDArray[np.float32], windows: NDArray[np.int64], limits: NDArray[np.float32], grow: bool,
    found: NDArray[np.uint64], holes: NDArray[np.uint64], remaining: NDArray[np.float32],
    scratch_planes: NDArray[np.uint64],
) -> None:  # fmt: skip
    """Find the runs of one tile of :data:`LANES` channels, on both sides of 0; see :func:`sum_threshold`.

    Parameters
    ----------
    values
        float32 ``[time, lane]``.
    windows
        int64 ``[window]``, ascending.
    limits
        float32 ``[2, window]``: the sum must exceed the first, or fall below minus the second; infinite for never.
    grow
        Whether runs may go on beyond the windows.
    found
        Output, uint64 ``[2, time]``: a plane of bits a side, see :mod:`edgefilter_kernels.simd.bitmask64`.
    holes
        Output, as ``found``: what of it is like noise in the midst of what is strong.
    remaining, scratch_planes
        float32 ``[time, lane]`` and uint64 ``[2, time]``, scratch.
    """
    remaining[:] = values
    for side in range(2):
        plane, none = found[side], np.uint64(0)
        plane[:] = none
        holes[side] = none
        some = False
        for j in range(len(windows)):
            limit = limits[side, j]
            if windows[j] > len(values) or limit == np.inf:
                continue
            inside = _windows_over_limit(remaining, windows[j], limit, side, scratch_planes)
            any_ = none
            for t in range(len(plane)):
                plane[t] |= inside[t]
                any_ |= inside[t]
            if any_ != none:
                some = True
                if windows[j] > 1 and side == 0:
                    clear_above(remaining, len(values), inside)
                elif windows[j] > 1:
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
    """Return the plane of what lies in a window whose sum is over the limit; single values count 0 from now on."""
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
    # From ends of windows to all that lies in them, by doubling.
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
    """Let every run begin and end where its sum above the level of an edge is largest."""
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
                first += _growth(values, sign, lane, marks, i, first - 1, before[i] - 1, -1, edge)
                stop += _growth(values, sign, lane, marks, i, stop, times, 1, edge)
            for u in range(first, stop):
                fitted[u] |= lane
            before[i] = t
        inside = row


@kernel
def _edge_level(values: NDArray[np.float32], sign: float, i: int, first: int, stop: int) -> float:
    """Return the level of the edges of a run ``[first, stop)`` of lane ``i``."""
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
    values: NDArray[np.float32], sign: float, lane: np.uint64, marks: NDArray[np.uint64], i: int, first: int, stop: int,
    step: int, edge: float,
) -> int:  # fmt: skip
    """Say how far a run goes on from ``first`` on: to where its sum above ``edge`` is largest before it drops."""
    none = np.uint64(0)
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
    """Count, to 8 for each lane, how much of a run is near: one more with a sample of it, two less without.

    A count is as many bits of the eight words.
    """
    a, b, c, d, e, f, g, h = near
    out = ~row
    return (
        row | (out & c), (row & a) | (out & d), (row & b) | (out & e), (row & c) | (out & f), (row & d) | (out & g),
        (row & e) | (out & h), row & f, row & g,
    )  # fmt: skip


@kernel
def _close_gaps(marks: NDArray[np.uint64], behind: NDArray[np.uint64], closed: NDArray[np.uint64]) -> None:
    """Fill gaps inside a run: those that have twice their length of it on either side, and two samples at least.

    A gap is no longer than 4: no more than 8 is counted.
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
    """Find holes among the gaps that were filled: between two samples and two that are strong in the mean."""
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
    values: NDArray[np.float32], windows: NDArray[np.int64], thresholds: NDArray[np.float32], bit: int,
    marks: NDArray[np.uint8], tiles: NDArray[np.float32], planes: NDArray[np.uint64], start: int, stop: int,
) -> None:  # fmt: skip
    times = values.shape[0]
    tile, remaining = tiles[0], tiles[1]
    tile[:] = np.float32(0.0)
    limits = np.full((2, len(thresholds)), np.float32(np.inf))
    limits[0] = thresholds
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
        find_runs(tile, windows, limits, True, planes[:2], planes[2:4], remaining, planes[4:6])
        for t in range(times):
            if planes[0, t] != np.uint64(0):
                spread_row((planes[0, t],), (bit,), row, 0)
                found = marks[t, c0 : c0 + lanes]
                for i in range(len(found)):
                    found[i] |= row[i]


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
        float32 ``[time, channel]``, finite, about 0 where there is nothing. What must not count is 0.
    windows
        int64 ``[window]``, ascending lengths of runs.
    thresholds
        float32 ``[window]``: of the sum over a window, in which what a shorter window has marked counts as 0. A run
        begins and ends where its sum above half its mean level is largest; short gaps in it are filled.
    bit
        What to set in ``marks``.
    marks
        uint8 ``[time, channel]``, changed in place.
    start, stop
        Channels to work on.

    Raises
    ------
    ValueError
        If shapes or types do not fit together.
    """
    if values.shape != marks.shape or windows.shape != thresholds.shape or values.ndim != 2:
        raise ValueError(f"values {values.shape}, marks {marks.shape} and windows {windows.shape} do not fit together")
    if values.dtype != np.float32 or marks.dtype != np.uint8 or thresholds.dtype != np.float32:
        raise ValueError("values and thresholds must be float32 and marks uint8")
    if np.any(np.diff(windows) <= 0) or np.any(windows < 1):
        raise ValueError(f"windows {windows.tolist()} must ascend from 1 or more")
    _sum_threshold(values, windows, thresholds, bit, marks, *thread_scratch(len(values)), start, stop)
