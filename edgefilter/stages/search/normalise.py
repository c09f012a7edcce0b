"""Whitening: rows in, channels of zero mean and unit variance out, as the search sums them."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgefilter.compute.threads import ThreadBackend
from edgefilter.core.cells import Rows
from edgefilter.core.plan import Plan
from edgefilter_kernels.search.normalise import FULL_WEIGHT, normalise

_MIN_BASELINE_ROWS = 2048
"""Least number of rows that the level and scatter of a channel are learnt from."""
_HUGE_PAGE_BYTES = 2 << 20


@dataclass(frozen=True, slots=True)
class NormalisedBlock:
    """One block, channel-major, because sums run along time.

    Parameters
    ----------
    value
        int8 ``[channel, row]``: whitened power,
        :data:`~edgefilter_kernels.search.normalise.COUNTS_PER_SIGMA` to a sigma.
    weight
        int8 ``[channel, row]``: cells that were really summed,
        :data:`~edgefilter_kernels.search.normalise.FULL_WEIGHT` is all.
    complete
        Whether all weights are full.
    """

    value: NDArray[np.int8]
    weight: NDArray[np.int8]
    complete: bool


class Normaliser:
    """Whitens a block with the level and scatter of its own rows and of those before, if it is a short one.

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
        """Rows before the block that are asked for."""
        shape = plan.channels, plan.rows_per_block
        self._full_weight = np.broadcast_to(np.int8(FULL_WEIGHT), shape)
        self._weight: NDArray[np.int8] | None = None

    def reduce(self, window: Rows) -> NormalisedBlock:
        """Whiten one block.

        Parameters
        ----------
        window
            Rows of the block and of its history; weight 0 where there is no data.

        Raises
        ------
        ValueError
            If the window is not as long as that.
        """
        rows, channels = self._plan.rows_per_block, self._plan.channels
        if window.weight.shape != (self.history + rows, channels):
            raise ValueError(
                f"rows [{window.start}, {window.stop}) are not a block of {rows} and a history of {self.history}"
            )
        value, weight = self._normalise(window.stokes[0], window.weight)
        if weight.min() == FULL_WEIGHT:
            return NormalisedBlock(value, self._full_weight, True)
        self._weight = None  # is kept by who takes it
        return NormalisedBlock(value, weight, False)

    def _normalise(
        self, power: NDArray[np.float32], cell_counts: NDArray[np.uint16]
    ) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
        value = _empty_on_huge_pages(self._full_weight.shape)
        weight = np.empty_like(value) if self._weight is None else self._weight
        self._weight = weight

        def run(start: int, stop: int) -> None:
            normalise(power, cell_counts, self._plan.cells_per_row, self.history, start, stop, value, weight)

        self._backend.parallel_for(self._plan.channels, run, align=16)
        return value, weight


def _empty_on_huge_pages(shape: tuple[int, int]) -> NDArray[np.int8]:
    # Each block has new values: mapped in pages of 4 KiB, threads would wait for each other at every one of them.
    # NumPy asks Linux for pages of 2 MiB from 4 MiB on.
    size = math.prod(shape)
    buffer = np.empty(size + _HUGE_PAGE_BYTES, np.int8)
    start = -buffer.ctypes.data % _HUGE_PAGE_BYTES
    return buffer[start : start + size].reshape(shape)
