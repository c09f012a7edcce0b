"""Times at which the band rises or falls together: the twin of :mod:`edgefilter_kernels.rfi.zero_dm`, equal to it."""

from typing import Any

import numpy as np

from edgefilter_kernels.cuda.raw import launch
from edgefilter_kernels.rfi.intensity import flatten_cells
from edgefilter_kernels.rfi.zero_dm import ZERO_DM_BANDS

_THREADS_PER_BAND = 8  # threads of a band, as in zero_dm.cu


def zero_dm_counts(
    power: Any, n_pols: int, flags: Any, low: Any, high: Any, counts: Any, start: int, stop: int
) -> None:
    """As :func:`edgefilter_kernels.rfi.zero_dm.zero_dm_counts`: arrays on the device."""
    flatten_cells(power, flags, n_pols)
    times, channels, products = power.shape
    if low.shape != (channels,) or high.shape != (channels,) or counts.shape != (3, ZERO_DM_BANDS, times):
        raise ValueError(f"levels {low.shape} and counts {counts.shape} do not go with cells {power.shape}")
    if start < stop:
        size = (np.int32(n) for n in (times, channels, products, n_pols))
        launch(
            "rfi/zero_dm.cu",
            "zero_dm_counts",
            (stop - start,),
            (_THREADS_PER_BAND, ZERO_DM_BANDS),
            (power, flags, low, high, *size, counts, np.int32(start)),
        )
