"""Times at which the band rises or falls together: dispersion measure 0, which nothing beyond the Earth has."""

import numpy as np
from numpy.typing import NDArray

from edgefilter_kernels.jit import kernel
from edgefilter_kernels.rfi.intensity import flatten_cells, intensity

ZERO_DM_BANDS = 32
"""Sub-bands into which the channels are divided."""


@kernel
def _zero_dm_counts(
    flat: NDArray[np.float32], n_pols: int, flags: NDArray[np.uint16], low: NDArray[np.float32],
    high: NDArray[np.float32], counts: NDArray[np.int32], start: int, stop: int,
) -> None:  # fmt: skip
    channels = flags.shape[1]
    products = flat.shape[1] // channels
    value = np.empty((1, channels), np.float32)
    one, none = np.int32(1), np.int32(0)
    if start < 0:  # tells the compiler that no index counts from the end
        return
    for t in range(start, stop):
        intensity(flat, t, products, n_pols, 0, channels, value, 0)
        for band in range(ZERO_DM_BANDS):
            used, above, below = none, none, none
            for c in range(band * channels // ZERO_DM_BANDS, (band + 1) * channels // ZERO_DM_BANDS):
                good = flags[t, c] == 0 and high[c] > low[c]
                used += one if good else none
                above += one if good and value[0, c] > high[c] else none
                below += one if good and value[0, c] < low[c] else none
            counts[0, band, t], counts[1, band, t], counts[2, band, t] = used, above, below


def zero_dm_counts(
    power: NDArray[np.float32],
    n_pols: int,
    flags: NDArray[np.uint16],
    low: NDArray[np.float32],
    high: NDArray[np.float32],
    counts: NDArray[np.int32],
    start: int,
    stop: int,
) -> None:
    """Count the channels of each of 32 sub-bands that lie above and below levels, at times ``[start, stop)``.

    Parameters
    ----------
    power
        float32 ``[time, channel, product]``; intensity is the sum of the first ``n_pols`` products.
    n_pols
        Products that add up to the intensity.
    flags
        uint16 ``[time, channel]``; a cell is used where it is 0.
    low, high
        float32 ``[channel]``: levels; a channel whose levels are equal is left out.
    counts
        Output, int32 ``[3, 32, time]``: channels that are used, above ``high``, below ``low``.
    start, stop
        Times to work on.

    Raises
    ------
    ValueError
        If shapes or types do not fit together.
    """
    flat = flatten_cells(power, flags, n_pols)
    times, channels = flags.shape
    if low.shape != (channels,) or high.shape != (channels,) or counts.shape != (3, ZERO_DM_BANDS, times):
        raise ValueError(f"levels {low.shape} and counts {counts.shape} do not go with cells {power.shape}")
    _zero_dm_counts(flat, n_pols, flags, low, high, counts, start, stop)
