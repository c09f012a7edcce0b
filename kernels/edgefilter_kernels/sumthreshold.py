"""SumThreshold: runs of time whose sum stands out, however faint each sample of them is.

After Offringa et al. (2010, MNRAS 405, 155), along time alone. What a shorter window has marked counts as 0 for the
longer ones, and the ends of a run must stand out themselves, so that a strong sample does not drag its surroundings
along. A few vector registers of channels at a time, data in the cache.
"""

import numpy as np
from numpy.typing import NDArray

from edgefilter_kernels.intensity import LANES
from edgefilter_kernels.jit import kernel

_SPENT = 1e-6  # what is left of a sample that is marked: its sign says whether it stood out itself
_EDGE = 0.5
"""What the first and the last sample of a run must exceed themselves: noise does it in 31 of 100 cases."""


@kernel
def runs(
    values: NDArray[np.float32], windows: NDArray[np.int64], limits: NDArray[np.float32], high_bit: int, low_bit: int,
    marks: NDArray[np.uint8], hits: NDArray[np.uint8],
) -> None:  # fmt: skip
    """Mark the runs of one tile of :data:`LANES` channels, on both sides of 0; see :func:`sum_threshold`.

    Parameters
    ----------
    values
        float32 ``[time, lane]``; of those that are marked only whether they stood out themselves is left.
    windows
        int64 ``[window]``, ascending.
    limits
        float32 ``[2, window]``: the sum must exceed the first, or fall below minus the second; infinite for never.
    high_bit, low_bit
        What to set in ``marks``.
    marks
        uint8 ``[time, lane]``, changed in place.
    hits
        uint8 ``[time, lane]``, scratch.
    """
    for side in range(2):
        sign, bit = np.float32(1 - 2 * side), high_bit if side == 0 else low_bit
        found = False
        for j in range(len(windows)):
            limit = limits[side, j]
            if windows[j] > len(values) or limit == np.inf:
                continue
            if windows[j] == 1:
                found |= _single(values, limit, sign, bit, marks)
            elif _sums(values, windows[j], limit, sign, hits):
                _fill(values, windows[j], sign, bit, marks, hits)
                found = True
        if found:
            _trim(values, sign, bit, marks)
            _close(bit, marks, hits)


@kernel
def _single(values: NDArray[np.float32], limit: float, sign: float, bit: int, marks: NDArray[np.uint8]) -> bool:
    seen = np.zeros(LANES, np.uint8)
    none, mark, spent = np.uint8(0), np.uint8(bit), sign * np.float32(_SPENT)
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
    first = window - 1
    edge, spent, zero_level = np.float32(_EDGE), np.float32(_SPENT), np.float32(0.0)
    for t in range(len(values) - 1, first - 1, -1):
        for i in range(LANES):
            n = whole if hits[t, i] != none else left[i] - one
            left[i] = n
            v = sign * values[t, i]
            marks[t, i] |= mark if n > zero else none
            rest = spent if (v > edge) | (v == spent) else (-spent if v >= zero_level else v)
            values[t, i] = sign * rest if n > zero else values[t, i]
    for t in range(first - 1, -1, -1):
        for i in range(LANES):
            n = left[i] - one
            left[i] = n
            v = sign * values[t, i]
            marks[t, i] |= mark if n > zero else none
            rest = spent if (v > edge) | (v == spent) else (-spent if v >= zero_level else v)
            values[t, i] = sign * rest if n > zero else values[t, i]


@kernel
def _trim(values: NDArray[np.float32], sign: float, bit: int, marks: NDArray[np.uint8]) -> None:
    """Take from either end of a run the samples that do not stand out themselves."""
    inside = np.zeros(LANES, np.uint8)
    none, mark, zero = np.uint8(0), np.uint8(bit), np.float32(0.0)
    keep = np.uint8(255 - bit)
    last = len(values) - 1
    for step in range(2):
        inside[:] = none
        for n in range(last + 1):
            t = n if step == 0 else last - n
            for i in range(LANES):
                here = marks[t, i] & mark
                here = none if (inside[i] == none) & (sign * values[t, i] < zero) else here
                inside[i] = here
                marks[t, i] = (marks[t, i] & keep) | here


@kernel
def _close(bit: int, marks: NDArray[np.uint8], support: NDArray[np.uint8]) -> None:
    """Fill gaps inside a run: those that have twice their length of it on either side, and two samples at least."""
    near = np.zeros(LANES, np.int32)
    none, mark = np.uint8(0), np.uint8(bit)
    gain, loss, zero, most, enough = np.int32(1), np.int32(-2), np.int32(0), np.int32(255), np.int32(2)
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
        runs(tile, windows, limits, bit, 0, found, hits)
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
        float32 ``[window]``: of the sum over a window, in which what a shorter window has marked counts as 0. The first
        and last sample of a run that is marked exceeds 0.5; short gaps in a run are filled.
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
