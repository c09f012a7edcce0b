"""Polyphase filterbank and detection in one pass: raw voltages in, mean power of time-channel cells out.

Everything between the raw bytes and the cell stays in the cache. For a few spectra (a batch) at a time,

1. their rows are unpacked, weighted and added up (:mod:`edgefilter_kernels.filterbank.fir`);
2. each spectrum is Fourier transformed in place (:mod:`edgefilter_kernels.filterbank.fft`);
3. its squares and fourth powers are added to float32 sums, which go to float64 every 256 spectra or so.

Sums are kept in the order in which the transform leaves its numbers, and are put in order once a cell. A spectrum that
is not valid is all zeros, and adds nothing. The order of every sum is counted from the start of its cell, so that the
bits of a cell depend on its samples alone.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefilter_kernels.filterbank.fft import (
    FFT_PIECE,
    fft_columns,
    fft_piece,
    first_run_length,
    rfft_postprocess,
    rfft_postprocess_first_run,
)
from edgefilter_kernels.filterbank.fir import filter_columns, filter_spectra, filter_words
from edgefilter_kernels.filterbank.workspace import (
    FLUSH_SPECTRA,
    WIDE_STRIP_COLUMNS,
    Filterbank,
    Workspace,
    make_workspace,
)
from edgefilter_kernels.jit import kernel
from edgefilter_kernels.simd import float8

_SAMPLES_PER_TRANSFORM = 65536  # of one polarisation, before they are detected: half of a usual L2 cache
_COLUMNS = 8  # runs of output channels that are written side by side


def pfb(
    bank: Filterbank,
    raw: NDArray[np.uint8],
    valid: NDArray[np.bool_],
    power: NDArray[np.float32],
    moment4: NDArray[np.float32],
    count: NDArray[np.int32],
    work: Workspace | None = None,
) -> None:
    r"""Channelise voltages, detect, and average the valid spectra of each cell.

    Spectrum r is made of samples ``[r S, r S + T P)`` of ``raw``: T taps of P samples, the spectrum's own S last.

    Parameters
    ----------
    bank
        The filterbank.
    raw
        uint8 ``[(spectra - 1) S + T P, sample_bytes]``, C-contiguous, the numbers ``[channel, pol, component]`` of
        each sample.
    valid
        bool ``[spectra]``: which spectra are complete. The others' samples may be anything.
    power
        float32 ``[time, channels N, product]``, written: mean \|v\|² of the polarisations, and, if there are two more
        products, real and imaginary part of the mean of X Y*. The raw channel is slowest. Fine channel N/2 of complex
        input is at DC, channel 0 of real input. Where no spectrum is valid it is 0.
    moment4
        float32 ``[time, channels N, pol]``, written: mean \|v\|⁴.
    count
        int32 ``[time]``, written: valid spectra of a cell.
    work
        Of :func:`~edgefilter_kernels.filterbank.workspace.make_workspace` for cells like these, to allocate nothing
        here. One call at a time may use it.

    Raises
    ------
    ValueError
        If the arrays do not fit each other.
    """
    channels = check_cells(bank, raw, valid, power, moment4, count)
    if work is None:
        work = make_workspace(bank, len(valid) // len(power), channels, power.shape[2])
    _pfb(bank, raw.reshape(-1), channels, valid, power, moment4, count, work)


def check_cells(bank: Filterbank, raw: Any, valid: Any, power: Any, moment4: Any, count: Any) -> int:
    """Return how many raw channels there are; raise ValueError if the arrays of :func:`pfb` do not fit each other."""
    times, _, products = power.shape
    n, n_pols = bank.channels, bank.n_pols
    channels = raw_channels(bank, raw, len(valid))
    _check_array("power", power, np.float32, (times, channels * n, products))
    _check_array("moment4", moment4, np.float32, (times, channels * n, n_pols))
    _check_array("count", count, np.int32, (times,))
    _check_array("valid", valid, np.bool_, valid.shape)
    if products not in (n_pols, 2 * n_pols) or (products > n_pols and n_pols == 1):
        raise ValueError(f"{n_pols} polarisations and {products} products, must be 1 and 1, 2 and 2 or 2 and 4")
    if not times or not len(valid) or len(valid) % times:
        raise ValueError(f"{len(valid)} spectra in {times} cells, must be whole cells")
    return channels


def raw_channels(bank: Filterbank, raw: Any, spectra: int) -> int:
    """Return how many raw channels there are; raise ValueError if ``raw`` is not what so many spectra are made of."""
    pairs = (spectra - 1) * bank.hop + bank.coefficients.shape[1] * bank.channels
    numbers = bank.n_pols * bank.components
    channels = int(raw.shape[-1] * 8 // (bank.bits * numbers))
    _check_array("raw", raw, np.uint8, (pairs * 2 // bank.components, channels * numbers * bank.bits // 8))
    return channels


def _check_array(name: str, array: Any, dtype: type[np.generic], shape: tuple[int, ...]) -> None:
    if array.dtype != dtype or array.shape != shape or not array.flags.c_contiguous:
        expected = f"C-contiguous {np.dtype(dtype)} {shape}"
        raise ValueError(f"{name} is {array.dtype} {array.shape}, must be {expected}")


def voltages(bank: Filterbank, raw: NDArray[np.uint8], spectra: int, first: int = 0) -> NDArray[np.complex64]:
    """Channelise voltages and keep them, for what wants more than power.

    A tone keeps its phase from spectrum to spectrum:
    ``v[r, k] = sum_n h[n] x[r S + n] exp(-2 pi i f_k (r S + n))`` for the centre f_k of channel k in turns a sample.

    Parameters
    ----------
    bank
        The filterbank.
    raw
        As :func:`pfb` takes it.
    spectra
        How many to make.
    first
        Number of the first one, from which phases are counted; only oversampled channels need to know.

    Returns
    -------
    NDArray
        complex64 ``[spectrum, channels N, pol]``, channels as :func:`pfb` orders them.

    Raises
    ------
    ValueError
        If ``raw`` does not fit.
    """
    channels = raw_channels(bank, raw, spectra)
    out = np.empty((spectra, channels * bank.channels, bank.n_pols), np.complex64)
    phase = np.exp(-2j * np.pi * np.arange(bank.channels) / bank.channels).astype(np.complex64)
    _voltages(bank, raw.reshape(-1), channels, first, phase, out, make_workspace(bank, spectra, channels, bank.n_pols))
    return out


@kernel
def _voltages(
    bank: Filterbank,
    raw: NDArray[np.uint8],
    channels: int,
    first: int,
    phase: NDArray[np.complex64],
    out: NDArray[np.complex64],
    work: Workspace,
) -> None:
    n, blocks = bank.channels, len(bank.run_starts)
    valid = np.ones(1, np.bool_)
    for k in range(len(out)):
        turns = (first + k) * bank.hop % n
        for c in range(channels):
            _filter(bank, raw, channels, k, 1, c, 1, work)
            for h in range(bank.n_pols):
                _transform(bank, valid, work.voltage[0], h, 0, n, True)
                for b in range(blocks):
                    for i in range(n // blocks):
                        channel, at = b + blocks * i, bank.run_starts[b] + i
                        value = complex(work.voltage[0, 0, h, 0, at], work.voltage[0, 0, h, 1, at])
                        out[k, c * n + (channel + bank.dc_channel) % n, h] = value * phase[channel * turns % n]


@kernel
def _pfb(
    bank: Filterbank,
    raw: NDArray[np.uint8],
    channels: int,
    valid: NDArray[np.bool_],
    power: NDArray[np.float32],
    moment4: NDArray[np.float32],
    count: NDArray[np.int32],
    work: Workspace,
) -> None:
    spectra = len(valid) // len(power)
    group, batch = len(work.voltage), work.batch
    for t in range(len(power)):
        here = valid[t * spectra : (t + 1) * spectra]
        count[t] = here.sum()
        for c in range(0, channels, group):
            some = min(group, channels - c)
            work.partial[:] = 0
            if spectra > FLUSH_SPECTRA:
                work.total[:] = 0
            added = 0
            for k in range(0, spectra, batch):
                batch_valid = here[k : min(k + batch, spectra)]
                if batch_valid.any():
                    _filter(bank, raw, channels, t * spectra + k, len(batch_valid), c, some, work)
                    for g in range(some):
                        _detect(bank, batch_valid, work.voltage[g], work.partial[g])
                added += len(batch_valid)
                if added + batch > FLUSH_SPECTRA and spectra > FLUSH_SPECTRA:
                    _flush(work)
                    added = 0
            scale = 1 / max(count[t], 1)
            if spectra > FLUSH_SPECTRA:
                _flush(work)
                _write(bank, work.total[:some], scale, c, power[t], moment4[t])
            else:
                _write(bank, work.partial[:some], scale, c, power[t], moment4[t])


@kernel
def _filter(
    bank: Filterbank,
    raw: NDArray[np.uint8],
    channels: int,
    first: int,
    spectra: int,
    channel: int,
    group: int,
    work: Workspace,
) -> None:
    """Filter spectra, and begin long transforms while the columns that this takes are in the cache."""
    n = bank.channels
    if n <= FFT_PIECE:
        filter_spectra(bank, raw, channels, first, spectra, channel, group, work)
        return
    for column in range(0, FFT_PIECE, WIDE_STRIP_COLUMNS):
        for g in range(group):
            done = filter_words(bank, raw, channels, first, spectra, column, WIDE_STRIP_COLUMNS, work.voltage[g])
            at, rest = first + done, spectra - done
            for h in range(bank.n_pols):
                out = work.voltage[g, :, h]
                if rest:
                    filter_columns(bank, raw, channels, at, rest, channel + g, h, column, work.strip, out[done:])
                for k in range(spectra):
                    fft_columns(out[k, 0, :n], out[k, 1, :n], bank.twiddle, column, column + WIDE_STRIP_COLUMNS)


@kernel
def _detect(
    bank: Filterbank, valid: NDArray[np.bool_], voltage: NDArray[np.float32], partial: NDArray[np.float32]
) -> None:
    """Transform spectra, and add their products and the fourth powers behind them to ``partial``.

    Each polarisation is detected while it is in the cache, of many channels a spectrum at a time.
    """
    n, n_pols = bank.channels, bank.n_pols
    products = len(partial) - n_pols
    # Real input is untangled before it is detected, which takes all of a transform.
    part = min(n, FFT_PIECE) if bank.components == 2 else n
    some = max(_SAMPLES_PER_TRANSFORM // part, 1)
    power_from_unprocessed = bank.components == 1 and products == n_pols  # else what is untangled is wanted once more
    for start in range(0, n, part):
        for first in range(0, len(valid), some):
            last = min(first + some, len(valid))
            few, stop = voltage[first:last], start + part
            for h in range(n_pols):
                square, fourth = partial[h, start:stop], partial[products + h, start:stop]
                _transform(bank, valid[first:last], few, h, start, stop, not power_from_unprocessed)
                if power_from_unprocessed:
                    _add_real_power(bank, few, h, square, fourth)
                else:
                    _add_power(few, h, start, square, fourth)
            if products > n_pols:
                _add_cross(few, start, partial[2, start:stop], partial[3, start:stop])


@kernel
def _transform(
    bank: Filterbank,
    valid: NDArray[np.bool_],
    voltage: NDArray[np.float32],
    pol: int,
    start: int,
    stop: int,
    whole: bool,
) -> None:
    """Finish pieces of the transforms of a polarisation; those of spectra that are not valid become zeros.

    Those of real input are untangled, ``whole`` or only their first run of positions.
    """
    n = bank.channels
    for k in range(len(valid)):
        real, imag = voltage[k, pol, 0, :n], voltage[k, pol, 1, :n]
        if valid[k]:
            for at in range(start, stop, FFT_PIECE):
                fft_piece(real, imag, bank.twiddle, at)
            if bank.components == 1 and whole:
                rfft_postprocess(real, imag, bank.rfft_twiddle)
            elif bank.components == 1:
                rfft_postprocess_first_run(real, imag, bank.rfft_twiddle)
        else:
            real[start:stop] = 0
            imag[start:stop] = 0


@kernel
def _add_power(
    voltage: NDArray[np.float32],
    pol: int,
    start: int,
    square: NDArray[np.float32],
    fourth: NDArray[np.float32],
) -> None:
    n, spectra = len(square), len(voltage)
    spectrum, both, part = voltage.strides[0] // 4, voltage.strides[1] // 4, voltage.strides[2] // 4
    fours = spectra // 4 if n >= float8.LANES else 0
    for k in range(fours):
        for j in range(0, n, float8.LANES):
            float8.power_4(voltage, 4 * k * spectrum + pol * both + start, spectrum, part, square, fourth, j)
    for k in range(4 * fours, spectra):
        real, imag = voltage[k, pol, 0, start : start + n], voltage[k, pol, 1, start : start + n]
        for j in range(n):
            power = real[j] * real[j] + imag[j] * imag[j]
            square[j] += power
            fourth[j] += power * power


@kernel
def _add_real_power(
    bank: Filterbank, voltage: NDArray[np.float32], pol: int, square: NDArray[np.float32], fourth: NDArray[np.float32]
) -> None:
    """Add powers of transforms of real input, of which only the first run of positions has been untangled."""
    n, low = len(square), first_run_length(len(square))
    _add_power(voltage, pol, 0, square[:low], fourth[:low])
    spectrum, both, part = voltage.strides[0] // 4, voltage.strides[1] // 4, voltage.strides[2] // 4
    cos, sin, fours = bank.rfft_twiddle[0], bank.rfft_twiddle[1], len(voltage) // 4 * 4
    while low < n:
        for k in range(0, fours, 4):
            at = k * spectrum + pol * both
            for i in range(low, low + low // 2, float8.LANES):
                there = 3 * low - float8.LANES - i
                float8.power_real_4(voltage, at, spectrum, part, cos, sin, square, fourth, i, there)
        for k in range(fours, len(voltage)):
            at = k * spectrum + pol * both
            for i in range(low, low + low // 2, float8.LANES):
                there = 3 * low - float8.LANES - i
                float8.power_real_1(voltage, at, spectrum, part, cos, sin, square, fourth, i, there)
        low *= 2


@kernel
def _add_cross(voltage: NDArray[np.float32], start: int, real: NDArray[np.float32], imag: NDArray[np.float32]) -> None:
    n, stop = len(real), start + len(real)
    for k in range(len(voltage)):
        x_real, x_imag = voltage[k, 0, 0, start:stop], voltage[k, 0, 1, start:stop]
        y_real, y_imag = voltage[k, 1, 0, start:stop], voltage[k, 1, 1, start:stop]
        for j in range(n):
            real[j] += x_real[j] * y_real[j] + x_imag[j] * y_imag[j]
            imag[j] += x_imag[j] * y_real[j] - x_real[j] * y_imag[j]


@kernel
def _flush(work: Workspace) -> None:
    partial, total = work.partial.reshape(-1), work.total.reshape(-1)
    for i in range(len(partial)):
        total[i] += partial[i]
        partial[i] = 0


@kernel
def _write(
    bank: Filterbank,
    total: NDArray[np.float64],
    scale: float,
    channel: int,
    power: NDArray[np.float32],
    moment4: NDArray[np.float32],
) -> None:
    """Put the sums of a cell in order."""
    n, products = bank.channels, power.shape[1]
    for g in range(len(total)):
        start, stop = (channel + g) * n, (channel + g + 1) * n
        for p in range(products):
            _write_plane(bank, total[g, p], scale, power[start:stop], p)
        for p in range(bank.n_pols):
            _write_plane(bank, total[g, products + p], scale, moment4[start:stop], p)


@kernel
def _write_plane(
    bank: Filterbank, total: NDArray[np.float64], scale: float, out: NDArray[np.float32], plane: int
) -> None:
    """Put one plane in order: transpose it, a few columns at a time."""
    n, blocks, planes = bank.channels, len(bank.run_starts), out.shape[1]
    block, flat = n // blocks, out.reshape(-1)
    for q in range(0, block, _COLUMNS):
        for b in range(blocks):
            at, to = bank.run_starts[b] + q, b + blocks * q + bank.dc_channel
            for i in range(min(_COLUMNS, block - q)):
                flat[((to + blocks * i) & (n - 1)) * planes + plane] = total[at + i] * scale  # n is a power of two
