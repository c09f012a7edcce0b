"""Detected cells, their intensity, and the checks that every flagging kernel makes of them."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgefilter_kernels.jit import kernel

LANES = 64
"""Channels that are worked on together, a few vector registers; results do not depend on it."""


class PowerCells(NamedTuple):
    r"""Detected cells of one block; both arrays are C-contiguous.

    Parameters
    ----------
    power
        float32 ``[time, channel, product]``: the first ``n_pols`` products are the mean \|v\|² of the polarisations;
        their sum is the intensity.
    n_pols
        Products that add up to the intensity.
    flags
        uint16 ``[time, channel]``; a cell is used where it is 0.
    """

    power: Any
    n_pols: int
    flags: Any


class FlatCells(NamedTuple):
    """The same cells as compiled kernels take them: ``power`` is float32 ``[time, channel · product]``."""

    power: NDArray[np.float32]
    products: int
    n_pols: int
    flags: NDArray[np.uint16]


@kernel
def mask_if(condition: bool) -> int:
    """Return an integer with all bits set where a condition holds, and 0 where it does not.

    ``out |= mark if condition else 0`` becomes a store under a mask, which takes AMD's processors six times as long for
    bytes as ``out |= mark & mask_if(condition)`` does.

    Parameters
    ----------
    condition
        The condition.

    Returns
    -------
    int
        -1 or 0.
    """
    return -int(condition)


@kernel
def intensity(
    flat: NDArray[np.float32], products: tuple[int, int], t: int, first: int, count: int, out: NDArray[np.float32],
    row: int,
) -> None:  # fmt: skip
    """Sum the first products of ``count`` channels at one time.

    Parameters
    ----------
    flat
        float32 ``[time, channel · product]``: ``power`` of :class:`FlatCells`. The whole named tuple would cost a
        reference count of each array at each call, 5 % of the cell statistics.
    products
        Products of a channel, and how many of them are summed.
    t
        The time.
    first, count
        Channels.
    out
        Output, float32 ``[row, channel]``, of which one row is written.
    row
        The row.
    """
    per_channel, n_pols = products
    if t < 0 or first < 0 or row < 0:  # tells the compiler that no index counts from the end
        return
    # Strides that the compiler knows are loads of whole registers.
    if per_channel == 1:
        for i in range(count):
            out[row, i] = flat[t, first + i]
    elif per_channel == 2 and n_pols == 2:
        for i in range(count):
            out[row, i] = flat[t, 2 * (first + i)] + flat[t, 2 * (first + i) + 1]
    else:
        for i in range(count):
            total = flat[t, per_channel * (first + i)]
            for h in range(1, n_pols):
                total += flat[t, per_channel * (first + i) + h]
            out[row, i] = total


def flatten_cells(cells: PowerCells) -> FlatCells:
    """Check that cells and flags fit together, and flatten them for the compiled kernels.

    Parameters
    ----------
    cells
        The cells, on the host or on a GPU.

    Returns
    -------
    FlatCells
        A view of them.

    Raises
    ------
    ValueError
        If shapes, types or memory layout do not fit.
    """
    power, n_pols, flags = cells
    if power.ndim != 3 or power.shape[:2] != flags.shape or not 1 <= n_pols <= power.shape[2]:
        raise ValueError(f"cells {power.shape} of {n_pols} polarisations do not go with flags {flags.shape}")
    if power.dtype != np.float32 or flags.dtype != np.uint16:
        raise ValueError(f"cells must be float32 and flags uint16, not {power.dtype} and {flags.dtype}")
    if not (power.flags.c_contiguous and flags.flags.c_contiguous):
        raise ValueError("cells and flags must be C-contiguous")
    return FlatCells(power.reshape(len(power), -1), power.shape[2], n_pols, flags)
