"""Order statistics of channels by bisection: no sort, a vector register of channels at a time.

Bit patterns of floats, read as integers, have the order of the floats. Thirty-two halvings of the integers' range find
an order statistic exactly, whatever the outliers are; each is one pass of comparisons over data in the cache.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgefilter_kernels.jit import kernel
from edgefilter_kernels.rfi.intensity import LANES, FlatCells, PowerCells, flatten_cells, intensity
from edgefilter_kernels.simd.bitmask64 import PREFETCH_TIMES, prefetch_range

_INT32_MAX = np.int32(0x7FFFFFFF)


class _Keys(NamedTuple):
    """Intensities of :data:`LANES` channels as integers of the same order; int32 ``[row, lane]`` and ``[lane]``."""

    keys: NDArray[np.int32]
    used: NDArray[np.int32]
    smallest: NDArray[np.int32]
    largest: NDArray[np.int32]


@kernel
def _gather_keys(cells: FlatCells, step: int, c0: int, lanes: int, out: _Keys) -> int:
    """Fill the keys of every ``step``-th time; return the number of rows."""
    flat, products, flags = cells.power, cells.products, cells.flags
    keys, used, smallest, largest = out
    rows = 0
    value = np.empty((1, LANES), np.float32)
    bits = value.view(np.int32)
    if c0 < 0 or lanes > LANES:  # tells the compiler that no index counts from the end
        return 0
    used[:] = 0
    smallest[:] = _INT32_MAX
    largest[:] = -_INT32_MAX
    one, none = np.int32(1), np.int32(0)
    for t in range(0, len(flat), step):
        prefetch_range(flat, (t + PREFETCH_TIMES * step) * flat.shape[1] + products * c0, products * lanes)
        prefetch_range(flags, (t + PREFETCH_TIMES * step) * flags.shape[1] + c0, lanes)
        intensity(flat, (products, cells.n_pols), t, c0, lanes, value, 0)
        for i in range(lanes):
            good = flags[t, c0 + i] == 0
            key = bits[0, i] ^ ((bits[0, i] >> np.int32(31)) & _INT32_MAX)
            keys[rows, i] = key if good else _INT32_MAX
            used[i] += one if good else none
            smallest[i] = min(smallest[i], key) if good else smallest[i]
            largest[i] = max(largest[i], key) if good else largest[i]
        rows += 1
    keys[rows : rows + 7] = _INT32_MAX
    for i in range(lanes):
        largest[i] = max(largest[i], smallest[i])  # without used times, the range is empty
    return rows


@kernel
def _bisect(
    keys: NDArray[np.int32], rows: int, rank: NDArray[np.int32], low: NDArray[np.int32], high: NDArray[np.int32]
) -> None:
    """Write to ``low`` the smallest key in ``[low, high]`` that more than ``rank`` keys do not exceed.

    The number of rows is read as a multiple of eight.
    """
    below = np.empty(LANES, np.int32)
    middle = np.empty(LANES, np.int32)
    one, none = np.int32(1), np.int32(0)
    while True:
        open_ = 0
        for i in range(LANES):
            open_ += low[i] < high[i]
            middle[i] = (low[i] & high[i]) + ((low[i] ^ high[i]) >> one)
            below[i] = none
        if open_ == 0:
            return
        for r in range(0, rows, 8):
            for i in range(LANES):
                m = middle[i]
                # Eight rows are summed in registers before the sum is stored.
                some = one if keys[r, i] <= m else none
                some += one if keys[r + 1, i] <= m else none
                some += one if keys[r + 2, i] <= m else none
                some += one if keys[r + 3, i] <= m else none
                some += one if keys[r + 4, i] <= m else none
                some += one if keys[r + 5, i] <= m else none
                some += one if keys[r + 6, i] <= m else none
                some += one if keys[r + 7, i] <= m else none
                below[i] += some
        for i in range(LANES):
            enough = below[i] > rank[i]
            high[i] = middle[i] if enough else high[i]
            low[i] = low[i] if enough else min(middle[i] + one, high[i])


@kernel
def _key_to_float(key: np.int32) -> float:
    pair = np.empty(1, np.int32)
    pair[0] = key ^ ((key >> np.int32(31)) & _INT32_MAX)
    value: float = pair.view(np.float32)[0]
    return value


@kernel
def _interpolate_ties(
    keys: NDArray[np.int32], rows: int, lane: int, key: np.int32, equal: int, position: float
) -> float:
    """Interpolate between tied values: data of few bits have steps as wide as their scatter."""
    if key == _INT32_MAX:
        return 0.0
    if equal < 2:
        return float(_key_to_float(key))
    below = 0
    before, after = -_INT32_MAX, _INT32_MAX
    for r in range(rows):
        k = keys[r, lane]
        below += k < key
        before = k if before < k < key else before
        after = k if key < k < after else after
    value = _key_to_float(key)
    if before != -_INT32_MAX and after != _INT32_MAX:
        width = 0.5 * (_key_to_float(after) - _key_to_float(before))
    elif after != _INT32_MAX:
        width = _key_to_float(after) - value
    elif before != -_INT32_MAX:
        width = value - _key_to_float(before)
    else:
        width = 0.0
    return float(value + ((position - below) / equal - 0.5) * width)


@kernel
def _channel_quantiles(
    cells: FlatCells, step: int, fractions: NDArray[np.float64], quantiles: NDArray[np.float64],
    count: NDArray[np.int64], start: int, stop: int,
) -> None:  # fmt: skip
    keys = np.full((-(-len(cells.power) // step) + 7, LANES), _INT32_MAX)
    used = np.zeros(LANES, np.int32)
    rank = np.zeros(LANES, np.int32)
    low = np.empty(LANES, np.int32)
    high = np.empty(LANES, np.int32)
    smallest = np.empty(LANES, np.int32)
    largest = np.empty(LANES, np.int32)
    equal = np.empty(LANES, np.int32)
    one, none = np.int32(1), np.int32(0)
    for c0 in range(start, stop, LANES):
        lanes = min(LANES, stop - c0)
        rows = _gather_keys(cells, step, c0, lanes, _Keys(keys, used, smallest, largest))
        for i in range(lanes):
            count[0, c0 + i] = used[i]
        for q in range(len(fractions)):
            for i in range(lanes):
                rank[i] = min(int(fractions[q] * used[i]), max(used[i] - 1, 0))
            low[:] = smallest
            high[:] = largest
            _bisect(keys, rows, rank, low, high)
            equal[:] = none
            for r in range(rows):
                for i in range(LANES):
                    equal[i] += one if keys[r, i] == low[i] else none
            for i in range(lanes):
                equal[i] = min(equal[i], used[i])
                count[1, c0 + i] = max(count[1, c0 + i], equal[i]) if q else equal[i]
                quantiles[q, c0 + i] = _interpolate_ties(keys, rows, i, low[i], equal[i], fractions[q] * used[i])


def check_channel_quantiles(
    cells: PowerCells,
    step: int,
    fractions: NDArray[np.float64],
    quantiles: NDArray[np.float64],
    count: NDArray[np.int64],
) -> FlatCells:
    """Check that the arguments of :func:`channel_quantiles` fit together.

    Parameters
    ----------
    cells, step, fractions, quantiles, count
        As of :func:`channel_quantiles`, on the host or on a GPU.

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
    channels = cells.flags.shape[1]
    if quantiles.shape != (len(fractions), channels) or count.shape != (2, channels) or step < 1:
        raise ValueError(f"quantiles {quantiles.shape} of {len(fractions)} do not go with cells {cells.power.shape}")
    return flat


def channel_quantiles(
    cells: PowerCells,
    step: int,
    fractions: NDArray[np.float64],
    quantiles: NDArray[np.float64],
    count: NDArray[np.int64],
    start: int,
    stop: int,
) -> None:
    """Find quantiles of the intensity over the used times of channels ``[start, stop)``.

    The quantile of fraction p of n values is the one of rank ⌊p n⌋. Tied values are spread evenly over the interval
    between their neighbours, so that data of few bits give smooth quantiles.

    Parameters
    ----------
    cells
        The block.
    step
        Every ``step``-th time is used.
    fractions
        float64 ``[quantile]``, in [0, 1).
    quantiles
        Output, float64 ``[quantile, channel]``; 0 without used times.
    count
        Output, int64 ``[2, channel]``: number of used times; largest number of them that tie at one of the quantiles.
    start, stop
        Channels to work on.

    Raises
    ------
    ValueError
        If shapes or types do not fit together.
    """
    flat = check_channel_quantiles(cells, step, fractions, quantiles, count)
    _channel_quantiles(flat, step, fractions, quantiles, count, start, stop)
