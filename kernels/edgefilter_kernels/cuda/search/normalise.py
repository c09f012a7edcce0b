"""Robust level and scatter, and channels normalised to zero mean and unit variance.

CUDA version of :mod:`edgefilter_kernels.search.normalise`. All sums are made in the same order. A normalised byte may
differ by one count, because the CPU's compiler may contract a product and a sum of the scatter.
"""

from typing import Any

import numpy as np

from edgefilter_kernels.cuda.raw import array_namespace, launch
from edgefilter_kernels.search.normalise import CLIP_SIGMA, COUNTS_PER_SIGMA, NormalisedPower

_REACH = 3.0 * 1.482602218505602
_CLIPPED_STD = 0.9865784
_SAMPLE = 256  # threads of a block that computes a median, as in bulk.h
_TILE = 32
_THREADS = 256


def median(values: Any) -> float:
    """Do the same as :func:`edgefilter_kernels.search.normalise.median`, waiting for the GPU."""
    return float(array_namespace(values).sort(values)[values.size // 2])


def clipped_mean_std(values: Any, sample: int) -> tuple[float, float]:
    """Do the same as :func:`edgefilter_kernels.search.normalise.clipped_mean_std` in double precision.

    Waits for the GPU. The kernels of the search have their own version, in ``bulk.h``.
    """
    if values.size == 0:
        return 0.0, 0.0
    some = values[:: max(values.size // sample, 1)]
    centre = np.float32(median(some))
    reach = np.float32(_REACH * median(abs(some - centre)))
    off = values - centre
    if reach > 0:
        off = off[off * off <= reach * reach]
    std = off.std(dtype=np.float64) / (_CLIPPED_STD if reach > 0 else 1.0)
    return float(centre + off.mean(dtype=np.float64)), float(std)


def normalise(power: Any, weight: Any, full: int, first: int, start: int, stop: int, out: NormalisedPower) -> None:
    """Do the same as :func:`edgefilter_kernels.search.normalise.normalise` for arrays on the device."""
    rows, channels = power.shape
    count, times = stop - start, rows - first
    if not count or not times:
        return
    xp = array_namespace(power)
    bulk, scale = xp.empty((2, count), np.float32), xp.empty((2, count), np.float32)
    whole = xp.empty(count, np.int8)
    n_rows, padded_rows = np.int32(rows), np.int32(rows + -times % 8)
    size, unit = [np.int32(n) for n in (channels, start, count)], np.float32(1 / full)
    arguments: tuple[Any, ...] = power, weight, n_rows, padded_rows, *size, unit, bulk
    launch("search/normalise.cu", "find_bulk", (count,), (_SAMPLE,), arguments)
    # Few threads a block, so that all multiprocessors are used.
    arguments = power, weight, n_rows, *size, unit, np.float32(COUNTS_PER_SIGMA), bulk, scale, whole
    launch("search/normalise.cu", "find_scale", (-(-count // _TILE),), (_TILE,), arguments)
    clip = np.float32(COUNTS_PER_SIGMA * CLIP_SIGMA)
    arguments = power, weight, n_rows, *size, np.int32(first), unit, clip, scale, whole, out.value, out.weight
    launch("search/normalise.cu", "normalise_tile", (-(-times // _TILE), -(-count // _TILE)), (_TILE, 8), arguments)


def tscrunch2(value: Any, out: Any) -> None:
    """Do the same as :func:`edgefilter_kernels.search.normalise.tscrunch2` for C-contiguous arrays on the device."""
    if out.size:
        root = np.float32(np.sqrt(0.5))
        arguments = (value, np.int64(out.size), root, out)
        launch("search/normalise.cu", "tscrunch2", (-(-out.size // _THREADS),), (_THREADS,), arguments)


def max_pool(relative_weight: Any, repeat: int, out: Any) -> None:
    """Do the same as :func:`edgefilter_kernels.search.normalise.max_pool` for C-contiguous arrays on the device."""
    if out.size:
        arguments = (relative_weight, np.int64(out.size), np.int32(repeat), out)
        launch("search/normalise.cu", "max_pool", (-(-out.size // _THREADS),), (_THREADS,), arguments)
