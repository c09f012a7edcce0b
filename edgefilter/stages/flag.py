"""The stage that flags a block, and what that costs; the chain itself is in :mod:`edgefilter.stages.flagger`."""

import numpy as np

from edgefilter.cells import Cells, Flag, hands_of
from edgefilter.plan import Plan
from edgefilter.stages.cost import EVERY, CostMeter
from edgefilter.stages.flagger import Flagger
from edgefilter.workers import Workers


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
        tagged = cells.flags & np.uint16(Flag.TAGGED) != 0
        cells.tagged = self._workers.get(np.count_nonzero(tagged, axis=0)).astype(np.int64)
        cells.flags &= ~np.uint16(Flag.TAGGED)
        block = cells.start // self._plan.cells_per_block
        if block % EVERY == 0:
            cells.cost = CostMeter(self._plan, self.flagger).measure(cells.moved(self._workers.get), block)
