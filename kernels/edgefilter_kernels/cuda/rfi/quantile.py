"""Order statistics of channels: the twin of :mod:`edgefilter_kernels.rfi.quantile`.

Equal to the CPU's bit for bit but for the compiler's choice to contract the interpolation of tied values.
"""

from typing import Any

import numpy as np

from edgefilter_kernels.cuda.cells import BLOCK, channel_blocks
from edgefilter_kernels.cuda.raw import array_namespace, launch
from edgefilter_kernels.rfi.intensity import flatten_cells


def channel_quantiles(
    power: Any, n_pols: int, flags: Any, step: int, fractions: Any, quantiles: Any, count: Any, start: int, stop: int
) -> None:
    """As :func:`edgefilter_kernels.rfi.quantile.channel_quantiles`: arrays on the device."""
    flatten_cells(power, flags, n_pols)
    if quantiles.shape != (len(fractions), flags.shape[1]) or count.shape != (2, *flags.shape[1:]) or step < 1:
        raise ValueError(f"quantiles {quantiles.shape} of {len(fractions)} do not go with cells {power.shape}")
    times, channels, products = power.shape
    grid = channel_blocks(stop - start)
    if not grid[0]:
        return
    keys = array_namespace(power).empty((*grid, -(-times // step), BLOCK[0]), np.int32)
    arguments = (
        power, flags, *(np.int32(n) for n in (times, channels, products, n_pols, step)), fractions,
        np.int32(len(fractions)), keys, quantiles, count, np.int32(start), np.int32(stop),
    )  # fmt: skip
    launch("rfi/quantile.cu", "channel_quantiles", grid, BLOCK, arguments)
