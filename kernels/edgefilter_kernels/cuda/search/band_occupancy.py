"""Whether a boxcar's signal comes from all over the band.

The twin of :mod:`edgefilter_kernels.search.band_occupancy`.
"""

from typing import Any

import numpy as np

from edgefilter_kernels.cuda.raw import launch, namespace
from edgefilter_kernels.cuda.search.boxcar import Found

_THREADS = 128
_BLOCKS = 1056  # eight for each of the 132 processors of an H100 …
SCRATCH_BYTES = 1 << 26
"""… unless their channels, two numbers each, take more than this."""


def breadth(
    power: Any, share: Any, repeat: int, track: Any, part: float, trial: Any, start: Any, width: Any, snr: Any
) -> Any:
    """As :func:`edgefilter_kernels.search.band_occupancy.breadth`, of arrays on the device.

    ``power`` and ``share`` are C-contiguous.
    """
    xp = namespace(power)
    count = len(start)
    items = xp.zeros((count, 6), np.int32)
    items[:, 0], items[:, 5] = trial, len(power)
    table = xp.empty((4, count), np.int32)
    table[0], table[1], table[2] = xp.arange(count), start + width // 2, width
    table[3] = snr.view(np.int32)
    return breadths(power, share, repeat, track, part, items, Found(xp.full(1, count, np.int32), table))


def breadths(power: Any, share: Any, repeat: int, track: Any, part: float, items: Any, found: Found) -> Any:
    """Return what :func:`breadth` does for each peak that was found, float64 ``[room]``, without waiting for them.

    Parameters
    ----------
    power, share, repeat, track, part
        As for :func:`breadth`, of the whole band.
    items
        As for :func:`edgefilter_kernels.cuda.search.boxcar.find_peaks`: row of ``track`` and channels of each item.
    found
        The peaks.
    """
    xp = namespace(power)
    room = found.table.shape[1]
    left = xp.empty(room, np.float64)
    if room:
        blocks = max(min(room, _BLOCKS, SCRATCH_BYTES // (8 * track.shape[1])), 1)
        scratch = xp.empty((blocks, 2, track.shape[1]), np.float32)
        arguments = (
            power, np.int32(power.shape[1]), share, np.int32(share.shape[1]), np.int32(repeat), track,
            np.int32(track.shape[1]), items, np.float64(part), found.filled, found.table, np.int32(room), scratch, left,
        )  # fmt: skip
        launch("search/band_occupancy.cu", "breadth", (blocks,), (_THREADS,), arguments)
    return left
