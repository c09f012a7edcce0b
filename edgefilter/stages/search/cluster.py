"""Candidates: the pulses of a block that no event of a neighbouring block explains, and that are dispersed."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgefilter.core.plan import Plan
from edgefilter.core.reduced_block import PulseCandidate, Rejection
from edgefilter.stages.search.dm_plan import search_bands
from edgefilter.stages.search.events import Events
from edgefilter.stages.search.sift import sift_bands, to_sift_events
from edgefilter_kernels.search.sift import count_members, find_explanation


@dataclass(slots=True)
class BlockPulses:
    """Candidates of a block.

    Parameters
    ----------
    pulses
        Strongest first.
    overflow
        Weaker candidates and events that were dropped because a bound was reached.
    rejected
        Events of the block that are no candidates, by reason.
    """

    pulses: list[PulseCandidate] = field(default_factory=list)
    overflow: int = 0
    rejected: Mapping[Rejection, int] = field(default_factory=dict)


class EventSifter:
    """Chooses the candidates of a block among the pulses that its own events show.

    :class:`~edgefilter.stages.search.sift.BlockSifter` finds these pulses. A pulse is a double if a stronger event of a
    neighbouring block explains it that is a pulse or a double which explains others. So the result needs only the
    events within one block length, and every block gives the same answer. Events of equal S/N are ordered by their
    other fields.

    A pulse whose sweep through its band is shorter than its width cannot be told from one of DM 0 and is rejected,
    unless the widest boxcar is longer than the sweep of the highest DM: then the search tells no DM from 0.

    Parameters
    ----------
    plan
        Layout of the reduction.
    """

    def __init__(self, plan: Plan) -> None:
        self._bands = search_bands(plan)
        self._rows = plan.rows_per_block
        self._max_candidates = plan.settings.pulses.candidates
        self._sift_bands = sift_bands(plan)
        squares = self._sift_bands.edges**-2.0
        self._sweep_rows = self._sift_bands.slope * (squares[:, 0] - squares[:, 1])  # of each band, for DM 1
        max_width_rows = 1 << (plan.settings.pulses.widths - 1)
        self._tells_dm = (
            bool(plan.frequencies_mhz.min() > 0) and self._sweep_rows[0] * plan.dm_range[1] >= max_width_rows
        )

    def reduce(self, before: Events | None, events: Events, after: Events | None, block: int) -> BlockPulses:
        """Return the candidates of a block.

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
            Candidates, at most ``pulses.candidates``, and the number of dropped and of rejected ones.
        """
        if not len(events):
            return BlockPulses(overflow=events.overflow, rejected=events.rejected)
        nearby = Events.join([part for part in (before, events, after) if part is not None]).table
        start = block * self._rows
        in_block = (nearby["row"] >= start) & (nearby["row"] < start + self._rows)
        sift_events = to_sift_events(nearby, start)
        explaining = nearby["explains"] & ~in_block
        own = np.flatnonzero(in_block & nearby["is_pulse"])
        unexplained = [at for at in own if find_explanation(explaining, sift_events, self._sift_bands, at) < 0]
        found = np.array(unexplained, np.int64)
        dispersed = found[self._is_dispersed(nearby[found])]
        rejected = {reason: events.rejected.get(reason, 0) for reason in Rejection}
        rejected[Rejection.DOUBLE] += len(events) - len(found)
        rejected[Rejection.ZERO_DM] += len(found) - len(dispersed)
        peaks = dispersed[: self._max_candidates]
        members, lowest, highest = count_members(peaks, sift_events, self._sift_bands)
        pulses = [
            self._pulse(nearby[at], int(members[i]), float(highest[i] - lowest[i]) / 2) for i, at in enumerate(peaks)
        ]
        return BlockPulses(pulses, events.overflow + len(dispersed) - len(peaks), rejected)

    def _is_dispersed(self, table: NDArray[np.void]) -> NDArray[np.bool_]:
        if not self._tells_dm:
            return np.ones(len(table), np.bool_)
        return np.asarray(table["dm"] * self._sweep_rows[table["band"]] >= table["width_rows"])

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
