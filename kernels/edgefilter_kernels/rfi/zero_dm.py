"""Counts of channels above and below their background in each sub-band: the zero-DM test's input.

What the whole band does at once has dispersion measure 0, which no source beyond the Earth has.
"""

import numpy as np
from numpy.typing import NDArray

from edgefilter_kernels.jit import kernel
from edgefilter_kernels.rfi.intensity import FlatCells, PowerCells, flatten_cells, intensity

ZERO_DM_BANDS = 32
"""Sub-bands into which the channels are divided."""


@kernel
def _zero_dm_counts(
    cells: FlatCells, low: NDArray[np.float32], high: NDArray[np.float32], counts: NDArray[np.int32], start: int,
    stop: int,
) -> None:  # fmt: skip
    flat, flags, products = cells.power, cells.flags, (cells.products, cells.n_pols)
    channels = flags.shape[1]
    value = np.empty((1, channels), np.float32)
    one, none = np.int32(1), np.int32(0)
    if start < 0:  # tells the compiler that no index counts from the end
        return
    for t in range(start, stop):
        intensity(flat, products, t, 0, channels, value, 0)
        for band in range(ZERO_DM_BANDS):
            used, above, below = none, none, none
            for c in range(band * channels // ZERO_DM_BANDS, (band + 1) * channels // ZERO_DM_BANDS):
                good = flags[t, c] == 0 and high[c] > low[c]
                used += one if good else none
                above += one if good and value[0, c] > high[c] else none
                below += one if good and value[0, c] < low[c] else none
            counts[0, band, t], counts[1, band, t], counts[2, band, t] = used, above, below


def check_zero_dm_counts(
    cells: PowerCells, low: NDArray[np.float32], high: NDArray[np.float32], counts: NDArray[np.int32]
) -> FlatCells:
    """Check that the arguments of :func:`zero_dm_counts` fit together.

    Parameters
    ----------
    cells, low, high, counts
        As of :func:`zero_dm_counts`, on the host or on a GPU.

    Returns
    -------
    FlatCells
        The cells as compiled kernels take them.

    Raises
    ------
    ValueError
        If shapes or types do not fit together.
    """
    flat = flatten_cells(cells)
    times, channels = cells.flags.shape
    if low.shape != (channels,) or high.shape != (channels,) or counts.shape != (3, ZERO_DM_BANDS, times):
        raise ValueError(f"levels {low.shape} and counts {counts.shape} do not go with cells {cells.power.shape}")
    return flat


def zero_dm_counts(
    cells: PowerCells,
    low: NDArray[np.float32],
    high: NDArray[np.float32],
    counts: NDArray[np.int32],
    start: int,
    stop: int,
) -> None:
    """Count the channels of each of 32 sub-bands that lie above and below levels, at times ``[start, stop)``.

    Parameters
    ----------
    cells
        The block.
    low, high
        float32 ``[channel]``: levels of the intensity; a channel whose levels are equal is left out.
    counts
        Output, int32 ``[3, 32, time]``: channels that are used, above ``high``, below ``low``.
    start, stop
        Times to work on.

    Raises
    ------
    ValueError
        If shapes or types do not fit together.
    """
    flat = check_zero_dm_counts(cells, low, high, counts)
    _zero_dm_counts(flat, low, high, counts, start, stop)
