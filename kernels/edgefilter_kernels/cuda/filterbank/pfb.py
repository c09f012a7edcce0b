"""Polyphase filterbank and detection on a card: :mod:`edgefilter_kernels.filterbank.pfb`.

A batch of spectra at a time is unpacked and filtered by one launch, transformed in place by cuFFT, and detected and
added up by another; a last one puts a cell in order. The host waits for none of them. Filter and detection are the
CPU's formulas in its order; the transform's rounding is another one.
"""

from typing import Any

import numpy as np

from edgefilter_kernels.cuda.filterbank.workspace import Scratch, make_scratch
from edgefilter_kernels.cuda.raw import launch, namespace
from edgefilter_kernels.filterbank.pfb import expect_cells, raw_channels
from edgefilter_kernels.filterbank.workspace import FLUSH, Bank

_THREADS = 256


def pfb(bank: Bank, raw: Any, valid: Any, power: Any, moment4: Any, count: Any, work: Scratch | None = None) -> None:
    """As :func:`edgefilter_kernels.filterbank.pfb.pfb`: arrays on the device, also the bank's coefficients."""
    channels = expect_cells(bank, raw, valid, power, moment4, count)
    times, _, products = power.shape
    spectra = len(valid) // times
    if work is None:
        work = make_scratch(bank, spectra, channels, products)
    namespace(valid).sum(valid.reshape(times, spectra), axis=1, dtype=np.int32, out=count)
    segments, most = work.partial.shape[1], work.voltage.shape[1]
    for c in range(0, channels, most):
        group = min(most, channels - c)
        for t in range(0, times, work.cells):
            cells = min(work.cells, times - t)
            for s in range(0, spectra, work.piece):
                now = min(work.piece, spectra - s)
                first = t * spectra + s
                _transformed(bank, raw, first, cells * now, (channels, c, group), work)
                size = cells, now, group, s // FLUSH, segments
                arguments = work.voltage, work.turn, valid[first : first + cells * now], *size, work.partial
                _launch(bank, work, "detect", cells * -(-now // FLUSH) * group * bank.channels, arguments)
            size = cells, segments, channels, c, group
            arguments = work.partial, count[t : t + cells], *size, power[t : t + cells], moment4[t : t + cells]
            _launch(bank, work, "finish", cells * group * bank.channels, arguments)


def voltages(bank: Bank, raw: Any, spectra: int, first: int = 0) -> Any:
    """As :func:`edgefilter_kernels.filterbank.pfb.voltages`: arrays on the device, also the bank's coefficients."""
    channels = raw_channels(bank, raw, spectra)
    out = namespace(raw).empty((spectra, channels * bank.channels, bank.hands), np.complex64)
    work = make_scratch(bank, spectra, channels, bank.hands)
    most = work.voltage.shape[1]
    for c in range(0, channels, most):
        group = min(most, channels - c)
        for k in range(0, spectra, work.piece):
            now = min(work.piece, spectra - k)
            _transformed(bank, raw, k, now, (channels, c, group), work)
            arguments = work.voltage, work.turn, work.phase, np.int64(first + k), now, channels, c, group, out[k:]
            _launch(bank, work, "keep", now * group * bank.channels, arguments)
    return out


def _transformed(bank: Bank, raw: Any, first: int, spectra: int, channels: tuple[int, int, int], work: Scratch) -> None:
    """Filter and transform spectra of a group of raw channels: ``channels`` is all, first, and how many."""
    arguments = raw, bank.coefficients, np.int64(first), spectra, *channels, work.voltage
    blocks = -(-spectra * bank.channels // _THREADS)
    _launch(bank, work, "filter", channels[2] * blocks * _THREADS, arguments)
    if work.plan is not None:  # all of the scratch, whatever a last batch leaves of it
        from cupy.cuda import cufft

        work.plan.fft(work.voltage, work.voltage, cufft.CUFFT_FORWARD)
        return
    from scipy import fft

    some = work.voltage.reshape(-1, bank.channels)[: spectra * channels[2] * bank.hands]
    some[:] = fft.fft(some)


def variant(bank: Bank, products: int) -> dict[str, int]:
    """Return what is fixed when the source is compiled."""
    _, taps, width = bank.coefficients.shape
    return {
        "FINE": bank.channels, "HOP": bank.hop, "TAPS": taps, "WIDTH": width, "HANDS": bank.hands,
        "COMPONENTS": bank.components, "PRODUCTS": products, "BITS": bank.bits, "FLIP": bank.flip, "BIAS": bank.bias,
        "FLUSH": FLUSH,
    }  # fmt: skip


def _launch(bank: Bank, work: Scratch, name: str, threads: int, arguments: tuple[Any, ...]) -> None:
    defines = variant(bank, work.partial.shape[2] - bank.hands)
    # Counts are int in the kernels.
    exact = tuple(np.int32(one) if isinstance(one, int) else one for one in arguments)
    launch("filterbank/pfb.cu", name, (-(-threads // _THREADS),), (_THREADS,), exact, defines=defines)
