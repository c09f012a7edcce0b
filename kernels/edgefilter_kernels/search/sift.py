"""Which events of a pulse search are explained by stronger ones.

All arrays are sorted by falling strength. Over ``u = 1/f² - offset`` a dispersion track is the straight line
``row + dm · slope · u``. Where the tracks of a pulse p and an event e are nearer than half the sum of their
boxcars and two rows, p adds to e's boxcar. With p's S/N spread evenly over its n channels, an overlap over a fraction
φ of e's channels gives e an S/N of ``snr_p φ sqrt(n_e / n_p)``, less by ``sqrt(w_p / w_e)`` if e's boxcar is the wider
one (if it is the narrower one, all of p's power may be in it). p explains e if twice that (a pulse is not flat) and
three sigma of noise make up e's S/N: a strong burst that an unrelated, weaker pulse crosses somewhere on its sweep
does not hide it.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgefilter_kernels.jit import kernel

_SLACK_ROWS = 2.0
_FACTOR = 2.0
_NOISE = 3.0


class Marks(NamedTuple):
    """Events, falling S/N; one array entry each.

    Parameters
    ----------
    row, dm, width, snr
        float64: rows, pc cm⁻³, rows.
    band
        int32: index in :class:`Bands`.
    """

    row: NDArray[np.float64]
    dm: NDArray[np.float64]
    width: NDArray[np.float64]
    snr: NDArray[np.float64]
    band: NDArray[np.int32]


class Bands(NamedTuple):
    """Bands and what disperses in them.

    Parameters
    ----------
    edges
        float64 ``[band, 2]``: lower and upper edge, MHz.
    channels
        float64 ``[band]``: number of channels.
    slope, offset
        Delay in rows per pc cm⁻³ and MHz⁻²; MHz⁻² at which the delay is 0.
    reach
        Events further apart than this many rows have nothing to do with each other.
    """

    edges: NDArray[np.float64]
    channels: NDArray[np.float64]
    slope: float
    offset: float
    reach: float


@kernel
def explains(marks: Marks, bands: Bands, p: int, e: int) -> bool:
    """Say whether event ``p`` explains event ``e``."""
    row = marks.row[p] - marks.row[e]
    if abs(row) > bands.reach:
        return False
    near = (marks.width[p] + marks.width[e]) / 2 + _SLACK_ROWS
    low, high = bands.edges[marks.band[e]]
    start, stop = high**-2, low**-2
    rate = (marks.dm[p] - marks.dm[e]) * bands.slope
    if rate == 0.0:
        if abs(row) > near:
            return False
        share = 1.0
    else:
        a, b = (-near - row) / rate + bands.offset, (near - row) / rate + bands.offset
        first, last = max(min(a, b), start), min(max(a, b), stop)
        if first > last:
            return False
        share = (first**-0.5 - last**-0.5) / (high - low)
    overlap = math.sqrt(min(marks.width[p] / marks.width[e], 1.0))
    channels = bands.channels[marks.band[e]] / bands.channels[marks.band[p]]
    return bool(marks.snr[e] <= _FACTOR * marks.snr[p] * share * math.sqrt(channels) * overlap + _NOISE)


@kernel
def find_lit(wanted: NDArray[np.bool_], marks: Marks, bands: Bands) -> NDArray[np.bool_]:
    """Find the wanted events that no stronger event explains.

    Parameters
    ----------
    wanted
        bool ``[event]``: those to decide on.
    marks, bands
        The events, sorted by falling S/N, and the bands that they are in.
    """
    lit = wanted.copy()
    for e in range(wanted.size):
        if not wanted[e]:
            continue
        for p in range(e):
            if explains(marks, bands, p, e):
                lit[e] = False
                break
    return lit


@kernel
def count_shadowed(
    peaks: NDArray[np.int64], marks: Marks, bands: Bands
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Count what each peak explains; ``marks`` and ``bands`` as in :func:`find_lit`.

    Returns
    -------
    members
        int64 ``[peak]``: events that the peak explains, itself included.
    lowest, highest
        float64 ``[peak]``: range of dispersion measures of those of the same band within one S/N of the peak.
    """
    members = np.ones(peaks.size, np.int64)
    lowest, highest = marks.dm[peaks].copy(), marks.dm[peaks].copy()
    for i in range(peaks.size):
        p = peaks[i]
        for e in range(p + 1, marks.row.size):
            if explains(marks, bands, p, e):
                members[i] += 1
                if marks.band[e] == marks.band[p] and marks.snr[e] >= marks.snr[p] - 1.0:
                    lowest[i] = min(lowest[i], marks.dm[e])
                    highest[i] = max(highest[i], marks.dm[e])
    return members, lowest, highest
