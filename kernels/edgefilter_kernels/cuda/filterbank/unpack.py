"""CUDA version of :mod:`edgefilter_kernels.filterbank.unpack`: equal bit for bit."""

from typing import Any

import numpy as np

from edgefilter_kernels.cuda.raw import launch
from edgefilter_kernels.filterbank.unpack import flip_and_bias

_THREADS = 256


def unpack(raw: Any, bits: int, encoding: str, out: Any) -> None:
    """CUDA version of :func:`edgefilter_kernels.filterbank.unpack.unpack`."""
    flip, bias = flip_and_bias(bits, encoding)
    if raw.dtype != np.uint8 or not raw.flags.c_contiguous:
        raise ValueError(f"raw is {raw.dtype}, must be C-contiguous uint8")
    if out.dtype != np.float32 or not out.flags.c_contiguous or out.size * bits != raw.size * 8:
        raise ValueError(f"out is {out.dtype} {out.shape}, must be contiguous float32, {raw.size * 8 // bits} numbers")
    if out.size:
        arguments = (raw, np.int64(out.size), np.int32(bits), np.int32(flip), np.int32(bias), out)
        launch("filterbank/unpack.cu", "unpack", (-(-out.size // _THREADS),), (_THREADS,), arguments)


def zero_nonfinite(power: Any, flags: Any, lost: int) -> None:
    """CUDA version of :func:`edgefilter_kernels.filterbank.unpack.zero_nonfinite`; arrays must be C-contiguous."""
    if flags.size:
        arguments = (power, np.int64(flags.size), np.int32(power.shape[2]), np.uint16(lost), flags)
        launch("filterbank/unpack.cu", "zero_nonfinite", (-(-flags.size // _THREADS),), (_THREADS,), arguments)
