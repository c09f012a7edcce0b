"""Marks of the cell statistics become flags: the twin of :mod:`edgefilter_kernels.rfi.combine`, equal to it."""

from typing import Any

import numpy as np

from edgefilter_kernels.cuda.cells import THREADS, cell_blocks
from edgefilter_kernels.cuda.raw import launch


def combine(
    marks: Any, tables: Any, table_index: Any, channel_flags: Any, lost: int, flags: Any, start: int, stop: int
) -> None:
    """As :func:`edgefilter_kernels.rfi.combine.combine`: arrays on the device."""
    fits = marks.shape == flags.shape and tables.shape == (2, 256)
    if not fits or not table_index.shape == channel_flags.shape == flags.shape[1:]:
        raise ValueError(f"marks {marks.shape} and channels {channel_flags.shape} do not go with flags {flags.shape}")
    if marks.dtype != np.uint8 or any(array.dtype != np.uint16 for array in (tables, channel_flags, flags)):
        raise ValueError("marks must be uint8 and flags uint16")
    channels = flags.shape[1]
    cells = max(stop - start, 0) * channels
    if cells:
        size = np.int32(lost), flags, np.int64(start * channels), np.int64(cells)
        arguments = (marks, tables, table_index, channel_flags, np.int32(channels), *size)
        launch("rfi/combine.cu", "combine", cell_blocks(cells), (THREADS,), arguments)
