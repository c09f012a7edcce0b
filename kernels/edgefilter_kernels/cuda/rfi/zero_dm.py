"""Times at which the band rises or falls together: the twin of :mod:`edgefilter_kernels.rfi.zero_dm`, equal to it."""

from typing import Any

import numpy as np

from edgefilter_kernels.cuda.raw import launch
from edgefilter_kernels.rfi.intensity import flatten
from edgefilter_kernels.rfi.zero_dm import BANDS

_SHARES = 8  # threads of a band, as in rise.cu


def rise(power: Any, hands: int, flags: Any, low: Any, high: Any, counts: Any, start: int, stop: int) -> None:
    """As :func:`edgefilter_kernels.rfi.zero_dm.rise`: arrays on the device."""
    flatten(power, flags, hands)
    times, channels, products = power.shape
    if low.shape != (channels,) or high.shape != (channels,) or counts.shape != (3, BANDS, times):
        raise ValueError(f"levels {low.shape} and counts {counts.shape} do not go with cells {power.shape}")
    if start < stop:
        size = (np.int32(n) for n in (times, channels, products, hands))
        launch(
            "rfi/zero_dm.cu",
            "rise",
            (stop - start,),
            (_SHARES, BANDS),
            (power, flags, low, high, *size, counts, np.int32(start)),
        )
