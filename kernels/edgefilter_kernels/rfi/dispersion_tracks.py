"""The dispersion guard: events that lie on a dispersion track, filled across a stretch of the band, are a pulse's.

The band is cut into segments. For each of a few delays per channel, the channels of a segment are lined up and those
that have an event near are counted. Where two neighbouring segments are filled by the same track, the track is marked.
Interference does that rarely: it is narrower than two segments, or arrives everywhere at once.
"""

import numpy as np
from numpy.typing import NDArray

from edgefilter_kernels.jit import kernel
from edgefilter_kernels.rfi.cell_statistics import DISPERSED, EVENT, IN_RUN, KURTOSIS_DIP
from edgefilter_kernels.rfi.channel_major import (
    STEP_PADDING,
    channel_major_zeros,
    count_on_tracks,
    double_window,
    mark_from_channel_major,
    to_channel_major,
)

MAX_DIP_FRACTION = 0.2
"""Part of the events on a track that may have a tone's low kurtosis by chance, generously: 0.15 of a pulse's have."""
MAX_DIP_SIGMA = 3.0
"""By how much more must, in standard deviations of that number, for the track to be a chirp's."""

_MIN_COVERED = 0.6
"""Part of a run that must lie on tracks for the run to be the sky's."""


@kernel
def _or_shifted_row(row: NDArray[np.uint8], shift: int, total: NDArray[np.uint8]) -> None:
    first, last = max(0, shift), min(len(total), len(row) + shift)
    if first < last:
        source, target = row[first - shift : last - shift], total[first:last]
        for t in range(len(target)):
            target[t] |= source[t]


@kernel
def _any(row: NDArray[np.uint8]) -> bool:
    found = np.uint8(0)
    for t in range(len(row)):
        found |= row[t]
    return bool(found != np.uint8(0))


@kernel
def _count_tracks(
    marks: NDArray[np.uint8], bits: int, step: int, live: NDArray[np.bool_], edges: NDArray[np.int64],
    delays: NDArray[np.int32], first: NDArray[np.int32], log2_window: NDArray[np.int64], counts: NDArray[np.uint8],
    start: int, stop: int,
) -> None:  # fmt: skip
    tracks, steps, most = len(delays), counts.shape[2], np.diff(edges).max()
    wide, other = channel_major_zeros(most, steps), channel_major_zeros(most, steps)
    for g in range(start, stop):
        rows = np.flatnonzero(live[edges[g] : edges[g + 1]])
        shifts = np.empty((tracks, len(rows)), np.int32)
        to_channel_major(marks, bits, step, edges[g], edges[g + 1], wide)
        have, late, s = 0, 0, 0
        while s < tracks:
            while have < log2_window[s]:
                length = 1 << have
                double_window(wide, steps, length, other)
                wide, other = other, wide
                late += length
                have += 1
            same = s
            while same < tracks and log2_window[same] <= have:
                for i in range(len(rows)):
                    shifts[same, i] = delays[same, edges[g] + rows[i]] - first[same, g] + late // 2
                same += 1
            count_on_tracks(wide, rows, shifts[s:same], counts[g, s:same])
            s = same


@kernel
def _find_tracks(
    counts: NDArray[np.uint8], first: NDArray[np.int32], n_live: NDArray[np.int64], fill: float, half_window: int,
    hits: NDArray[np.uint8], start: int, stop: int,
) -> None:  # fmt: skip
    length = counts.shape[2]
    total = np.empty(length + 1, np.int64)
    one, none = np.uint8(1), np.uint8(0)
    for g in range(start, stop):
        n = n_live[g] + n_live[g + 1]
        need, need_next = np.uint8(np.ceil(fill * n_live[g])), np.uint8(np.ceil(fill * n_live[g + 1]))
        for s in range(counts.shape[1]):
            # Only while the track is in both segments can it be seen to fill them.
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
                    # Where much goes on anyway, much must lie on the track: half of what could come on top.
                    hit[t] = here[t] + there[t] >= usual + 0.5 * (n - usual)


@kernel
def _drop_crossings(run: NDArray[np.uint8], on_track: NDArray[np.uint8]) -> None:
    """Forget a track where it merely crosses a run that goes on for longer: then the run is not the pulse's.

    Both end and begin with 0.
    """
    t, none = 0, np.uint8(0)
    eights = on_track.view(np.uint64)
    while t < len(on_track):
        if t % 8 == 0 and eights[t // 8] == np.uint64(0):
            t += 8
        elif on_track[t] & run[t] == none:
            t += 1
        else:
            first, covered = t, 0
            while run[first - 1]:
                first -= 1
            while run[t]:
                covered += on_track[t]
                t += 1
            if covered < _MIN_COVERED * (t - first):
                on_track[first:t] = none


@kernel
def _drop_tones(
    hits: NDArray[np.uint8], step: int, edges: NDArray[np.int64], delays: NDArray[np.int32], first: NDArray[np.int32],
    log2_window: NDArray[np.int64], live: NDArray[np.bool_], marks: NDArray[np.uint8], start: int, stop: int,
) -> None:  # fmt: skip
    times = marks.shape[0]
    event, low = np.uint8(IN_RUN | EVENT), np.uint8(KURTOSIS_DIP)
    for g in range(start, stop):
        for s in range(hits.shape[1]):
            before, cells = (1 << log2_window[s]) // 2, step << log2_window[s]
            if not _any(hits[g, s]):
                continue
            for u in np.flatnonzero(hits[g, s]):
                events, dips = 0, 0
                for c in range(edges[g], edges[g + 2]):
                    begin = step * (u + delays[s, c] - first[s, g] - before)
                    for t in range(max(begin, 0), min(begin + cells, times) if live[c] else 0):
                        if marks[t, c] & event:
                            events += 1
                            dips += 1 if marks[t, c] & low else 0
                sigma = np.sqrt(MAX_DIP_FRACTION * (1 - MAX_DIP_FRACTION) * events)
                if dips > MAX_DIP_FRACTION * events + MAX_DIP_SIGMA * sigma:
                    hits[g, s, u] = 0


@kernel
def _mark_tracks(
    hits: NDArray[np.uint8], step: int, edges: NDArray[np.int64], delays: NDArray[np.int32], first: NDArray[np.int32],
    log2_window: NDArray[np.int64], marks: NDArray[np.uint8], start: int, stop: int,
) -> None:  # fmt: skip
    pairs, length, most = hits.shape[0], hits.shape[2], np.diff(edges).max()
    # A step counts from when the track enters this segment; a segment before, the track may enter it before the data.
    room = length
    wide = np.empty((1, 3 * length + 2 * STEP_PADDING), np.uint8)
    other = np.empty_like(wide)
    on_track, run_rows = channel_major_zeros(most, length), channel_major_zeros(most, length)
    for g in range(start, stop):
        c0, c1 = edges[g], edges[g + 1]
        if c0 < 0:  # tells the compiler that no index counts from the end
            return
        filled = False
        for s in range(len(delays)):
            # The segments next to a filled pair, too: a burst may end in the middle of one.
            near = range(max(g - 2, 0), min(g + 2, pairs))
            some = False
            for pair in near:
                some |= _any(hits[pair, s])
            if not some:
                continue
            wide[:] = 0
            for pair in near:
                _or_shifted_row(hits[pair, s], STEP_PADDING + room + first[s, g] - first[s, pair], wide[0])
            filled = True
            # One doubling more than for the events: what is near an event belongs to it.
            late = 0
            for d in range(log2_window[s] + 1):
                double_window(wide, 3 * length, 1 << d, other)
                wide, other = other, wide
                late += 1 << d
            for c in range(c0, c1):
                shift = delays[s, c] - first[s, g] - room - late // 2
                row = on_track[c - c0, STEP_PADDING : STEP_PADDING + length]
                _or_shifted_row(wide[0, STEP_PADDING : STEP_PADDING + 3 * length], shift, row)
        if filled:
            to_channel_major(marks, IN_RUN, step, c0, c1, run_rows)
            for c in range(c1 - c0):
                _drop_crossings(run_rows[c], on_track[c])
            mark_from_channel_major(on_track, step, c0, c1, DISPERSED, marks)
            on_track[:] = 0


def count_tracks(
    marks: NDArray[np.uint8],
    bits: int,
    step: int,
    live: NDArray[np.bool_],
    edges: NDArray[np.int64],
    delays: NDArray[np.int32],
    first: NDArray[np.int32],
    log2_window: NDArray[np.int64],
    counts: NDArray[np.uint8],
    start: int,
    stop: int,
) -> None:
    """Count the channels of segments ``[start, stop)`` that have an event near a track.

    Parameters
    ----------
    marks
        uint8 ``[time, channel]``.
    bits
        Marks that are events.
    step
        Times that are taken as one.
    live
        bool ``[channel]``: channels that can have events.
    edges
        int64 ``[segment + 1]``: channels at which segments begin; at most 255 channels a segment.
    delays
        int32 ``[track, channel]``: by how many steps a channel is later than a common reference.
    first
        int32 ``[track, segment]``: the least of the delays of a segment, from which its steps count. So a track is seen
        that has entered the band before the data begin.
    log2_window
        int64 ``[track]``, never falling: an event counts within a window of ``2^log2_window`` steps about the track.
    counts
        Output, uint8 ``[segment, track, step]``; steps count from ``first``.
    start, stop
        Segments to work on.

    Raises
    ------
    ValueError
        If shapes do not fit together, or a segment is too wide.
    """
    times, channels = marks.shape
    if not (marks.flags.c_contiguous and counts.flags.c_contiguous):
        raise ValueError("marks and counts must be C-contiguous")
    if live.shape != (channels,) or delays.shape[1:] != (channels,) or log2_window.shape != delays.shape[:1]:
        raise ValueError(f"tracks {delays.shape} and live {live.shape} do not go with marks {marks.shape}")
    if counts.shape != (len(edges) - 1, len(delays), -(-times // step)):
        raise ValueError(f"counts {counts.shape} do not go with {len(edges) - 1} segments of marks {marks.shape}")
    if first.shape != (len(delays), len(edges) - 1):
        raise ValueError(f"first {first.shape} must be {(len(delays), len(edges) - 1)}")
    if edges[0] != 0 or edges[-1] != channels or np.any(np.diff(edges) > 255):
        raise ValueError(f"segments {edges.tolist()} must cover {channels} channels, 255 at most each")
    if np.any(np.diff(log2_window) < 0):
        raise ValueError("log2_window must not fall")
    _count_tracks(marks, bits, step, live, edges, delays, first, log2_window, counts, start, stop)


def find_tracks(
    counts: NDArray[np.uint8],
    first: NDArray[np.int32],
    n_live: NDArray[np.int64],
    fill: float,
    half_window: int,
    hits: NDArray[np.uint8],
    start: int,
    stop: int,
) -> None:
    """Find the tracks that are filled in two neighbouring segments, for pairs that begin at ``[start, stop)``.

    Parameters
    ----------
    counts, first
        Of :func:`count_tracks`.
    n_live
        int64 ``[segment]``: live channels.
    fill
        Part of the live channels of either segment that must have an event on the track. Where ``usual`` channels have
        one at other times too, half of the others must in addition.
    half_window
        Steps to either side over which ``usual`` is averaged.
    hits
        Output, uint8 ``[segment - 1, track, step]``: 1 where segments g and g + 1 are filled; steps count
        from ``first`` of g.
    start, stop
        Pairs to work on.

    Raises
    ------
    ValueError
        If shapes do not fit together.
    """
    if n_live.shape != counts.shape[:1] or hits.shape != (len(counts) - 1, *counts.shape[1:]):
        raise ValueError(f"hits {hits.shape} and number {n_live.shape} do not go with counts {counts.shape}")
    _find_tracks(counts, first, n_live, fill, half_window, hits, start, stop)


def drop_tones(
    hits: NDArray[np.uint8],
    step: int,
    edges: NDArray[np.int64],
    delays: NDArray[np.int32],
    first: NDArray[np.int32],
    log2_window: NDArray[np.int64],
    live: NDArray[np.bool_],
    marks: NDArray[np.uint8],
    start: int,
    stop: int,
) -> None:
    """Forget tracks whose events have the low kurtosis of a tone, of pairs that begin at ``[start, stop)``.

    Parameters
    ----------
    hits
        Of :func:`find_tracks`, changed in place.
    step, edges, delays, first, log2_window, live
        As for :func:`count_tracks`.
    marks
        uint8 ``[time, channel]``, of which POWER_RUN, RUN_HOLE and EVENT are events, and KURTOSIS_DIP is low kurtosis.
    start, stop
        Pairs to work on.

    Raises
    ------
    ValueError
        If shapes do not fit together.
    """
    if hits.shape != (len(edges) - 2, len(delays), -(-len(marks) // step)) or edges[-1] != marks.shape[1]:
        raise ValueError(f"hits {hits.shape} do not go with {len(edges) - 1} segments of marks {marks.shape}")
    _drop_tones(hits, step, edges, delays, first, log2_window, live, marks, start, stop)


def mark_tracks(
    hits: NDArray[np.uint8],
    step: int,
    edges: NDArray[np.int64],
    delays: NDArray[np.int32],
    first: NDArray[np.int32],
    log2_window: NDArray[np.int64],
    marks: NDArray[np.uint8],
    start: int,
    stop: int,
) -> None:
    """Mark as DISPERSED what lies within twice the windows of filled tracks, in segments ``[start, stop)``.

    Parameters
    ----------
    hits
        Of :func:`find_tracks`.
    step, edges, delays, first, log2_window
        As for :func:`count_tracks`.
    marks
        uint8 ``[time, channel]``, changed in place.
    start, stop
        Segments to work on.

    Raises
    ------
    ValueError
        If shapes do not fit together.
    """
    if not marks.flags.c_contiguous:
        raise ValueError("marks must be C-contiguous")
    if hits.shape != (len(edges) - 2, len(delays), -(-len(marks) // step)) or edges[-1] != marks.shape[1]:
        raise ValueError(f"hits {hits.shape} do not go with {len(edges) - 1} segments of marks {marks.shape}")
    _mark_tracks(hits, step, edges, delays, first, log2_window, marks, start, stop)


@kernel
def _mark_short_runs(marks: NDArray[np.uint8], longest: int, start: int, stop: int) -> None:
    times = marks.shape[0]
    for c in range(start, stop):
        first = 0
        for t in range(times + 1):
            if t < times and marks[t, c] & np.uint8(IN_RUN):
                continue
            if 0 < t - first <= longest:
                for u in range(first, t):
                    marks[u, c] |= np.uint8(DISPERSED)
            first = t + 1


def mark_short_runs(marks: NDArray[np.uint8], longest: int, start: int, stop: int) -> None:
    """Mark runs of power of at most ``longest`` times as DISPERSED, in channels ``[start, stop)``.

    Where a sweep crosses too few channels within the data to be seen as a track, any short run may be one.

    Parameters
    ----------
    marks
        uint8 ``[time, channel]``, changed in place.
    longest
        Times.
    start, stop
        Channels to work on.

    Raises
    ------
    ValueError
        If marks are of another type.
    """
    if marks.ndim != 2 or marks.dtype != np.uint8:
        raise ValueError(f"marks are {marks.dtype} {marks.shape}, must be uint8 [time, channel]")
    _mark_short_runs(marks, longest, start, stop)
