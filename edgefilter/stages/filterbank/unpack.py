"""From power samples to cells: each sample of a channel is a cell, and only has to be unpacked."""

import numpy as np

from edgefilter.compute.threads import ThreadBackend
from edgefilter.core.cells import Cells, Flag
from edgefilter.core.chunk import Chunk
from edgefilter.core.plan import Plan
from edgefilter.core.stream import Encoding
from edgefilter_kernels.filterbank.unpack import unpack, zero_nonfinite


class Unpacker:
    """The first stage of a power stream.

    A cell is LOST if its sample is missing or contains a NaN or an infinity.

    Parameters
    ----------
    plan
        Plan of a power stream.
    backend
        Runs the kernels.

    Attributes
    ----------
    history, lookahead
        Raw samples before and after a block that its cells depend on: 0.
    products
        Products of the cells: those of the stream.
    """

    def __init__(self, plan: Plan, backend: ThreadBackend) -> None:
        self.history = 0
        self.lookahead = 0
        self.products = plan.stream.products
        self._plan = plan
        self._backend = backend
        self._unpack, self._flag_non_finite = backend.kernel(unpack), backend.kernel(zero_nonfinite)

    def reduce(self, raw: Chunk) -> Cells:
        """Return the cells of a block.

        Parameters
        ----------
        raw
            uint8 ``[sample, sample_bytes]``: the block's samples.

        Returns
        -------
        Cells
            All cells of the block; counts are 0, and there are no fourth moments.

        Raises
        ------
        ValueError
            If ``raw`` has other samples.
        """
        block = checked_block_number(raw, self._plan, self.history)
        stream = self._plan.stream
        times = len(raw.data)
        data = self._backend.upload(raw.data)
        power = self._backend.empty((times, stream.channels, len(stream.products)), np.float32)
        flags = self._backend.zeros((times, stream.channels), np.uint16)

        def run(start: int, stop: int) -> None:
            self._unpack(data[start:stop], stream.bits, str(stream.encoding), power[start:stop])
            if stream.encoding is Encoding.FLOAT:
                self._flag_non_finite(power[start:stop], flags[start:stop], int(Flag.LOST))

        self._backend.parallel_for(times, run)
        for gap in raw.gaps:
            lost = slice(gap.start - raw.start, gap.stop - raw.start)
            power[lost] = 0
            flags[lost] = int(Flag.LOST)
        return Cells(block * times, power, flags, self.products, self._backend.zeros(times, np.int32))


def checked_block_number(raw: Chunk, plan: Plan, history: int) -> int:
    """Check that a chunk holds one block and its history, and return the block's number.

    Parameters
    ----------
    raw
        uint8 ``[sample, sample_bytes]``.
    plan
        Plan of the stream.
    history
        Samples before the block.

    Returns
    -------
    int
        Number of the block.

    Raises
    ------
    ValueError
        If the chunk has other samples.
    """
    block, rest = divmod(raw.start + history, plan.samples_per_block)
    if rest or raw.data.shape != (history + plan.samples_per_block, plan.stream.sample_bytes):
        raise ValueError(
            f"chunk [{raw.start}, {raw.stop}) of {raw.data.shape[1:]} bytes, must be a block of "
            f"{plan.samples_per_block} samples of {plan.stream.sample_bytes} bytes and {history} samples before it"
        )
    return block
