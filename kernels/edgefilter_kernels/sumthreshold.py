"""SumThreshold: runs of time whose sum stands out, however faint each sample of them is.

After Offringa et al. (2010, MNRAS 405, 155), along time alone. What a shorter window has marked counts as 0 for the
longer ones. A window says that there is a run, not where it ends: every run is then fitted to the samples, so that a
strong one does not drag its surroundings along, and the faint flanks of a strong one are found. A few vector registers
of channels at a time, data in the cache.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefilter_kernels.intensity import LANES, masked
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
                if windows[j] < 256:  # bytes are counted four times as fast as words
                    _widen(windows[j], np.zeros(LANES, np.uint8), hits)
                else:
                    _widen(windows[j], np.zeros(LANES, np.uint32), hits)
                _fill(left, side, bit, marks, hits)
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
            hits[t, i] = none
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
def _widen(window: int, left: NDArray[Any], hits: NDArray[np.uint8]) -> None:
    """Turn the ends of windows into all that lies in them, 255 each; ``left`` is 0, of a type that holds ``window``."""
    none, whole, inside = left.dtype.type(0), left.dtype.type(window), np.uint8(255)
    one, miss = left.dtype.type(1), np.uint8(0)
    for back in range(len(hits)):
        row = hits[len(hits) - 1 - back]
        for i in range(LANES):
            less = left.dtype.type(left[i] - one) if left[i] != none else none
            n = whole if row[i] != miss else less
            left[i] = n
            row[i] = inside if n != none else miss


@kernel
def _fill(values: NDArray[np.float32], side: int, bit: int, marks: NDArray[np.uint8], hits: NDArray[np.uint8]) -> None:
    """Mark all that lies in a window that is over the limit, and let it count 0 from now on."""
    mark, miss, zero = np.uint8(bit), np.uint8(0), np.int32(0)
    number, found, inside = values.view(np.int32).reshape(-1), marks.reshape(-1), hits.reshape(-1)
    flip = np.int32(-side << 31)  # bits of a float: of the side that is looked at are those that are above 0 then
    for i in range(len(inside)):
        found[i] |= mark & inside[i]
    for i in range(len(inside)):
        number[i] &= ~masked(((number[i] ^ flip) > zero) & (inside[i] != miss))


@kernel
def _fit(
    values: NDArray[np.float32], sign: float, bit: int, grow: bool, marks: NDArray[np.uint8], fitted: NDArray[np.uint8]
) -> None:
    """Let every run begin and end where its sum above the level of an edge is largest."""
    times = len(values)
    begin, before = np.zeros(LANES, np.int64), np.zeros(LANES, np.int64)
    inside, outside = np.zeros(LANES, np.uint8), np.zeros(LANES, np.uint8)
    mark, none = np.uint8(bit), np.uint8(0)
    keep = np.uint8(255 - bit)
    fitted[:] = none
    for t in range(times + 1):
        row = marks[t] if t < times else outside
        change = none
        for i in range(LANES):
            change |= (row[i] ^ inside[i]) & mark
        if change == none:
            continue
        for i in range(LANES):
            if (row[i] ^ inside[i]) & mark == none:
                continue
            inside[i] ^= mark
            if inside[i] != none:
                begin[i] = t
            else:
                level = _level(values, sign, i, begin[i], t)
                first, stop = _best_part(values, sign, i, begin[i], t, min(level, np.float32(_EDGE)))
                if grow:
                    edge = min(level, np.float32(_GROW))
                    first += _growth(values, sign, bit, marks, i, first - 1, before[i] - 1, -1, edge)
                    stop += _growth(values, sign, bit, marks, i, stop, times, 1, edge)
                for u in range(first, stop):
                    fitted[u, i] = mark
                before[i] = t
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
    """Fill gaps inside a run: those that have twice their length of it on either side, and two samples at least.

    What is near grows by one with a sample of the run, to 8, and falls by two without: a gap is no longer than 4. It is
    as many bits of a byte.
    """
    near = np.zeros(LANES, np.uint8)
    none, mark, one, two = np.uint8(0), np.uint8(bit), np.uint8(1), np.uint8(2)
    for t in range(len(marks)):
        row, behind = marks[t], support[t]
        for i in range(LANES):
            n = near[i]
            behind[i] = n
            more, less = (n << one) | one, n >> two
            near[i] = less ^ ((more ^ less) & masked((row[i] & mark) != none))
    near[:] = none
    for back in range(len(marks)):
        row, behind = marks[len(marks) - 1 - back], support[len(marks) - 1 - back]
        for i in range(LANES):
            n = near[i]
            more, less = (n << one) | one, n >> two
            near[i] = less ^ ((more ^ less) & masked((row[i] & mark) != none))
            row[i] |= mark & masked((behind[i] & n & two) != none)


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
