"""Cut-outs: the rows that are kept around pulses, and the number of cells in them."""

from collections.abc import Iterable, Sequence

import numpy as np

from edgefilter.core.cells import Rows
from edgefilter.core.plan import Plan, cutout_margin_rows
from edgefilter.core.reduced_block import CutoutRows, KeptPulse, PulseCandidate
from edgefilter.stages.search.dm_plan import delay_rows
from edgefilter.stages.search.measure import PulseMeasurer, PulseWindow
from edgefilter.stages.search.track import Region, boxcar_region, gather


class CutoutPlanner:
    """Decides which rows the cut-outs of pulses hold, and measures the pulses in the rows around.

    A cut-out follows the sweep of its pulse: of each channel it holds the rows of the boxcar, and a margin before and
    after. From the middle of the boxcar, it reaches 20 rows or 2.5 widths of the pulse, whichever is longer, and
    less than a block. A pulse whose boxcar lies in the cut-out of a stronger pulse of its block has no other one.

    Parameters
    ----------
    plan
        Layout of the reduction.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        # The coarsest time resolution makes the widest boxcar up to 8 times wider.
        max_width_rows = 8 << (plan.settings.pulses.widths - 1)
        self._max_margin = min(round(cutout_margin_rows(max_width_rows)), plan.rows_per_block - 1)
        before = max(self._max_margin, max_width_rows // 2) + 1
        self._delay_per_dm = delay_rows(plan)
        self._measurer = PulseMeasurer(plan)
        self.blocks_before = -(-before // plan.rows_per_block)
        """Blocks before the pulse's block into which a cut-out may extend."""
        self.blocks_after = -(-(plan.sweep_rows(plan.dm_range[1]) + before + 1) // plan.rows_per_block)
        """Blocks after the pulse's block into which a cut-out may extend."""

    def region(self, pulse: PulseCandidate) -> Region:
        """Return the rows that are kept around a pulse.

        Parameters
        ----------
        pulse
            The pulse, as the search found it.

        Returns
        -------
        Region
            Rows of each channel.
        """
        return boxcar_region(pulse, self._delay_per_dm).widened(self._margin(pulse))

    def cutouts(self, pulses: Sequence[PulseCandidate]) -> list[tuple[int, Region]]:
        """Return the cut-out of each pulse of a block.

        Parameters
        ----------
        pulses
            Pulses of one block, strongest first.

        Returns
        -------
        list of int, Region
            The rank of the pulse whose cut-out it is, and its rows; one for each pulse.
        """
        found: list[tuple[int, Region]] = []
        own: list[tuple[int, Region]] = []
        for number, pulse in enumerate(pulses):
            boxcar = boxcar_region(pulse, self._delay_per_dm)
            shared = next((one for one in own if one[1].covers(boxcar)), None)
            if shared is None:
                shared = number, boxcar.widened(self._margin(pulse))
                own.append(shared)
            found.append(shared)
        return found

    def cutout_cells(self, blocks: Iterable[Sequence[PulseCandidate]], rows: Rows) -> int:
        """Return the number of valid cells of a block that lie in at least one cut-out.

        Parameters
        ----------
        blocks
            Pulses of the block and of those around it whose cut-outs may extend into it.
        rows
            Rows of the block.

        Returns
        -------
        cells
            Number of cells.
        """
        length, channels = rows.weight.shape
        most = self._plan.settings.pulses.cutouts
        ends = np.zeros((length + 1, channels), np.int16)
        any_inside = False
        for pulses in blocks:
            for rank, (number, region) in enumerate(self.cutouts(pulses[:most])):
                start = np.clip(region.first - rows.start, 0, length)
                stop = np.clip(region.first + region.length - rows.start, 0, length)
                inside = np.flatnonzero(stop > start)
                if rank == number and len(inside):
                    ends[start[inside], inside] += 1
                    ends[stop[inside], inside] -= 1
                    any_inside = True
        if not any_inside:
            return 0
        covered = np.cumsum(ends[:-1], axis=0, dtype=np.int16) > 0
        return int(np.sum(rows.weight, where=covered, dtype=np.int64))

    def keep(self, pulses: Sequence[PulseCandidate], rows: Sequence[Rows | None], like: Rows) -> tuple[KeptPulse, ...]:
        """Measure the pulses of a block and copy the rows of their cut-outs.

        Parameters
        ----------
        pulses
            The pulses, strongest first.
        rows
            Rows of the blocks around; None where there is no data.
        like
            Rows whose shape missing rows take.

        Returns
        -------
        tuple of KeptPulse
            One for each pulse, in the same order.
        """
        planned = self.cutouts(pulses[: self._plan.settings.pulses.cutouts])
        measured = self._measurer.max_measured([pulse.width_rows for pulse in pulses])
        cutouts: dict[int, CutoutRows] = {}
        kept = []
        for rank, pulse in enumerate(pulses):
            own = planned[rank][1] if rank < len(planned) and planned[rank][0] == rank else None
            boxcar = boxcar_region(pulse, self._delay_per_dm)
            margin = self._margin(pulse) if own else 0
            if rank < measured:
                margin = max(margin, self._measurer.half_window(pulse.width_rows))
            window = PulseWindow(boxcar, margin, *gather(boxcar.widened(margin), rows, like))
            better = pulse
            if own or rank < measured:
                level, scatter = window.statistics()
                if own:
                    skip = int(own.first[0] - window.first[0])
                    inside = slice(skip, skip + own.length)
                    stokes, weight = window.stokes[:, inside], window.weight[inside]
                    cutouts[rank] = CutoutRows(rank, own.first, stokes, weight, level, scatter)
                if rank < measured:
                    better = self._measurer.measure(pulse, window, level, scatter)
            unused = self._measurer.unused_fraction(better, window)
            cutout = cutouts[planned[rank][0]] if rank < len(planned) else None
            kept.append(KeptPulse(better, unused, cutout, pulse.snr))
        return tuple(kept)

    def _margin(self, pulse: PulseCandidate) -> int:
        # Counted from the middle of the boxcar; a row less than a block, because the boxcar is rounded to rows.
        margin = min(int(np.ceil(cutout_margin_rows(pulse.width_rows))), self._max_margin)
        return max(margin - pulse.width_rows // 2, 0)
