"""Intensity of cells, and what every flagging kernel asks of its arrays."""

import numpy as np
from numpy.typing import NDArray

from edgefilter_kernels.jit import kernel

LANES = 64
"""Channels that are worked on together, a few vector registers; results do not depend on it."""


@kernel
def mask_if(condition: bool) -> int:
    """All bits where a condition holds, none where it does not.

    ``out |= mark if condition else 0`` becomes a store under a mask, which takes AMD's processors six times as long for
    bytes as ``out |= mark & mask_if(condition)`` does.
    """
    return -int(condition)


@kernel
def intensity(
    flat: NDArray[np.float32], t: int, products: int, n_pols: int, first: int, count: int, out: NDArray[np.float32],
    row: int,
) -> None:  # fmt: skip
    """Sum the first ``n_pols`` of the ``products`` of ``count`` channels at one time.

    Parameters
    ----------
    flat
        float32 ``[time, channel · product]``.
    t
        The time.
    products, n_pols
        Products of a channel, and how many of them add up.
    first, count
        Channels.
    out
        float32 ``[row, channel]``, of which one row is written.
    row
        The row.
    """
    if t < 0 or first < 0 or row < 0:  # tells the compiler that no index counts from the end
        return
    # Strides that the compiler knows are loads of whole registers.
    if products == 1:
        for i in range(count):
            out[row, i] = flat[t, first + i]
    elif products == 2 and n_pols == 2:
        for i in range(count):
            out[row, i] = flat[t, 2 * (first + i)] + flat[t, 2 * (first + i) + 1]
    else:
        for i in range(count):
            total = flat[t, products * (first + i)]
            for h in range(1, n_pols):
                total += flat[t, products * (first + i) + h]
            out[row, i] = total


def flatten_cells(power: NDArray[np.float32], flags: NDArray[np.uint16], n_pols: int) -> NDArray[np.float32]:
    """Check that cells and flags go together; return the cells as ``[time, channel · product]``.

    Raises
    ------
    ValueError
        If shapes or types do not fit together.
    """
    if power.ndim != 3 or power.shape[:2] != flags.shape or not 1 <= n_pols <= power.shape[2]:
        raise ValueError(f"cells {power.shape} of {n_pols} polarisations do not go with flags {flags.shape}")
    if power.dtype != np.float32 or flags.dtype != np.uint16:
        raise ValueError(f"cells must be float32 and flags uint16, not {power.dtype} and {flags.dtype}")
    if not (power.flags.c_contiguous and flags.flags.c_contiguous):
        raise ValueError("cells and flags must be C-contiguous")
    return power.reshape(len(power), -1)
