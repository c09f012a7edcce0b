"""Marks of the evidence become flags."""

import numpy as np
from numpy.typing import NDArray

from edgefilter_kernels.intensity import masked
from edgefilter_kernels.jit import kernel


@kernel
def _combine(
    marks: NDArray[np.uint8], tables: NDArray[np.uint16], which: NDArray[np.bool_], channel: NDArray[np.uint16],
    lost: int, flags: NDArray[np.uint16], start: int, stop: int,
) -> None:  # fmt: skip
    if start < 0:  # tells the compiler that no index counts from the end
        return
    gone, none = np.uint16(lost), np.uint16(0)
    for t in range(start, stop):
        row, mark = flags[t], marks[t]
        for c in range(len(row)):
            found = tables[np.uint8(which[c]), mark[c]] | channel[c]
            row[c] |= found & masked((row[c] & gone) == none)


def combine(
    marks: NDArray[np.uint8],
    tables: NDArray[np.uint16],
    which: NDArray[np.bool_],
    channel: NDArray[np.uint16],
    lost: int,
    flags: NDArray[np.uint16],
    start: int,
    stop: int,
) -> None:
    """Set the flags that marks and channels ask for at times ``[start, stop)``.

    Parameters
    ----------
    marks
        uint8 ``[time, channel]``.
    tables
        uint16 ``[2, 256]``: flags of every combination of marks.
    which
        bool ``[channel]``: which of the two tables a channel goes by.
    channel
        uint16 ``[channel]``: flags of whole channels.
    lost
        Cells with this flag get no other.
    flags
        uint16 ``[time, channel]``, changed in place.
    start, stop
        Times to work on.

    Raises
    ------
    ValueError
        If shapes or types do not fit together.
    """
    if marks.shape != flags.shape or tables.shape != (2, 256) or not which.shape == channel.shape == flags.shape[1:]:
        raise ValueError(f"marks {marks.shape} and channels {channel.shape} do not go with flags {flags.shape}")
    if marks.dtype != np.uint8 or tables.dtype != np.uint16 or channel.dtype != np.uint16 or flags.dtype != np.uint16:
        raise ValueError("marks must be uint8 and flags uint16")
    _combine(marks, tables, which, channel, lost, flags, start, stop)
