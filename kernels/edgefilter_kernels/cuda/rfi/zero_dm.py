"""CUDA version of :mod:`edgefilter_kernels.rfi.zero_dm`, with equal results."""

from typing import Any

import numpy as np

from edgefilter_kernels.cuda.raw import launch
from edgefilter_kernels.rfi.intensity import PowerCells
from edgefilter_kernels.rfi.zero_dm import ZERO_DM_BANDS, check_zero_dm_counts

_THREADS_PER_BAND = 8  # as in zero_dm.cu


def zero_dm_counts(cells: PowerCells, low: Any, high: Any, counts: Any, start: int, stop: int) -> None:
    """As :func:`edgefilter_kernels.rfi.zero_dm.zero_dm_counts`, for arrays on the device."""
    check_zero_dm_counts(cells, low, high, counts)
    if start < stop:
        size = (np.int32(n) for n in (*cells.power.shape, cells.n_pols))
        block = _THREADS_PER_BAND, ZERO_DM_BANDS
        arguments = (cells.power, cells.flags, low, high, *size, counts, np.int32(start))
        launch("rfi/zero_dm.cu", "zero_dm_counts", (stop - start,), block, arguments)
