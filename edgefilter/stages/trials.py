"""Which bands and dispersion measures the pulse search tries, and how it groups them."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from edgefilter.plan import Plan, dispersion_delay

LADDER = (1, 2, 4, 8)
"""Rows summed to one time step: half of what a channel smears a pulse over is fine enough."""

_LEAST_CHANNELS = 8
_GROUP_SMEAR = 0.25  # widths of the narrowest pulse that sharing sub-band sums may smear


@dataclass(frozen=True)
class Band:
    """Channels ``[start, stop)`` and their lower and upper edge in MHz."""

    start: int
    stop: int
    low_mhz: float
    high_mhz: float


@dataclass(frozen=True)
class Group:
    """Neighbouring trials of one time resolution that share sub-band sums.

    Parameters
    ----------
    dm
        float64 ``[trial]``, rising, pc cm⁻³.
    step
        float64 ``[trial]``: distance to the next trial, pc cm⁻³.
    rows
        Rows in a time step, one of :data:`LADDER`.
    """

    dm: NDArray[np.float64]
    step: NDArray[np.float64]
    rows: int

    @property
    def middle(self) -> float:
        """Dispersion measure that the sub-band sums are made for, pc cm⁻³."""
        return float(self.dm[0] + self.dm[-1]) / 2


def delay_rows(plan: Plan) -> NDArray[np.float64]:
    """Rows a channel lags behind the highest one per pc cm⁻³, shape ``[channel]``; 0 for unknown frequencies."""
    frequencies = plan.frequencies_mhz
    if frequencies.min() <= 0:
        return np.zeros(plan.channels)
    top = float(frequencies.max())
    return np.array([dispersion_delay(1.0, f, top) for f in frequencies.tolist()]) / plan.row_seconds


def search_bands(plan: Plan) -> tuple[Band, ...]:
    """Return the whole band, its halves, quarters … down to ``pulses.bands`` parts of at least 8 channels."""
    half = abs(plan.channel_mhz) / 2
    bands = []
    parts = 1
    while parts <= plan.settings.pulses.bands:
        edges = [plan.channels * part // parts for part in range(parts + 1)]
        for start, stop in pairwise(edges):
            if parts == 1 or stop - start >= _LEAST_CHANNELS:
                part = plan.frequencies_mhz[start:stop]
                bands.append(Band(start, stop, float(part.min() - half), float(part.max() + half)))
        parts *= 2
    return tuple(bands)


def groups(plan: Plan, band: Band) -> Iterator[Group]:
    """Yield the trials of a band.

    Half a step widens the narrowest pulse (one row, smeared by the channel's own dispersion at the middle of the band)
    by the tolerance, in quadrature: ``step = 2 width sqrt(tolerance² - 1) / delay`` (Levin 2012, PhD thesis). The
    smearing that is reckoned with is at most twice the coarsest time step, so that the dispersion measure stays exact.
    """
    delays = delay_rows(plan)[band.start : band.stop]
    span = float(delays.max() - delays.min())
    low, high = plan.dm_range
    if span == 0.0:
        # One channel, or unknown frequencies: all trials are the same.
        yield Group(np.array([low if plan.band_mhz[0] > 0 else 0.0]), np.array([high - low]), 1)
        return
    per_channel = span / (band.stop - band.start - 1)
    factor = 2 * math.sqrt(plan.settings.pulses.tolerance**2 - 1)
    edges = subbands(delays)
    within = max(float(np.ptp(delays[start:stop])) for start, stop in pairwise(edges))
    most = 2 * _group_size(len(delays))
    dms: list[float] = []
    steps: list[float] = []
    rung = 1
    dm = low
    while True:
        width = math.hypot(1.0, min(per_channel * dm, 2.0 * LADDER[-1]))
        rows = max(step for step in LADDER if step == 1 or 2 * step <= per_channel * dm)
        full = len(dms) == most or (dms and (dm - dms[0]) / 2 * within > _GROUP_SMEAR * width)
        if dms and (full or rows != rung):
            yield Group(np.array(dms), np.array(steps), rung)
            dms, steps = [], []
        rung = rows
        dms.append(dm)
        steps.append(factor * width / span)
        if dm >= high:
            break
        dm = min(dm + steps[-1], high)
    yield Group(np.array(dms), np.array(steps), rung)


def subbands(delays: NDArray[np.float64]) -> NDArray[np.int64]:
    """Cut channels into runs of about equal delay.

    Parameters
    ----------
    delays
        float64 ``[channel]``, rising or falling.

    Returns
    -------
    int64 ``[S + 1]``: first channel of each run, and the number of channels.
    """
    span = abs(float(delays[-1] - delays[0]))
    if span == 0.0:
        return np.array([0, len(delays)], np.int64)
    wanted = 4 * _group_size(len(delays))
    run = np.minimum(np.abs(delays - delays[0]) / span * wanted, wanted - 1).astype(np.int64)
    return np.concatenate(([0], np.flatnonzero(np.diff(run)) + 1, [len(delays)])).astype(np.int64)


def _group_size(channels: int) -> int:
    # channels / n + 4 n additions a trial are least here; 4 n sub-bands keep the smear of n trials near 0.2 rows.
    return max(1, round(math.sqrt(channels) / 2))
