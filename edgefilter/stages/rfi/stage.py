"""The stage that flags a block, and what that costs; the chain itself is in :mod:`edgefilter.stages.rfi.flagger`."""

import numpy as np
from numpy.typing import NDArray

from edgefilter.compute.gpu import Card
from edgefilter.compute.threads import Workers
from edgefilter.core.cells import Cells, Flag, Guarded, hands_of, usual_spectra
from edgefilter.core.plan import Plan
from edgefilter.stages.rfi.flagger import Flagger
from edgefilter.stages.rfi.gpu_tolerance import leans
from edgefilter.stages.rfi.signal_loss import EVERY, CostMeter


class FlagStage:
    """Flag the cells of a block, from nothing but these cells. History and lookahead are none.

    Parameters
    ----------
    plan
        The layout and the settings (``flag``).
    workers
        Threads over channels and times.
    """

    def __init__(self, plan: Plan, workers: Workers) -> None:
        self._plan = plan
        self._workers = workers
        seconds = plan.stream.seconds(plan.samples_per_cell)
        self.flagger = Flagger(plan.frequencies_mhz, seconds, plan.settings.flag, workers)

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
        self.flagger.flag(cells.power, cells.moment4, cells.accumulated, hands_of(cells.products), cells.flags)
        block = cells.start // self._plan.cells_per_block
        if block % EVERY == 0 and isinstance(self._workers, Card):
            cells.guarded = self.guarded(cells)
        tagged = cells.flags & np.uint16(Flag.TAGGED) != 0
        cells.tagged = self._workers.get(np.count_nonzero(tagged, axis=0)).astype(np.int64)
        cells.flags &= ~np.uint16(Flag.TAGGED)
        if block % EVERY == 0:
            cells.cost = CostMeter(self._plan, self.flagger).measure(cells.moved(self._workers.get), block)

    def guarded(self, cells: Cells) -> Guarded:
        """Count the flags that another device may have set otherwise.

        Parameters
        ----------
        cells
            The block as the flagger has left it, TAGGED among its flags.
        """
        inside, lost = self.in_doubt(cells), cells.flags & np.uint16(Flag.LOST) != 0
        number, gone = (int(self._workers.get(np.count_nonzero(which, axis=0)).sum()) for which in (inside, lost))
        return Guarded(flags=number, cells=cells.flags.size - gone)

    def in_doubt(self, cells: Cells) -> NDArray[np.bool_]:
        """Find them; bool ``[time, channel]``, where the cells are."""
        hands, accumulated = hands_of(cells.products), self._workers.get(cells.accumulated)
        inside: NDArray[np.bool_] = self._workers.zeros(cells.flags.shape, np.bool_)
        for lean in leans(usual_spectra(accumulated), hands, self._plan.voltage):
            flags = cells.flags & np.uint16(Flag.LOST)
            self.flagger.flag(cells.power, cells.moment4, cells.accumulated, hands, flags, lean)
            inside |= flags != cells.flags
        return inside
