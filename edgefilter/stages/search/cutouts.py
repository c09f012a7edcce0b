"""Cut-outs: the rows that are kept around pulses, and the number of cells in them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgefilter.core.cells import Rows
from edgefilter.core.plan import DISPERSION_S_MHZ2, Plan, cutout_margin_rows
from edgefilter.core.reduced_block import PulseCandidate


@dataclass(frozen=True, slots=True)
class RowRange:
    """Rows ``[start, stop)`` of a cut-out, which holds all channels."""

    start: int
    stop: int


class CutoutPlanner:
    """Decides which rows the cut-outs of pulses hold.

    The cut-out of a pulse extends from a margin before its arrival at the top of the band to a margin after its arrival
    at the bottom. The margin is 32 rows or four widths of the pulse, whichever is longer, and at most a block. Pulses
    of a block whose rows overlap share one cut-out, so that interference with many candidates is sent once.

    Parameters
    ----------
    plan
        Layout of the reduction.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        max_width_rows = 1 << (plan.settings.pulses.widths - 1)
        # The coarsest time resolution makes the widest boxcar up to 8 times wider.
        self._max_margin = min(round(cutout_margin_rows(8 * max_width_rows)), plan.rows_per_block)
        reach = plan.sweep_rows(plan.dm_range[1]) + self._max_margin + 1
        self.blocks_before = 1
        """Blocks before the pulse's block into which a cut-out may extend."""
        self.blocks_after = -(-reach // plan.rows_per_block)
        """Blocks after the pulse's block into which a cut-out may extend."""

    def row_range(self, pulse: PulseCandidate) -> RowRange:
        """Return the rows that are kept around a pulse.

        Parameters
        ----------
        pulse
            The pulse.

        Returns
        -------
        row_range
            Rows since the epoch, not before it.
        """
        margin = min(cutout_margin_rows(pulse.width_rows), self._max_margin)
        start = max(int(np.floor(pulse.row - margin)), 0)
        stop = int(np.ceil(pulse.row + self._plan.sweep_rows(pulse.dm) + margin))
        return RowRange(start, stop)

    def cutouts(self, pulses: Iterable[PulseCandidate]) -> list[RowRange]:
        """Return the rows of the cut-out of each pulse of a block.

        Parameters
        ----------
        pulses
            Pulses of one block.

        Returns
        -------
        row_ranges
            One for each pulse; equal for pulses that share a cut-out.
        """
        own_ranges = [self.row_range(pulse) for pulse in pulses]
        shared: list[RowRange] = []
        for row_range in sorted(own_ranges, key=lambda row_range: row_range.start):
            if shared and row_range.start < shared[-1].stop:
                shared[-1] = RowRange(shared[-1].start, max(shared[-1].stop, row_range.stop))
            else:
                shared.append(row_range)
        return [next(one for one in shared if one.start <= row_range.start < one.stop) for row_range in own_ranges]

    def cutout_cells(self, row_ranges: Iterable[RowRange], rows: Rows) -> int:
        """Return the number of valid cells of a block that lie in at least one range.

        Parameters
        ----------
        row_ranges
            Ranges of rows.
        rows
            Rows of the block.

        Returns
        -------
        cells
            Number of cells.
        """
        inside = np.zeros(len(rows.weight), np.bool_)
        for row_range in row_ranges:
            inside[max(row_range.start - rows.start, 0) : max(row_range.stop - rows.start, 0)] = True
        return int(rows.weight[inside].sum(dtype=np.int64))

    def unused_fraction(self, pulse: PulseCandidate, rows: Sequence[Rows | None], like: Rows) -> float:
        """Return the fraction of the cells on the track of a pulse, in its band, that were lost or flagged.

        Parameters
        ----------
        pulse
            The pulse.
        rows
            Rows of the blocks around; None where there is no data.
        like
            Rows whose shape missing rows take.

        Returns
        -------
        fraction
            0 to 1.
        """
        plan, channels = self._plan, self._band(pulse)
        row_range = self.row_range(pulse)
        weight = Rows.join(rows, row_range.start, row_range.stop, like).weight
        frequencies = plan.frequencies_mhz[channels]
        delay = DISPERSION_S_MHZ2 * pulse.dm * (frequencies**-2.0 - plan.frequencies_mhz.max() ** -2.0)
        first = pulse.row - pulse.width_rows / 2 + delay / plan.row_seconds - row_range.start
        steps = np.arange(max(round(pulse.width_rows), 1))
        track = np.clip(np.floor(first[:, None] + steps).astype(np.int64), 0, len(weight) - 1)
        used = weight[track, channels[:, None]].sum(dtype=np.int64)
        return float(1 - used / (track.size * plan.cells_per_row))

    def _band(self, pulse: PulseCandidate) -> NDArray[np.int64]:
        frequencies = self._plan.frequencies_mhz
        return np.flatnonzero((frequencies >= pulse.freq_low) & (frequencies <= pulse.freq_high))
