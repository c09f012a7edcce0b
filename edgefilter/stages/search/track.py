"""Rows along the dispersion track of a pulse: the same number of rows of each channel, from the pulse's delay on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgefilter.core.cells import Rows
from edgefilter.core.reduced_block import PulseCandidate


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """Rows ``[first, first + length)`` of each channel.

    Parameters
    ----------
    first
        int64 ``[channel]``: rows since the epoch; negative ones do not exist.
    length
        Number of rows.
    """

    first: NDArray[np.int64]
    length: int

    def widened(self, rows: int) -> "Region":
        """Return the region with more rows before and after it.

        Parameters
        ----------
        rows
            Number of rows to add on either side.

        Returns
        -------
        Region
            The wider region.
        """
        return Region(self.first - rows, self.length + 2 * rows)

    def covers(self, other: "Region") -> bool:
        """Return whether all rows of another region lie in this one.

        Parameters
        ----------
        other
            The other region, of the same channels.

        Returns
        -------
        bool
            True if they do in every channel.
        """
        later = other.first - self.first
        return bool(later.min() >= 0 and later.max() <= self.length - other.length)


def boxcar_region(pulse: PulseCandidate, delay_per_dm: NDArray[np.float64]) -> Region:
    """Return the rows of the boxcar in which a pulse was found.

    Parameters
    ----------
    pulse
        The pulse.
    delay_per_dm
        From :func:`~edgefilter.stages.search.dm_plan.delay_rows`.

    Returns
    -------
    Region
        Delays are rounded to rows.
    """
    width = max(round(pulse.width_rows), 1)
    # Rows count from that of the pulse, so that rounding does not depend on the distance from the epoch.
    whole = int(np.floor(pulse.row))
    offset = np.floor(pulse.row - whole - width / 2 + pulse.dm * delay_per_dm + 0.5)
    return Region(whole + offset.astype(np.int64), width)


def gather(region: Region, parts: Sequence[Rows | None], like: Rows) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
    """Copy the rows of a region.

    Parameters
    ----------
    region
        The region.
    parts
        Consecutive rows; None where there is no data.
    like
        Rows with the same number of Stokes planes and channels.

    Returns
    -------
    stokes, weight
        float32 ``[stokes, row, channel]`` and uint16 ``[row, channel]``, as in :class:`~edgefilter.core.cells.Rows`;
        0 in rows that no part holds.
    """
    planes, channels = len(like.stokes), like.weight.shape[1]
    stokes = np.zeros((planes, region.length, channels), np.float32)
    weight = np.zeros((region.length, channels), np.uint16)
    steps = np.arange(region.length)[:, None]
    for part in parts:
        if part is None:
            continue
        inside = np.flatnonzero((region.first < part.stop) & (region.first + region.length > part.start))
        if not len(inside):
            continue
        first = region.first[inside] - part.start
        rows = first + steps
        complete = first.min() >= 0 and first.max() + region.length <= len(part.weight)
        flat = rows * channels + inside
        if complete and len(inside) == channels:
            np.take(part.weight, flat, out=weight)
            for plane, values in zip(stokes, part.stokes, strict=True):
                np.take(values, flat, out=plane)
            continue
        here = (rows >= 0) & (rows < len(part.weight))
        row, at = np.nonzero(here)
        source, channel = flat[row, at], inside[at]
        weight[row, channel] = part.weight.ravel()[source]
        for plane, values in zip(stokes, part.stokes, strict=True):
            plane[row, channel] = values.ravel()[source]
    return stokes, weight
