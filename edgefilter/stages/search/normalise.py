"""Whitening: rows in, channels of zero mean and unit variance out, as the search sums them."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgefilter.compute.threads import Workers
from edgefilter.core.cells import Rows
from edgefilter.core.plan import Plan
from edgefilter_kernels.search.normalise import WHOLE, whiten

_LEARN_ROWS = 2048
"""Least number of rows that the level and scatter of a channel are learnt from."""
_PAGE = 2 << 20


@dataclass(frozen=True, slots=True)
class White:
    """One block, channel-major, because sums run along time.

    Parameters
    ----------
    value
        int8 ``[channel, row]``: whitened power, :data:`~edgefilter_kernels.search.normalise.COUNTS` to a sigma.
    share
        int8 ``[channel, row]``: cells that were really summed, :data:`~edgefilter_kernels.search.normalise.WHOLE` is
        all.
    complete
        Whether all shares are whole.
    """

    value: NDArray[np.int8]
    share: NDArray[np.int8]
    complete: bool


class Whiten:
    """Whitens a block with the level and scatter of its own rows and of those before, if it is a short one.

    Parameters
    ----------
    plan
        Layout of the reduction.
    workers
        Threads over channels.
    """

    def __init__(self, plan: Plan, workers: Workers) -> None:
        self._plan = plan
        self._workers = workers
        self.history = max(_LEARN_ROWS - plan.rows_per_block, 0)
        """Rows before the block that are asked for."""
        shape = plan.channels, plan.rows_per_block
        self._whole = np.broadcast_to(np.int8(WHOLE), shape)
        self._share: NDArray[np.int8] | None = None

    def reduce(self, window: Rows) -> White:
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
        value, share = self._whiten(window.stokes[0], window.weight)
        if share.min() == WHOLE:
            return White(value, self._whole, True)
        self._share = None  # is kept by who takes it
        return White(value, share, False)

    def _whiten(
        self, power: NDArray[np.float32], weight: NDArray[np.uint16]
    ) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
        value = _on_large_pages(self._whole.shape)
        share = np.empty_like(value) if self._share is None else self._share
        self._share = share

        def run(start: int, stop: int) -> None:
            whiten(power, weight, self._plan.cells_per_row, self.history, start, stop, value, share)

        self._workers.over(self._plan.channels, run, align=16)
        return value, share


def _on_large_pages(shape: tuple[int, int]) -> NDArray[np.int8]:
    # Each block has new values: mapped in pages of 4 KiB, threads would wait for each other at every one of them.
    # NumPy asks Linux for pages of 2 MiB from 4 MiB on.
    size = math.prod(shape)
    room = np.empty(size + _PAGE, np.int8)
    start = -room.ctypes.data % _PAGE
    return room[start : start + size].reshape(shape)
