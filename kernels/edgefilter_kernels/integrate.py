"""Integrate time-channel cells to rows, and count what became of every cell."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgefilter_kernels.jit import kernel


class Sums(NamedTuple):
    """What :func:`integrate` writes. All but ``stokes`` must be zero before.

    Parameters
    ----------
    stokes
        float32 ``[stokes, row, channel]``: mean over the used cells of a row, 0 where there is none.
    weight
        uint16 ``[row, channel]``: how many they are.
    total
        float64 ``[stokes, channel]``: sum over the used cells.
    good
        int64 ``[channel]``: used cells.
    occupancy, raised
        int64 ``[bit, channel]``: cells whose lowest set bit this is, and cells that have this bit set.
    """

    stokes: NDArray[np.float32]
    weight: NDArray[np.uint16]
    total: NDArray[np.float64]
    good: NDArray[np.int64]
    occupancy: NDArray[np.int64]
    raised: NDArray[np.int64]


def zero_sums(planes: int, rows: int, channels: int, bits: int, zeros: Callable[..., Any] = np.zeros) -> Sums:
    """Return sums of nothing yet, for so many Stokes parameters, rows, channels and flags; ``zeros`` makes arrays."""
    return Sums(
        zeros((planes, rows, channels), np.float32),
        zeros((rows, channels), np.uint16),
        zeros((planes, channels), np.float64),
        zeros(channels, np.int64),
        zeros((bits, channels), np.int64),
        zeros((bits, channels), np.int64),
    )


def integrate(
    power: NDArray[np.float32],
    flags: NDArray[np.uint16],
    matrix: NDArray[np.float64],
    extent: tuple[int, int],
    sums: Sums,
    start: int,
    stop: int,
) -> None:
    """Integrate channels ``[start, stop)``; sums run in order of time, so any cut of the channels gives the same bits.

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
        Channels to work on.

    Raises
    ------
    ValueError
        If shapes or types do not fit together, or there is a flag that ``sums`` has no room for.
    """
    check(power, flags, matrix, extent, sums, start, stop)
    bits = len(sums.occupancy)
    if _integrate(power, flags, matrix, *extent, sums, start, stop) >> bits:
        raise ValueError(f"flags have bits beyond the {bits} that are counted")


def check(
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
    bits = len(sums.occupancy)
    fits = (
        power.dtype == np.float32
        and flags.dtype == np.uint16
        and flags.shape == (times, channels)
        and matrix.shape == (planes, products)
        and sums.stokes.shape == (planes, rows, channels)
        and sums.weight.shape == (rows, channels)
        and sums.total.shape == (planes, channels)
        and sums.good.shape == (channels,)
        and sums.occupancy.shape == sums.raised.shape == (bits, channels)
    )
    if not fits or rows == 0 or times % rows:
        raise ValueError(f"cells {power.shape} with flags {flags.shape} do not integrate to rows {sums.stokes.shape}")
    if not (power.flags.c_contiguous and flags.flags.c_contiguous):
        raise ValueError("cells must be C-contiguous")
    first, last = extent
    if not (0 <= start <= stop <= channels and 0 <= first <= last <= times):
        raise ValueError(f"channels [{start}, {stop}) or cells [{first}, {last}) lie outside {power.shape}")


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
    products = power.shape[2]
    planes, rows, _ = sums.stokes.shape
    cells = len(power) // rows
    row_sum = np.zeros((planes, stop - start))
    good = sums.good[start:stop]
    seen = np.uint16(0)
    for row in range(rows):
        row_sum[:] = 0.0
        weight = sums.weight[row, start:stop]
        whole = first <= row * cells and (row + 1) * cells <= last
        for t in range(row * cells, (row + 1) * cells):
            flag = flags[t, start:stop]
            here = power[t].reshape(-1)[start * products : stop * products]
            any_flag = np.uint16(0)
            for c in range(len(flag)):
                weight[c] += flag[c] == 0
                any_flag |= flag[c]
            for s in range(planes):
                _add(here, flag, matrix[s], row_sum[s])
            if first <= t < last:
                if any_flag:
                    _count(flag, start, sums.occupancy, sums.raised)
                if not whole:
                    good += flag == 0
                    for s in range(planes):
                        _add(here, flag, matrix[s], sums.total[s, start:stop])
            seen |= any_flag
        if whole:
            good += weight
        for s in range(planes):
            mean, total, added = sums.stokes[s, row, start:stop], sums.total[s, start:stop], row_sum[s]
            for c in range(len(weight)):
                mean[c] = added[c] / max(weight[c], 1)
            if whole:
                total += added
    return int(seen)


@kernel
def _add(
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
def _count(flag: NDArray[np.uint16], start: int, occupancy: NDArray[np.int64], raised: NDArray[np.int64]) -> None:
    """Count the flags of one time."""
    bits = len(occupancy)
    for c in range(len(flag)):
        if flag[c]:
            booked = False
            for bit in range(bits):
                if flag[c] >> bit & 1:
                    raised[bit, start + c] += 1
                    if not booked:
                        occupancy[bit, start + c] += 1
                        booked = True
