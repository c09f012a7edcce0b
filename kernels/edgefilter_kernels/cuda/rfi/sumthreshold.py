"""SumThreshold: the twin of :mod:`edgefilter_kernels.rfi.sumthreshold`.

The sums of a window begin anew in every 32nd of the times, where the CPU's slide on. So they differ by rounding, and
marks may where a sum is within a few parts in a million of its threshold.
"""

from typing import Any

import numpy as np

from edgefilter_kernels.cuda.cells import BLOCK, LANES, channel_blocks
from edgefilter_kernels.cuda.raw import array_namespace, launch


def tile_scratch(values: Any, blocks: int, times: int) -> tuple[Any, Any]:
    """Room for the tiles of so many blocks: float32 and uint8 ``[2, block, time, lane]``, not initialised."""
    xp, shape = array_namespace(values), (2, blocks, times, LANES)
    return xp.empty(shape, np.float32), xp.empty(shape, np.uint8)


def sum_threshold(values: Any, windows: Any, thresholds: Any, bit: int, marks: Any, start: int, stop: int) -> None:
    """As :func:`edgefilter_kernels.rfi.sumthreshold.sum_threshold`: arrays on the device.

    That windows ascend is not checked: it would wait for the device.
    """
    if values.shape != marks.shape or windows.shape != thresholds.shape or values.ndim != 2:
        raise ValueError(f"values {values.shape}, marks {marks.shape} and windows {windows.shape} do not fit together")
    if values.dtype != np.float32 or marks.dtype != np.uint8 or thresholds.dtype != np.float32:
        raise ValueError("values and thresholds must be float32 and marks uint8")
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
