"""Drifting tones: narrow, there all the time, and in each channel for a part of it. A search for them wants them kept.

Such a tone fills a straight line in time and channel from one end of the block to the other. Interference that comes
and goes does not; and where it does for most of the time, it fills lines beside it, or the one that crosses it, too.
"""

import numpy as np
from numpy.typing import NDArray

from edgefilter_kernels.jit import kernel
from edgefilter_kernels.rfi.cell_statistics import DISPERSED, EVENT, GROUP_TIMES, HIGH_KURTOSIS, LOW_KURTOSIS, POWER_RUN

DRIFTING_TONE = 64
"""Mark of a cell in the place of POWER_RUN and HIGH_KURTOSIS: on the line of a drifting tone, which would be flagged
for its power."""

MAX_STEPS = 127
"""Steps that a block is divided into at most: what two to a step add up to fits a byte."""
MIN_STEPS = 24
"""With fewer, chance fills lines, or half of one that interference fills to the other half."""
MAX_SLOPE = 2, 3
"""Channels in steps that a line may move."""
MIN_FILL, MIN_FILL_LONG = (3, 5), (9, 20)
"""Part of a line, and of one of many steps, that must be filled: of noise 0.16 are, of a tone of half a standard
deviation in a cell, which is now in one channel and now between two, 0.5 to 0.8."""
MANY_STEPS = 48
"""Steps that chance fills to that part no more."""
MIN_QUARTER_FILL, MIN_QUARTER_RATIO = (7, 20), (3, 5)
"""Part of each quarter of a line that must be filled, and how much that is of what is of all of it: a tone that begins
late or ends early goes on and off, and chance fills some of what it left."""
MAX_SIDE_FILL = 2, 5
"""Part of the lines beside it that may be …"""
SIDE_OFFSET = 3
"""… so many channels to either side: a wide transmitter fills these, too."""
MIN_CONTRAST = 1, 4
"""Part of a line that must be filled beyond what is of the line that crosses it: a tone that stays fills both."""


def step_layout(groups: int) -> tuple[int, int]:
    """Return how many groups make a step, and how many steps are asked; the few groups that are left over are not."""
    size = max(2, -(-groups // (MAX_STEPS + 1)))
    steps = min(groups // size, MAX_STEPS)
    return size, steps if steps >= MIN_STEPS else 0


def line_layout(groups: int, channels: int) -> tuple[int, int, int]:
    """Return how many channels lines move at most, how far outside of the band they begin, and how many begin.

    They move by ``-max_drift`` to ``max_drift``, and begin at channels ``-margin_channels`` to
    ``channels + margin_channels - 1``.
    """
    max_drift = MAX_SLOPE[0] * step_layout(groups)[1] // MAX_SLOPE[1]
    margin_channels = max_drift // 2
    return max_drift, margin_channels, channels + 2 * margin_channels if max_drift else 0


@kernel
def _min_fill(steps: int) -> tuple[int, int]:
    return MIN_FILL_LONG if steps >= MANY_STEPS else MIN_FILL


@kernel
def _offset(drift_channels: int, k: int, steps: int) -> int:
    """Channels that a line has moved in the middle of a step, rounded."""
    return int((drift_channels * (2 * k + 1) + steps) // (2 * steps))


@kernel
def _fill_step_levels(
    groups: NDArray[np.uint8], live: NDArray[np.bool_], size: int, steps: int, padding: int, levels: NDArray[np.uint8]
) -> None:
    """How much of each step is filled, 0 to 2: more than three eighths, more than five."""
    channels = groups.shape[1]
    number, event = np.empty(channels, np.int32), np.uint8(EVENT)
    low, high, none, one = np.int32(3 * size // 8), np.int32(5 * size // 8), np.int32(0), np.int32(1)
    for k in range(steps):
        number[:] = none
        for n in range(k * size, k * size + size):
            row = groups[n]
            for c in range(channels):
                number[c] += one if row[c] & event else none
        out = levels[k, padding : padding + channels]
        for c in range(channels):
            level = (one if number[c] > low else none) + (one if number[c] > high else none)
            out[c] = level if live[c] else none


@kernel
def _sum_lines(levels: NDArray[np.uint8], at: NDArray[np.int64], total: NDArray[np.uint8]) -> int:
    """Sum up along all lines that move alike; return the largest sum."""
    number, last = len(total), len(at) - 1
    total[:] = np.uint8(0)
    for k in range(0, len(at), 4):  # four rows a time: sums are read and written less often
        a, b, c, d = at[k], at[min(k + 1, last)], at[min(k + 2, last)], at[min(k + 3, last)]
        one, two = levels[k, a : a + number], levels[k + 1, b : b + number]
        three, four = levels[k + 2, c : c + number], levels[k + 3, d : d + number]
        for i in range(number):
            total[i] += one[i] + two[i] + three[i] + four[i]
    return int(total.max())


@kernel
def _sum_line(
    levels: NDArray[np.uint8], live: NDArray[np.bool_], padding: int, begin: int, at: NDArray[np.int64], first: int,
    stop: int,
) -> tuple[int, int]:  # fmt: skip
    """Sum along the line that begins in a channel, in some steps, and what it would be if all of it were filled."""
    total, maximum = 0, 0
    for k in range(first, stop):
        c = begin + at[k]
        if 0 <= c < len(live) and live[c]:
            total += levels[k, padding + c]
            maximum += 2
    return total, maximum


@kernel
def _is_tone(
    levels: NDArray[np.uint8], live: NDArray[np.bool_], padding: int, begin: int, drift_channels: int,
    at: NDArray[np.int64],
) -> bool:  # fmt: skip
    steps = len(at)
    fill = _min_fill(steps)
    total, maximum = _sum_line(levels, live, padding, begin, at, 0, steps)
    if maximum < steps or fill[1] * total < fill[0] * maximum:
        return False
    for quarter in range(4):
        first, stop = quarter * steps // 4, (quarter + 1) * steps // 4
        here, most = _sum_line(levels, live, padding, begin, at, first, stop)
        if MIN_QUARTER_FILL[1] * here < MIN_QUARTER_FILL[0] * most:
            return False
        if MIN_QUARTER_RATIO[1] * here * maximum < MIN_QUARTER_RATIO[0] * total * most:
            return False
    for side in (-SIDE_OFFSET, SIDE_OFFSET):
        side_total, most = _sum_line(levels, live, padding, begin + side, at, 0, steps)
        if MAX_SIDE_FILL[1] * side_total > MAX_SIDE_FILL[0] * most:
            return False
    back = np.empty(steps, np.int64)
    for k in range(steps):
        back[k] = _offset(-drift_channels, k, steps)
    cross_total, most = _sum_line(levels, live, padding, begin + drift_channels, back, 0, steps)
    return bool(MIN_CONTRAST[1] * (total * most - cross_total * maximum) >= MIN_CONTRAST[0] * maximum * most)


@kernel
def _may_be_tone(
    total: NDArray[np.uint8], i: int, dead: NDArray[np.int64], padding: int, begin: int, drift_channels: int, steps: int
) -> bool:
    """Whether a line may be a tone's, by what is known already: few get further, also where much is filled."""
    fill = _min_fill(steps)
    low, high = padding + begin + min(drift_channels, 0), padding + begin + max(drift_channels, 0)
    gaps = (dead[high + 1] - dead[low]) * (steps // abs(drift_channels) + 1)  # or fewer steps
    if fill[1] * total[i] < fill[0] * max(2 * (steps - gaps), steps):
        return False
    left, right = i - SIDE_OFFSET, i + SIDE_OFFSET
    side_total = max(total[left] if left >= 0 else 0, total[right] if right < len(total) else 0)
    return bool(MAX_SIDE_FILL[1] * side_total <= MAX_SIDE_FILL[0] * 2 * steps)


@kernel
def _find_drifting_tones(
    groups: NDArray[np.uint8], live: NDArray[np.bool_], size: int, steps: int, max_drift: int, margin_channels: int,
    hits: NDArray[np.uint8], start: int, stop: int,
) -> None:  # fmt: skip
    padding = margin_channels + max_drift
    levels = np.zeros((-(-steps // 4) * 4, len(live) + 2 * padding), np.uint8)
    _fill_step_levels(groups, live, size, steps, padding, levels)
    dead = np.zeros(levels.shape[1] + 1, np.int64)
    for n in range(levels.shape[1]):
        dead[n + 1] = dead[n] + (0 if 0 <= n - padding < len(live) and live[n - padding] else 1)
    fill = _min_fill(steps)
    total, at, least = np.empty(hits.shape[1], np.uint8), np.empty(steps, np.int64), -(-fill[0] * steps // fill[1])
    for line in range(start, stop):
        hits[line] = np.uint8(0)
        drift_channels = line - max_drift
        for k in range(steps):
            at[k] = _offset(drift_channels, k, steps)
        # A line that does not move is that of a carrier that comes and goes.
        if drift_channels == 0 or _sum_lines(levels, max_drift + at, total) < least:
            continue
        for i in range(len(total)):
            begin = i - margin_channels
            if total[i] >= least and _may_be_tone(total, i, dead, padding, begin, drift_channels, steps):
                hits[line, i] = np.uint8(_is_tone(levels, live, padding, begin, drift_channels, at))


def find_drifting_tones(
    groups: NDArray[np.uint8], live: NDArray[np.bool_], hits: NDArray[np.uint8], start: int, stop: int
) -> None:
    """Find the lines that a drifting tone fills, of those that move by so many channels.

    0.45 of such a line are filled (0.6, if it has less than 48 steps); of each quarter 0.35, and three fifths of what
    is of all of it; of the lines 3 channels beside it, at most 0.4; and of the line that crosses it, from the channel
    where it ends to that where it begins, a quarter less. At least half of it must lie in live channels of the band;
    only what does counts.

    Parameters
    ----------
    groups
        uint8 ``[group, channel]``, of which EVENT is an event.
    live
        bool ``[channel]``: channels that can have events.
    hits
        Output, uint8 ``[1 + 2 max_drift, line]``, in the order of :func:`line_layout`: 1 where the line is a tone's.
    start, stop
        Of the first axis of ``hits``.

    Raises
    ------
    ValueError
        If shapes or types do not fit together.
    """
    max_drift, margin_channels, number = line_layout(*groups.shape)
    if groups.dtype != np.uint8 or live.shape != groups.shape[1:] or hits.shape != (1 + 2 * max_drift, number):
        raise ValueError(f"hits {hits.shape} and live {live.shape} do not go with {groups.dtype} groups {groups.shape}")
    if number:
        _find_drifting_tones(groups, live, *step_layout(len(groups)), max_drift, margin_channels, hits, start, stop)


@kernel
def _mark_drifting_tones(
    hits: NDArray[np.uint8], size: int, steps: int, max_drift: int, margin_channels: int, marks: NDArray[np.uint8],
    start: int, stop: int,
) -> None:  # fmt: skip
    channels = marks.shape[1]
    power, kept = np.uint8(POWER_RUN | HIGH_KURTOSIS), np.uint8(LOW_KURTOSIS | DISPERSED)
    drift = np.uint8(DRIFTING_TONE)
    for line in range(len(hits)):
        row = hits[line]
        if row.max() == np.uint8(0):
            continue
        for i in range(len(row)):
            for t in range(start, stop if row[i] else start):
                c = i - margin_channels + _offset(line - max_drift, t // (GROUP_TIMES * size), steps)
                for near in range(max(c - 1, 0), min(c + 2, channels)):
                    mark = marks[t, near]
                    if mark & power and not mark & kept:
                        marks[t, near] = (mark & ~power) | drift


def mark_drifting_tones(hits: NDArray[np.uint8], marks: NDArray[np.uint8], start: int, stop: int) -> None:
    """Mark as DRIFTING_TONE what is POWER_RUN or HIGH_KURTOSIS near the lines of tones, at times ``[start, stop)``.

    That is within a channel of them. What is DISPERSED is left as it is, and so is LOW_KURTOSIS: a tone so bright that
    its kurtosis is low is no faint one.

    Parameters
    ----------
    hits
        Of :func:`find_drifting_tones`.
    marks
        uint8 ``[time, channel]``, changed in place.
    start, stop
        Times to work on.

    Raises
    ------
    ValueError
        If shapes or types do not fit together.
    """
    if marks.ndim != 2 or marks.dtype != np.uint8:
        raise ValueError(f"marks are {marks.dtype} {marks.shape}, must be uint8 [time, channel]")
    groups = -(-len(marks) // GROUP_TIMES)
    max_drift, margin_channels, number = line_layout(groups, marks.shape[1])
    if hits.shape != (1 + 2 * max_drift, number):
        raise ValueError(f"hits {hits.shape} do not go with marks {marks.shape}")
    if number:
        _mark_drifting_tones(hits, *step_layout(groups), max_drift, margin_channels, marks, start, stop)
