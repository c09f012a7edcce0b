"""Sifting: which events of a pulse search are explained by stronger ones.

Events are sorted by falling S/N. Over ``u = 1/f² - offset`` a dispersion track is the straight line
``row + dm · slope · u``. Event p adds to the boxcar of event e where their tracks are closer than half the sum of their
widths plus two rows. With the S/N of p spread evenly over its n channels, an overlap over a fraction φ of the channels
of e gives e an S/N of ``snr_p φ sqrt(n_e / n_p)``, times ``sqrt(w_p / w_e)`` if the boxcar of e is the wider one (if it
is the narrower one, it may hold all of the power of p). Event p explains e if the S/N of e is at most twice that (a
pulse is not flat over the band) plus three sigma of noise. So a strong burst does not hide an unrelated, weaker pulse
whose track it crosses.
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
    """Events ``[event]``, sorted by falling S/N.

    Parameters
    ----------
    row, dm, width, snr
        float64: arrival (rows), dispersion measure (pc cm⁻³), width (rows) and S/N.
    band
        int32: index in :class:`SiftBands`.
    """

    row: NDArray[np.float64]
    dm: NDArray[np.float64]
    width: NDArray[np.float64]
    snr: NDArray[np.float64]
    band: NDArray[np.int32]


class SiftBands(NamedTuple):
    """Bands, and the dispersion delay in them.

    Parameters
    ----------
    edges
        float64 ``[band, 2]``: lower and upper edge, MHz.
    channels
        float64 ``[band]``: number of channels.
    slope, offset
        Delay in rows per pc cm⁻³ and MHz⁻²; 1/f² at which the delay is 0, MHz⁻².
    max_separation
        Rows; events further apart than this are unrelated.
    """

    edges: NDArray[np.float64]
    channels: NDArray[np.float64]
    slope: float
    offset: float
    max_separation: float


@kernel
def explains(events: SiftEvents, bands: SiftBands, p: int, e: int) -> bool:
    """Return whether event ``p`` explains event ``e``.

    Parameters
    ----------
    events, bands
        The events, and the bands that they are in.
    p, e
        Indices of the two events.

    Returns
    -------
    explained
        The answer; the module's docstring has the criterion.
    """
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
    width_factor = math.sqrt(min(events.width[p] / events.width[e], 1.0))
    channels = bands.channels[events.band[e]] / bands.channels[events.band[p]]
    snr = _SNR_FACTOR * events.snr[p] * overlap_fraction * math.sqrt(channels) * width_factor
    return bool(events.snr[e] <= snr + _NOISE_SIGMA)


@kernel
def sift_events(candidates: NDArray[np.bool_], events: SiftEvents, bands: SiftBands) -> NDArray[np.bool_]:
    """Find the candidates that no stronger event explains.

    Parameters
    ----------
    candidates
        bool ``[event]``: events to decide on.
    events, bands
        The events, and the bands that they are in.

    Returns
    -------
    unexplained
        bool ``[event]``.
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
    """Count the events that each peak explains.

    Parameters
    ----------
    peaks
        int64 ``[peak]``: indices of events.
    events, bands
        The events, and the bands that they are in.

    Returns
    -------
    members
        int64 ``[peak]``: events that the peak explains, itself included.
    lowest, highest
        float64 ``[peak]``: range of dispersion measures (pc cm⁻³) of the members in the peak's band whose S/N is at
        most 1 below the peak's.
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
