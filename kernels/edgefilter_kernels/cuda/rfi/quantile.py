"""CUDA version of :mod:`edgefilter_kernels.rfi.quantile`.

Equal to the CPU's bit for bit, except that the compiler may contract the interpolation of tied values.
"""

from typing import Any

import numpy as np

from edgefilter_kernels.cuda.cells import BLOCK, channel_blocks
from edgefilter_kernels.cuda.raw import array_namespace, launch
from edgefilter_kernels.rfi.intensity import PowerCells
from edgefilter_kernels.rfi.quantile import check_channel_quantiles


def channel_quantiles(
    cells: PowerCells, step: int, fractions: Any, quantiles: Any, count: Any, start: int, stop: int
) -> None:
    """As :func:`edgefilter_kernels.rfi.quantile.channel_quantiles`, for arrays on the device."""
    check_channel_quantiles(cells, step, fractions, quantiles, count)
    (times, channels, products), grid = cells.power.shape, channel_blocks(stop - start)
    if not grid[0]:
        return
    keys = array_namespace(cells.power).empty((*grid, -(-times // step), BLOCK[0]), np.int32)
    arguments = (
        cells.power, cells.flags, *(np.int32(n) for n in (times, channels, products, cells.n_pols, step)), fractions,
        np.int32(len(fractions)), keys, quantiles, count, np.int32(start), np.int32(stop),
    )  # fmt: skip
    launch("rfi/quantile.cu", "channel_quantiles", grid, BLOCK, arguments)
