"""The search of many trials at once: four launches, no waiting in between, and only peaks to read back.

The DM-time plane of a batch stays in the card's memory. It is not fused into the boxcars' launch, because a series must
be whole before its level and scatter are known, and the widest blocks of rows do not fit into the shared memory of a
processor; written and read once, it costs a card less than a thousandth of the time that the rows last.
"""

from typing import Any, NamedTuple

import numpy as np

from edgefilter_kernels.cuda.raw import array_namespace
from edgefilter_kernels.cuda.search.band_occupancy import band_occupancies
from edgefilter_kernels.cuda.search.boxcar import FoundPeaks, find_peaks
from edgefilter_kernels.cuda.search.dedisperse import sum_along_tracks
from edgefilter_kernels.search.boxcar import Boxcars


class SearchTables(NamedTuple):
    """What the launches of a batch look up, on the device; made and checked once.

    Parameters
    ----------
    edges
        int64 ``[S + 1]``: first channel of each sub-band, and the number of channels.
    parts
        int64 ``[P + 1]``: first sub-band of each part of the band, and the number of sub-bands.
    channels
        int64 ``[group, channel]``: where the tracks of channels begin, as places in all of ``power``.
    subbands
        int64 ``[trial, S]``: where the tracks of sub-bands begin, as places in all sub-band sums
        ``[group, S, length + spread]``.
    delays
        int64 ``[trial, channel]``: those of the channels, time steps.
    items
        int32 ``[item, 6]``: what is searched, as for :func:`edgefilter_kernels.cuda.search.boxcar.find_peaks`.
    """

    edges: Any
    parts: Any
    channels: Any
    subbands: Any
    delays: Any
    items: Any


def search_batch(
    power: Any,
    weight: Any,
    scales: Any,
    repeat: int,
    tables: SearchTables,
    size: tuple[int, int],
    boxcars: Boxcars,
    max_part: float,
) -> tuple[FoundPeaks, Any]:
    """Find peaks, and what each leaves without its strongest part of the band.

    Scratch comes out of CuPy's pool, which gives every batch of the same shape the same memory.

    Parameters
    ----------
    power
        int8 ``[channel, time]``, C-contiguous.
    weight, max_part
        As for :func:`edgefilter_kernels.search.band_occupancy.band_occupancy`.
    scales
        float32 ``[scale, ceil(length / repeat)]``.
    repeat
        Times that have one weight, and one factor.
    tables
        Tracks and items.
    size
        Length of the dedispersed series and spread: how much later a sub-band is in one trial than in another at most.
    boxcars
        Widths, threshold and times.
    """
    xp = array_namespace(power)
    length, spread = size
    sums = xp.empty((len(tables.channels), len(tables.edges) - 1, length + spread), np.int16)
    sum_along_tracks("add_channels", power, tables.edges, tables.channels, sums)
    series = xp.empty((len(tables.subbands), len(tables.parts) - 1, length), np.float32)
    sum_along_tracks("add_subbands", sums, tables.parts, tables.subbands, series)
    found = find_peaks(series, tables.items, scales, repeat, boxcars)
    return found, band_occupancies(power, weight, repeat, tables.delays, max_part, tables.items, found)
