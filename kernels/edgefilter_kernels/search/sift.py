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
_SNR_FACTOR = 2.0
_NOISE_SIGMA = 3.0


class SiftEvents(NamedTuple):
    """Events, falling S/N; one array entry each.

    Parameters
    ----------
    row, dm, width, snr
        float64: rows, pc cm⁻³, rows.
    band
        int32: index in :class:`SiftBands`.
    """

    row: NDArray[np.float64]
    dm: NDArray[np.float64]
    width: NDArray[np.float64]
    snr: NDArray[np.float64]
    band: NDArray[np.int32]


class SiftBands(NamedTuple):
    """Bands and what disperses in them.

    Parameters
    ----------
    edges
        float64 ``[band, 2]``: lower and upper edge, MHz.
    channels
        float64 ``[band]``: number of channels.
    slope, offset
        Delay in rows per pc cm⁻³ and MHz⁻²; MHz⁻² at which the delay is 0.
    max_separation
        Events further apart than this many rows have nothing to do with each other.
    """

    edges: NDArray[np.float64]
    channels: NDArray[np.float64]
    slope: float
    offset: float
    max_separation: float


@kernel
def explains(events: SiftEvents, bands: SiftBands, p: int, e: int) -> bool:
    """Say whether event ``p`` explains event ``e``."""
    row = events.row[p] - events.row[e]
    if abs(row) > bands.max_separation:
        return False
    near = (events.width[p] + events.width[e]) / 2 + _SLACK_ROWS
    low, high = bands.edges[events.band[e]]
    start, stop = high**-2, low**-2
    rate = (events.dm[p] - events.dm[e]) * bands.slope
    if rate == 0.0:
        if abs(row) > near:
            return False
        overlap_fraction = 1.0
    else:
        a, b = (-near - row) / rate + bands.offset, (near - row) / rate + bands.offset
        first, last = max(min(a, b), start), min(max(a, b), stop)
        if first > last:
            return False
        overlap_fraction = (first**-0.5 - last**-0.5) / (high - low)
    overlap = math.sqrt(min(events.width[p] / events.width[e], 1.0))
    channels = bands.channels[events.band[e]] / bands.channels[events.band[p]]
    return bool(
        events.snr[e] <= _SNR_FACTOR * events.snr[p] * overlap_fraction * math.sqrt(channels) * overlap + _NOISE_SIGMA
    )


@kernel
def sift_events(candidates: NDArray[np.bool_], events: SiftEvents, bands: SiftBands) -> NDArray[np.bool_]:
    """Find the wanted events that no stronger event explains.

    Parameters
    ----------
    candidates
        bool ``[event]``: those to decide on.
    events, bands
        The events, sorted by falling S/N, and the bands that they are in.
    """
    unexplained = candidates.copy()
    for e in range(candidates.size):
        if not candidates[e]:
            continue
        for p in range(e):
            if explains(events, bands, p, e):
                unexplained[e] = False
                break
    return unexplained


@kernel
def count_members(
    peaks: NDArray[np.int64], events: SiftEvents, bands: SiftBands
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Count what each peak explains; ``events`` and ``bands`` as in :func:`sift_events`.

    Returns
    -------
    members
        int64 ``[peak]``: events that the peak explains, itself included.
    lowest, highest
        float64 ``[peak]``: range of dispersion measures of those of the same band within one S/N of the peak.
    """
    members = np.ones(peaks.size, np.int64)
    lowest, highest = events.dm[peaks].copy(), events.dm[peaks].copy()
    for i in range(peaks.size):
        p = peaks[i]
        for e in range(p + 1, events.row.size):
            if explains(events, bands, p, e):
                members[i] += 1
                if events.band[e] == events.band[p] and events.snr[e] >= events.snr[p] - 1.0:
                    lowest[i] = min(lowest[i], events.dm[e])
                    highest[i] = max(highest[i], events.dm[e])
    return members, lowest, highest
