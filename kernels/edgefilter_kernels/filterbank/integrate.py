"""Integrate time-channel cells to rows, and count what became of every cell.

Rows are cut into at most :data:`PARTS` parts, whatever the number of threads. A thread takes whole parts, and so reads
memory from one end to the other; each part has an account of its own. :func:`combine_parts` adds these up in their
order.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgefilter_kernels.jit import kernel

PARTS = 16
"""Most parts that rows are cut into: more threads than this have nothing to do."""

_TILE = 256  # channels


class Sums(NamedTuple):
    """What :func:`integrate` writes. All but ``stokes`` and ``weight`` must be zero before.

    Parameters
    ----------
    stokes
        float32 ``[stokes, row, channel]``: mean over the used cells of a row, 0 where there is none.
    weight
        uint16 ``[row, channel]``: how many they are.
    total
        float64 ``[part, stokes, channel]``: sum over the used cells.
    good
        int64 ``[part, channel]``: used cells.
    occupancy, raised
        int64 ``[part, bit, channel]``: cells whose lowest set bit this is, and cells that have this bit set.
    """

    stokes: NDArray[np.float32]
    weight: NDArray[np.uint16]
    total: NDArray[np.float64]
    good: NDArray[np.int64]
    occupancy: NDArray[np.int64]
    raised: NDArray[np.int64]


@kernel
def rows_per_part(rows: int) -> int:
    """Return how many rows a part has; the last one may have fewer."""
    return -(-rows // PARTS)


def make_sums(
    planes: int,
    rows: int,
    channels: int,
    bits: int,
    zeros: Callable[..., Any] = np.zeros,
    empty: Callable[..., Any] = np.empty,
) -> Sums:
    """Return sums of nothing yet, for so many Stokes parameters, rows, channels and flags.

    ``zeros`` and ``empty`` make arrays.
    """
    parts = -(-rows // rows_per_part(rows))
    return Sums(
        empty((planes, rows, channels), np.float32),
        empty((rows, channels), np.uint16),
        zeros((parts, planes, channels), np.float64),
        zeros((parts, channels), np.int64),
        zeros((parts, bits, channels), np.int64),
        zeros((parts, bits, channels), np.int64),
    )


def combine_parts(sums: Sums) -> Sums:
    """Add up the parts in their order: ``total``, ``good``, ``occupancy`` and ``raised`` lose their first axis."""
    return Sums(sums.stokes, sums.weight, *(functools.reduce(np.add, parts) for parts in sums[2:]))


def integrate(
    power: NDArray[np.float32],
    flags: NDArray[np.uint16],
    matrix: NDArray[np.float64],
    extent: tuple[int, int],
    sums: Sums,
    start: int,
    stop: int,
) -> None:
    """Integrate parts ``[start, stop)`` of the rows.

    Parameters
    ----------
    power
        float32 ``[time, channel, product]``, finite.
    flags
        uint16 ``[time, channel]``; a cell is used where it is 0.
    matrix
        float64 ``[stokes, product]``: what is integrated is ``matrix @ product``.
    extent
        Cells ``[first, last)`` enter the account: ``total``, ``good``, ``occupancy``, ``raised``.
    sums
        Output.
    start, stop
        Parts to work on, of ``len(sums.total)``.

    Raises
    ------
    ValueError
        If shapes or types do not fit together, or there is a flag that ``sums`` has no room for.
    """
    check_integration(power, flags, matrix, extent, sums, start, stop)
    bits = sums.occupancy.shape[1]
    if _integrate(power, flags, matrix, *extent, sums, start, stop) >> bits:
        raise ValueError(f"flags have bits beyond the {bits} that are counted")


def check_integration(
    power: NDArray[np.float32],
    flags: NDArray[np.uint16],
    matrix: NDArray[np.float64],
    extent: tuple[int, int],
    sums: Sums,
    start: int,
    stop: int,
) -> None:
    """Raise ``ValueError`` if arguments of :func:`integrate` do not fit together; looks at no number in an array."""
    times, channels, products = power.shape
    planes, rows, _ = sums.stokes.shape
    parts, bits, _ = sums.occupancy.shape
    fits = (
        power.dtype == np.float32
        and flags.dtype == np.uint16
        and flags.shape == (times, channels)
        and matrix.shape == (planes, products)
        and sums.stokes.shape == (planes, rows, channels)
        and sums.weight.shape == (rows, channels)
        and sums.total.shape == (parts, planes, channels)
        and sums.good.shape == (parts, channels)
        and sums.occupancy.shape == sums.raised.shape == (parts, bits, channels)
    )
    if not fits or rows == 0 or times % rows or parts != -(-rows // rows_per_part(rows)):
        raise ValueError(f"cells {power.shape} with flags {flags.shape} do not integrate to rows {sums.stokes.shape}")
    if not (power.flags.c_contiguous and flags.flags.c_contiguous):
        raise ValueError("cells must be C-contiguous")
    first, last = extent
    if not (0 <= start <= stop <= parts and 0 <= first <= last <= times):
        raise ValueError(f"parts [{start}, {stop}) of {parts} or cells [{first}, {last}) of {times} lie outside")


@kernel
def _integrate(
    power: NDArray[np.float32],
    flags: NDArray[np.uint16],
    matrix: NDArray[np.float64],
    first: int,
    last: int,
    sums: Sums,
    start: int,
    stop: int,
) -> int:
    """Return the flags that were seen, in one number."""
    _, rows, channels = sums.stokes.shape
    cells, some = len(power) // rows, rows_per_part(rows)
    # What is read but once goes through a sum that stays in the L1 cache; else whole rows are read in one go.
    width = _TILE if cells == 1 else channels
    row_sum = np.empty((len(matrix), min(width, channels)))
    seen = np.uint16(0)
    for part in range(start, stop):
        stop_row = min((part + 1) * some, rows)
        for row in range(part * some, stop_row):
            for c in range(0, channels, width):
                seen |= _add_row(power, flags, matrix, first, last, sums, part, row, c, row_sum)
        # Each cell of the extent that is not good has been counted by its lowest flag.
        counted = max(min(stop_row * cells, last) - max(part * some * cells, first), 0)
        good, occupancy = sums.good[part], sums.occupancy[part]
        good += counted
        for bit in range(len(occupancy)):
            good -= occupancy[bit]
    return int(seen)


@kernel
def _add_row(
    power: NDArray[np.float32],
    flags: NDArray[np.uint16],
    matrix: NDArray[np.float64],
    first: int,
    last: int,
    sums: Sums,
    part: int,
    row: int,
    start: int,
    row_sum: NDArray[np.float64],
) -> np.uint16:
    """Integrate as many channels of a row, from ``start`` on, as ``row_sum`` has room for."""
    _, channels, products = power.shape
    planes, rows, _ = sums.stokes.shape
    cells, stop = len(power) // rows, min(start + row_sum.shape[1], channels)
    weight = sums.weight[row, start:stop]
    whole = first <= row * cells and (row + 1) * cells <= last
    seen = np.uint16(0)
    row_sum[:] = 0.0
    weight[:] = 0
    for t in range(row * cells, (row + 1) * cells):
        flag, here = flags[t, start:stop], power[t].reshape(-1)[start * products : stop * products]
        any_flag = np.uint16(0)
        for c in range(len(flag)):
            weight[c] += flag[c] == 0
            any_flag |= flag[c]
        for s in range(planes):
            _add_stokes(here, flag, matrix[s], row_sum[s])
        if first <= t < last:
            if any_flag:
                _count_flags(flag, start, sums.occupancy[part], sums.raised[part])
            if not whole:
                for s in range(planes):
                    _add_stokes(here, flag, matrix[s], sums.total[part, s, start:stop])
        seen |= any_flag
    for s in range(planes):
        mean, total, added = sums.stokes[s, row, start:stop], sums.total[part, s, start:stop], row_sum[s]
        for c in range(len(mean)):
            mean[c] = added[c] if cells == 1 else added[c] / max(weight[c], 1)
            total[c] += added[c] if whole else 0.0
    return seen


@kernel
def _add_stokes(
    power: NDArray[np.float32], flag: NDArray[np.uint16], factors: NDArray[np.float64], total: NDArray[np.float64]
) -> None:
    """Add a Stokes parameter of one time. Loops of known stride become vector instructions."""
    products = len(factors)
    if products == 1:
        for c in range(len(flag)):
            value = factors[0] * power[c]
            total[c] += value if flag[c] == 0 else 0.0
    elif products == 2:
        for c in range(len(flag)):
            value = factors[0] * power[2 * c] + factors[1] * power[2 * c + 1]
            total[c] += value if flag[c] == 0 else 0.0
    elif products == 4:
        for c in range(len(flag)):
            value = factors[0] * power[4 * c] + factors[1] * power[4 * c + 1]
            value += factors[2] * power[4 * c + 2] + factors[3] * power[4 * c + 3]
            total[c] += value if flag[c] == 0 else 0.0
    else:
        for p in range(products):
            if factors[p] != 0:
                for c in range(len(flag)):
                    value = factors[p] * power[products * c + p]
                    total[c] += value if flag[c] == 0 else 0.0


@kernel
def _count_flags(flag: NDArray[np.uint16], start: int, occupancy: NDArray[np.int64], raised: NDArray[np.int64]) -> None:
    """Count the flags of one time."""
    counted = (1 << len(occupancy)) - 1
    for c in range(len(flag)):
        left = flag[c] & counted
        lowest = True
        while left:
            bit = _bit_index(left & -left)
            raised[bit, start + c] += 1
            if lowest:
                occupancy[bit, start + c] += 1
                lowest = False
            left &= left - 1


@kernel
def _bit_index(bit: int) -> int:
    """Return which of 16 bits the only one is that is set, without a branch that could be guessed wrong."""
    return (bit & 0xAAAA != 0) * 1 + (bit & 0xCCCC != 0) * 2 + (bit & 0xF0F0 != 0) * 4 + (bit & 0xFF00 != 0) * 8
