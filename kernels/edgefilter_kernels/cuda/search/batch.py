"""Search of many trials in three launches, without waiting in between: only the peaks are read back.

The DM-time plane of a batch stays in GPU memory. Dedispersion and boxcars are separate launches, because level and
scatter need the whole series, and the longest series exceed the shared memory of a multiprocessor. Writing and reading
the plane once takes less than a thousandth of the time that the rows last.
"""

from typing import Any, NamedTuple

import numpy as np

from edgefilter_kernels.cuda.raw import array_namespace
from edgefilter_kernels.cuda.search.boxcar import FoundPeaks, find_peaks
from edgefilter_kernels.cuda.search.dedisperse import sum_along_tracks
from edgefilter_kernels.search.boxcar import Boxcars


class SearchTables(NamedTuple):
    """Lookup tables of a batch on the device, made and checked once.

    Parameters
    ----------
    edges
        int64 ``[S + 1]``: first channel of each sub-band, and the number of channels.
    parts
        int64 ``[P + 1]``: first sub-band of each part of the band, and the number of sub-bands.
    channels
        int64 ``[group, channel]``: start of each channel's track, as an index into the whole of ``power``.
    subbands
        int64 ``[trial, S]``: start of each sub-band's track, as an index into all sub-band sums
        ``[group, S, length + spread]``.
    items
        int32 ``[item, 6]``: the items, as for :func:`edgefilter_kernels.cuda.search.boxcar.find_peaks`.
    """

    edges: Any
    parts: Any
    channels: Any
    subbands: Any
    items: Any


class WindowArrays(NamedTuple):
    """Normalised power of the window that is searched, on the device.

    Parameters
    ----------
    power
        int8 ``[channel, time]``, C-contiguous.
    scales
        float32 ``[scale, ceil(length / repeat)]``: factors of the dedispersed series.
    repeat
        Times that share one weight and one factor.
    """

    power: Any
    scales: Any
    repeat: int


def search_batch(window: WindowArrays, tables: SearchTables, size: tuple[int, int], boxcars: Boxcars) -> FoundPeaks:
    """Find peaks.

    Scratch memory comes from CuPy's pool, which gives every batch of the same shape the same memory.

    Parameters
    ----------
    window
        Normalised power.
    tables
        Tracks and items.
    size
        Length of the dedispersed series, and spread: the largest difference of a sub-band's delay between two trials of
        a group, time steps.
    boxcars
        Widths, threshold and times.

    Returns
    -------
    found
        The peaks.
    """
    power, scales, repeat = window
    xp = array_namespace(power)
    length, spread = size
    sums = xp.empty((len(tables.channels), len(tables.edges) - 1, length + spread), np.int16)
    sum_along_tracks("add_channels", power, tables.edges, tables.channels, sums)
    series = xp.empty((len(tables.subbands), len(tables.parts) - 1, length), np.float32)
    sum_along_tracks("add_subbands", sums, tables.parts, tables.subbands, series)
    return find_peaks(series, tables.items, scales, repeat, boxcars)
