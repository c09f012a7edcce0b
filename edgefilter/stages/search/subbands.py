"""The tree that dedispersion climbs: channels, sub-bands, parts of the band, bands."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Self

import numpy as np
from numpy.typing import NDArray

from edgefilter.core.plan import Plan
from edgefilter.stages.search.dm_plan import Group, delay_rows, search_bands, subbands

SHARE_STEPS = 8
"""Time steps for which the valid share of a channel is one number."""

_TOGETHER = 2  # groups whose sub-bands are summed together: half as much is read from memory


@dataclass(frozen=True, slots=True)
class Delays:
    """Delays of a group of trials, time steps.

    Parameters
    ----------
    coarse
        int64 ``[channel]``: those of the trial for which a sub-band is the earliest.
    fine
        int64 ``[trial, sub-band]``: how much later the sub-bands are in each trial.
    whole
        int64 ``[channel]``: those of the trial in the middle, in steps of the share.
    """

    coarse: NDArray[np.int64]
    fine: NDArray[np.int64]
    whole: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Family:
    """Neighbouring groups of one time resolution, which read nearly the same bytes.

    ``spread`` is the most that a sub-band is later in one trial of a group than in another.
    """

    rows: int
    groups: list[tuple[Group, Delays]]
    spread: int

    @classmethod
    def of(cls, groups: list[tuple[Group, Delays]]) -> Self:
        """Join groups."""
        return cls(groups[0][0].rows, groups, max(int(track.fine.max()) for _, track in groups))

    @property
    def latest(self) -> int:
        """Latest delay of any channel."""
        return max(int(track.coarse.max()) for _, track in self.groups) + self.spread


class Tree:
    """Sub-bands, the parts of the band that they add up to, and the bands that these add up to."""

    def __init__(self, plan: Plan) -> None:
        self.bands = search_bands(plan)
        self.edges, self.parts = subbands(delay_rows(plan), self.bands)
        cuts = self.edges[self.parts]
        self.parts_of = np.searchsorted(cuts, np.array([(band.start, band.stop) for band in self.bands]))
        """First part of each band, and the one after its last."""
        self.channels = np.diff(cuts)
        """Channels of each part."""
        self.subband = np.repeat(np.arange(len(self.edges) - 1), np.diff(self.edges))
        """Sub-band of each channel."""

    def families(self, found: Sequence[Group], delays: NDArray[np.float64], together: int = _TOGETHER) -> list[Family]:
        """Families of up to ``together`` groups."""
        tracked = [(group, self._track(group, delays)) for group in found]
        rungs = [list(same) for _, same in groupby(tracked, key=lambda item: item[0].rows)]
        return [Family.of(same[at : at + together]) for same in rungs for at in range(0, len(same), together)]

    def _track(self, group: Group, delays: NDArray[np.float64]) -> Delays:
        # The highest frequency of a sub-band leads: its channels then never do.
        tops = np.array([start + int(np.argmin(delays[start:stop])) for start, stop in pairwise(self.edges.tolist())])
        middle = np.rint(delays * (group.middle / group.rows)).astype(np.int64)
        # Rounded so that the trial in the middle follows its own track exactly.
        fine = np.rint(np.outer(group.dm, delays[tops]) / group.rows).astype(np.int64)
        early = fine.min(axis=0)
        whole = np.rint(delays * (group.middle / group.rows / SHARE_STEPS)).astype(np.int64)
        return Delays(middle + (early - middle[tops])[self.subband], fine - early, whole)
