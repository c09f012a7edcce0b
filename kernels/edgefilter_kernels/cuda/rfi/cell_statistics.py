"""What the cells of a channel say of interference: the twin of :mod:`edgefilter_kernels.rfi.cell_statistics`.

Levels and sums in single precision differ from the CPU's by rounding (contraction, and where sums begin), the moments
by the order in which groups of times are added. So marks may differ where a value is within a few parts in a million
of its threshold; the order here never changes.
"""

from typing import Any

import numpy as np

from edgefilter_kernels.cuda.cells import BLOCK, channel_blocks
from edgefilter_kernels.cuda.raw import launch
from edgefilter_kernels.cuda.rfi.sumthreshold import tile_scratch
from edgefilter_kernels.rfi.cell_statistics import GROUP_TIMES
from edgefilter_kernels.rfi.intensity import flatten_cells


def cell_statistics(
    power: Any, moment4: Any, n_pols: int, flags: Any, channel_tables: Any, time_tables: Any, run_windows: Any,
    run_limits: Any, kurtosis_windows: Any, kurtosis_limits: Any, event_threshold: float, group_threshold: float,
    marks: Any, groups: Any, moments: Any, start: int, stop: int,
) -> None:  # fmt: skip
    """As :func:`edgefilter_kernels.rfi.cell_statistics.cell_statistics`: arrays on the device."""
    flatten_cells(power, flags, n_pols)
    times, channels, products = power.shape
    if moment4.shape[:2] != flags.shape or marks.shape != flags.shape or moments.shape != (2, 4, channels):
        raise ValueError(f"moment4 {moment4.shape}, marks {marks.shape} do not go with cells {power.shape}")
    if groups.shape != (-(-times // GROUP_TIMES), channels):
        raise ValueError(f"groups {groups.shape} do not go with cells {power.shape}")
    if channel_tables.shape != (2, channels) or time_tables.shape != (4, times):
        raise ValueError(f"tables {channel_tables.shape} and {time_tables.shape} do not go with cells {power.shape}")
    if run_limits.shape != (2, *run_windows.shape) or kurtosis_limits.shape != (2, *kurtosis_windows.shape):
        raise ValueError(f"limits {run_limits.shape} and {kurtosis_limits.shape} do not go with the windows")
    grid = channel_blocks(stop - start)
    if not grid[0]:
        return
    arguments = (
        power, moment4, flags, *(np.int32(n) for n in (times, channels, products, n_pols, moment4.shape[2])),
        channel_tables, time_tables, run_windows, run_limits, np.int32(len(run_windows)),
        kurtosis_windows, kurtosis_limits, np.int32(len(kurtosis_windows)), np.float32(event_threshold),
        np.float32(group_threshold * np.sqrt(GROUP_TIMES)), *tile_scratch(power, *grid, times), marks, groups, moments,
        np.int32(start), np.int32(stop),
    )  # fmt: skip
    launch("rfi/cell_statistics.cu", "cell_statistics", grid, BLOCK, arguments)
