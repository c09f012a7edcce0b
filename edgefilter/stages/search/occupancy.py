"""How much of its band an event fills: the test of events that no stronger event explains."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefilter.core.plan import Plan
from edgefilter.stages.search.subbands import WEIGHT_STEPS, GroupBatch, SubbandTree
from edgefilter.stages.search.window import Window
from edgefilter_kernels.search.band_occupancy import FoundBoxcars

BAND_FRACTION = 0.25
"""The strongest piece of the band, as a fraction of it, without which the signal of an event is measured."""

BandOccupancy = Callable[[Any, Any, int, NDArray[np.int64], float, FoundBoxcars], Any]
"""See :func:`edgefilter_kernels.search.band_occupancy.band_occupancy`."""


class EventOccupancy:
    """Measures events, one at a time, in the window in which they were found.

    Parameters
    ----------
    plan, tree, batches
        Layout of the reduction, sub-bands, and all trials.
    margin
        Rows before the block in the window.
    band_occupancy
        The kernel.
    """

    def __init__(
        self,
        plan: Plan,
        tree: SubbandTree,
        batches: Sequence[GroupBatch],
        margin: int,
        band_occupancy: BandOccupancy,
    ) -> None:
        self._block_rows = plan.rows_per_block
        self._tree = tree
        self._groups = [one for batch in batches for one in batch.groups]
        self._margin = margin
        self._band_occupancy = band_occupancy
        self._first_dm = np.array([group.dm[0] for group, _ in self._groups])

    def remaining_fraction(self, event: np.void, block: int, window: Window) -> float:
        """Return the fraction of an event's signal that comes from outside the strongest quarter of its band.

        Parameters
        ----------
        event
            Of :data:`~edgefilter.stages.search.events.EVENT_DTYPE`.
        block
            Number of its block.
        window
            What was searched.

        Returns
        -------
        fraction
            See :func:`edgefilter_kernels.search.band_occupancy.band_occupancy`.
        """
        group, group_delays = self._groups[int(np.searchsorted(self._first_dm, event["dm"], side="right")) - 1]
        trial = int(np.searchsorted(group.dm, event["dm"]))
        band = self._tree.bands[int(event["band"])]
        channels = slice(band.start, band.stop)
        delays = group_delays.coarse[channels] + group_delays.fine[trial, self._tree.subband[channels]]
        width = int(event["width_rows"]) // group.rows
        # The centre of a boxcar of one step is half a step late.
        centre = int((float(event["row"]) - block * self._block_rows) // group.rows)
        start = centre + self._margin // group.rows - width // 2
        zero, first, steps = np.array([[0], [start], [width]])
        boxcar = FoundBoxcars(zero, first, steps, event["snr"].reshape(1))
        power, weight = window[group.rows]
        fraction = self._band_occupancy(
            power[channels], weight[channels], WEIGHT_STEPS, delays[None], BAND_FRACTION, boxcar
        )
        return float(fraction[0])
