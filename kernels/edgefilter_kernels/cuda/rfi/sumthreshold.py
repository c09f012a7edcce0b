"""CUDA version of :mod:`edgefilter_kernels.rfi.sumthreshold`.

The sliding sums of a window start anew in every 32nd of the times, those of the CPU do not. So sums differ by rounding,
and marks may differ where a sum is within a few parts in a million of its threshold.
"""

from typing import Any

import numpy as np

from edgefilter_kernels.cuda.cells import BLOCK, LANES, channel_blocks
from edgefilter_kernels.cuda.raw import array_namespace, launch
from edgefilter_kernels.rfi.sumthreshold import check_sum_threshold


def tile_scratch(values: Any, blocks: int, times: int) -> tuple[Any, Any]:
    """Return uninitialised scratch memory for the tiles of blocks.

    Parameters
    ----------
    values
        An array of the device.
    blocks, times
        Number of blocks, and times of a tile.

    Returns
    -------
    tuple
        float32 and uint8 ``[2, block, time, lane]``.
    """
    xp, shape = array_namespace(values), (2, blocks, times, LANES)
    return xp.empty(shape, np.float32), xp.empty(shape, np.uint8)


def sum_threshold(values: Any, windows: Any, thresholds: Any, bit: int, marks: Any, start: int, stop: int) -> None:
    """As :func:`edgefilter_kernels.rfi.sumthreshold.sum_threshold`, for arrays on the device.

    The order of the windows is not checked: a check would wait for the device.
    """
    check_sum_threshold(values, windows, thresholds, marks)
    times, channels = values.shape
    grid = channel_blocks(stop - start)
    if not grid[0]:
        return
    limits = array_namespace(values).full((2, len(thresholds)), np.inf, np.float32)
    limits[0] = thresholds
    arguments = (
        values, windows, limits, np.int32(len(windows)), np.int32(bit), marks, np.int32(times), np.int32(channels),
        *tile_scratch(values, *grid, times), np.int32(start), np.int32(stop),
    )  # fmt: skip
    launch("rfi/sumthreshold.cu", "sum_threshold", grid, BLOCK, arguments)
