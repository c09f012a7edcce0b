"""Marks of the evidence become flags: the twin of :mod:`edgefilter_kernels.rfi.combine`, equal to it."""

from typing import Any

import numpy as np

from edgefilter_kernels.cuda.cells import THREADS, cell_blocks
from edgefilter_kernels.cuda.raw import launch


def combine(
    marks: Any, tables: Any, table_index: Any, channel: Any, lost: int, flags: Any, start: int, stop: int
) -> None:
    """As :func:`edgefilter_kernels.rfi.combine.combine`: arrays on the device."""
    if (
        marks.shape != flags.shape
        or tables.shape != (2, 256)
        or not table_index.shape == channel.shape == flags.shape[1:]
    ):
        raise ValueError(f"marks {marks.shape} and channels {channel.shape} do not go with flags {flags.shape}")
    if marks.dtype != np.uint8 or tables.dtype != np.uint16 or channel.dtype != np.uint16 or flags.dtype != np.uint16:
        raise ValueError("marks must be uint8 and flags uint16")
    channels = flags.shape[1]
    cells = max(stop - start, 0) * channels
    if cells:
        size = np.int32(lost), flags, np.int64(start * channels), np.int64(cells)
        arguments = (marks, tables, table_index, channel, np.int32(channels), *size)
        launch("rfi/combine.cu", "combine", cell_blocks(cells), (THREADS,), arguments)
