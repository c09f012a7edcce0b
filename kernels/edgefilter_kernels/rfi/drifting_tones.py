"""Drifting tones: narrow, there all the time, and in each channel for a part of it. A search for them wants them kept.

Such a tone fills a straight line in time and channel from one end of the block to the other. Interference that comes
and goes does not; and where it does for most of the time, it fills lines beside it, or the one that crosses it, too.
"""

import numpy as np
from numpy.typing import NDArray

from edgefilter_kernels.jit import kernel
from edgefilter_kernels.rfi.cell_statistics import ABOVE, GROUP, HIGH, LOW, RUN, SKY

DRIFT = 64
"""Mark of a cell in the place of RUN and HIGH: on the line of a drifting tone, and would be flagged for its power."""

STEPS = 127
"""Steps that a block is divided into at most: what two to a step add up to fits a byte."""
LEAST_STEPS = 24
"""With fewer, chance fills lines, or half of one that interference fills to the other half."""
STEEPEST = 2, 3
"""Channels in steps that a line may move."""
FILL, FILL_MANY = (3, 5), (9, 20)
"""Part of a line, and of one of many steps, that must be filled: of noise 0.16 are, of a tone of half a standard
deviation in a cell, which is now in one channel and now between two, 0.5 to 0.8."""
MANY_STEPS = 48
"""Steps that chance fills to that part no more."""
QUARTER, EVENLY = (7, 20), (3, 5)
"""Part of each quarter of a line that must be filled, and how much that is of what is of all of it: a tone that begins
late or ends early goes on and off, and chance fills some of what it left."""
QUIET = 2, 5
"""Part of the lines beside it that may be …"""
ASIDE = 3
"""… so many channels to either side: a wide transmitter fills these, too."""
CROSSED = 1, 4
"""Part of a line that must be filled beyond what is of the line that crosses it: a tone that stays fills both."""


def steps_of(groups: int) -> tuple[int, int]:
    """Return how many groups make a step, and how many steps are asked; the few groups that are left over are not."""
    size = max(2, -(-groups // (STEPS + 1)))
    steps = min(groups // size, STEPS)
    return size, steps if steps >= LEAST_STEPS else 0


def lines_of(groups: int, channels: int) -> tuple[int, int, int]:
    """Return how many channels lines move at most, how far outside of the band they begin, and how many begin.

    They move by ``-steepest`` to ``steepest``, and begin at channels ``-outside`` to ``channels + outside - 1``.
    """
    steepest = STEEPEST[0] * steps_of(groups)[1] // STEEPEST[1]
    outside = steepest // 2
    return steepest, outside, channels + 2 * outside if steepest else 0


@kernel
def _fill(steps: int) -> tuple[int, int]:
    return FILL_MANY if steps >= MANY_STEPS else FILL


@kernel
def _offset(moves: int, k: int, steps: int) -> int:
    """Channels that a line has moved in the middle of a step, rounded."""
    return int((moves * (2 * k + 1) + steps) // (2 * steps))


@kernel
def _level(
    groups: NDArray[np.uint8], live: NDArray[np.bool_], size: int, steps: int, room: int, levels: NDArray[np.uint8]
) -> None:
    """How much of each step is filled, 0 to 2: more than three eighths, more than five."""
    channels = groups.shape[1]
    number, event = np.empty(channels, np.int32), np.uint8(ABOVE)
    low, high, none, one = np.int32(3 * size // 8), np.int32(5 * size // 8), np.int32(0), np.int32(1)
    for k in range(steps):
        number[:] = none
        for n in range(k * size, k * size + size):
            row = groups[n]
            for c in range(channels):
                number[c] += one if row[c] & event else none
        out = levels[k, room : room + channels]
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
def _along(
    levels: NDArray[np.uint8], live: NDArray[np.bool_], room: int, begin: int, at: NDArray[np.int64], first: int,
    stop: int,
) -> tuple[int, int]:  # fmt: skip
    """Sum along the line that begins in a channel, in some steps, and what it would be if all of it were filled."""
    total, whole = 0, 0
    for k in range(first, stop):
        c = begin + at[k]
        if 0 <= c < len(live) and live[c]:
            total += levels[k, room + c]
            whole += 2
    return total, whole


@kernel
def _is_tone(
    levels: NDArray[np.uint8], live: NDArray[np.bool_], room: int, begin: int, moves: int, at: NDArray[np.int64]
) -> bool:
    steps = len(at)
    fill = _fill(steps)
    total, whole = _along(levels, live, room, begin, at, 0, steps)
    if whole < steps or fill[1] * total < fill[0] * whole:
        return False
    for quarter in range(4):
        first, stop = quarter * steps // 4, (quarter + 1) * steps // 4
        here, most = _along(levels, live, room, begin, at, first, stop)
        if QUARTER[1] * here < QUARTER[0] * most or EVENLY[1] * here * whole < EVENLY[0] * total * most:
            return False
    for aside in (-ASIDE, ASIDE):
        beside, most = _along(levels, live, room, begin + aside, at, 0, steps)
        if QUIET[1] * beside > QUIET[0] * most:
            return False
    back = np.empty(steps, np.int64)
    for k in range(steps):
        back[k] = _offset(-moves, k, steps)
    crossed, most = _along(levels, live, room, begin + moves, back, 0, steps)
    return bool(CROSSED[1] * (total * most - crossed * whole) >= CROSSED[0] * whole * most)


@kernel
def _may_be(
    total: NDArray[np.uint8], i: int, dead: NDArray[np.int64], room: int, begin: int, moves: int, steps: int
) -> bool:
    """Whether a line may be a tone's, by what is known already: few get further, also where much is filled."""
    fill = _fill(steps)
    low, high = room + begin + min(moves, 0), room + begin + max(moves, 0)
    gaps = (dead[high + 1] - dead[low]) * (steps // abs(moves) + 1)  # or fewer steps
    if fill[1] * total[i] < fill[0] * max(2 * (steps - gaps), steps):
        return False
    beside = max(total[i - ASIDE] if i >= ASIDE else 0, total[i + ASIDE] if i + ASIDE < len(total) else 0)
    return bool(QUIET[1] * beside <= QUIET[0] * 2 * steps)


@kernel
def _find_drifts(
    groups: NDArray[np.uint8], live: NDArray[np.bool_], size: int, steps: int, steepest: int, outside: int,
    hits: NDArray[np.uint8], start: int, stop: int,
) -> None:  # fmt: skip
    room = outside + steepest
    levels = np.zeros((-(-steps // 4) * 4, len(live) + 2 * room), np.uint8)
    _level(groups, live, size, steps, room, levels)
    dead = np.zeros(levels.shape[1] + 1, np.int64)
    for n in range(levels.shape[1]):
        dead[n + 1] = dead[n] + (0 if 0 <= n - room < len(live) and live[n - room] else 1)
    fill = _fill(steps)
    total, at, least = np.empty(hits.shape[1], np.uint8), np.empty(steps, np.int64), -(-fill[0] * steps // fill[1])
    for line in range(start, stop):
        hits[line] = np.uint8(0)
        moves = line - steepest
        for k in range(steps):
            at[k] = _offset(moves, k, steps)
        # A line that does not move is that of a carrier that comes and goes.
        if moves == 0 or _sum_lines(levels, steepest + at, total) < least:
            continue
        for i in range(len(total)):
            begin = i - outside
            if total[i] >= least and _may_be(total, i, dead, room, begin, moves, steps):
                hits[line, i] = np.uint8(_is_tone(levels, live, room, begin, moves, at))


def find_drifts(
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
        uint8 ``[group, channel]``, of which ABOVE is an event.
    live
        bool ``[channel]``: channels that can have events.
    hits
        Output, uint8 ``[1 + 2 steepest, line]``, in the order of :func:`lines_of`: 1 where the line is a tone's.
    start, stop
        Of the first axis of ``hits``.

    Raises
    ------
    ValueError
        If shapes or types do not fit together.
    """
    steepest, outside, number = lines_of(*groups.shape)
    if groups.dtype != np.uint8 or live.shape != groups.shape[1:] or hits.shape != (1 + 2 * steepest, number):
        raise ValueError(f"hits {hits.shape} and live {live.shape} do not go with {groups.dtype} groups {groups.shape}")
    if number:
        _find_drifts(groups, live, *steps_of(len(groups)), steepest, outside, hits, start, stop)


@kernel
def _mark_drifts(
    hits: NDArray[np.uint8], size: int, steps: int, steepest: int, outside: int, marks: NDArray[np.uint8], start: int,
    stop: int,
) -> None:  # fmt: skip
    channels = marks.shape[1]
    power, kept, drift = np.uint8(RUN | HIGH), np.uint8(LOW | SKY), np.uint8(DRIFT)
    for line in range(len(hits)):
        row = hits[line]
        if row.max() == np.uint8(0):
            continue
        for i in range(len(row)):
            for t in range(start, stop if row[i] else start):
                c = i - outside + _offset(line - steepest, t // (GROUP * size), steps)
                for near in range(max(c - 1, 0), min(c + 2, channels)):
                    mark = marks[t, near]
                    if mark & power and not mark & kept:
                        marks[t, near] = (mark & ~power) | drift


def mark_drifts(hits: NDArray[np.uint8], marks: NDArray[np.uint8], start: int, stop: int) -> None:
    """Mark as DRIFT what is RUN or HIGH within a channel of the lines that a tone fills, at times ``[start, stop)``.

    What is SKY is left as it is, and so is LOW: a tone so bright that its kurtosis is low is no faint one.

    Parameters
    ----------
    hits
        Of :func:`find_drifts`.
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
    groups = -(-len(marks) // GROUP)
    steepest, outside, number = lines_of(groups, marks.shape[1])
    if hits.shape != (1 + 2 * steepest, number):
        raise ValueError(f"hits {hits.shape} do not go with marks {marks.shape}")
    if number:
        _mark_drifts(hits, *steps_of(groups), steepest, outside, marks, start, stop)
