"""SumThreshold: runs of time whose sum stands out, however faint each sample of them is.

After Offringa et al. (2010, MNRAS 405, 155), along time alone. What a shorter window has marked counts as 0 for the
longer ones. A window says that there is a run, not where it ends: every run is then fitted to the samples, so that a
strong one does not drag its surroundings along, and the faint flanks of a strong one are found. A few vector registers
of channels at a time, data in the cache.
"""

import numpy as np
from numpy.typing import NDArray

from edgefilter_kernels.intensity import LANES
from edgefilter_kernels.jit import kernel

_SHARE = 0.5
"""Of a run's mean level, that its ends must exceed: half way between the run and nothing is the likeliest edge."""
_EDGE = 1.0
"""What suffices in any case, sigma: the end of a strong run may be faint."""
_GROW = 2.0
"""What suffices for samples beyond the windows, sigma: noise does it in 2 of 100 cases."""
_DROP = 2.0
"""By how much the sum above that level may fall, sigma, before a run that grows is at its end."""
_STEPS = 16.0
"""Levels of edges are multiples of 1/16 sigma: no rounding of a mean decides."""
_LONGEST_GAP = 4
"""Samples that may be missing in a run: what is off for longer is off."""


@kernel
def runs(
    values: NDArray[np.float32], windows: NDArray[np.int64], limits: NDArray[np.float32], high_bit: int, low_bit: int,
    grow: bool, marks: NDArray[np.uint8], left: NDArray[np.float32], hits: NDArray[np.uint8],
) -> None:  # fmt: skip
    """Mark the runs of one tile of :data:`LANES` channels, on both sides of 0; see :func:`sum_threshold`.

    Parameters
    ----------
    values
        float32 ``[time, lane]``.
    windows
        int64 ``[window]``, ascending.
    limits
        float32 ``[2, window]``: the sum must exceed the first, or fall below minus the second; infinite for never.
    high_bit, low_bit
        What to set in ``marks``.
    grow
        Whether runs may go on beyond the windows.
    marks
        uint8 ``[time, lane]``, changed in place.
    left, hits
        float32 and uint8 ``[time, lane]``, scratch.
    """
    left[:] = values
    for side in range(2):
        sign, bit = np.float32(1 - 2 * side), high_bit if side == 0 else low_bit
        found = False
        for j in range(len(windows)):
            limit = limits[side, j]
            if windows[j] > len(values) or limit == np.inf:
                continue
            if windows[j] == 1:
                found |= _single(left, limit, sign, bit, marks)
            elif _sums(left, windows[j], limit, sign, hits):
                _fill(left, windows[j], sign, bit, marks, hits)
                found = True
        if found:
            _fit(values, sign, bit, grow, marks, hits)
            _close(bit, marks, hits)


@kernel
def _single(values: NDArray[np.float32], limit: float, sign: float, bit: int, marks: NDArray[np.uint8]) -> bool:
    seen = np.zeros(LANES, np.uint8)
    none, mark, spent = np.uint8(0), np.uint8(bit), np.float32(0.0)
    for t in range(len(values)):
        for i in range(LANES):
            over = sign * values[t, i] > limit
            found = mark if over else none
            marks[t, i] |= found
            seen[i] |= found
            values[t, i] = spent if over else values[t, i]
    return bool(seen.max() != 0)


@kernel
def _sums(values: NDArray[np.float32], window: int, limit: float, sign: float, hits: NDArray[np.uint8]) -> bool:
    """Say at the end of which windows the sum is over the limit."""
    total = np.zeros(LANES, np.float32)
    seen = np.zeros(LANES, np.uint8)
    none, hit = np.uint8(0), np.uint8(1)
    first = window - 1
    for t in range(first):
        for i in range(LANES):
            total[i] += values[t, i]
    for t in range(first, len(values)):
        old = t - first
        for i in range(LANES):
            s = total[i] + values[t, i]
            over = hit if sign * s > limit else none
            hits[t, i] = over
            seen[i] |= over
            total[i] = s - values[old, i]
    return bool(seen.max() != 0)


@kernel
def _fill(
    values: NDArray[np.float32], window: int, sign: float, bit: int, marks: NDArray[np.uint8], hits: NDArray[np.uint8]
) -> None:
    """Mark all that lies in a window that is over the limit: from its end backwards in time."""
    left = np.zeros(LANES, np.int32)
    none, mark, zero, one, whole = np.uint8(0), np.uint8(bit), np.int32(0), np.int32(1), np.int32(window)
    first, nothing = window - 1, np.float32(0.0)
    for t in range(len(values) - 1, first - 1, -1):
        for i in range(LANES):
            n = whole if hits[t, i] != none else left[i] - one
            left[i] = n
            marks[t, i] |= mark if n > zero else none
            rest = sign * min(sign * values[t, i], nothing)
            values[t, i] = rest if n > zero else values[t, i]
    for t in range(first - 1, -1, -1):
        for i in range(LANES):
            n = left[i] - one
            left[i] = n
            marks[t, i] |= mark if n > zero else none
            rest = sign * min(sign * values[t, i], nothing)
            values[t, i] = rest if n > zero else values[t, i]


@kernel
def _fit(
    values: NDArray[np.float32], sign: float, bit: int, grow: bool, marks: NDArray[np.uint8], fitted: NDArray[np.uint8]
) -> None:
    """Let every run begin and end where its sum above the level of an edge is largest."""
    times = len(values)
    begin, before = np.full(LANES, -1, np.int64), np.zeros(LANES, np.int64)
    mark, none = np.uint8(bit), np.uint8(0)
    keep = np.uint8(255 - bit)
    fitted[:] = none
    for t in range(times + 1):
        change = none
        for i in range(LANES):
            here = marks[t, i] & mark if t < times else none
            change |= here ^ (mark if begin[i] >= 0 else none)
        if change == none:
            continue
        for i in range(LANES):
            here = t < times and marks[t, i] & mark != none
            if here and begin[i] < 0:
                begin[i] = t
            elif not here and begin[i] >= 0:
                level = _level(values, sign, i, begin[i], t)
                first, stop = _best_part(values, sign, i, begin[i], t, min(level, np.float32(_EDGE)))
                if grow:
                    edge = min(level, np.float32(_GROW))
                    first += _growth(values, sign, bit, marks, i, first - 1, before[i] - 1, -1, edge)
                    stop += _growth(values, sign, bit, marks, i, stop, times, 1, edge)
                for u in range(first, stop):
                    fitted[u, i] = mark
                begin[i], before[i] = -1, t
    for t in range(times):
        for i in range(LANES):
            marks[t, i] = (marks[t, i] & keep) | fitted[t, i]


@kernel
def _level(values: NDArray[np.float32], sign: float, i: int, first: int, stop: int) -> float:
    """Return the level of the edges of a run ``[first, stop)`` of lane ``i``."""
    total = np.float32(0.0)
    for t in range(first, stop):
        total += sign * values[t, i]
    level: float = np.rint(np.float32(_STEPS * _SHARE) * total / np.float32(stop - first)) / np.float32(_STEPS)
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
    values: NDArray[np.float32], sign: float, bit: int, marks: NDArray[np.uint8], i: int, first: int, stop: int,
    step: int, edge: float,
) -> int:  # fmt: skip
    """Say how far a run goes on from ``first`` on: to where its sum above ``edge`` is largest before it drops."""
    mark, none = np.uint8(bit), np.uint8(0)
    best, total, end = np.float32(0.0), np.float32(0.0), first
    for t in range(first, stop, step):
        total += sign * values[t, i] - edge
        if total < best - np.float32(_DROP) or marks[t, i] & mark != none:
            break
        if total > best:
            best, end = total, t + step
    return end - first


@kernel
def _close(bit: int, marks: NDArray[np.uint8], support: NDArray[np.uint8]) -> None:
    """Fill gaps inside a run: those that have twice their length of it on either side, and two samples at least."""
    near = np.zeros(LANES, np.int32)
    none, mark = np.uint8(0), np.uint8(bit)
    gain, loss, zero, enough = np.int32(1), np.int32(-2), np.int32(0), np.int32(2)
    most = np.int32(2 * _LONGEST_GAP)
    for t in range(len(marks)):
        for i in range(LANES):
            support[t, i] = near[i]
            near[i] = max(min(near[i] + (gain if marks[t, i] & mark else loss), most), zero)
    near[:] = zero
    for t in range(len(marks) - 1, -1, -1):
        for i in range(LANES):
            fill = (support[t, i] >= enough) & (near[i] >= enough)
            near[i] = max(min(near[i] + (gain if marks[t, i] & mark else loss), most), zero)
            marks[t, i] |= mark if fill else none


@kernel
def _sum_threshold(
    values: NDArray[np.float32], windows: NDArray[np.int64], thresholds: NDArray[np.float32], bit: int,
    marks: NDArray[np.uint8], start: int, stop: int,
) -> None:  # fmt: skip
    times = values.shape[0]
    tile = np.zeros((times, LANES), np.float32)
    found = np.zeros((times, LANES), np.uint8)
    hits = np.empty((times, LANES), np.uint8)
    left = np.empty_like(tile)
    limits = np.full((2, len(thresholds)), np.float32(np.inf))
    limits[0] = thresholds
    if start < 0:  # tells the compiler that no index counts from the end
        return
    for c0 in range(start, stop, LANES):
        lanes = min(LANES, stop - c0)
        for t in range(times):
            for i in range(lanes):
                tile[t, i] = values[t, c0 + i]
                found[t, i] = 0
        runs(tile, windows, limits, bit, 0, True, found, left, hits)
        for t in range(times):
            for i in range(lanes):
                marks[t, c0 + i] |= found[t, i]


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
    _sum_threshold(values, windows, thresholds, bit, marks, start, stop)
