"""From voltages to cells: polyphase filterbank, detection and accumulation."""

from queue import SimpleQueue

import numpy as np
from numpy.typing import NDArray

from edgefilter.compute.threads import ThreadBackend
from edgefilter.core.cells import Cells, Flag
from edgefilter.core.chunk import Chunk
from edgefilter.core.errors import ConfigError
from edgefilter.core.plan import Plan
from edgefilter.core.stream import Encoding
from edgefilter.stages.filterbank.unpack import Unpacker, checked_block_number
from edgefilter_kernels.filterbank.pfb import pfb
from edgefilter_kernels.filterbank.unpack import zero_nonfinite
from edgefilter_kernels.filterbank.workspace import Workspace, make_filterbank, make_workspace, prototype_filter

_PRODUCTS = ("XX", "YY", "CR", "CI")


class Channeliser:
    """The first stage of a voltage stream.

    A spectrum is valid if no sample within its filter is missing. A cell is LOST if fewer than half of its spectra are
    valid, or if it contains a NaN or an infinity (floating-point voltages may hold them).

    Parameters
    ----------
    plan
        Plan of a voltage stream.
    backend
        Runs the kernels.

    Attributes
    ----------
    history, lookahead
        Raw samples before and after a block that its cells depend on.
    products
        Products of the cells.

    Raises
    ------
    ConfigError
        If the filter cannot be designed from the section ``channelise`` of the configuration.
    """

    def __init__(self, plan: Plan, backend: ThreadBackend) -> None:
        stream, settings = plan.stream, plan.settings
        taps = settings.channelise.taps
        try:
            filter_ = prototype_filter(plan.fine_channels, taps, settings.channelise.window, stream.complex_samples)
        except ValueError as error:
            raise ConfigError(f"channelise: {error}") from None
        self.history = plan.filter_samples
        self.lookahead = 0
        n_pols = len(stream.products)
        self.products = _PRODUCTS if settings.detect.stokes == "IQUV" else _PRODUCTS[:n_pols]
        bank = make_filterbank(
            filter_,
            plan.fine_channels,
            stream.bits,
            str(stream.encoding),
            n_pols,
            stream.complex_samples,
            plan.samples_per_spectrum,
        )
        self._bank = bank._replace(coefficients=backend.to_device(bank.coefficients))
        self._plan = plan
        self._backend = backend
        self._pfb, self._flag_non_finite = backend.kernel(pfb), backend.kernel(zero_nonfinite)
        times, channels = plan.cells_per_block, plan.channels
        self._power = backend.empty((times, channels, len(self.products)), np.float32)
        self._moment4 = backend.empty((times, channels, n_pols), np.float32)
        self._accumulated = backend.empty((times,), np.int32)
        self._flags = backend.empty((times, channels), np.uint16)
        self._scratch: SimpleQueue[Workspace] = SimpleQueue()
        for _ in range(backend.threads):
            self._scratch.put(
                backend.kernel(make_workspace)(self._bank, plan.spectra_per_cell, stream.channels, len(self.products))
            )

    def reduce(self, raw: Chunk) -> Cells:
        """Return the cells of a block.

        Parameters
        ----------
        raw
            uint8 ``[sample, sample_bytes]``: ``history`` samples and the block's samples.

        Returns
        -------
        Cells
            All cells of the block, channels in the order of ``plan.frequencies_mhz``. The next call overwrites their
            arrays.

        Raises
        ------
        ValueError
            If ``raw`` has other samples.
        """
        plan = self._plan
        block = checked_block_number(raw, plan, self.history)
        times, spectra = plan.cells_per_block, plan.spectra_per_cell
        power, moment4, accumulated, flags = self._power, self._moment4, self._accumulated, self._flags
        data = self._backend.upload(raw.data)
        valid = self._backend.to_device(_valid_spectra(raw, times * spectra, plan))
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
                self._flag_non_finite(power[start:stop], flags[start:stop], int(Flag.LOST))
                self._flag_non_finite(moment4[start:stop], flags[start:stop], int(Flag.LOST))

        self._backend.parallel_for(times, run)
        incomplete, fill_where = 2 * accumulated < spectra, self._backend.fill_where
        fill_where(accumulated, incomplete, 0)
        fill_where(flags, incomplete, int(Flag.LOST))
        if plan.stream.encoding is Encoding.FLOAT or incomplete.any():
            lost = flags != 0
            fill_where(power, lost, 0)
            fill_where(moment4, lost, 0)
        return Cells(block * times, power, flags, self.products, accumulated, moment4)


def _valid_spectra(raw: Chunk, spectra: int, plan: Plan) -> NDArray[np.bool_]:
    """Return for each spectrum whether no sample within its filter is missing."""
    valid = np.ones(spectra, np.bool_)
    step = plan.samples_per_spectrum
    length = plan.filter_samples + step
    for gap in raw.gaps:
        first, last = gap.start - raw.start, gap.stop - raw.start
        # The filter of spectrum r spans samples [r step, r step + length).
        valid[max(0, (first - length) // step + 1) : -(-last // step)] = False
    return valid


def input_stage(plan: Plan, backend: ThreadBackend) -> Channeliser | Unpacker:
    """Return the first stage of a stream.

    Parameters
    ----------
    plan
        Plan of the stream.
    backend
        Runs the kernels.

    Returns
    -------
    Channeliser or Unpacker
        For voltages and for power, respectively.
    """
    return Channeliser(plan, backend) if plan.voltage else Unpacker(plan, backend)
