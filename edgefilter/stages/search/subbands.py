"""The tree of sums in dedispersion: channels, sub-bands, parts of the band, bands."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Self

import numpy as np
from numpy.typing import NDArray

from edgefilter.core.plan import Plan
from edgefilter.stages.search.dm_plan import TrialGroup, delay_rows, search_bands, split_into_subbands

WEIGHT_STEPS = 8
"""Time steps that share one weight of a channel."""

_GROUPS_PER_BATCH = 2  # groups whose sub-bands are summed together, which halves the memory traffic


@dataclass(frozen=True, slots=True)
class GroupDelays:
    """Delays of a group of trials, time steps.

    Parameters
    ----------
    coarse
        int64 ``[channel]``: delays in the trial in which the channel's sub-band is earliest.
    fine
        int64 ``[trial, sub-band]``: further delay of a sub-band in each trial.
    weight_delays
        int64 ``[channel]``: delays of the middle trial, in units of :data:`WEIGHT_STEPS`.
    """

    coarse: NDArray[np.int64]
    fine: NDArray[np.int64]
    weight_delays: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class GroupBatch:
    """Neighbouring groups of one time resolution, which read nearly the same bytes.

    Parameters
    ----------
    rows
        Rows in a time step.
    groups
        The groups.
    spread
        Largest difference of a sub-band's delay between two trials of a group, time steps.
    """

    rows: int
    groups: list[tuple[TrialGroup, GroupDelays]]
    spread: int

    @classmethod
    def from_groups(cls, groups: list[tuple[TrialGroup, GroupDelays]]) -> Self:
        """Return a batch of groups.

        Parameters
        ----------
        groups
            Groups of one time resolution, and their delays.

        Returns
        -------
        batch
            All of the groups.
        """
        return cls(groups[0][0].rows, groups, max(int(group_delays.fine.max()) for _, group_delays in groups))

    @property
    def latest(self) -> int:
        """Largest delay of a channel, time steps."""
        return max(int(group_delays.coarse.max()) for _, group_delays in self.groups) + self.spread


class SubbandTree:
    """Sub-bands, which add up to parts of the band, which add up to bands.

    Parameters
    ----------
    plan
        Layout of the reduction.
    """

    def __init__(self, plan: Plan) -> None:
        self.bands = search_bands(plan)
        self.edges, self.parts = split_into_subbands(delay_rows(plan), self.bands)
        cuts = self.edges[self.parts]
        self.band_parts = np.searchsorted(cuts, np.array([(band.start, band.stop) for band in self.bands]))
        """Parts ``[start, stop)`` of each band, int64 ``[band, 2]``."""
        self.channels = np.diff(cuts)
        """Number of channels of each part."""
        self.subband = np.repeat(np.arange(len(self.edges) - 1), np.diff(self.edges))
        """Sub-band of each channel."""

    def batches(
        self, groups: Sequence[TrialGroup], delays: NDArray[np.float64], groups_per_batch: int = _GROUPS_PER_BATCH
    ) -> list[GroupBatch]:
        """Return groups in batches of one time resolution.

        Parameters
        ----------
        groups
            Groups of trials.
        delays
            Delays of the channels as :func:`~edgefilter.stages.search.dm_plan.delay_rows` gives them.
        groups_per_batch
            Most groups of a batch.

        Returns
        -------
        batches
            In the order of the groups.
        """
        with_delays = [(group, self._group_delays(group, delays)) for group in groups]
        by_tscrunch = [list(same) for _, same in groupby(with_delays, key=lambda item: item[0].rows)]
        return [
            GroupBatch.from_groups(same[at : at + groups_per_batch])
            for same in by_tscrunch
            for at in range(0, len(same), groups_per_batch)
        ]

    def _group_delays(self, group: TrialGroup, delays: NDArray[np.float64]) -> GroupDelays:
        # A sub-band is delayed by its highest frequency, the earliest: delays of its other channels are not negative.
        leading_channels = np.array(
            [start + int(np.argmin(delays[start:stop])) for start, stop in pairwise(self.edges.tolist())]
        )
        middle = np.rint(delays * (group.middle / group.rows)).astype(np.int64)
        # Rounded so that the middle trial follows its own track exactly.
        fine = np.rint(np.outer(group.dm, delays[leading_channels]) / group.rows).astype(np.int64)
        earliest = fine.min(axis=0)
        weight_delays = np.rint(delays * (group.middle / group.rows / WEIGHT_STEPS)).astype(np.int64)
        return GroupDelays(middle + (earliest - middle[leading_channels])[self.subband], fine - earliest, weight_delays)
