"""Matched boxcars over dedispersed series: CUDA version of :mod:`edgefilter_kernels.search.boxcar`.

S/N differs from the CPU's by the rounding of sums in another order: by about 1e-6 of its value, and by up to 1e-3 where
a value at three sigma is clipped on one side only when level and scatter are measured.
"""

from typing import Any, NamedTuple

import numpy as np

from edgefilter_kernels.cuda.raw import array_namespace, launch
from edgefilter_kernels.search.boxcar import Boxcars

_THREADS = 256  # as SAMPLE in bulk.h
_BLOCKS = 660  # five for each of the 132 processors of an H100: that many fit with their shared memory …
SCRATCH_BYTES = 1 << 28
"""… unless their scratch memory, five arrays as long as a series, exceeds this."""


class FoundPeaks(NamedTuple):
    """Peaks on the device, in no order.

    Parameters
    ----------
    n_peaks
        int32 ``[1]``: number of peaks.
    table
        int32 ``[4, capacity]``: item, time, width and the bits of the float32 S/N of each.
    """

    n_peaks: Any
    table: Any


def boxcar_peaks(
    series: Any, trials: Any, parts: tuple[int, int], scale: Any, repeat: int, boxcars: Boxcars
) -> tuple[Any, Any, Any, Any]:
    """Do the same as :func:`edgefilter_kernels.search.boxcar.boxcar_peaks` for arrays on the device.

    Waits for the GPU, to read the number of peaks.
    """
    _check_series(series)
    xp = array_namespace(series)
    items = xp.zeros((len(trials), 6), np.int32)
    items[:, 0], items[:, 1], items[:, 2] = trials, parts[0], parts[1]
    if not 0 <= parts[0] < parts[1] <= series.shape[1]:
        raise ValueError(f"parts {parts} must lie in [0, {series.shape[1]})")
    n_peaks, table = find_peaks(series, items, scale[None], repeat, boxcars)
    found = table[:, : int(n_peaks[0])]
    found = found[:, xp.argsort(found[0].astype(np.int64) * series.shape[2] + found[1])]
    item, time, width = found[:3].astype(np.int64)
    return trials[item], time, width, found[3].view(np.float32)


def find_peaks(series: Any, items: Any, scales: Any, repeat: int, boxcars: Boxcars) -> FoundPeaks:
    """Find the best boxcar in each interval of time of many items in one launch, without waiting for the GPU.

    Parameters
    ----------
    series
        float32 ``[trial, part, time]``, C-contiguous.
    items
        int32 ``[item, 6]``: row of ``series``, parts ``[start, stop)`` whose sum is searched, row of ``scales``, and
        channels ``[start, stop)``, which are not used here. The values are not checked.
    scales
        float32 ``[scale, ceil(time / repeat)]``, C-contiguous: as for :func:`boxcar_peaks`, one row for each band.
    repeat, boxcars
        As for :func:`boxcar_peaks`.

    Returns
    -------
    found
        The peaks.

    Raises
    ------
    ValueError
        If a shape, a type or the layout differs from these, or a boxcar leaves the series.
    """
    _check_series(series)
    length, steps = series.shape[2], -(-series.shape[2] // repeat)
    if scales.dtype != np.float32 or scales.shape[1:] != (steps,) or not scales.flags.c_contiguous:
        raise ValueError(f"scale must be float32 [{steps}], is {scales.dtype} {scales.shape[1:]}")
    first, times, octaves, threshold, interval = boxcars
    half = (1 << octaves) // 4
    if not 1 <= octaves <= 12 or times < 1 or interval < 1 or first < half or first + times + half > length:
        raise ValueError(f"boxcars of {octaves} octaves at [{first}, {first + times}) leave {length} times")
    xp = array_namespace(series)
    n_peaks, table = xp.zeros(1, np.int32), xp.empty((4, len(items) * -(-times // interval)), np.int32)
    if len(items):
        blocks = max(min(len(items), _BLOCKS, SCRATCH_BYTES // (20 * length)), 1)
        scratch = xp.empty((blocks, 5, length), np.float32)
        where = [np.int32(n) for n in (steps, repeat, first, times, octaves)]
        arguments = (
            series, np.int32(series.shape[1]), np.int32(length), items, np.int32(len(items)), scales, *where,
            np.float64(threshold), np.int32(interval), scratch, n_peaks, table, np.int32(table.shape[1]),
        )  # fmt: skip
        launch("search/boxcar.cu", "find_peaks", (blocks,), (_THREADS,), arguments)
    return FoundPeaks(n_peaks, table)


def _check_series(series: Any) -> None:
    if series.dtype != np.float32 or series.ndim != 3 or not series.flags.c_contiguous:
        raise ValueError("series must be C-contiguous float32 [trial, part, time]")
