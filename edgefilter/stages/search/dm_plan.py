"""Bands and trial dispersion measures of the pulse search, and their groups."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from edgefilter.core.plan import Plan, dispersion_delay
from edgefilter_kernels.search.dedisperse import MAX_CHANNELS

TSCRUNCH_FACTORS = (1, 2, 4, 8)
"""Rows in a time step: at most half of the rows over which a channel smears a pulse."""

_MIN_CHANNELS = 8
_MAX_STEP_RATIO = 1.2  # steps between trials of a narrow band, which are chosen among those of the whole band
_MAX_GROUP_SMEAR = 0.25  # smear by shared sub-band sums, in widths of the narrowest pulse


@dataclass(frozen=True)
class SearchBand:
    """Channels ``[start, stop)`` and their lower and upper edge in MHz."""

    start: int
    stop: int
    low_mhz: float
    high_mhz: float


@dataclass(frozen=True)
class TrialGroup:
    """Neighbouring trials of one time resolution that share sub-band sums.

    Parameters
    ----------
    dm
        float64 ``[trial]``, ascending, pc cm⁻³.
    rows
        Rows in a time step, one of :data:`TSCRUNCH_FACTORS`.
    chosen
        For each band int64: indices of the trials at which it is searched; a narrow band needs only a few.
    step
        For each band float64: distance to the next trial of the band, pc cm⁻³.
    """

    dm: NDArray[np.float64]
    rows: int
    chosen: tuple[NDArray[np.int64], ...]
    step: tuple[NDArray[np.float64], ...]

    @property
    def middle(self) -> float:
        """Dispersion measure for which the sub-band sums are made, pc cm⁻³."""
        return float(self.dm[0] + self.dm[-1]) / 2

    @cached_property
    def _order(self) -> NDArray[np.int64]:
        return np.argsort(np.concatenate(self.chosen), kind="stable")

    @cached_property
    def trial_bands(self) -> NDArray[np.int64]:
        """The pairs of trial and band that are searched, int64 ``[entry, 2]``, ordered by trial."""
        band = np.repeat(np.arange(len(self.chosen)), [len(one) for one in self.chosen])
        return np.stack([np.concatenate(self.chosen), band], axis=1)[self._order]

    @cached_property
    def dm_steps(self) -> NDArray[np.float64]:
        """Distance to the next trial of the band, float64 ``[entry]`` of :attr:`trial_bands`, pc cm⁻³."""
        return np.concatenate(self.step)[self._order]


def delay_rows(plan: Plan) -> NDArray[np.float64]:
    """Return the delay of each channel against the highest one, per unit of dispersion measure.

    Parameters
    ----------
    plan
        Layout of the reduction.

    Returns
    -------
    delays
        float64 ``[channel]``, rows per pc cm⁻³; 0 for unknown frequencies.
    """
    frequencies = plan.frequencies_mhz
    if frequencies.min() <= 0:
        return np.zeros(plan.channels)
    top = float(frequencies.max())
    return np.array([dispersion_delay(1.0, f, top) for f in frequencies.tolist()]) / plan.row_seconds


def search_bands(plan: Plan) -> tuple[SearchBand, ...]:
    """Return the bands to search: the whole band, its halves, quarters … down to ``pulses.bands`` parts.

    Parameters
    ----------
    plan
        Layout of the reduction.

    Returns
    -------
    bands
        The whole band first; parts have at least 8 channels.
    """
    half = abs(plan.channel_mhz) / 2
    bands = []
    parts = 1
    while parts <= plan.settings.pulses.bands:
        edges = [plan.channels * part // parts for part in range(parts + 1)]
        for start, stop in pairwise(edges):
            if parts == 1 or stop - start >= _MIN_CHANNELS:
                part = plan.frequencies_mhz[start:stop]
                bands.append(SearchBand(start, stop, float(part.min() - half), float(part.max() + half)))
        parts *= 2
    return tuple(bands)


def plan_trial_groups(plan: Plan, bands: Sequence[SearchBand]) -> list[TrialGroup]:
    """Return the trials of the whole band, with those of every other band chosen among them.

    Half a step widens the narrowest pulse (one row, and in quadrature the mean dispersion smear of a channel) by the
    tolerance: ``step = 2 width sqrt(tolerance² - 1) / delay`` (Levin 2012, PhD thesis). The smear counts as at most
    twice the coarsest time step, so that dispersion measures stay precise.

    Parameters
    ----------
    plan
        Layout of the reduction.
    bands
        The bands to search, the whole band first.

    Returns
    -------
    groups
        In ascending order of dispersion measure.
    """
    delays = delay_rows(plan)
    low, high = plan.dm_range
    spans = [float(np.ptp(delays[band.start : band.stop])) for band in bands]
    if spans[0] == 0.0:
        # One channel, or unknown frequencies: all trials are equal.
        one, step = np.zeros(1, np.int64), np.array([high - low])
        dm = np.array([low if plan.band_mhz[0] > 0 else 0.0])
        return [TrialGroup(dm, 1, (one,) * len(bands), (step,) * len(bands))]
    factor = 2 * math.sqrt(plan.settings.pulses.tolerance**2 - 1)
    smears = [span / max(band.stop - band.start - 1, 1) for band, span in zip(bands, spans, strict=True)]

    def steps(dm: NDArray[np.float64], band: int) -> NDArray[np.float64]:
        return factor * np.hypot(1.0, np.minimum(smears[band] * dm, 2.0 * TSCRUNCH_FACTORS[-1])) / spans[band]

    dms = [low]
    while dms[-1] < high:
        dms.append(min(dms[-1] + float(steps(np.array(dms[-1]), 0)), high))
    dm = np.array(dms)
    tried = [_choose_trials(dm, steps(dm, band)) if band else np.ones(len(dm), np.bool_) for band in range(len(bands))]
    tscrunch_factors = np.array(
        [
            max(tscrunch for tscrunch in TSCRUNCH_FACTORS if tscrunch == 1 or 2 * tscrunch <= smears[0] * one)
            for one in dms
        ]
    )
    edges, _ = split_into_subbands(delays, bands)
    max_subband_span = max(float(np.ptp(delays[start:stop])) for start, stop in pairwise(edges))
    smear = _MAX_GROUP_SMEAR * np.hypot(1.0, np.minimum(smears[0] * dm, 2.0 * TSCRUNCH_FACTORS[-1]))
    groups, start = [], 0
    for stop in range(1, len(dm) + 1):
        full = stop - start == 2 * _group_size(len(delays))
        if (
            stop == len(dm)
            or full
            or tscrunch_factors[stop] != tscrunch_factors[start]
            or (dm[stop] - dm[start]) / 2 * max_subband_span > smear[stop]
        ):
            chosen = tuple(np.flatnonzero(one[start:stop]) for one in tried)
            dm_steps = tuple(steps(dm[start:stop], band)[one] for band, one in enumerate(chosen))
            groups.append(TrialGroup(dm[start:stop], int(tscrunch_factors[start]), chosen, dm_steps))
            start = stop
    return groups


def _choose_trials(dm: NDArray[np.float64], step: NDArray[np.float64]) -> NDArray[np.bool_]:
    # The fewest trials, with the first and the last, that are at most about one step apart.
    chosen = np.zeros(len(dm), np.bool_)
    at = 0
    while True:
        chosen[at] = True
        if at == len(dm) - 1:
            return chosen
        at = max(at + 1, int(np.searchsorted(dm, dm[at] + step[at] * _MAX_STEP_RATIO, side="right")) - 1)


def split_into_subbands(
    delays: NDArray[np.float64], bands: Sequence[SearchBand]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cut channels into sub-bands of about equal delay, none of which crosses an edge of a band.

    Parameters
    ----------
    delays
        float64 ``[channel]``, ascending or descending.
    bands
        The bands to search.

    Returns
    -------
    edges
        int64 ``[S + 1]``: first channel of each sub-band, and the number of channels.
    parts
        int64 ``[P + 1]``: first sub-band of each part between two edges of bands, and the number of sub-bands.
    """
    channel = np.arange(len(delays))
    cuts = np.unique([edge for band in bands for edge in (band.start, band.stop)])
    part = np.searchsorted(cuts, channel, side="right")
    span = abs(float(delays[-1] - delays[0]))
    wanted = 4 * _group_size(len(delays))
    run = np.minimum(np.abs(delays - delays[0]) / span * wanted, wanted - 1).astype(np.int64) if span else 0 * channel
    fresh = np.flatnonzero(np.diff(run, prepend=-1) | np.diff(part, prepend=-1))
    edges = np.array(
        [edge for start, stop in pairwise([*fresh.tolist(), len(delays)]) for edge in range(start, stop, MAX_CHANNELS)]
        + [len(delays)]
    )
    return edges, np.searchsorted(edges, cuts)


def _group_size(channels: int) -> int:
    # Minimises channels / n + 4 n additions a trial; 4 n sub-bands keep the smear of n trials near 0.2 rows.
    return max(1, round(math.sqrt(channels) / 2))
