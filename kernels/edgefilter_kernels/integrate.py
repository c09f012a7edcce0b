"""Integrate time-channel cells to rows, and count what became of every cell."""

import numpy as np
from numpy.typing import NDArray

from edgefilter_kernels.jit import kernel


@kernel
def _integrate(
    power: NDArray[np.float32],
    flags: NDArray[np.uint16],
    matrix: NDArray[np.float64],
    first: int,
    last: int,
    stokes: NDArray[np.float32],
    weight: NDArray[np.uint16],
    total: NDArray[np.float64],
    good: NDArray[np.int64],
    occupancy: NDArray[np.int64],
    raised: NDArray[np.int64],
    start: int,
    stop: int,
) -> None:
    planes, rows, _ = stokes.shape
    cells = power.shape[0] // rows
    bits = occupancy.shape[0]
    row_sum = np.zeros((planes, stop - start))
    for row in range(rows):
        row_sum[:] = 0.0
        for t in range(row * cells, (row + 1) * cells):
            for c in range(start, stop):
                weight[row, c] += flags[t, c] == 0
            for s in range(planes):
                for p in range(matrix.shape[1]):
                    factor = matrix[s, p]
                    if factor != 0.0:
                        for c in range(start, stop):
                            if flags[t, c] == 0:
                                row_sum[s, c - start] += factor * power[t, c, p]
                                if first <= t < last:
                                    total[s, c] += factor * power[t, c, p]
            if first <= t < last:
                for c in range(start, stop):
                    flag = flags[t, c]
                    if flag == 0:
                        good[c] += 1
                        continue
                    booked = False
                    for bit in range(bits):
                        if flag >> bit & 1:
                            raised[bit, c] += 1
                            if not booked:
                                occupancy[bit, c] += 1
                                booked = True
        for s in range(planes):
            for c in range(start, stop):
                count = weight[row, c]
                stokes[s, row, c] = row_sum[s, c - start] / count if count else 0.0


def integrate(
    power: NDArray[np.float32],
    flags: NDArray[np.uint16],
    matrix: NDArray[np.float64],
    first: int,
    last: int,
    stokes: NDArray[np.float32],
    weight: NDArray[np.uint16],
    total: NDArray[np.float64],
    good: NDArray[np.int64],
    occupancy: NDArray[np.int64],
    raised: NDArray[np.int64],
    start: int,
    stop: int,
) -> None:
    """Integrate channels ``[start, stop)``; sums run in order of time, so any cut of the channels gives the same bits.

    Parameters
    ----------
    power
        float32 ``[time, channel, product]``.
    flags
        uint16 ``[time, channel]``; a cell is used where it is 0.
    matrix
        float64 ``[stokes, product]``: what is integrated is ``matrix @ product``.
    first, last
        Cells ``[first, last)`` enter the account: ``total``, ``good``, ``occupancy``, ``raised``.
    stokes
        Output, float32 ``[stokes, row, channel]``: mean over the used cells of a row, 0 where there is none.
    weight
        Output, uint16 ``[row, channel]``: how many they are. Must be zero before.
    total
        Output, float64 ``[stokes, channel]``: sum over the used cells. Must be zero before, as those below.
    good
        Output, int64 ``[channel]``: used cells.
    occupancy, raised
        Output, int64 ``[bit, channel]``: cells whose lowest set bit this is, and cells that have this bit set.
    start, stop
        Channels to work on.

    Raises
    ------
    ValueError
        If shapes or types do not fit together.
    """
    times, channels, products = power.shape
    planes, rows, _ = stokes.shape
    fits = (
        power.dtype == np.float32
        and flags.dtype == np.uint16
        and flags.shape == (times, channels)
        and matrix.shape == (planes, products)
        and stokes.shape == (planes, rows, channels)
        and weight.shape == (rows, channels)
        and total.shape == (planes, channels)
        and good.shape == (channels,)
        and occupancy.shape == raised.shape == (len(occupancy), channels)
    )
    if not fits or rows == 0 or times % rows:
        raise ValueError(f"cells {power.shape} with flags {flags.shape} do not integrate to rows {stokes.shape}")
    if not (power.flags.c_contiguous and flags.flags.c_contiguous):
        raise ValueError("cells must be C-contiguous")
    if not (0 <= start <= stop <= channels and 0 <= first <= last <= times):
        raise ValueError(f"channels [{start}, {stop}) or cells [{first}, {last}) lie outside {power.shape}")
    if int(np.bitwise_or.reduce(flags, axis=None)) >> len(occupancy):
        raise ValueError(f"flags have bits beyond the {len(occupancy)} that are counted")
    _integrate(power, flags, matrix, first, last, stokes, weight, total, good, occupancy, raised, start, stop)
