"""The tree that dedispersion climbs: channels, sub-bands, parts of the band, bands."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Self

import numpy as np
from numpy.typing import NDArray

from edgefilter.core.plan import Plan
from edgefilter.stages.search.dm_plan import TrialGroup, delay_rows, search_bands, split_into_subbands

WEIGHT_STEPS = 8
"""Time steps for which the weight of a channel is one number."""

_GROUPS_PER_BATCH = 2  # groups whose sub-bands are summed together: half as much is read from memory


@dataclass(frozen=True, slots=True)
class GroupDelays:
    """Delays of a group of trials, time steps.

    Parameters
    ----------
    coarse
        int64 ``[channel]``: those of the trial for which a sub-band is the earliest.
    fine
        int64 ``[trial, sub-band]``: how much later the sub-bands are in each trial.
    weight_delays
        int64 ``[channel]``: those of the trial in the middle, in steps of the weight.
    """

    coarse: NDArray[np.int64]
    fine: NDArray[np.int64]
    weight_delays: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class GroupBatch:
    """Neighbouring groups of one time resolution, which read nearly the same bytes.

    ``spread`` is the most that a sub-band is later in one trial of a group than in another.
    """

    rows: int
    groups: list[tuple[TrialGroup, GroupDelays]]
    spread: int

    @classmethod
    def from_groups(cls, groups: list[tuple[TrialGroup, GroupDelays]]) -> Self:
        """Join groups."""
        return cls(groups[0][0].rows, groups, max(int(group_delays.fine.max()) for _, group_delays in groups))

    @property
    def latest(self) -> int:
        """Latest delay of any channel."""
        return max(int(group_delays.coarse.max()) for _, group_delays in self.groups) + self.spread


class SubbandTree:
    """Sub-bands, the parts of the band that they add up to, and the bands that these add up to."""

    def __init__(self, plan: Plan) -> None:
        self.bands = search_bands(plan)
        self.edges, self.parts = split_into_subbands(delay_rows(plan), self.bands)
        cuts = self.edges[self.parts]
        self.band_parts = np.searchsorted(cuts, np.array([(band.start, band.stop) for band in self.bands]))
        """First part of each band, and the one after its last."""
        self.channels = np.diff(cuts)
        """Channels of each part."""
        self.subband = np.repeat(np.arange(len(self.edges) - 1), np.diff(self.edges))
        """Sub-band of each channel."""

    def batches(
        self, found: Sequence[TrialGroup], delays: NDArray[np.float64], groups_per_batch: int = _GROUPS_PER_BATCH
    ) -> list[GroupBatch]:
        """Batches of up to ``groups_per_batch`` groups."""
        with_delays = [(group, self._group_delays(group, delays)) for group in found]
        by_tscrunch = [list(same) for _, same in groupby(with_delays, key=lambda item: item[0].rows)]
        return [
            GroupBatch.from_groups(same[at : at + groups_per_batch])
            for same in by_tscrunch
            for at in range(0, len(same), groups_per_batch)
        ]

    def _group_delays(self, group: TrialGroup, delays: NDArray[np.float64]) -> GroupDelays:
        # The highest frequency of a sub-band leads: its channels then never do.
        leading_channels = np.array(
            [start + int(np.argmin(delays[start:stop])) for start, stop in pairwise(self.edges.tolist())]
        )
        middle = np.rint(delays * (group.middle / group.rows)).astype(np.int64)
        # Rounded so that the trial in the middle follows its own track exactly.
        fine = np.rint(np.outer(group.dm, delays[leading_channels]) / group.rows).astype(np.int64)
        earliest = fine.min(axis=0)
        weight_delays = np.rint(delays * (group.middle / group.rows / WEIGHT_STEPS)).astype(np.int64)
        return GroupDelays(middle + (earliest - middle[leading_channels])[self.subband], fine - earliest, weight_delays)
