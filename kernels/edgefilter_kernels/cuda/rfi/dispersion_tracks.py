"""CUDA version of :mod:`edgefilter_kernels.rfi.dispersion_tracks`, with equal results.

The values in the tables of tracks, which are on the device too, are not checked: a check would wait for the device.
"""

from typing import Any

import numpy as np

from edgefilter_kernels.cuda.cells import BLOCK, THREADS, cell_blocks, channel_blocks
from edgefilter_kernels.cuda.raw import array_namespace, launch
from edgefilter_kernels.rfi.cell_statistics import EVENT, IN_RUN
from edgefilter_kernels.rfi.dispersion_tracks import DispersionTracks, check_count_tracks, check_find_tracks

_SOURCE = "rfi/dispersion_tracks.cu"


def count_tracks(
    marks: Any, step: int, live: Any, tracks: DispersionTracks, counts: Any, start: int, stop: int
) -> None:
    """As :func:`edgefilter_kernels.rfi.dispersion_tracks.count_tracks`, for arrays on the device."""
    check_count_tracks(marks, step, live, tracks, counts)
    (times, channels), (segments, n_tracks, steps) = marks.shape, counts.shape
    if start >= stop or not n_tracks or not steps:
        return
    last = array_namespace(marks).empty((channels, steps), np.int32)
    size = (np.int32(n) for n in (times, channels, IN_RUN | EVENT, step, steps))
    launch(_SOURCE, "find_last_event", channel_blocks(channels), BLOCK, (marks, *size, last))
    arguments = (
        last, np.int32(steps), np.int32(channels), live, tracks.edges, tracks.delays, tracks.first, tracks.log2_window,
        np.int32(segments), counts, np.int32(start),
    )  # fmt: skip
    launch(_SOURCE, "count_tracks", (*cell_blocks(steps), n_tracks, stop - start), (THREADS,), arguments)


def find_tracks(counts: Any, tracks: DispersionTracks, n_live: Any, hits: Any, start: int, stop: int) -> None:
    """As :func:`edgefilter_kernels.rfi.dispersion_tracks.find_tracks`, for arrays on the device."""
    check_find_tracks(counts, tracks, n_live, hits)
    segments, n_tracks, steps = counts.shape
    if start < stop and n_tracks and steps:
        arguments = (
            counts, tracks.first, n_live, np.int32(segments), np.int32(steps), np.float64(tracks.min_fill),
            np.int32(tracks.baseline_steps), hits, np.int32(start),
        )  # fmt: skip
        launch(_SOURCE, "find_tracks", (*cell_blocks(steps), n_tracks, stop - start), (THREADS,), arguments)
