"""Statistics of the nodes of a baseline, and its removal: CUDA version of :mod:`edgefilter_kernels.search.baseline`.

Results differ from the CPU's by rounding: by about 1e-7 of the offset from the level.
"""

from typing import Any

import numpy as np

from edgefilter_kernels.cuda.raw import launch
from edgefilter_kernels.search.baseline import GROUP_ROWS

_THREADS = 128
_MAX_GRID = 65535  # blocks along the second axis


def node_statistics(power: Any, weight: Any, edges: Any, start: int, stop: int, out: Any) -> None:
    """Do the same as :func:`edgefilter_kernels.search.baseline.node_statistics` for all nodes.

    Raises
    ------
    ValueError
        If only some of the nodes are asked for.
    """
    if (start, stop) != (0, len(edges) - 1):
        raise ValueError(f"nodes [{start}, {stop}) are not all {len(edges) - 1}")
    channels = power.shape[1]
    arguments = power, weight, edges, np.int32(GROUP_ROWS), np.int32(stop), np.int32(channels), out
    launch("search/baseline.cu", "node_statistics", (-(-channels // _THREADS), stop), (_THREADS,), arguments)


def subtract_baseline(power: Any, level: Any, position: Any, start: int, stop: int, out: Any) -> None:
    """Do the same as :func:`edgefilter_kernels.search.baseline.subtract_baseline` for arrays on the device."""
    channels = power.shape[1]
    for begin in range(start, stop, _MAX_GRID):
        size = np.int32(begin), np.int32(channels)
        arguments = power, level, np.int32(len(level)), position, *size, out
        grid = -(-channels // _THREADS), min(stop - begin, _MAX_GRID)
        launch("search/baseline.cu", "subtract_baseline", grid, (_THREADS,), arguments)
