"""The dispersion guard: events on a dispersion track that is filled over a part of the band belong to a pulse.

The band is divided into segments. For each of a few dispersion measures, the channels of a segment are aligned by their
delays, and those with an event nearby are counted. Where two neighbouring segments are filled by the same track, the
track is marked. Interference rarely fills one: it is narrower than two segments, or it arrives everywhere at once.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgefilter_kernels.jit import kernel
from edgefilter_kernels.rfi.cell_statistics import EVENT, IN_RUN
from edgefilter_kernels.rfi.channel_major import channel_major_zeros, count_on_tracks, double_window, to_channel_major

_MAX_SEGMENT_CHANNELS = 255  # counts are bytes


class DispersionTracks(NamedTuple):
    """The dispersion tracks of a band.

    Parameters
    ----------
    edges
        int64 ``[segment + 1]``: channels at which segments begin; at most 255 channels a segment.
    delays
        int32 ``[track, channel]``: delay of a channel after a common reference, in steps.
    first
        int32 ``[track, segment]``: smallest delay in a segment, from which the steps of a segment count. So a track is
        seen also if it entered the band before the data begin.
    log2_window
        int64 ``[track]``, never falling: an event counts within ``2^log2_window`` steps about the track.
    log2_smeared_window
        int64 ``[track]``: the same for the window that is marked, which includes the smearing from channel to channel.
    step
        Cells of a step.
    min_fill
        Fraction of the live channels of a segment that must have an event on a track.
    baseline_steps
        Steps to either side over which the number of events is averaged that lie on a track by chance.
    """

    edges: Any
    delays: Any
    first: Any
    log2_window: Any
    log2_smeared_window: Any
    step: int
    min_fill: float
    baseline_steps: int


@kernel
def _count_tracks(
    marks: NDArray[np.uint8], step: int, live: NDArray[np.bool_], tracks: DispersionTracks, counts: NDArray[np.uint8],
    start: int, stop: int,
) -> None:  # fmt: skip
    edges, delays, first, log2_window = tracks.edges, tracks.delays, tracks.first, tracks.log2_window
    n_tracks, steps, most = len(delays), counts.shape[2], np.diff(edges).max()
    wide, other = channel_major_zeros(most, steps), channel_major_zeros(most, steps)
    for g in range(start, stop):
        rows = np.flatnonzero(live[edges[g] : edges[g + 1]])
        shifts = np.empty((n_tracks, len(rows)), np.int32)
        to_channel_major(marks, IN_RUN | EVENT, step, edges[g], edges[g + 1], wide)
        have, late, s = 0, 0, 0
        while s < n_tracks:
            while have < log2_window[s]:
                length = 1 << have
                double_window(wide, steps, length, other)
                wide, other = other, wide
                late += length
                have += 1
            same = s
            while same < n_tracks and log2_window[same] <= have:
                for i in range(len(rows)):
                    shifts[same, i] = delays[same, edges[g] + rows[i]] - first[same, g] + late // 2
                same += 1
            count_on_tracks(wide, rows, shifts[s:same], counts[g, s:same])
            s = same


@kernel
def _find_tracks(
    counts: NDArray[np.uint8], tracks: DispersionTracks, n_live: NDArray[np.int64], hits: NDArray[np.uint8],
    start: int, stop: int,
) -> None:  # fmt: skip
    first, fill, half_window = tracks.first, tracks.min_fill, tracks.baseline_steps
    length = counts.shape[2]
    total = np.empty(length + 1, np.int64)
    one, none = np.uint8(1), np.uint8(0)
    for g in range(start, stop):
        n = n_live[g] + n_live[g + 1]
        need, need_next = np.uint8(np.ceil(fill * n_live[g])), np.uint8(np.ceil(fill * n_live[g + 1]))
        for s in range(counts.shape[1]):
            # A track can only fill both segments while it is in both.
            lag = first[s, g + 1] - first[s, g]
            begin, end = max(0, -lag), min(length, length - lag)
            hits[g, s] = none
            if begin >= end or need == none or need_next == none:
                continue
            here, there, hit = counts[g, s, begin:end], counts[g + 1, s, begin + lag : end + lag], hits[g, s, begin:end]
            found = none
            for t in range(len(hit)):
                hit[t] = one if (here[t] >= need) & (there[t] >= need_next) else none
                found |= hit[t]
            if found == none:
                continue
            total[0] = 0
            for t in range(len(hit)):
                total[t + 1] = total[t] + here[t] + there[t]
            for t in range(len(hit)):
                if hit[t]:
                    early, late = max(0, t - half_window), min(len(hit), t + half_window + 1)
                    usual = (total[late] - total[early]) / (late - early)
                    # Where many channels have events at all times, half of the others must have one in addition.
                    hit[t] = here[t] + there[t] >= usual + 0.5 * (n - usual)


def check_count_tracks(
    marks: NDArray[np.uint8], step: int, live: NDArray[np.bool_], tracks: DispersionTracks, counts: NDArray[np.uint8]
) -> None:
    """Check that the shapes of the arguments of :func:`count_tracks` fit together.

    Parameters
    ----------
    marks, step, live, tracks, counts
        As of :func:`count_tracks`, on the host or on a GPU.

    Raises
    ------
    ValueError
        If they do not.
    """
    times, channels = marks.shape
    n_tracks, segments = len(tracks.delays), len(tracks.edges) - 1
    if live.shape != (channels,) or tracks.delays.shape[1:] != (channels,) or tracks.log2_window.shape != (n_tracks,):
        raise ValueError(f"tracks {tracks.delays.shape} and live {live.shape} do not go with marks {marks.shape}")
    if counts.shape != (segments, n_tracks, -(-times // step)):
        raise ValueError(f"counts {counts.shape} do not go with {segments} segments of marks {marks.shape}")
    if tracks.first.shape != (n_tracks, segments):
        raise ValueError(f"first {tracks.first.shape} must be {(n_tracks, segments)}")


def check_find_tracks(
    counts: NDArray[np.uint8], tracks: DispersionTracks, n_live: NDArray[np.int64], hits: NDArray[np.uint8]
) -> None:
    """Check that the arguments of :func:`find_tracks` fit together.

    Parameters
    ----------
    counts, tracks, n_live, hits
        As of :func:`find_tracks`, on the host or on a GPU.

    Raises
    ------
    ValueError
        If shapes do not fit together.
    """
    segments, n_tracks, steps = counts.shape
    if n_live.shape != (segments,) or hits.shape != (segments - 1, n_tracks, steps):
        raise ValueError(f"hits {hits.shape} and n_live {n_live.shape} do not go with counts {counts.shape}")
    if tracks.first.shape != (n_tracks, segments):
        raise ValueError(f"first {tracks.first.shape} must be {(n_tracks, segments)}")


def count_tracks(
    marks: NDArray[np.uint8],
    step: int,
    live: NDArray[np.bool_],
    tracks: DispersionTracks,
    counts: NDArray[np.uint8],
    start: int,
    stop: int,
) -> None:
    """Count the channels of segments ``[start, stop)`` that have an event near a track.

    Parameters
    ----------
    marks
        uint8 ``[time, channel]``, of cells or of groups of them: POWER_RUN, RUN_HOLE and EVENT are events.
    step
        Times of ``marks`` in a step.
    live
        bool ``[channel]``: channels that can have events.
    tracks
        The tracks.
    counts
        Output, uint8 ``[segment, track, step]``; steps count from ``tracks.first``.
    start, stop
        Segments to work on.

    Raises
    ------
    ValueError
        If shapes do not fit together, or a segment is too wide.
    """
    edges = tracks.edges
    if not (marks.flags.c_contiguous and counts.flags.c_contiguous):
        raise ValueError("marks and counts must be C-contiguous")
    check_count_tracks(marks, step, live, tracks, counts)
    if edges[0] != 0 or edges[-1] != marks.shape[1] or np.any(np.diff(edges) > _MAX_SEGMENT_CHANNELS):
        raise ValueError(
            f"segments {edges.tolist()} must cover {marks.shape[1]} channels, at most {_MAX_SEGMENT_CHANNELS} each"
        )
    if np.any(np.diff(tracks.log2_window) < 0):
        raise ValueError("log2_window must not fall")
    _count_tracks(marks, step, live, tracks, counts, start, stop)


def find_tracks(
    counts: NDArray[np.uint8],
    tracks: DispersionTracks,
    n_live: NDArray[np.int64],
    hits: NDArray[np.uint8],
    start: int,
    stop: int,
) -> None:
    """Find the tracks that are filled in two neighbouring segments, for pairs that begin at ``[start, stop)``.

    Of the live channels of either segment, ``tracks.min_fill`` must have an event on the track. Where some channels
    have one at other times too, half of the others must have one in addition.

    Parameters
    ----------
    counts
        Of :func:`count_tracks`.
    tracks
        The tracks.
    n_live
        int64 ``[segment]``: live channels.
    hits
        Output, uint8 ``[segment - 1, track, step]``: 1 where segments g and g + 1 are filled; steps count from
        ``tracks.first`` of g.
    start, stop
        Pairs to work on.

    Raises
    ------
    ValueError
        If shapes do not fit together.
    """
    check_find_tracks(counts, tracks, n_live, hits)
    _find_tracks(counts, tracks, n_live, hits, start, stop)
