"""Sweeps that an end of the data cuts before they have crossed enough of the band for the guard to see them.

What tells such a sweep is how its runs of power follow each other: from the channel in which the end cuts it, channel
by channel backwards, the runs begin later or earlier by what a track says. At the end of the data their beginnings are
compared, at its start their ends, as nothing else of the run that is cut is known. Both are the same if time and
channels are counted from the end that cuts: here ``side`` 0 is the end of the data, 1 its start.
"""

import numpy as np
from numpy.typing import NDArray

from edgefilter_kernels.jit import kernel
from edgefilter_kernels.rfi.cell_statistics import DISPERSED, IN_RUN, KURTOSIS_DIP
from edgefilter_kernels.rfi.dispersion_tracks import MAX_DIP_FRACTION, MAX_DIP_SIGMA

MIN_FILLED = 8
"""Channels in which runs must follow the track; two are enough if they are all that lie between cut and band's edge."""
MIN_FILL = 0.75
"""Part of the channels, from the cut to the last that follows, in which they must."""
MAX_MISSED = 2
"""Channels next to each other in which no run follows: there the sweep ends."""
MIN_SWEEP = 4
"""Tolerances that the track must take from the first to the last of them: what comes at once everywhere is no sweep."""


@kernel
def _is_run(marks: NDArray[np.uint8], side: int, at: int, c: int) -> bool:
    times = marks.shape[0]
    return 0 <= at < times and bool(marks[at if side == 0 else times - 1 - at, c] & np.uint8(IN_RUN))


@kernel
def _last_run(marks: NDArray[np.uint8], side: int, c: int, since: int, longest: int) -> int:
    """Where the last run of a channel begins, if it goes on to ``since`` or later; -1 if there is none."""
    at = marks.shape[0] - 1
    while at >= since and not _is_run(marks, side, at, c):
        at -= 1
    if at < max(since, 0):
        return -1
    last = at
    while last - at < longest and _is_run(marks, side, at - 1, c):
        at -= 1
    return at if last - at < longest else -1


@kernel
def _run_near(marks: NDArray[np.uint8], side: int, c: int, at: int, tolerance: int, longest: int) -> tuple[int, int]:
    """Begin and end of a run of at most ``longest`` that begins within ``tolerance`` of ``at``; equal if none does."""
    for first in range(max(at - tolerance, 0), min(at + tolerance + 1, marks.shape[0])):
        if _is_run(marks, side, first, c) and not _is_run(marks, side, first - 1, c):
            stop = first + 1
            while stop - first <= longest and _is_run(marks, side, stop, c):
                stop += 1
            if stop - first <= longest:
                return first, stop
    return 0, 0


@kernel
def _follow_track(
    marks: NDArray[np.uint8], side: int, step: int, tolerance: int, max_channels: int, live: NDArray[np.bool_],
    longest: NDArray[np.int64], delay: NDArray[np.int32], c0: int, begin: int, direction: int, mark: bool,
) -> bool:  # fmt: skip
    """Follow a track from the channel that the end cuts; mark the runs on it, or say whether it is a sweep's."""
    times, channels = marks.shape
    seen, filled, n_checked, missed, swept, cells, dips = 0, 0, 0, 0, 0, 0, 0
    c = c0
    while 0 <= c < channels and n_checked < max_channels and missed <= MAX_MISSED:
        if live[c]:
            lag = step * abs(delay[c] - delay[c0])
            first, stop = _run_near(marks, side, c, begin - lag, tolerance, longest[c])
            n_checked += 1
            missed += 1
            if stop > first:
                missed = 0
                filled, seen, swept = filled + 1, n_checked, lag
                for at in range(first, stop):
                    t = at if side == 0 else times - 1 - at
                    cells += 1
                    dips += 1 if marks[t, c] & np.uint8(KURTOSIS_DIP) else 0
                    if mark:
                        marks[t, c] |= np.uint8(DISPERSED)
        c += direction
    whole = not 0 <= c < channels and missed == 0
    tones = dips > MAX_DIP_FRACTION * cells + MAX_DIP_SIGMA * np.sqrt(MAX_DIP_FRACTION * (1 - MAX_DIP_FRACTION) * cells)
    many = filled >= MIN_FILLED or (whole and filled > 1)
    return many and filled >= MIN_FILL * seen and swept >= MIN_SWEEP * tolerance and not tones


@kernel
def _mark_edge_tracks(
    marks: NDArray[np.uint8], step: int, tolerance: int, slack: int, max_channels: int, live: NDArray[np.bool_],
    longest: NDArray[np.int64], delays: NDArray[np.int32], start: int, stop: int,
) -> None:  # fmt: skip
    times, channels = marks.shape
    if not len(delays):
        return
    falls = delays[-1, -1] >= delays[-1, 0]
    for side in range(2):
        direction = -1 if falls == (side == 0) else 1
        for c in range(start, stop):
            neighbour = c - direction
            while 0 <= neighbour < channels and not live[neighbour]:
                neighbour -= direction
            if not live[c] or not 0 <= neighbour < channels:
                continue
            longest_lag = step * abs(delays[-1, neighbour] - delays[-1, c])
            begin = _last_run(marks, side, c, times - longest_lag - slack, longest[c])
            for s in range(len(delays) if begin >= 0 else 0):
                # In the next channel it would begin when the data have ended.
                if begin + step * abs(delays[s, neighbour] - delays[s, c]) + slack >= times and _follow_track(
                    marks, side, step, tolerance, max_channels, live, longest, delays[s], c, begin, direction, False
                ):
                    _follow_track(
                        marks, side, step, tolerance, max_channels, live, longest, delays[s], c, begin, direction, True
                    )


def mark_edge_tracks(
    marks: NDArray[np.uint8],
    step: int,
    tolerance: int,
    slack: int,
    max_channels: int,
    live: NDArray[np.bool_],
    longest: NDArray[np.int64],
    delays: NDArray[np.int32],
    start: int,
    stop: int,
) -> None:
    """Mark as DISPERSED the runs of power of sweeps that an end of the data cuts in channels ``[start, stop)``.

    Parameters
    ----------
    marks
        uint8 ``[time, channel]``, of which POWER_RUN, RUN_HOLE and KURTOSIS_DIP are asked; changed in place, also in
        other channels.
    step
        Times of a step of ``delays``.
    tolerance
        Times by which a run may be off the track.
    slack
        Times before the cut in which a faint sweep may have no run yet.
    max_channels
        Channels that a track is followed through.
    live
        bool ``[channel]``: channels that can have runs.
    longest
        int64 ``[channel]``: times of the longest run that may be a sweep's.
    delays
        int32 ``[track, channel]``: as of :func:`edgefilter_kernels.rfi.dispersion_tracks.count_tracks`, monotonic in
        the channel; those of the last track are the longest.
    start, stop
        Channels to work on.

    Raises
    ------
    ValueError
        If shapes or types do not fit together.
    """
    if marks.ndim != 2 or marks.dtype != np.uint8:
        raise ValueError(f"marks are {marks.dtype} {marks.shape}, must be uint8 [time, channel]")
    if not live.shape == longest.shape == delays.shape[1:] == marks.shape[1:]:
        raise ValueError(f"tracks {delays.shape} and live {live.shape} do not go with marks {marks.shape}")
    _mark_edge_tracks(marks, step, tolerance, slack, max_channels, live, longest, delays, start, stop)
