"""The fraction of a boxcar's signal that comes from outside its strongest part of the band.

CUDA version of :mod:`edgefilter_kernels.search.band_occupancy`.
"""

from typing import Any

import numpy as np

from edgefilter_kernels.cuda.raw import array_namespace, launch
from edgefilter_kernels.cuda.search.boxcar import FoundPeaks
from edgefilter_kernels.search.band_occupancy import FoundBoxcars

_THREADS = 128
_BLOCKS = 1056  # eight for each of the 132 processors of an H100 …
SCRATCH_BYTES = 1 << 26
"""… unless their scratch memory, two numbers a channel, exceeds this."""


def band_occupancy(power: Any, weight: Any, repeat: int, delays: Any, max_part: float, boxcars: FoundBoxcars) -> Any:
    """Do the same as :func:`edgefilter_kernels.search.band_occupancy.band_occupancy` for arrays on the device.

    ``power`` and ``weight`` must be C-contiguous.
    """
    xp = array_namespace(power)
    trial, start, width, snr = boxcars
    count = len(start)
    items = xp.zeros((count, 6), np.int32)
    items[:, 0], items[:, 5] = trial, len(power)
    table = xp.empty((4, count), np.int32)
    table[0], table[1], table[2] = xp.arange(count), start + width // 2, width
    table[3] = snr.view(np.int32)
    return band_occupancies(
        power, weight, repeat, delays, max_part, items, FoundPeaks(xp.full(1, count, np.int32), table)
    )


def band_occupancies(
    power: Any, weight: Any, repeat: int, delays: Any, max_part: float, items: Any, found: FoundPeaks
) -> Any:
    """Return what :func:`band_occupancy` returns, for each peak of a table, without waiting for the peaks.

    Parameters
    ----------
    power, weight, repeat, delays, max_part
        As for :func:`band_occupancy`, of the whole band.
    items
        As for :func:`edgefilter_kernels.cuda.search.boxcar.find_peaks`: row of ``delays`` and channels of each item.
    found
        The peaks.

    Returns
    -------
    remaining_fraction
        float64 ``[capacity]``: the first ones belong to the peaks that were found.
    """
    xp = array_namespace(power)
    capacity = found.table.shape[1]
    remaining_fraction = xp.empty(capacity, np.float64)
    if capacity:
        blocks = max(min(capacity, _BLOCKS, SCRATCH_BYTES // (8 * delays.shape[1])), 1)
        scratch = xp.empty((blocks, 2, delays.shape[1]), np.float32)
        arguments = (
            power, np.int32(power.shape[1]), weight, np.int32(weight.shape[1]), np.int32(repeat), delays,
            np.int32(delays.shape[1]), items, np.float64(max_part), found.n_peaks, found.table, np.int32(capacity),
            scratch, remaining_fraction,
        )  # fmt: skip
        launch("search/band_occupancy.cu", "band_occupancy", (blocks,), (_THREADS,), arguments)
    return remaining_fraction
