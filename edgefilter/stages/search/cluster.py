"""Clustering of events: one candidate for all the trials, widths and bands in which a pulse shows."""

from dataclasses import dataclass, field

import numpy as np

from edgefilter.core.plan import DISPERSION_S_MHZ2, Plan
from edgefilter.core.reduced_block import PulseCandidate
from edgefilter.stages.search.dm_plan import search_bands
from edgefilter.stages.search.events import Events
from edgefilter_kernels.search.sift import SiftBands, SiftEvents, count_members, sift_events


@dataclass(slots=True)
class BlockPulses:
    """Candidates of a block, strongest first, and the number of weaker candidates and events that were dropped."""

    pulses: list[PulseCandidate] = field(default_factory=list)
    overflow: int = 0


class EventSifter:
    """Keeps the events that no stronger event explains.

    Event e is dropped if a stronger event p, dropped or not, explains it: the dispersion track of p passes through the
    boxcar of e in the band of e (see :mod:`edgefilter_kernels.search.sift`). The result does not depend on the order of
    the events, follows a ridge of falling S/N down from its peak, and needs only the events within one block length of
    e: every block gives the same answer for e. Events of equal S/N are ordered by their other fields.

    Parameters
    ----------
    plan
        Layout of the reduction.
    """

    def __init__(self, plan: Plan) -> None:
        self._bands = search_bands(plan)
        self._rows = plan.rows_per_block
        self._max_candidates = plan.settings.pulses.candidates
        known = bool(plan.frequencies_mhz.min() > 0)
        # A track is a straight line over u = 1/f² - 1/f_top²: row + dm · slope · u. Unknown frequencies have only one
        # trial, for which any slope is right.
        top = float(plan.frequencies_mhz.max()) if known else 1.0
        half = abs(plan.channel_mhz) / 2 if known else 0.0
        edges = [(max(band.low_mhz, half), band.high_mhz) if known else (1.0, 2.0) for band in self._bands]
        self._sift_bands = SiftBands(
            np.array(edges),
            np.array([band.stop - band.start for band in self._bands], np.float64),
            DISPERSION_S_MHZ2 / plan.row_seconds,
            top**-2,
            float(self._rows),
        )

    def reduce(self, before: Events | None, events: Events, after: Events | None, block: int) -> BlockPulses:
        """Return the pulses of a block.

        Parameters
        ----------
        before, after
            Events of the neighbouring blocks; None if there is none.
        events
            Events of the block.
        block
            Number of the block.

        Returns
        -------
        pulses
            Candidates, at most ``pulses.candidates``, and the number of dropped ones.
        """
        if not len(events):
            return BlockPulses(overflow=events.overflow)
        nearby = Events.join([part for part in (before, events, after) if part is not None]).table
        start = block * self._rows
        in_block = (nearby["row"] >= start) & (nearby["row"] < start + self._rows)
        # Rows count from the block: differences stay exact far from the epoch.
        row = nearby["row"] - start
        dm, width, snr = (nearby[name].astype(np.float64) for name in ("dm", "width_rows", "snr"))
        sifted = SiftEvents(row, dm, width, snr, np.ascontiguousarray(nearby["band"]))
        peaks = np.flatnonzero(sift_events(in_block, sifted, self._sift_bands))
        overflow = events.overflow + max(len(peaks) - self._max_candidates, 0)
        peaks = peaks[: self._max_candidates]
        members, lowest, highest = count_members(peaks, sifted, self._sift_bands)
        pulses = [
            self._pulse(nearby[at], int(members[i]), float(highest[i] - lowest[i]) / 2) for i, at in enumerate(peaks)
        ]
        return BlockPulses(pulses, overflow)

    def _pulse(self, event: np.void, members: int, dm_error: float) -> PulseCandidate:
        band = self._bands[int(event["band"])]
        return PulseCandidate(
            row=float(event["row"]),
            dm=float(event["dm"]),
            dm_error=max(dm_error, float(event["dm_step"]) / 2),
            width_rows=int(event["width_rows"]),
            snr=float(event["snr"]),
            freq_low=band.low_mhz,
            freq_high=band.high_mhz,
            members=members,
        )
