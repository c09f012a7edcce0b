"""Sweeps that an end of the data cuts: the twin of :mod:`edgefilter_kernels.rfi.edge_tracks`, equal to it."""

from typing import Any

import numpy as np

from edgefilter_kernels.cuda.cells import THREADS, cell_blocks
from edgefilter_kernels.cuda.raw import launch


def mark_edge_tracks(
    marks: Any, step: int, tolerance: int, slack: int, max_channels: int, live: Any, longest: Any, delays: Any,
    start: int, stop: int,
) -> None:  # fmt: skip
    """As :func:`edgefilter_kernels.rfi.edge_tracks.mark_edge_tracks`: arrays on the device."""
    if marks.ndim != 2 or marks.dtype != np.uint8:
        raise ValueError(f"marks are {marks.dtype} {marks.shape}, must be uint8 [time, channel]")
    if not live.shape == longest.shape == delays.shape[1:] == marks.shape[1:]:
        raise ValueError(f"tracks {delays.shape} and live {live.shape} do not go with marks {marks.shape}")
    tracks = len(delays)
    if start < stop and tracks:
        size = (np.int32(n) for n in (*marks.shape, step, tolerance, slack, max_channels))
        bounds = np.int32(start), np.int32(stop)
        grid = (*cell_blocks(stop - start), tracks, 2)
        arguments = (marks, *size, live, longest, delays, *bounds)
        launch("rfi/edge_tracks.cu", "mark_edge_tracks", grid, (THREADS,), arguments)
