"""Drifting tones: narrow-band signals that are on throughout a block, each in a channel for a part of it.

A search for such tones needs them, so that they are not flagged for their power. A drifting tone fills a straight line
in time and channel from one end of the block to the other. Intermittent interference does not; where it is on for most
of the time, it also fills lines beside that line, or the line that crosses it.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgefilter_kernels.jit import kernel
from edgefilter_kernels.rfi.cell_statistics import DISPERSED, EVENT, GROUP_TIMES, HIGH_KURTOSIS, LOW_KURTOSIS, POWER_RUN

DRIFTING_TONE = 64
"""Mark of a cell on the line of a drifting tone; it replaces POWER_RUN and HIGH_KURTOSIS."""

MAX_STEPS = 127
"""Most steps of a block: a sum of levels up to 2 fits a byte."""
MIN_STEPS = 24
"""Fewest steps: with fewer, chance fills lines, or the half of a line that interference does not fill."""
MAX_SLOPE = 2, 3
"""Steepest line, channels in steps."""
MIN_FILL, MIN_FILL_LONG = (3, 5), (9, 20)
"""Smallest filled fraction of a line, and of a line of many steps. In noise it is 0.16, of a tone of half a standard
deviation in a cell, which is now in one channel and now between two, 0.5 to 0.8."""
MANY_STEPS = 48
"""Fewest steps of a line for which MIN_FILL_LONG holds."""
MIN_QUARTER_FILL, MIN_QUARTER_RATIO = (7, 20), (3, 5)
"""Smallest filled fraction of each quarter of a line, and its smallest ratio to that of the whole line: a tone that
begins late or ends early is intermittent, and chance fills a part of the rest."""
MAX_SIDE_FILL = 2, 5
"""Largest filled fraction of the parallel lines at SIDE_OFFSET: a wide transmitter fills these too."""
SIDE_OFFSET = 3
"""Channels between a line and the parallel lines beside it."""
MIN_CONTRAST = 1, 4
"""Smallest difference of the filled fractions of a line and of the line that crosses it: a tone that does not drift
fills both."""


class LineLayout(NamedTuple):
    """The lines of a block, which drift by ``-max_drift`` to ``max_drift`` channels.

    Parameters
    ----------
    groups_per_step, steps
        Groups of times in a step, and steps of a line; groups that are left over are not used. A block that is too
        short has 0 steps, and no lines.
    max_drift
        Channels.
    margin
        Channels outside of the band in which lines begin: they begin in ``[-margin, channels + margin)``.
    lines
        Lines of each drift.
    """

    groups_per_step: int
    steps: int
    max_drift: int
    margin: int
    lines: int

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of an array ``[drift, line]`` of all lines."""
        return 1 + 2 * self.max_drift, self.lines


def line_layout(groups: int, channels: int) -> LineLayout:
    """Lay out the lines of a block.

    Parameters
    ----------
    groups, channels
        Size of the block.

    Returns
    -------
    LineLayout
        The lines.
    """
    size = max(2, -(-groups // (MAX_STEPS + 1)))
    steps = min(groups // size, MAX_STEPS)
    steps = steps if steps >= MIN_STEPS else 0
    max_drift = MAX_SLOPE[0] * steps // MAX_SLOPE[1]
    margin = max_drift // 2
    return LineLayout(size, steps, max_drift, margin, channels + 2 * margin if max_drift else 0)


@kernel
def _min_fill(steps: int) -> tuple[int, int]:
    return MIN_FILL_LONG if steps >= MANY_STEPS else MIN_FILL


@kernel
def _offset(drift_channels: int, k: int, steps: int) -> int:
    """Return the channels by which a line has drifted in the middle of a step, rounded."""
    return int((drift_channels * (2 * k + 1) + steps) // (2 * steps))


@kernel
def _fill_step_levels(
    groups: NDArray[np.uint8], live: NDArray[np.bool_], size: int, steps: int, padding: int, levels: NDArray[np.uint8]
) -> None:
    """Write the level of each step: 1 if more than three eighths of its groups have events, 2 if more than five."""
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
    """Sum along all lines of one drift; return the largest sum."""
    number, last = len(total), len(at) - 1
    total[:] = np.uint8(0)
    for k in range(0, len(at), 4):  # four rows at a time, so that sums are loaded and stored less often
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
    """Return the sum along a line in some steps, and the sum if all of its live channels were filled."""
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
    """Return whether a line passes all tests of a drifting tone."""
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
    """Return whether a line can pass, by quick bounds on the sums at hand: few lines do, also in a full band."""
    fill = _min_fill(steps)
    low, high = padding + begin + min(drift_channels, 0), padding + begin + max(drift_channels, 0)
    gaps = (dead[high + 1] - dead[low]) * (steps // abs(drift_channels) + 1)  # or fewer
    if fill[1] * total[i] < fill[0] * max(2 * (steps - gaps), steps):
        return False
    left, right = i - SIDE_OFFSET, i + SIDE_OFFSET
    side_total = max(total[left] if left >= 0 else 0, total[right] if right < len(total) else 0)
    return bool(MAX_SIDE_FILL[1] * side_total <= MAX_SIDE_FILL[0] * 2 * steps)


@kernel
def _find_drifting_tones(
    groups: NDArray[np.uint8], live: NDArray[np.bool_], layout: LineLayout, hits: NDArray[np.uint8],
    start: int, stop: int,
) -> None:  # fmt: skip
    size, steps, max_drift, margin, _ = layout
    padding = margin + max_drift
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
        # A line without drift is that of an intermittent carrier.
        if drift_channels == 0 or _sum_lines(levels, max_drift + at, total) < least:
            continue
        for i in range(len(total)):
            begin = i - margin
            if total[i] >= least and _may_be_tone(total, i, dead, padding, begin, drift_channels, steps):
                hits[line, i] = np.uint8(_is_tone(levels, live, padding, begin, drift_channels, at))


def check_drifting_tones(groups: NDArray[np.uint8], live: NDArray[np.bool_], hits: NDArray[np.uint8]) -> LineLayout:
    """Check that the arguments of :func:`find_drifting_tones` fit together.

    Parameters
    ----------
    groups, live, hits
        As of :func:`find_drifting_tones`, on the host or on a GPU.

    Returns
    -------
    LineLayout
        The lines of the block.

    Raises
    ------
    ValueError
        If shapes or types do not fit together.
    """
    layout = line_layout(*groups.shape)
    if groups.dtype != np.uint8 or live.shape != groups.shape[1:] or hits.shape != layout.shape:
        raise ValueError(f"hits {hits.shape} and live {live.shape} do not go with {groups.dtype} groups {groups.shape}")
    return layout


def check_drifting_marks(hits: NDArray[np.uint8], marks: NDArray[np.uint8]) -> LineLayout:
    """Check that the arguments of :func:`mark_drifting_tones` fit together.

    Parameters
    ----------
    hits, marks
        As of :func:`mark_drifting_tones`, on the host or on a GPU.

    Returns
    -------
    LineLayout
        The lines of the block.

    Raises
    ------
    ValueError
        If shapes or types do not fit together.
    """
    if marks.ndim != 2 or marks.dtype != np.uint8:
        raise ValueError(f"marks are {marks.dtype} {marks.shape}, must be uint8 [time, channel]")
    layout = line_layout(-(-len(marks) // GROUP_TIMES), marks.shape[1])
    if hits.shape != layout.shape:
        raise ValueError(f"hits {hits.shape} do not go with marks {marks.shape}")
    return layout


def find_drifting_tones(
    groups: NDArray[np.uint8], live: NDArray[np.bool_], hits: NDArray[np.uint8], start: int, stop: int
) -> None:
    """Find the lines that a drifting tone fills, for drifts ``[start, stop)``.

    The filled fraction of such a line is at least 0.45 (0.6, if it has fewer than 48 steps); that of each quarter at
    least 0.35, and three fifths of that of the line; that of the parallel lines 3 channels to either side at most 0.4;
    and that of the line that crosses it, from the channel where it ends to that where it begins, lower by a quarter. At
    least half of the line must lie in live channels of the band; only these count.

    Parameters
    ----------
    groups
        uint8 ``[group, channel]``: EVENT.
    live
        bool ``[channel]``: channels that can have events.
    hits
        Output, uint8 ``[drift, line]`` of :attr:`LineLayout.shape`: 1 where the line is a tone's.
    start, stop
        Rows of ``hits`` to work on.

    Raises
    ------
    ValueError
        If shapes or types do not fit together.
    """
    layout = check_drifting_tones(groups, live, hits)
    if layout.lines:
        _find_drifting_tones(groups, live, layout, hits, start, stop)


@kernel
def _mark_drifting_tones(
    hits: NDArray[np.uint8], layout: LineLayout, marks: NDArray[np.uint8], start: int, stop: int
) -> None:  # fmt: skip
    size, steps, max_drift, margin, _ = layout
    channels = marks.shape[1]
    power, kept = np.uint8(POWER_RUN | HIGH_KURTOSIS), np.uint8(LOW_KURTOSIS | DISPERSED)
    drift = np.uint8(DRIFTING_TONE)
    for line in range(len(hits)):
        row = hits[line]
        if row.max() == np.uint8(0):
            continue
        for i in range(len(row)):
            for t in range(start, stop if row[i] else start):
                c = i - margin + _offset(line - max_drift, t // (GROUP_TIMES * size), steps)
                for near in range(max(c - 1, 0), min(c + 2, channels)):
                    mark = marks[t, near]
                    if mark & power and not mark & kept:
                        marks[t, near] = (mark & ~power) | drift


def mark_drifting_tones(hits: NDArray[np.uint8], marks: NDArray[np.uint8], start: int, stop: int) -> None:
    """Replace POWER_RUN and HIGH_KURTOSIS by DRIFTING_TONE near the lines of tones, at times ``[start, stop)``.

    This holds within a channel of a line, but not for cells with DISPERSED, nor with LOW_KURTOSIS, which bright tones
    have.

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
    layout = check_drifting_marks(hits, marks)
    if layout.lines:
        _mark_drifting_tones(hits, layout, marks, start, stop)
