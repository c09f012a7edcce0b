"""The stage that flags a block, and what that costs; the chain itself is in :mod:`edgefilter.stages.rfi.flagger`."""

import numpy as np
from numpy.typing import NDArray

from edgefilter.compute.gpu import GpuBackend
from edgefilter.compute.threads import ThreadBackend
from edgefilter.core.cells import Cells, Flag, NearThreshold, median_accumulated, n_polarisations
from edgefilter.core.plan import Plan
from edgefilter.stages.rfi.flagger import Flagger
from edgefilter.stages.rfi.gpu_tolerance import threshold_scales
from edgefilter.stages.rfi.signal_loss import MEASURE_INTERVAL_BLOCKS, SignalLossMeter


class FlagStage:
    """Flag the cells of a block, from nothing but these cells. History and lookahead are none.

    Parameters
    ----------
    plan
        The layout and the settings (``flag``).
    backend
        Threads over channels and times.
    """

    def __init__(self, plan: Plan, backend: ThreadBackend) -> None:
        self._plan = plan
        self._backend = backend
        seconds = plan.stream.seconds(plan.samples_per_cell)
        self.flagger = Flagger(plan.frequencies_mhz, seconds, plan.settings.flag, backend)

    def reduce(self, cells: Cells) -> None:
        """Set bits of ``cells.flags`` in place; TAGGED cells are counted in ``cells.tagged`` and stay in use.

        Parameters
        ----------
        cells
            One block. LOST cells stay LOST and nothing else.

        Raises
        ------
        ValueError
            If the cells are not those of the plan.
        """
        if cells.power.shape[1] != self._plan.channels:
            raise ValueError(f"cells {cells.power.shape} have not the {self._plan.channels} channels of the plan")
        self.flagger.flag(cells.power, cells.moment4, cells.accumulated, n_polarisations(cells.products), cells.flags)
        block = cells.start // self._plan.cells_per_block
        if block % MEASURE_INTERVAL_BLOCKS == 0 and isinstance(self._backend, GpuBackend):
            cells.near_threshold = self.near_threshold(cells)
        tagged = cells.flags & np.uint16(Flag.TAGGED) != 0
        cells.tagged = self._backend.to_host(np.count_nonzero(tagged, axis=0)).astype(np.int64)
        cells.flags &= ~np.uint16(Flag.TAGGED)
        if block % MEASURE_INTERVAL_BLOCKS == 0:
            cells.cost = SignalLossMeter(self._plan, self.flagger).measure(
                cells.map_arrays(self._backend.to_host), block
            )

    def near_threshold(self, cells: Cells) -> NearThreshold:
        """Count the flags that another device may have set otherwise.

        Parameters
        ----------
        cells
            The block as the flagger has left it, TAGGED among its flags.
        """
        inside, lost = self.near_threshold_mask(cells), cells.flags & np.uint16(Flag.LOST) != 0
        number, gone = (int(self._backend.to_host(np.count_nonzero(which, axis=0)).sum()) for which in (inside, lost))
        return NearThreshold(flags=number, cells=cells.flags.size - gone)

    def near_threshold_mask(self, cells: Cells) -> NDArray[np.bool_]:
        """Find them; bool ``[time, channel]``, where the cells are."""
        n_pols, accumulated = n_polarisations(cells.products), self._backend.to_host(cells.accumulated)
        inside: NDArray[np.bool_] = self._backend.zeros(cells.flags.shape, np.bool_)
        for threshold_scale in threshold_scales(median_accumulated(accumulated), n_pols, self._plan.voltage):
            flags = cells.flags & np.uint16(Flag.LOST)
            self.flagger.flag(cells.power, cells.moment4, cells.accumulated, n_pols, flags, threshold_scale)
            inside |= flags != cells.flags
        return inside
