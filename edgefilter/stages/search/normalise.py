"""Normalisation: from rows to channels of zero mean and unit variance, as the search sums them."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgefilter.compute.threads import ThreadBackend
from edgefilter.core.cells import Rows
from edgefilter.core.plan import Plan
from edgefilter_kernels.search.normalise import FULL_WEIGHT, NormalisedPower, normalise

_MIN_BASELINE_ROWS = 2048
"""Least number of rows from which the level and scatter of a channel are measured."""
_HUGE_PAGE_BYTES = 2 << 20


@dataclass(frozen=True, slots=True)
class NormalisedBlock:
    """A normalised block, channel-major, because the search sums along time.

    Parameters
    ----------
    value
        int8 ``[channel, row]``: normalised power,
        :data:`~edgefilter_kernels.search.normalise.COUNTS_PER_SIGMA` counts per sigma.
    weight
        int8 ``[channel, row]``: fraction of the cells of the row that were summed, in parts of
        :data:`~edgefilter_kernels.search.normalise.FULL_WEIGHT`.
    complete
        Whether all weights are full.
    """

    value: NDArray[np.int8]
    weight: NDArray[np.int8]
    complete: bool


class Normaliser:
    """Normalises a block by the level and scatter of its rows, and of the rows before a short block.

    Parameters
    ----------
    plan
        Layout of the reduction.
    backend
        Threads over channels.
    """

    def __init__(self, plan: Plan, backend: ThreadBackend) -> None:
        self._plan = plan
        self._backend = backend
        self.history = max(_MIN_BASELINE_ROWS - plan.rows_per_block, 0)
        """Rows before the block that are needed."""
        shape = plan.channels, plan.rows_per_block
        self._full_weight = np.broadcast_to(np.int8(FULL_WEIGHT), shape)
        self._weight: NDArray[np.int8] | None = None

    def reduce(self, window: Rows) -> NormalisedBlock:
        """Normalise one block.

        Parameters
        ----------
        window
            Rows of the block and of its history; weight 0 where there is no data.

        Returns
        -------
        normalised
            The block, without its history.

        Raises
        ------
        ValueError
            If the shape of the window is wrong.
        """
        rows, channels = self._plan.rows_per_block, self._plan.channels
        if window.weight.shape != (self.history + rows, channels):
            raise ValueError(
                f"rows [{window.start}, {window.stop}) must be a history of {self.history} and a block of {rows} rows"
            )
        value, weight = self._normalise(window.stokes[0], window.weight)
        if weight.min() == FULL_WEIGHT:
            return NormalisedBlock(value, self._full_weight, True)
        self._weight = None  # the caller keeps it
        return NormalisedBlock(value, weight, False)

    def _normalise(self, power: NDArray[np.float32], cell_counts: NDArray[np.uint16]) -> NormalisedPower:
        value = _empty_on_huge_pages(self._full_weight.shape)
        weight = np.empty_like(value) if self._weight is None else self._weight
        self._weight = weight
        out = NormalisedPower(value, weight)

        def run(start: int, stop: int) -> None:
            normalise(power, cell_counts, self._plan.cells_per_row, self.history, start, stop, out)

        self._backend.parallel_for(self._plan.channels, run, align=16)  # 64 bytes of power: one line of the cache
        return out


def _empty_on_huge_pages(shape: tuple[int, int]) -> NDArray[np.int8]:
    # Each block has new values: with pages of 4 KiB, threads would wait for each other at every page fault. NumPy asks
    # Linux for pages of 2 MiB for arrays of 4 MiB and more.
    size = math.prod(shape)
    buffer = np.empty(size + _HUGE_PAGE_BYTES, np.int8)
    start = -buffer.ctypes.data % _HUGE_PAGE_BYTES
    return buffer[start : start + size].reshape(shape)
