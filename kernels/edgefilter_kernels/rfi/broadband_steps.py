"""Times at which the whole band rises or falls at once and returns shortly after.

The kernel works on the counts of :mod:`edgefilter_kernels.rfi.zero_dm`, on the host, also where a GPU has counted. It
is compiled because Python is several times slower, and the step lies between two passes over all cells.
"""

import numpy as np
from numpy.typing import NDArray

from edgefilter_kernels.jit import kernel
from edgefilter_kernels.rfi.zero_dm import ZERO_DM_BANDS

MIN_CHANNELS = 32
"""Fewest used channels at a time for which the test is made."""

_BAND_PARTS = 8  # parts of the band that are tested
_MIN_MOVED_PARTS = 5  # parts that must move together
_MAX_MOVED_AROUND = 2  # parts that may move shortly before and after: the step must begin and end at once
_MOVED_FRACTION = 0.4  # fraction of a part's channels beyond the level for the part to move; in noise, it is 0.16
_BAND_FRACTIONS = 0.4, 0.3  # fraction of a sub-band's channels, with its neighbours and alone, for it to be flagged


@kernel
def _is_quiet(number: NDArray[np.uint8], first: int, stop: int) -> bool:
    """Return whether few parts move at one of these times, or the data end there."""
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
    """Find the sub-bands that move together with many parts of the band, while few parts move shortly before and after.

    Parameters
    ----------
    counts
        Of :func:`edgefilter_kernels.rfi.zero_dm.zero_dm_counts`.
    side
        1 for rises, 2 for falls.
    margin
        Times before and after.
    out
        bool ``[time, 32]``: set to True where a sub-band moves; other elements are not changed.

    Raises
    ------
    ValueError
        If shapes do not fit together.
    """
    if counts.shape[:2] != (3, ZERO_DM_BANDS) or out.shape != (counts.shape[2], ZERO_DM_BANDS) or side not in (1, 2):
        raise ValueError(f"counts {counts.shape}, side {side} and bands {out.shape} do not go together")
    _find_broadband_steps(counts[0], counts[side], margin, out)
