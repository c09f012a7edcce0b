"""Memory of the kernels' scratch arrays."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

_HUGE_PAGE_BYTES = 2 << 20
_CACHE_LINE_BYTES = 64


def huge_page_zeros(*arrays: tuple[tuple[int, ...], type[np.generic]]) -> list[NDArray[Any]]:
    """Allocate arrays of zeros one after the other, the first at the start of a 2 MiB page.

    NumPy asks Linux for 2 MiB pages for allocations from 4 MiB on. They make the filterbank 20 % faster: its rows lie
    on more 4 KiB pages than the processor's translation buffer holds.

    Parameters
    ----------
    *arrays
        Shape and dtype of each array.

    Returns
    -------
    list
        The arrays, C-contiguous, each on a cache line of its own.
    """
    sizes = [math.prod(shape) * np.dtype(kind).itemsize for shape, kind in arrays]
    padded = [-(-size // _CACHE_LINE_BYTES) * _CACHE_LINE_BYTES + _CACHE_LINE_BYTES for size in sizes]
    buffer = np.empty(max(sum(padded), 2 * _HUGE_PAGE_BYTES) + _HUGE_PAGE_BYTES, np.uint8)
    at = -buffer.ctypes.data % _HUGE_PAGE_BYTES
    result = []
    for (shape, kind), size, step in zip(arrays, sizes, padded, strict=True):
        part = buffer[at : at + size]
        part[:] = 0
        result.append(part.view(kind).reshape(shape))
        at += step
    return result
