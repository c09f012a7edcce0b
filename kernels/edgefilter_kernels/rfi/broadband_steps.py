"""Where the band moves all at once, and is back shortly after.

This works on the counts of :mod:`edgefilter_kernels.rfi.zero_dm`, on the host, whatever has counted. It is compiled
all the same: between two passes over all cells, Python is several times slower than in a loop of its own.
"""

import numpy as np
from numpy.typing import NDArray

from edgefilter_kernels.jit import kernel
from edgefilter_kernels.rfi.zero_dm import ZERO_DM_BANDS

MIN_CHANNELS = 32
"""Channels in use at a time without which it says nothing."""

_BAND_PARTS = 8  # parts of the band that are asked
_MIN_MOVED_PARTS = 5  # of them must have moved
_MAX_MOVED_AROUND = 2  # of them may have moved shortly before and after: it must come and go at once
_MOVED_FRACTION = 0.4  # of a part's channels that must exceed the level; 0.16 of noise do
_BAND_FRACTIONS = 0.4, 0.3  # of a sub-band's channels, with its neighbours and by itself, that make it worth flagging


@kernel
def _is_quiet(number: NDArray[np.uint8], first: int, stop: int) -> bool:
    """Whether few parts have moved at one of these times, or the data end there."""
    few = first == stop
    for t in range(first, stop):
        few |= number[t] <= _MAX_MOVED_AROUND
    return few


@kernel
def _find_broadband_steps(
    used: NDArray[np.int32], moved: NDArray[np.int32], margin: int, out: NDArray[np.bool_]
) -> None:
    times, each = used.shape[1], ZERO_DM_BANDS // _BAND_PARTS
    number, channels = np.zeros(times, np.uint8), np.zeros(times, np.int32)
    for part in range(_BAND_PARTS):
        for t in range(times):
            here, changed = np.int32(0), np.int32(0)
            for band in range(part * each, (part + 1) * each):
                here += used[band, t]
                changed += moved[band, t]
            channels[t] += here
            number[t] += np.uint8(changed > _MOVED_FRACTION * here)
    share, stop = np.empty(ZERO_DM_BANDS), 0
    while stop < times:
        first = stop
        while stop < times and number[stop] >= _MIN_MOVED_PARTS:
            stop += 1
        before = _is_quiet(number, max(first - margin, 0), first)
        after = _is_quiet(number, stop, min(stop + margin, times))
        for t in range(first, stop if before and after else first):
            if channels[t] < MIN_CHANNELS:
                continue
            for band in range(ZERO_DM_BANDS):
                share[band] = moved[band, t] / max(used[band, t], 1)
            for band in range(ZERO_DM_BANDS):
                near = share[max(band - 1, 0)] + share[band] + share[min(band + 1, ZERO_DM_BANDS - 1)]
                out[t, band] |= near > 3 * _BAND_FRACTIONS[0] and share[band] > _BAND_FRACTIONS[1]
        stop += 1


def find_broadband_steps(counts: NDArray[np.int32], side: int, margin: int, out: NDArray[np.bool_]) -> None:
    """Find the sub-bands that move where many parts of the band do, while few do shortly before and after.

    Parameters
    ----------
    counts
        Of :func:`edgefilter_kernels.rfi.zero_dm.zero_dm_counts`.
    side
        1 for what has risen, 2 for what has fallen.
    margin
        Times before and after.
    out
        Output, bool ``[time, 32]``: True is set where a sub-band moves; nothing else is changed.

    Raises
    ------
    ValueError
        If shapes do not fit together.
    """
    if counts.shape[:2] != (3, ZERO_DM_BANDS) or out.shape != (counts.shape[2], ZERO_DM_BANDS) or side not in (1, 2):
        raise ValueError(f"counts {counts.shape}, side {side} and bands {out.shape} do not go together")
    _find_broadband_steps(counts[0], counts[side], margin, out)
