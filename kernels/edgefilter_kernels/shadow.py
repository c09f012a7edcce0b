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

import numpy as np
from numpy.typing import NDArray

from edgefilter_kernels.jit import kernel

_SLACK_ROWS = 2.0
_FACTOR = 2.0
_NOISE = 3.0


@kernel
def explains(
    row: float,
    dm: float,
    width_p: float,
    width_e: float,
    snr_p: float,
    snr_e: float,
    channels_p: float,
    channels_e: float,
    low: float,
    high: float,
    slope: float,
    offset: float,
) -> bool:
    """Say whether a pulse explains an event.

    Parameters
    ----------
    row, dm
        Those of the pulse less those of the event: rows, pc cm⁻³.
    width_p, width_e, snr_p, snr_e, channels_p, channels_e
        Rows, S/N and number of channels of pulse and event.
    low, high
        Edges of the event's band, MHz.
    slope, offset
        Delay in rows per pc cm⁻³ and MHz⁻²; MHz⁻² at which the delay is 0.
    """
    near = (width_p + width_e) / 2 + _SLACK_ROWS
    start, stop = high**-2, low**-2
    rate = dm * slope
    if rate == 0.0:
        if abs(row) > near:
            return False
        share = 1.0
    else:
        a, b = (-near - row) / rate + offset, (near - row) / rate + offset
        first, last = max(min(a, b), start), min(max(a, b), stop)
        if first > last:
            return False
        share = (first**-0.5 - last**-0.5) / (high - low)
    overlap = math.sqrt(min(width_p / width_e, 1.0))
    return snr_e <= _FACTOR * snr_p * share * math.sqrt(channels_e / channels_p) * overlap + _NOISE


@kernel
def find_lit(
    wanted: NDArray[np.bool_],
    row: NDArray[np.float64],
    dm: NDArray[np.float64],
    width: NDArray[np.float64],
    snr: NDArray[np.float64],
    band: NDArray[np.int32],
    edges: NDArray[np.float64],
    channels: NDArray[np.float64],
    slope: float,
    offset: float,
    reach: float,
) -> NDArray[np.bool_]:
    """Find the wanted events that no stronger event explains.

    Parameters
    ----------
    wanted
        bool ``[event]``: those to decide on.
    row, dm, width, snr
        float64 ``[event]``, falling S/N: rows, pc cm⁻³, rows.
    band
        int32 ``[event]``: row of ``edges`` and ``channels``.
    edges
        float64 ``[band, 2]``: lower and upper edge, MHz.
    channels
        float64 ``[band]``: number of channels.
    slope, offset
        As in :func:`explains`.
    reach
        Events further apart than this many rows have nothing to do with each other.
    """
    lit = wanted.copy()
    for e in range(row.size):
        if not wanted[e]:
            continue
        for p in range(e):
            if abs(row[p] - row[e]) <= reach and explains(
                row[p] - row[e],
                dm[p] - dm[e],
                width[p],
                width[e],
                snr[p],
                snr[e],
                channels[band[p]],
                channels[band[e]],
                edges[band[e], 0],
                edges[band[e], 1],
                slope,
                offset,
            ):
                lit[e] = False
                break
    return lit


@kernel
def count_shadowed(
    peaks: NDArray[np.int64],
    row: NDArray[np.float64],
    dm: NDArray[np.float64],
    width: NDArray[np.float64],
    snr: NDArray[np.float64],
    band: NDArray[np.int32],
    edges: NDArray[np.float64],
    channels: NDArray[np.float64],
    slope: float,
    offset: float,
    reach: float,
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Count what each peak explains; parameters as in :func:`find_lit`.

    Returns
    -------
    members
        int64 ``[peak]``: events that the peak explains, itself included.
    lowest, highest
        float64 ``[peak]``: range of dispersion measures of those of the same band within one S/N of the peak.
    """
    members = np.ones(peaks.size, np.int64)
    lowest, highest = dm[peaks].copy(), dm[peaks].copy()
    for i in range(peaks.size):
        p = peaks[i]
        for e in range(p + 1, row.size):
            if abs(row[p] - row[e]) <= reach and explains(
                row[p] - row[e],
                dm[p] - dm[e],
                width[p],
                width[e],
                snr[p],
                snr[e],
                channels[band[p]],
                channels[band[e]],
                edges[band[e], 0],
                edges[band[e], 1],
                slope,
                offset,
            ):
                members[i] += 1
                if band[e] == band[p] and snr[e] >= snr[p] - 1.0:
                    lowest[i] = min(lowest[i], dm[e])
                    highest[i] = max(highest[i], dm[e])
    return members, lowest, highest
