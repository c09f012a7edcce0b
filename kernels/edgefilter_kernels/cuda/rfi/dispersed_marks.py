"""CUDA version of :mod:`edgefilter_kernels.rfi.dispersed_marks`, with equal results."""

from typing import Any

import numpy as np

from edgefilter_kernels.cuda.cells import THREADS, cell_blocks
from edgefilter_kernels.cuda.raw import array_namespace, launch
from edgefilter_kernels.rfi.dispersed_marks import check_short_runs, check_tracks
from edgefilter_kernels.rfi.dispersion_tracks import DispersionTracks

_SOURCE = "rfi/dispersion_tracks.cu"


def drop_tones(hits: Any, tracks: DispersionTracks, live: Any, marks: Any, start: int, stop: int) -> None:
    """As :func:`edgefilter_kernels.rfi.dispersed_marks.drop_tones`, for arrays on the device."""
    check_tracks(hits, tracks, marks)
    (times, channels), (pairs, n_tracks, steps) = marks.shape, hits.shape
    if start < stop and n_tracks and steps:
        size = (np.int32(n) for n in (steps, times, channels, tracks.step))
        arguments = (
            hits, *size, tracks.edges, tracks.delays, tracks.first, tracks.log2_window, np.int32(pairs + 1), live,
            marks, np.int32(start),
        )  # fmt: skip
        launch(_SOURCE, "drop_tones", (n_tracks, stop - start), (THREADS,), arguments)


def mark_tracks(hits: Any, tracks: DispersionTracks, marks: Any, start: int, stop: int) -> None:
    """As :func:`edgefilter_kernels.rfi.dispersed_marks.mark_tracks`, for arrays on the device."""
    check_tracks(hits, tracks, marks)
    (times, channels), (pairs, n_tracks, steps) = marks.shape, hits.shape
    first_pair, stop_pair = max(start - 2, 0), min(stop + 1, pairs)
    if start >= stop or first_pair >= stop_pair or not n_tracks or not steps:
        return
    on_track = array_namespace(marks).zeros((steps, channels), np.uint8)
    arguments = (
        hits, np.int32(steps), np.int32(channels), tracks.edges, tracks.delays, tracks.first,
        tracks.log2_smeared_window, np.int32(pairs + 1), np.int32(first_pair), np.int32(start), np.int32(stop),
        on_track,
    )  # fmt: skip
    launch(_SOURCE, "follow_tracks", (n_tracks, stop_pair - first_pair), (THREADS,), arguments)
    size = (np.int32(n) for n in (times, channels, tracks.step, steps))
    launch(_SOURCE, "drop_crossings", cell_blocks(on_track.size), (THREADS,), (marks, *size, on_track))
    size_of_cells = np.int64(marks.size), np.int32(channels), np.int32(tracks.step)
    launch(_SOURCE, "set_dispersed", cell_blocks(marks.size), (THREADS,), (on_track, *size_of_cells, marks))


def mark_short_runs(marks: Any, longest: int, start: int, stop: int) -> None:
    """As :func:`edgefilter_kernels.rfi.dispersed_marks.mark_short_runs`, for arrays on the device."""
    check_short_runs(marks)
    times, channels = marks.shape
    cells = times * max(stop - start, 0)
    if cells:
        size = (np.int32(times), np.int32(channels), np.int64(longest), np.int32(start), np.int32(stop - start))
        launch(_SOURCE, "mark_short_runs", cell_blocks(cells), (THREADS,), (marks, *size))
