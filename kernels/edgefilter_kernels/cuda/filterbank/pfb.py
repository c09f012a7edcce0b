"""Polyphase filterbank and detection on the GPU: CUDA version of :mod:`edgefilter_kernels.filterbank.pfb`.

One launch unpacks and filters a batch of spectra, cuFFT transforms it in place, and a second launch detects and sums;
a last one writes the cells. The host does not wait for them. Filter and detection compute the CPU's formulas in the
same order; only the transform is rounded differently.
"""

from typing import Any

import numpy as np

from edgefilter_kernels.cuda.filterbank.workspace import Workspace, make_workspace
from edgefilter_kernels.cuda.raw import array_namespace, launch
from edgefilter_kernels.filterbank.pfb import check_cells, raw_channels
from edgefilter_kernels.filterbank.workspace import FLUSH_SPECTRA, Filterbank

_THREADS = 256


def pfb(
    bank: Filterbank, raw: Any, valid: Any, power: Any, moment4: Any, count: Any, work: Workspace | None = None
) -> None:
    """CUDA version of :func:`edgefilter_kernels.filterbank.pfb.pfb`; the bank's coefficients are on the GPU."""
    channels = check_cells(bank, raw, valid, power, moment4, count)
    times, _, products = power.shape
    spectra = len(valid) // times
    if work is None:
        work = make_workspace(bank, spectra, channels, products)
    array_namespace(valid).sum(valid.reshape(times, spectra), axis=1, dtype=np.int32, out=count)
    segments, max_group = work.partial.shape[1], work.voltage.shape[1]
    for c in range(0, channels, max_group):
        group = min(max_group, channels - c)
        for t in range(0, times, work.batch_cells):
            cells = min(work.batch_cells, times - t)
            for s in range(0, spectra, work.batch_spectra):
                n_spectra = min(work.batch_spectra, spectra - s)
                first = t * spectra + s
                _filter_and_transform(bank, raw, first, cells * n_spectra, (channels, c, group), work)
                size = cells, n_spectra, group, s // FLUSH_SPECTRA, segments
                batch_valid = valid[first : first + cells * n_spectra]
                arguments = work.voltage, work.rfft_twiddle, batch_valid, *size, work.partial
                _launch(bank, work, "detect", cells * -(-n_spectra // FLUSH_SPECTRA) * group * bank.channels, arguments)
            size = cells, segments, channels, c, group
            arguments = work.partial, count[t : t + cells], *size, power[t : t + cells], moment4[t : t + cells]
            _launch(bank, work, "write_cells", cells * group * bank.channels, arguments)


def voltages(bank: Filterbank, raw: Any, spectra: int, first: int = 0) -> Any:
    """CUDA version of :func:`edgefilter_kernels.filterbank.pfb.voltages`; the bank's coefficients are on the GPU."""
    channels = raw_channels(bank, raw, spectra)
    out = array_namespace(raw).empty((spectra, channels * bank.channels, bank.n_pols), np.complex64)
    work = make_workspace(bank, spectra, channels, bank.n_pols)
    max_group = work.voltage.shape[1]
    for c in range(0, channels, max_group):
        group = min(max_group, channels - c)
        for k in range(0, spectra, work.batch_spectra):
            n_spectra = min(work.batch_spectra, spectra - k)
            _filter_and_transform(bank, raw, k, n_spectra, (channels, c, group), work)
            size = np.int64(first + k), n_spectra, channels, c, group
            arguments = work.voltage, work.rfft_twiddle, work.phase, *size, out[k:]
            _launch(bank, work, "write_voltages", n_spectra * group * bank.channels, arguments)
    return out


def _filter_and_transform(
    bank: Filterbank, raw: Any, first: int, spectra: int, channels: tuple[int, int, int], work: Workspace
) -> None:
    """Filter and transform spectra of a group of raw channels; ``channels`` are their total, first and number."""
    arguments = raw, bank.coefficients, np.int64(first), spectra, *channels, work.voltage
    blocks = -(-spectra * bank.channels // _THREADS)
    _launch(bank, work, "filter", channels[2] * blocks * _THREADS, arguments)
    if work.plan is not None:  # it transforms the whole scratch memory, also for a shorter last batch
        from cupy.cuda import cufft

        work.plan.fft(work.voltage, work.voltage, cufft.CUFFT_FORWARD)
        return
    from scipy import fft

    voltage = work.voltage.reshape(-1, bank.channels)[: spectra * channels[2] * bank.n_pols]
    voltage[:] = fft.fft(voltage)


def compile_macros(bank: Filterbank, products: int) -> dict[str, int]:
    """Return the macros with which ``pfb.cu`` is compiled.

    Parameters
    ----------
    bank
        The filterbank.
    products
        Products of a cell.

    Returns
    -------
    dict
        Value by name.
    """
    _, taps, width = bank.coefficients.shape
    return {
        "FINE": bank.channels, "HOP": bank.hop, "TAPS": taps, "WIDTH": width, "N_POLS": bank.n_pols,
        "COMPONENTS": bank.components, "PRODUCTS": products, "BITS": bank.bits, "FLIP": bank.flip, "BIAS": bank.bias,
        "FLUSH_SPECTRA": FLUSH_SPECTRA,
    }  # fmt: skip


def _launch(bank: Filterbank, work: Workspace, name: str, threads: int, arguments: tuple[Any, ...]) -> None:
    defines = compile_macros(bank, work.partial.shape[2] - bank.n_pols)
    # Counts are int in the kernels.
    exact = tuple(np.int32(value) if isinstance(value, int) else value for value in arguments)
    launch("filterbank/pfb.cu", name, (-(-threads // _THREADS),), (_THREADS,), exact, defines=defines)
