"""CUDA version of :mod:`edgefilter_kernels.rfi.cell_statistics`.

Levels and sums in single precision differ from those of the CPU by rounding (contraction, and where sums begin), the
moments by the order in which groups of times are added. So marks may differ where a value is within a few parts in a
million of its threshold. The order is always the same.
"""

from typing import Any

import numpy as np

from edgefilter_kernels.cuda.cells import BLOCK, channel_blocks
from edgefilter_kernels.cuda.raw import launch
from edgefilter_kernels.cuda.rfi.sumthreshold import tile_scratch
from edgefilter_kernels.rfi.cell_statistics import (
    GROUP_TIMES,
    CellScales,
    CellStatistics,
    CellThresholds,
    check_cell_statistics,
)
from edgefilter_kernels.rfi.intensity import PowerCells


def cell_statistics(
    cells: PowerCells,
    moment4: Any,
    scales: CellScales,
    thresholds: CellThresholds,
    out: CellStatistics,
    start: int,
    stop: int,
) -> None:
    """As :func:`edgefilter_kernels.rfi.cell_statistics.cell_statistics`, for arrays on the device."""
    check_cell_statistics(cells, moment4, scales, thresholds, out)
    (times, channels, products), grid = cells.power.shape, channel_blocks(stop - start)
    if not grid[0]:
        return
    runs = ((*windows, np.int32(len(windows.lengths))) for windows in (thresholds.power_runs, thresholds.kurtosis_runs))
    arguments = (
        cells.power, moment4, cells.flags,
        *(np.int32(n) for n in (times, channels, products, cells.n_pols, moment4.shape[2])), *scales, *next(runs),
        *next(runs), np.float32(thresholds.event), np.float32(thresholds.group_event * np.sqrt(GROUP_TIMES)),
        *tile_scratch(cells.power, *grid, times), *out, np.int32(start), np.int32(stop),
    )  # fmt: skip
    launch("rfi/cell_statistics.cu", "cell_statistics", grid, BLOCK, arguments)
