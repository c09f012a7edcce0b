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
def explained_fraction(events: SiftEvents, bands: SiftBands, p: int, e: int) -> float:
    """Return over which fraction of the band of event ``e`` the track of event ``p`` overlaps, if ``p`` explains ``e``.

    Parameters
    ----------
    events, bands
        The events, and the bands that they are in.
    p, e
        Indices of the two events.

    Returns
    -------
    fraction
        0 to 1; -1 if ``p`` does not explain ``e``. The module's docstring has the criterion.
    """
    row = events.row[p] - events.row[e]
    if abs(row) > bands.max_separation:
        return -1.0
    near = (events.width[p] + events.width[e]) / 2 + _SLACK_ROWS
    low, high = bands.edges[events.band[e]]
    start, stop = high**-2, low**-2
    rate = (events.dm[p] - events.dm[e]) * bands.slope
    if rate == 0.0:
        if abs(row) > near:
            return -1.0
        overlap_fraction = 1.0
    else:
        a, b = (-near - row) / rate + bands.offset, (near - row) / rate + bands.offset
        first, last = max(min(a, b), start), min(max(a, b), stop)
        if first > last:
            return -1.0
        overlap_fraction = (first**-0.5 - last**-0.5) / (high - low)
    width_factor = math.sqrt(min(events.width[p] / events.width[e], 1.0))
    channels = bands.channels[events.band[e]] / bands.channels[events.band[p]]
    snr = _SNR_FACTOR * events.snr[p] * overlap_fraction * math.sqrt(channels) * width_factor
    return overlap_fraction if events.snr[e] <= snr + _NOISE_SIGMA else -1.0


@kernel
def next_unexplained(
    start: int, peaks: NDArray[np.int64], fraction: NDArray[np.float64], events: SiftEvents, bands: SiftBands
) -> int:
    """Find the next event that no peak explains.

    Parameters
    ----------
    start
        The first event to look at.
    peaks
        int64 ``[peak]``: indices of events before ``start``.
    fraction
        float64 ``[event]``, written for the events that are passed over: the largest fraction of the band over which
        the track of a peak that explains the event overlaps.
    events, bands
        The events, and the bands that they are in.

    Returns
    -------
    event
        Its index; the number of events if there is none.
    """
    for e in range(start, events.row.size):
        most = -1.0
        for p in peaks:
            most = max(most, explained_fraction(events, bands, p, e))
            if most >= 1.0:
                break
        if most < 0.0:
            return e
        fraction[e] = most
    return int(events.row.size)


@kernel
def find_explanation(explaining: NDArray[np.bool_], events: SiftEvents, bands: SiftBands, e: int) -> int:
    """Find the strongest of some events that explains an event.

    Parameters
    ----------
    explaining
        bool ``[event]``: events that may explain it.
    events, bands
        The events, and the bands that they are in.
    e
        Index of the event; stronger ones come before it.

    Returns
    -------
    event
        Index of the stronger event, -1 if there is none.
    """
    for p in range(e):
        if explaining[p] and explained_fraction(events, bands, p, e) >= 0.0:
            return p
    return -1


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
            if explained_fraction(events, bands, p, e) >= 0.0:
                members[i] += 1
                if events.band[e] == events.band[p] and events.snr[e] >= events.snr[p] - 1.0:
                    lowest[i] = min(lowest[i], events.dm[e])
                    highest[i] = max(highest[i], events.dm[e])
    return members, lowest, highest
