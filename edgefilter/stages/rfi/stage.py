"""Stage that flags a block and measures the signal loss; :mod:`edgefilter.stages.rfi.flagger` is the chain itself."""

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
    """Flags the cells of a block. The flags follow from the block alone, without history or lookahead.

    Parameters
    ----------
    plan
        Layout and settings (``flag``).
    backend
        Threads over channels and times, or a GPU.
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
            If the number of channels is not that of the plan.
        """
        if cells.power.shape[1] != self._plan.channels:
            raise ValueError(f"cells {cells.power.shape} do not have the {self._plan.channels} channels of the plan")
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
        """Count the flags that may differ on another device.

        Parameters
        ----------
        cells
            The flagged block, with TAGGED among its flags.

        Returns
        -------
        NearThreshold
            The number of these flags, and of cells that are not lost.
        """
        inside, lost = self.near_threshold_mask(cells), cells.flags & np.uint16(Flag.LOST) != 0
        number, gone = (int(self._backend.to_host(np.count_nonzero(which, axis=0)).sum()) for which in (inside, lost))
        return NearThreshold(flags=number, cells=cells.flags.size - gone)

    def near_threshold_mask(self, cells: Cells) -> NDArray[np.bool_]:
        """Find the flags that may differ on another device; see :mod:`edgefilter.stages.rfi.gpu_tolerance`.

        Parameters
        ----------
        cells
            The flagged block, with TAGGED among its flags.

        Returns
        -------
        ndarray
            bool ``[time, channel]``, on the device of the cells.
        """
        n_pols, accumulated = n_polarisations(cells.products), self._backend.to_host(cells.accumulated)
        inside: NDArray[np.bool_] = self._backend.zeros(cells.flags.shape, np.bool_)
        for threshold_scale in threshold_scales(median_accumulated(accumulated), n_pols, self._plan.voltage):
            flags = cells.flags & np.uint16(Flag.LOST)
            self.flagger.flag(cells.power, cells.moment4, cells.accumulated, n_pols, flags, threshold_scale)
            inside |= flags != cells.flags
        return inside
