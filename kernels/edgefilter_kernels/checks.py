"""Checks of the arrays that kernels take."""

from typing import Any

import numpy as np


def check_array(name: str, array: Any, dtype: type[np.generic], shape: tuple[int | None, ...]) -> None:
    """Raise an error if an array does not have the dtype, shape and layout that a kernel needs.

    Parameters
    ----------
    name
        Name of the array, for the message.
    array
        NumPy or CuPy array.
    dtype
        Expected dtype.
    shape
        Expected shape; None stands for any length.

    Raises
    ------
    ValueError
        If the array differs or is not C-contiguous.
    """
    fits = array.ndim == len(shape) and all(want in (None, have) for want, have in zip(shape, array.shape, strict=True))
    if not fits or array.dtype != dtype or not array.flags.c_contiguous:
        expected = ", ".join("any" if length is None else str(length) for length in shape)
        raise ValueError(f"{name} is {array.dtype} {array.shape}, must be C-contiguous {np.dtype(dtype)} ({expected})")
