"""CUDA version of :mod:`edgefilter_kernels.filterbank.integrate`: equal bit for bit."""

from typing import Any

import numpy as np

from edgefilter_kernels.cuda.raw import array_namespace, launch
from edgefilter_kernels.filterbank.integrate import Sums, check_integration, rows_per_part

_THREADS = 128


def integrate(power: Any, flags: Any, matrix: Any, extent: tuple[int, int], sums: Sums, start: int, stop: int) -> None:
    """CUDA version of :func:`edgefilter_kernels.filterbank.integrate.integrate`.

    A flag bit without a counter in ``sums`` raises no error, because the host would have to wait for the GPU to see it.
    Such a cell is not counted, and the balance of the block shows that.
    """
    check_integration(power, flags, matrix, extent, sums, start, stop)
    times, channels, products = power.shape
    planes, rows, _ = sums.stokes.shape
    if start == stop:
        return
    # Sums of rows, which are then added to the total in order. They take less memory than the cells.
    row_sum = array_namespace(power).empty((planes, rows, channels), np.float64)
    tiles, part_rows = -(-channels // _THREADS), rows_per_part.py_func(rows)
    first_row, last_row = start * part_rows, min(stop * part_rows, rows)
    size = [np.int32(n) for n in (rows, times // rows, part_rows, channels, products, *extent)]
    arguments = (
        power, flags, matrix, *size, np.int32(first_row), np.int32(sums.occupancy.shape[1]), sums.stokes, sums.weight,
        row_sum, sums.good, sums.occupancy, sums.raised,
    )  # fmt: skip
    launch("filterbank/integrate.cu", "integrate_rows", (last_row - first_row, tiles, planes), (_THREADS,), arguments)
    arguments = (power, flags, matrix, row_sum, *size, np.int32(start), sums.total)
    launch("filterbank/integrate.cu", "integrate_total", (stop - start, tiles, planes), (_THREADS,), arguments)
