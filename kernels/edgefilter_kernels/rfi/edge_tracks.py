"""The dispersion guard at the ends of the data: sweeps that an end cuts before they have filled two segments.

The runs of power of such a sweep follow each other: backwards, channel by channel, from the channel in which the end
cuts the sweep, they begin later or earlier as a track says. At the end of the data the begins of runs are compared, at
the start of the data their ends, since nothing else is known of the run that is cut. Both cases are the same if times
are counted from the other end: ``side`` 0 is the end of the data, 1 its start.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgefilter_kernels.jit import kernel
from edgefilter_kernels.rfi.cell_statistics import DISPERSED, IN_RUN, KURTOSIS_DIP
from edgefilter_kernels.rfi.dispersed_marks import MAX_DIP_FRACTION, MAX_DIP_SIGMA
from edgefilter_kernels.rfi.dispersion_tracks import DispersionTracks

MIN_FILLED = 8
"""Channels in which runs must follow the track; two are enough if all channels up to the edge of the band follow."""
MIN_FILL = 0.75
"""Fraction of the channels, from the cut to the last one that follows, in which runs must follow the track."""
MAX_MISSED = 2
"""Largest number of neighbouring channels in which no run follows; more are the end of the sweep."""
MIN_SWEEP = 4
"""Tolerances that the track must take over these channels: runs that begin everywhere at once are no sweep."""


class EdgeLimits(NamedTuple):
    """Limits of the sweeps that are followed.

    Parameters
    ----------
    tolerance
        Times by which a run may be off the track.
    slack
        Times before the cut in which a faint sweep may have no run yet.
    max_channels
        Channels through which a track is followed.
    """

    tolerance: int
    slack: int
    max_channels: int


@kernel
def _is_run(marks: NDArray[np.uint8], side: int, at: int, c: int) -> bool:
    times = marks.shape[0]
    return 0 <= at < times and bool(marks[at if side == 0 else times - 1 - at, c] & np.uint8(IN_RUN))


@kernel
def _last_run(marks: NDArray[np.uint8], side: int, c: int, since: int, longest: int) -> int:
    """Return where a channel's last run begins, if it lasts to ``since`` or later; otherwise -1."""
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
    """Return begin and end of a run of at most ``longest`` that begins within ``tolerance`` of ``at``, or (0, 0)."""
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
    marks: NDArray[np.uint8], tracks: DispersionTracks, live: NDArray[np.bool_], longest: NDArray[np.int64],
    limits: EdgeLimits, cut: tuple[int, int, int, int, int], mark: bool,
) -> bool:  # fmt: skip
    """Follow a track from the channel that the end cuts; mark the runs on it, or return whether they are a sweep's.

    ``cut`` is the side, the track, the channel, the time at which its run begins, and the direction to follow.
    """
    side, s, c0, begin, direction = cut
    times, channels = marks.shape
    delay = tracks.delays[s]
    seen, filled, n_checked, missed, swept, n_cells, dips = 0, 0, 0, 0, 0, 0, 0
    c = c0
    while 0 <= c < channels and n_checked < limits.max_channels and missed <= MAX_MISSED:
        if live[c]:
            lag = tracks.step * abs(delay[c] - delay[c0])
            first, stop = _run_near(marks, side, c, begin - lag, limits.tolerance, longest[c])
            n_checked += 1
            missed += 1
            if stop > first:
                missed = 0
                filled, seen, swept = filled + 1, n_checked, lag
                for at in range(first, stop):
                    t = at if side == 0 else times - 1 - at
                    n_cells += 1
                    dips += 1 if marks[t, c] & np.uint8(KURTOSIS_DIP) else 0
                    if mark:
                        marks[t, c] |= np.uint8(DISPERSED)
        c += direction
    whole = not 0 <= c < channels and missed == 0
    sigma = np.sqrt(MAX_DIP_FRACTION * (1 - MAX_DIP_FRACTION) * n_cells)
    tones = dips > MAX_DIP_FRACTION * n_cells + MAX_DIP_SIGMA * sigma
    many = filled >= MIN_FILLED or (whole and filled > 1)
    return many and filled >= MIN_FILL * seen and swept >= MIN_SWEEP * limits.tolerance and not tones


@kernel
def _mark_edge_tracks(
    marks: NDArray[np.uint8], tracks: DispersionTracks, live: NDArray[np.bool_], longest: NDArray[np.int64],
    limits: EdgeLimits, start: int, stop: int,
) -> None:  # fmt: skip
    times, channels = marks.shape
    delays, step = tracks.delays, tracks.step
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
            begin = _last_run(marks, side, c, times - longest_lag - limits.slack, longest[c])
            for s in range(len(delays) if begin >= 0 else 0):
                # The track is cut here if, in the next channel, it begins after the end of the data.
                cut = side, s, c, begin, direction
                if begin + step * abs(delays[s, neighbour] - delays[s, c]) + limits.slack >= times and _follow_track(
                    marks, tracks, live, longest, limits, cut, False
                ):
                    _follow_track(marks, tracks, live, longest, limits, cut, True)


def check_edge_tracks(
    marks: NDArray[np.uint8], tracks: DispersionTracks, live: NDArray[np.bool_], longest: NDArray[np.int64]
) -> None:
    """Check that the arguments of :func:`mark_edge_tracks` fit together.

    Parameters
    ----------
    marks, tracks, live, longest
        As of :func:`mark_edge_tracks`, on the host or on a GPU.

    Raises
    ------
    ValueError
        If shapes or types do not fit together.
    """
    if marks.ndim != 2 or marks.dtype != np.uint8:
        raise ValueError(f"marks are {marks.dtype} {marks.shape}, must be uint8 [time, channel]")
    if not live.shape == longest.shape == tracks.delays.shape[1:] == marks.shape[1:]:
        raise ValueError(f"tracks {tracks.delays.shape} and live {live.shape} do not go with marks {marks.shape}")


def mark_edge_tracks(
    marks: NDArray[np.uint8],
    tracks: DispersionTracks,
    live: NDArray[np.bool_],
    longest: NDArray[np.int64],
    limits: EdgeLimits,
    start: int,
    stop: int,
) -> None:
    """Mark as DISPERSED the runs of power of sweeps that an end of the data cuts in channels ``[start, stop)``.

    Parameters
    ----------
    marks
        uint8 ``[time, channel]``: POWER_RUN, RUN_HOLE and KURTOSIS_DIP are used; changed in place, also in other
        channels.
    tracks
        The tracks, with delays monotonic in the channel and longest in the last track.
    live
        bool ``[channel]``: channels that can have runs.
    longest
        int64 ``[channel]``: times of the longest run that may be a sweep's.
    limits
        Limits of the sweeps.
    start, stop
        Channels to work on.

    Raises
    ------
    ValueError
        If shapes or types do not fit together.
    """
    check_edge_tracks(marks, tracks, live, longest)
    _mark_edge_tracks(marks, tracks, live, longest, limits, start, stop)
