"""CUDA version of :mod:`edgefilter_kernels.rfi.quantisation`, with results equal up to rounding."""

from typing import Any

import numpy as np

from edgefilter_kernels.cuda.cells import THREADS, cell_blocks
from edgefilter_kernels.cuda.raw import launch
from edgefilter_kernels.rfi.quantisation import check_clipping


def correct_clipping(power: Any, moment4: Any, steps: Any, table: Any, out: Any, start: int, stop: int) -> None:
    """As :func:`edgefilter_kernels.rfi.quantisation.correct_clipping`, for arrays on the device."""
    check_clipping(power, moment4, steps, table, out)
    _, channels, n_pols = moment4.shape
    cells = max(stop - start, 0) * channels * n_pols
    if cells:
        size = (np.int32(n) for n in (len(table), channels, power.shape[2], n_pols))
        arguments = (power, moment4, steps, table, *size, out, np.int64(start * channels * n_pols), np.int64(cells))
        launch("rfi/quantisation.cu", "correct_clipping", cell_blocks(cells), (THREADS,), arguments)
