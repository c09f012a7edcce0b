"""Integrate time-channel cells to rows, and count the good and the flagged cells.

Rows are divided into at most :data:`PARTS` parts, independently of the number of threads. A thread processes whole
parts and so reads memory sequentially. Each part has its own sums and counts; :func:`combine_parts` adds them in order.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgefilter_kernels.jit import kernel

PARTS = 16
"""Maximum number of parts; more threads than this have no work."""

_TILE_CHANNELS = 256


class Sums(NamedTuple):
    """Output of :func:`integrate`. All but ``stokes`` and ``weight`` must be zero before.

    Parameters
    ----------
    stokes
        float32 ``[stokes, row, channel]``: mean over the good cells of a row, 0 if there is none.
    weight
        uint16 ``[row, channel]``: good cells of a row.
    total
        float64 ``[part, stokes, channel]``: sum over the good cells.
    good
        int64 ``[part, channel]``: number of good cells.
    occupancy, raised
        int64 ``[part, bit, channel]``: cells whose lowest set flag bit this is, and cells that have this bit set.
    """

    stokes: NDArray[np.float32]
    weight: NDArray[np.uint16]
    total: NDArray[np.float64]
    good: NDArray[np.int64]
    occupancy: NDArray[np.int64]
    raised: NDArray[np.int64]


class _Cells(NamedTuple):
    power: NDArray[np.float32]
    flags: NDArray[np.uint16]
    matrix: NDArray[np.float64]


@kernel
def rows_per_part(rows: int) -> int:
    """Return the number of rows of a part; the last part may have fewer.

    Parameters
    ----------
    rows
        Number of all rows.

    Returns
    -------
    int
        Rows of a part.
    """
    return -(-rows // PARTS)


def make_sums(
    planes: int,
    rows: int,
    channels: int,
    bits: int,
    zeros: Callable[..., Any] = np.zeros,
    empty: Callable[..., Any] = np.empty,
) -> Sums:
    """Allocate the output of :func:`integrate`.

    Parameters
    ----------
    planes
        Number of Stokes parameters.
    rows, channels
        Size of the block.
    bits
        Number of flag bits.
    zeros, empty
        Functions that allocate an array of a shape and dtype.

    Returns
    -------
    Sums
        Ready for :func:`integrate`.
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
    """Add up the parts in their order.

    Parameters
    ----------
    sums
        From :func:`integrate` of all parts.

    Returns
    -------
    Sums
        ``total``, ``good``, ``occupancy`` and ``raised`` without their first axis.
    """
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
        uint16 ``[time, channel]``; a cell is good where it is 0.
    matrix
        float64 ``[stokes, product]``; the Stokes parameters are ``matrix @ product``.
    extent
        Cells ``[first, last)`` in time count in ``total``, ``good``, ``occupancy`` and ``raised``.
    sums
        Output.
    start, stop
        Parts to integrate, of ``len(sums.total)``.

    Raises
    ------
    ValueError
        If shapes or dtypes do not fit each other, or a flag bit has no counter in ``sums``.
    """
    check_integration(power, flags, matrix, extent, sums, start, stop)
    bits = sums.occupancy.shape[1]
    if _integrate(_Cells(power, flags, matrix), extent, sums, start, stop) >> bits:
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
    """Check shapes and dtypes of the arguments of :func:`integrate`, which are not read.

    Parameters
    ----------
    power, flags, matrix, extent, sums, start, stop
        Arguments of :func:`integrate`.

    Raises
    ------
    ValueError
        If they do not fit each other.
    """
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
def _integrate(cells: _Cells, extent: tuple[int, int], sums: Sums, start: int, stop: int) -> int:
    """Integrate parts, and return the bitwise or of all flags."""
    _, rows, channels = sums.stokes.shape
    per_row, part_rows = len(cells.power) // rows, rows_per_part(rows)
    # If a row is one cell, its sum stays in the L1 cache; else whole rows are read sequentially.
    width = _TILE_CHANNELS if per_row == 1 else channels
    row_sum = np.empty((len(cells.matrix), min(width, channels)))
    seen = np.uint16(0)
    for part in range(start, stop):
        stop_row = min((part + 1) * part_rows, rows)
        for row in range(part * part_rows, stop_row):
            for c in range(0, channels, width):
                seen |= _add_row(cells, extent, sums, part, row, c, row_sum)
        # Each cell of the extent that is not good has been counted by its lowest flag.
        counted = max(min(stop_row * per_row, extent[1]) - max(part * part_rows * per_row, extent[0]), 0)
        good, occupancy = sums.good[part], sums.occupancy[part]
        good += counted
        for bit in range(len(occupancy)):
            good -= occupancy[bit]
    return int(seen)


@kernel
def _add_row(
    cells: _Cells,
    extent: tuple[int, int],
    sums: Sums,
    part: int,
    row: int,
    start: int,
    row_sum: NDArray[np.float64],
) -> np.uint16:
    """Integrate the channels of a row from ``start`` on that ``row_sum`` has room for."""
    power, flags, matrix = cells
    first, last = extent
    _, channels, products = power.shape
    planes, rows, _ = sums.stokes.shape
    per_row, stop = len(power) // rows, min(start + row_sum.shape[1], channels)
    weight = sums.weight[row, start:stop]
    whole = first <= row * per_row and (row + 1) * per_row <= last
    seen = np.uint16(0)
    row_sum[:] = 0.0
    weight[:] = 0
    for t in range(row * per_row, (row + 1) * per_row):
        flag, values = flags[t, start:stop], power[t].reshape(-1)[start * products : stop * products]
        any_flag = np.uint16(0)
        for c in range(len(flag)):
            weight[c] += flag[c] == 0
            any_flag |= flag[c]
        for s in range(planes):
            _add_stokes(values, flag, matrix[s], row_sum[s])
        if first <= t < last:
            if any_flag:
                _count_flags(flag, start, sums.occupancy[part], sums.raised[part])
            if not whole:
                for s in range(planes):
                    _add_stokes(values, flag, matrix[s], sums.total[part, s, start:stop])
        seen |= any_flag
    for s in range(planes):
        mean, total, added = sums.stokes[s, row, start:stop], sums.total[part, s, start:stop], row_sum[s]
        for c in range(len(mean)):
            mean[c] = added[c] if per_row == 1 else added[c] / max(weight[c], 1)
            total[c] += added[c] if whole else 0.0
    return seen


@kernel
def _add_stokes(
    power: NDArray[np.float32], flag: NDArray[np.uint16], factors: NDArray[np.float64], total: NDArray[np.float64]
) -> None:
    """Add one Stokes parameter of one time. Loops with a constant stride are vectorised."""
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
        remaining = flag[c] & counted
        lowest = True
        while remaining:
            bit = _bit_index(remaining & -remaining)
            raised[bit, start + c] += 1
            if lowest:
                occupancy[bit, start + c] += 1
                lowest = False
            remaining &= remaining - 1


@kernel
def _bit_index(bit: int) -> int:
    """Return the index of the only bit of 16 that is set, without branches, which would be mispredicted."""
    return (bit & 0xAAAA != 0) * 1 + (bit & 0xCCCC != 0) * 2 + (bit & 0xF0F0 != 0) * 4 + (bit & 0xFF00 != 0) * 8
