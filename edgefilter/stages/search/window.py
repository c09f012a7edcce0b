"""The normalised rows around a block, at each time resolution."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefilter.compute.threads import ThreadBackend
from edgefilter.stages.search.normalise import NormalisedBlock
from edgefilter.stages.search.subbands import WEIGHT_STEPS
from edgefilter_kernels.search.normalise import FULL_WEIGHT, max_pool, tscrunch2

Window = Mapping[int, tuple[Any, Any]]
"""Power ``[channel, step]`` and weights ``[channel, step / WEIGHT_STEPS]``, int8, by rows in a time step."""


class BlockRows:
    """Rows of consecutive blocks, as one range of rows.

    Parameters
    ----------
    blocks
        The blocks; None where there is no data.
    rows
        Rows of a block.
    first
        Row, counted from the first block, at which the range starts.
    """

    def __init__(self, blocks: Sequence[NormalisedBlock | None], rows: int, first: int) -> None:
        self._blocks, self._rows, self._first = blocks, rows, first
        self.complete = all(block is not None and block.complete for block in blocks)
        """Whether all weights are full."""

    def copy_value(self, out: NDArray[np.int8], channel: int = 0) -> None:
        """Copy normalised power, 0 where there is none.

        Parameters
        ----------
        out
            int8 ``[channel, row]``: written.
        channel
            First channel to copy.
        """
        self._copy(lambda block: block.value, out, channel)

    def copy_weight(self, out: NDArray[np.int8], channel: int = 0) -> None:
        """Copy weights, as :meth:`copy_value` copies power.

        Parameters
        ----------
        out
            int8 ``[channel, row]``: written.
        channel
            First channel to copy.
        """
        self._copy(lambda block: block.weight, out, channel)

    def _copy(
        self, array_of: Callable[[NormalisedBlock], NDArray[np.int8]], out: NDArray[np.int8], channel: int
    ) -> None:
        rows, first = self._rows, self._first
        for number, block in enumerate(self._blocks):
            start, stop = max(number * rows - first, 0), min((number + 1) * rows - first, out.shape[1])
            if start < stop:
                at = first + start - number * rows
                some = slice(channel, channel + len(out)), slice(at, at + stop - start)
                out[:, start:stop] = 0 if block is None else array_of(block)[some]
        out[:, max(len(self._blocks) * rows - first, 0) :] = 0


class SearchWindow:
    """Normalised power around a block at each time resolution, and its weights.

    A coarser weight is the maximum of its rows, not the mean: at the edge of a gap the mean would raise the noise of
    the valid rows.

    Parameters
    ----------
    rows
        The rows.
    window_buffer
        int8 ``[2, channel, row]``: memory for power and weights.
    tscrunch_factors
        Rows in a time step of each resolution, ascending.
    backend
        Threads.
    """

    def __init__(
        self,
        rows: BlockRows,
        window_buffer: NDArray[np.int8],
        tscrunch_factors: Sequence[int],
        backend: ThreadBackend,
    ) -> None:
        value, weight = window_buffer
        channels, length = value.shape
        valid = np.empty((channels, length // WEIGHT_STEPS), np.int8)
        self.complete = rows.complete
        self.tscrunched: dict[int, tuple[NDArray[np.int8], NDArray[np.int8]]] = {}
        """Power ``[channel, step]`` and weights ``[channel, step / WEIGHT_STEPS]`` by rows in a time step."""

        def fill(start: int, stop: int) -> None:
            rows.copy_value(value[start:stop], start)
            if rows.complete:
                valid[start:stop] = FULL_WEIGHT
            else:
                rows.copy_weight(weight[start:stop], start)
                max_pool(weight[start:stop], WEIGHT_STEPS, valid[start:stop])

        backend.parallel_for(channels, fill)
        tscrunch = 1
        while True:
            if tscrunch in tscrunch_factors:
                self.tscrunched[tscrunch] = value, valid
            if tscrunch == tscrunch_factors[-1]:
                return
            value = _tscrunch2(value, backend)
            if valid.shape[1] % 2:
                valid = np.pad(valid, ((0, 0), (0, 1)))
            valid = np.maximum(valid[:, ::2], valid[:, 1::2])
            tscrunch *= 2


def _tscrunch2(value: NDArray[np.int8], backend: ThreadBackend) -> NDArray[np.int8]:
    out = np.empty((len(value), value.shape[1] // 2), np.int8)
    backend.parallel_for(len(value), lambda start, stop: tscrunch2(value[start:stop], out[start:stop]))
    return out
