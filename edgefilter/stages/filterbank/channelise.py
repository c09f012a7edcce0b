"""Voltages to cells: polyphase filterbank, detection, accumulation."""

from queue import SimpleQueue

import numpy as np
from numpy.typing import NDArray

from edgefilter.compute.threads import Workers
from edgefilter.core.cells import Cells, Flag
from edgefilter.core.chunk import Chunk
from edgefilter.core.errors import ConfigError
from edgefilter.core.plan import Plan
from edgefilter.core.stream import Encoding
from edgefilter.stages.filterbank.unpack import Unpack, expect_block
from edgefilter_kernels.filterbank.pfb import pfb
from edgefilter_kernels.filterbank.unpack import lose_not_finite
from edgefilter_kernels.filterbank.workspace import Scratch, make_bank, make_scratch, prototype

_PRODUCTS = ("XX", "YY", "CR", "CI")


class Channelise:
    """The first stage of a voltage stream.

    A spectrum counts where all samples that its filter spans are there. A cell is LOST where fewer than half of its
    spectra count, or where a number of it is not finite (floating-point voltages may hold NaN).

    Parameters
    ----------
    plan
        Layout, of a voltage stream.
    workers
        Threads.

    Attributes
    ----------
    history, lookahead
        Raw samples before and after a block that its cells depend on.
    products
        Products of the cells.

    Raises
    ------
    ConfigError
        If no filter can be made as ``channelise`` asks.
    """

    def __init__(self, plan: Plan, workers: Workers) -> None:
        stream, settings = plan.stream, plan.settings
        taps = settings.channelise.taps
        try:
            filter_ = prototype(plan.fine_channels, taps, settings.channelise.window, stream.complex_samples)
        except ValueError as error:
            raise ConfigError(f"channelise: {error}") from None
        self.history = plan.filter_samples
        self.lookahead = 0
        hands = len(stream.products)
        self.products = _PRODUCTS if settings.detect.stokes == "IQUV" else _PRODUCTS[:hands]
        bank = make_bank(
            filter_,
            plan.fine_channels,
            stream.bits,
            str(stream.encoding),
            hands,
            stream.complex_samples,
            plan.samples_per_spectrum,
        )
        self._bank = bank._replace(coefficients=workers.put(bank.coefficients))
        self._plan = plan
        self._workers = workers
        self._pfb, self._lose_not_finite = workers.kernel(pfb), workers.kernel(lose_not_finite)
        times, channels = plan.cells_per_block, plan.channels
        self._power = workers.empty((times, channels, len(self.products)), np.float32)
        self._moment4 = workers.empty((times, channels, hands), np.float32)
        self._accumulated = workers.empty((times,), np.int32)
        self._flags = workers.empty((times, channels), np.uint16)
        self._scratch: SimpleQueue[Scratch] = SimpleQueue()
        for _ in range(workers.threads):
            self._scratch.put(
                workers.kernel(make_scratch)(self._bank, plan.spectra_per_cell, stream.channels, len(self.products))
            )

    def reduce(self, raw: Chunk) -> Cells:
        """Make the cells of a block.

        Parameters
        ----------
        raw
            The block's samples and ``history`` samples before it.

        Returns
        -------
        Cells
            All cells of the block, channels in the order of ``plan.frequencies_mhz``. The next call overwrites them:
            in steady state nothing is allocated.

        Raises
        ------
        ValueError
            If ``raw`` is not such a chunk.
        """
        plan = self._plan
        block = expect_block(raw, plan, self.history)
        times, spectra = plan.cells_per_block, plan.spectra_per_cell
        power, moment4, accumulated, flags = self._power, self._moment4, self._accumulated, self._flags
        data, valid = self._workers.upload(raw.data), self._workers.put(_complete(raw, times * spectra, plan))
        flags[:] = 0

        def run(start: int, stop: int) -> None:
            first, last = start * plan.samples_per_cell, stop * plan.samples_per_cell + self.history
            work = self._scratch.get()
            self._pfb(
                self._bank,
                data[first:last],
                valid[start * spectra : stop * spectra],
                power[start:stop],
                moment4[start:stop],
                accumulated[start:stop],
                work,
            )
            self._scratch.put(work)
            if plan.stream.encoding is Encoding.FLOAT:
                self._lose_not_finite(power[start:stop], flags[start:stop], int(Flag.LOST))
                self._lose_not_finite(moment4[start:stop], flags[start:stop], int(Flag.LOST))

        self._workers.over(times, run)
        few, fill = 2 * accumulated < spectra, self._workers.fill
        fill(accumulated, few, 0)
        fill(flags, few, int(Flag.LOST))
        if plan.stream.encoding is Encoding.FLOAT or few.any():
            lost = flags != 0
            fill(power, lost, 0)
            fill(moment4, lost, 0)
        return Cells(block * times, power, flags, self.products, accumulated, moment4)


def _complete(raw: Chunk, spectra: int, plan: Plan) -> NDArray[np.bool_]:
    """Say of each spectrum whether all samples that its filter spans are there."""
    valid = np.ones(spectra, np.bool_)
    step = plan.samples_per_spectrum
    reach = plan.filter_samples + step
    for gap in raw.gaps:
        first, last = gap.start - raw.start, gap.stop - raw.start
        # Spectrum r spans [r step, r step + reach).
        valid[max(0, (first - reach) // step + 1) : -(-last // step)] = False
    return valid


def front(plan: Plan, workers: Workers) -> Channelise | Unpack:
    """Return the stage that takes the plan's raw samples in."""
    return Channelise(plan, workers) if plan.voltage else Unpack(plan, workers)
