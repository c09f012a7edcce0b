"""Reference of the integration in NumPy."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def integrate(
    power: NDArray[Any], flags: NDArray[Any], matrix: NDArray[Any], rows: int, first: int, last: int, bits: int
) -> tuple[NDArray[Any], ...]:
    """Return stokes, weight, total, good, occupancy and raised as the kernel does."""
    channels = power.shape[1]
    used = flags == 0
    stokes = np.einsum("sp,tcp->stc", matrix, power.astype(np.float64)) * used
    weight = used.reshape(rows, -1, channels).sum(axis=1)
    mean = stokes.reshape(len(matrix), rows, -1, channels).sum(axis=2) / np.maximum(weight, 1)
    extent = slice(first, last)
    total = stokes[:, extent].sum(axis=1)
    good = used[extent].sum(axis=0)
    is_set = np.array([(flags[extent] >> bit & 1).astype(bool) for bit in range(bits)])
    lowest = np.array([is_set[bit] & ~is_set[:bit].any(axis=0) for bit in range(bits)])
    return mean, weight, total, good, lowest.sum(axis=1), is_set.sum(axis=1)
