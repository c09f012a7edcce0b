"""Robust level and scatter, and channels brought to zero mean and unit variance.

The twin of :mod:`edgefilter_kernels.search.normalise`. Normalised bytes are those of the CPU, but for a count up or
down where its compiler has contracted a product and a sum of the scatter: what is summed, is summed in the same order.
"""

from typing import Any

import numpy as np

from edgefilter_kernels.cuda.raw import array_namespace, launch
from edgefilter_kernels.search.normalise import CLIP_SIGMA, COUNTS_PER_SIGMA

_REACH = 3.0 * 1.482602218505602
_CLIPPED_STD = 0.9865784
_SAMPLE = 256  # threads of a block that finds a median, as in bulk.h
_TILE = 32
_THREADS = 256


def median(values: Any) -> float:
    """As :func:`edgefilter_kernels.search.normalise.median`; waits for the card."""
    return float(array_namespace(values).sort(values)[values.size // 2])


def clipped_mean_std(values: Any, sample: int) -> tuple[float, float]:
    """As :func:`edgefilter_kernels.search.normalise.clipped_mean_std`, summed in double precision; waits for the card.

    The search has this in the kernels that need it.
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


def normalise(
    power: Any, weight: Any, full: int, first: int, start: int, stop: int, value: Any, relative_weight: Any
) -> None:
    """As :func:`edgefilter_kernels.search.normalise.normalise`: arrays on the device."""
    rows, channels = power.shape
    count, times = stop - start, rows - first
    if not count or not times:
        return
    xp = array_namespace(power)
    bulk, scale = xp.empty((2, count), np.float32), xp.empty((2, count), np.float32)
    whole = xp.empty(count, np.int8)
    # The CPU takes eight rows at a time, and its sample of made-up rows too.
    size = [np.int32(n) for n in (rows, rows + -times % 8, channels, start, count)]
    unit = np.float32(1 / full)
    cells = (power, weight, *size, unit)
    launch("search/normalise.cu", "find_bulk", (count,), (_SAMPLE,), (*cells, bulk))
    # Few threads a block, so that all processors take part.
    arguments = (*cells, np.float32(COUNTS_PER_SIGMA), bulk, scale, whole)
    launch("search/normalise.cu", "find_scale", (-(-count // _TILE),), (_TILE,), arguments)
    size[1:2] = []
    arguments = (
        power, weight, *size, np.int32(first), unit, np.float32(COUNTS_PER_SIGMA * CLIP_SIGMA), scale, whole, value,
        relative_weight,
    )  # fmt: skip
    launch("search/normalise.cu", "normalise_tile", (-(-times // _TILE), -(-count // _TILE)), (_TILE, 8), arguments)


def tscrunch2(value: Any, out: Any) -> None:
    """As :func:`edgefilter_kernels.search.normalise.tscrunch2`: arrays on the device, C-contiguous."""
    if out.size:
        root = np.float32(np.sqrt(0.5))
        launch(
            "search/normalise.cu",
            "tscrunch2",
            (-(-out.size // _THREADS),),
            (_THREADS,),
            (value, np.int64(out.size), root, out),
        )


def max_pool(relative_weight: Any, repeat: int, out: Any) -> None:
    """As :func:`edgefilter_kernels.search.normalise.max_pool`: arrays on the device, C-contiguous."""
    if out.size:
        arguments = (relative_weight, np.int64(out.size), np.int32(repeat), out)
        launch("search/normalise.cu", "max_pool", (-(-out.size // _THREADS),), (_THREADS,), arguments)
