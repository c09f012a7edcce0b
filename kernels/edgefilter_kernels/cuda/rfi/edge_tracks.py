"""CUDA version of :mod:`edgefilter_kernels.rfi.edge_tracks`, with equal results."""

from typing import Any

import numpy as np

from edgefilter_kernels.cuda.cells import THREADS, cell_blocks
from edgefilter_kernels.cuda.raw import launch
from edgefilter_kernels.rfi.dispersion_tracks import DispersionTracks
from edgefilter_kernels.rfi.edge_tracks import EdgeLimits, check_edge_tracks


def mark_edge_tracks(
    marks: Any, tracks: DispersionTracks, live: Any, longest: Any, limits: EdgeLimits, start: int, stop: int
) -> None:
    """As :func:`edgefilter_kernels.rfi.edge_tracks.mark_edge_tracks`, for arrays on the device."""
    check_edge_tracks(marks, tracks, live, longest)
    n_tracks = len(tracks.delays)
    if start < stop and n_tracks:
        size = (np.int32(n) for n in (*marks.shape, tracks.step, *limits))
        grid = (*cell_blocks(stop - start), n_tracks, 2)
        arguments = (marks, *size, live, longest, tracks.delays, np.int32(start), np.int32(stop))
        launch("rfi/edge_tracks.cu", "mark_edge_tracks", grid, (THREADS,), arguments)
