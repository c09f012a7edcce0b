"""Marks of the dispersion guard: cells on filled dispersion tracks are DISPERSED.

The tracks are found by :mod:`edgefilter_kernels.rfi.dispersion_tracks`.
"""

import numpy as np
from numpy.typing import NDArray

from edgefilter_kernels.jit import kernel
from edgefilter_kernels.rfi.cell_statistics import DISPERSED, EVENT, IN_RUN, KURTOSIS_DIP
from edgefilter_kernels.rfi.channel_major import (
    STEP_PADDING,
    channel_major_zeros,
    double_window,
    mark_from_channel_major,
    to_channel_major,
)
from edgefilter_kernels.rfi.dispersion_tracks import DispersionTracks

MAX_DIP_FRACTION = 0.2
"""Fraction of the events on a track that may have a tone's low kurtosis by chance; 0.15 of the events of a pulse do."""
MAX_DIP_SIGMA = 3.0
"""Excess of such events, in standard deviations of their number, from which on the track is taken for a chirp."""

_MIN_COVERED = 0.6
"""Fraction of a run that must lie on tracks for the run to be protected."""


@kernel
def _any(row: NDArray[np.uint8]) -> bool:
    found = np.uint8(0)
    for t in range(len(row)):
        found |= row[t]
    return bool(found != np.uint8(0))


@kernel
def _drop_tones(
    hits: NDArray[np.uint8], tracks: DispersionTracks, live: NDArray[np.bool_], marks: NDArray[np.uint8],
    start: int, stop: int,
) -> None:  # fmt: skip
    edges, delays, first, log2_window = tracks.edges, tracks.delays, tracks.first, tracks.log2_window
    step = tracks.step
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
def _or_shifted_row(row: NDArray[np.uint8], shift: int, total: NDArray[np.uint8]) -> None:
    first, last = max(0, shift), min(len(total), len(row) + shift)
    if first < last:
        source, target = row[first - shift : last - shift], total[first:last]
        for t in range(len(target)):
            target[t] |= source[t]


@kernel
def _drop_crossings(run: NDArray[np.uint8], on_track: NDArray[np.uint8]) -> None:
    """Clear a track where it merely crosses a longer run, which is then not the pulse's.

    Both arrays begin and end with 0.
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
def _mark_tracks(
    hits: NDArray[np.uint8], tracks: DispersionTracks, marks: NDArray[np.uint8], start: int, stop: int
) -> None:  # fmt: skip
    edges, delays, first, log2_window = tracks.edges, tracks.delays, tracks.first, tracks.log2_smeared_window
    step = tracks.step
    pairs, length, most = hits.shape[0], hits.shape[2], np.diff(edges).max()
    # Steps count from when the track enters a segment, which may be before the data begin.
    padding = length
    wide = np.empty((1, 3 * length + 2 * STEP_PADDING), np.uint8)
    other = np.empty_like(wide)
    on_track, run_rows = channel_major_zeros(most, length), channel_major_zeros(most, length)
    for g in range(start, stop):
        c0, c1 = edges[g], edges[g + 1]
        if c0 < 0:  # tells the compiler that no index counts from the end
            return
        filled = False
        for s in range(len(delays)):
            # Segments next to a filled pair are marked too: a burst may end in the middle of one.
            near = range(max(g - 2, 0), min(g + 2, pairs))
            some = False
            for pair in near:
                some |= _any(hits[pair, s])
            if not some:
                continue
            wide[:] = 0
            for pair in near:
                _or_shifted_row(hits[pair, s], STEP_PADDING + padding + first[s, g] - first[s, pair], wide[0])
            filled = True
            # One doubling more than for events, since cells near an event belong to it.
            late = 0
            for d in range(log2_window[s] + 1):
                double_window(wide, 3 * length, 1 << d, other)
                wide, other = other, wide
                late += 1 << d
            for c in range(c0, c1):
                shift = delays[s, c] - first[s, g] - padding - late // 2
                row = on_track[c - c0, STEP_PADDING : STEP_PADDING + length]
                _or_shifted_row(wide[0, STEP_PADDING : STEP_PADDING + 3 * length], shift, row)
        if filled:
            to_channel_major(marks, IN_RUN, step, c0, c1, run_rows)
            for c in range(c1 - c0):
                _drop_crossings(run_rows[c], on_track[c])
            mark_from_channel_major(on_track, step, c0, c1, DISPERSED, marks)
            on_track[:] = 0


def check_tracks(hits: NDArray[np.uint8], tracks: DispersionTracks, marks: NDArray[np.uint8]) -> None:
    """Check that the arguments of :func:`drop_tones` and :func:`mark_tracks` fit together.

    Parameters
    ----------
    hits, tracks, marks
        As of these functions, on the host or on a GPU.

    Raises
    ------
    ValueError
        If shapes or types do not fit together.
    """
    times, channels = marks.shape
    expected = len(tracks.edges) - 2, len(tracks.delays), -(-times // tracks.step)
    if hits.shape != expected or tracks.delays.shape[1] != channels:
        raise ValueError(f"hits {hits.shape} do not go with {len(tracks.edges) - 1} segments of marks {marks.shape}")


def drop_tones(
    hits: NDArray[np.uint8],
    tracks: DispersionTracks,
    live: NDArray[np.bool_],
    marks: NDArray[np.uint8],
    start: int,
    stop: int,
) -> None:
    """Clear hits whose events have the low kurtosis of a tone, of pairs that begin at ``[start, stop)``.

    Parameters
    ----------
    hits
        Of :func:`find_tracks`, changed in place.
    tracks
        The tracks.
    live
        bool ``[channel]``: channels that can have events.
    marks
        uint8 ``[cell, channel]``: POWER_RUN, RUN_HOLE and EVENT are events, KURTOSIS_DIP is low kurtosis.
    start, stop
        Pairs to work on.

    Raises
    ------
    ValueError
        If shapes or types do not fit together.
    """
    check_tracks(hits, tracks, marks)
    _drop_tones(hits, tracks, live, marks, start, stop)


def mark_tracks(
    hits: NDArray[np.uint8], tracks: DispersionTracks, marks: NDArray[np.uint8], start: int, stop: int
) -> None:
    """Mark cells within twice the smeared window of filled tracks as DISPERSED, in segments ``[start, stop)``.

    Parameters
    ----------
    hits
        Of :func:`find_tracks`.
    tracks
        The tracks.
    marks
        uint8 ``[cell, channel]``, changed in place.
    start, stop
        Segments to work on.

    Raises
    ------
    ValueError
        If shapes or types do not fit together.
    """
    if not marks.flags.c_contiguous:
        raise ValueError("marks must be C-contiguous")
    check_tracks(hits, tracks, marks)
    _mark_tracks(hits, tracks, marks, start, stop)


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


def check_short_runs(marks: NDArray[np.uint8]) -> None:
    """Check the marks of :func:`mark_short_runs`.

    Parameters
    ----------
    marks
        On the host or on a GPU.

    Raises
    ------
    ValueError
        If they are not uint8 ``[time, channel]``.
    """
    if marks.ndim != 2 or marks.dtype != np.uint8:
        raise ValueError(f"marks are {marks.dtype} {marks.shape}, must be uint8 [time, channel]")


def mark_short_runs(marks: NDArray[np.uint8], longest: int, start: int, stop: int) -> None:
    """Mark runs of power of at most ``longest`` times as DISPERSED, in channels ``[start, stop)``.

    Where a sweep crosses too few channels within the data to fill a track, each short run may be part of one.

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
    check_short_runs(marks)
    _mark_short_runs(marks, longest, start, stop)
