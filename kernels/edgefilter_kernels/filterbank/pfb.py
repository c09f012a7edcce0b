"""Polyphase filterbank and detection in one pass: raw voltages in, mean power of time-channel cells out.

All data between the raw bytes and the cell stays in the cache. For a batch of a few spectra at a time,

1. their rows are unpacked, weighted and added (:mod:`edgefilter_kernels.filterbank.fir`);
2. each spectrum is Fourier transformed in place (:mod:`edgefilter_kernels.filterbank.fft`);
3. its squares and fourth powers are added to float32 sums, which are added to float64 sums about every 256 spectra.

The sums have the channel order of the transform, and are put in natural order once a cell. An invalid spectrum is all
zeros, and adds nothing. The order of every sum is counted from the start of its cell, so that the bits of a cell depend
on its samples alone.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefilter_kernels.checks import check_array
from edgefilter_kernels.filterbank import detect_simd
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
    RawVoltages,
    Span,
    Workspace,
    make_workspace,
)
from edgefilter_kernels.jit import kernel
from edgefilter_kernels.simd.float8 import LANES

_SAMPLES_PER_TRANSFORM = 65536  # of one polarisation, transformed before they are detected: half of a typical L2 cache
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

    Spectrum r is computed from samples ``[r S, r S + T P)`` of ``raw``: T taps of P samples, with S samples from one
    spectrum to the next. Method: Crochiere and Rabiner, Multirate Digital Signal Processing, 1983, chapter 7.

    Parameters
    ----------
    bank
        The filterbank.
    raw
        uint8 ``[(spectra - 1) S + T P, sample_bytes]``, C-contiguous, the numbers ``[channel, pol, component]`` of
        each sample.
    valid
        bool ``[spectra]``: which spectra are complete. The samples of the others may have any value.
    power
        float32 ``[time, channels N, product]``, written: mean \|v\|² of each polarisation and, if there are two more
        products, real and imaginary part of the mean of X Y*. The raw channel varies slowest. Fine channel N/2 of
        complex input is at DC, fine channel 0 of real input. A cell without valid spectra is 0.
    moment4
        float32 ``[time, channels N, pol]``, written: mean \|v\|⁴.
    count
        int32 ``[time]``, written: valid spectra of a cell.
    work
        Scratch memory from :func:`~edgefilter_kernels.filterbank.workspace.make_workspace` for cells of this size;
        allocated if not given. One call at a time may use it.

    Raises
    ------
    ValueError
        If the arrays do not fit each other.
    """
    channels = check_cells(bank, raw, valid, power, moment4, count)
    if work is None:
        work = make_workspace(bank, len(valid) // len(power), channels, power.shape[2])
    _pfb(bank, RawVoltages(raw.reshape(-1), channels), valid, power, moment4, count, work)


def check_cells(bank: Filterbank, raw: Any, valid: Any, power: Any, moment4: Any, count: Any) -> int:
    """Check the arrays of :func:`pfb`, and return the number of raw channels.

    Parameters
    ----------
    bank, raw, valid, power, moment4, count
        Arguments of :func:`pfb`.

    Returns
    -------
    int
        Raw channels.

    Raises
    ------
    ValueError
        If the arrays do not fit each other.
    """
    times, _, products = power.shape
    n, n_pols = bank.channels, bank.n_pols
    channels = raw_channels(bank, raw, len(valid))
    check_array("power", power, np.float32, (times, channels * n, products))
    check_array("moment4", moment4, np.float32, (times, channels * n, n_pols))
    check_array("count", count, np.int32, (times,))
    check_array("valid", valid, np.bool_, (None,))
    if products not in (n_pols, 2 * n_pols) or (products > n_pols and n_pols == 1):
        raise ValueError(f"{n_pols} polarisations and {products} products, must be 1 and 1, 2 and 2 or 2 and 4")
    if not times or not len(valid) or len(valid) % times:
        raise ValueError(f"{len(valid)} spectra in {times} cells, must be whole cells of spectra")
    return channels


def raw_channels(bank: Filterbank, raw: Any, spectra: int) -> int:
    """Check the raw samples of some spectra, and return the number of raw channels.

    Parameters
    ----------
    bank, raw
        Arguments of :func:`pfb`.
    spectra
        Number of spectra.

    Returns
    -------
    int
        Raw channels.

    Raises
    ------
    ValueError
        If ``raw`` is not the samples of so many spectra.
    """
    pairs = (spectra - 1) * bank.hop + bank.coefficients.shape[1] * bank.channels
    numbers = bank.n_pols * bank.components
    channels = int(raw.shape[-1] * 8 // (bank.bits * numbers))
    check_array("raw", raw, np.uint8, (pairs * 2 // bank.components, channels * numbers * bank.bits // 8))
    return channels


def voltages(bank: Filterbank, raw: NDArray[np.uint8], spectra: int, first: int = 0) -> NDArray[np.complex64]:
    """Return channelised voltages, without detection.

    A tone keeps its phase from spectrum to spectrum:
    ``v[r, k] = sum_n h[n] x[r S + n] exp(-2 pi i f_k (r S + n))`` for the centre f_k of channel k in turns a sample.

    Parameters
    ----------
    bank
        The filterbank.
    raw
        uint8, as :func:`pfb` takes it.
    spectra
        Number of spectra.
    first
        Number of the first spectrum in the stream, from which phases are counted; it matters for oversampled channels
        only.

    Returns
    -------
    NDArray
        complex64 ``[spectrum, channels N, pol]``, in the channel order of :func:`pfb`.

    Raises
    ------
    ValueError
        If ``raw`` does not fit.
    """
    channels = raw_channels(bank, raw, spectra)
    out = np.empty((spectra, channels * bank.channels, bank.n_pols), np.complex64)
    phase = np.exp(-2j * np.pi * np.arange(bank.channels) / bank.channels).astype(np.complex64)
    work = make_workspace(bank, spectra, channels, bank.n_pols)
    _voltages(bank, RawVoltages(raw.reshape(-1), channels), first, phase, out, work)
    return out


@kernel
def _voltages(
    bank: Filterbank,
    raw: RawVoltages,
    first: int,
    phase: NDArray[np.complex64],
    out: NDArray[np.complex64],
    work: Workspace,
) -> None:
    n, blocks = bank.channels, len(bank.run_starts)
    valid = np.ones(1, np.bool_)
    for k in range(len(out)):
        turns = (first + k) * bank.hop % n
        for c in range(raw.channels):
            _filter(bank, raw, Span(k, 1), Span(c, 1), work)
            for pol in range(bank.n_pols):
                _transform(bank, valid, work.voltage[0], pol, 0, n, True)
                for b in range(blocks):
                    for i in range(n // blocks):
                        channel, at = b + blocks * i, bank.run_starts[b] + i
                        value = complex(work.voltage[0, 0, pol, 0, at], work.voltage[0, 0, pol, 1, at])
                        out[k, c * n + (channel + bank.dc_channel) % n, pol] = value * phase[channel * turns % n]


@kernel
def _pfb(
    bank: Filterbank,
    raw: RawVoltages,
    valid: NDArray[np.bool_],
    power: NDArray[np.float32],
    moment4: NDArray[np.float32],
    count: NDArray[np.int32],
    work: Workspace,
) -> None:
    spectra = len(valid) // len(power)
    max_group, batch = len(work.voltage), work.batch
    for t in range(len(power)):
        cell_valid = valid[t * spectra : (t + 1) * spectra]
        count[t] = cell_valid.sum()
        for c in range(0, raw.channels, max_group):
            group = Span(c, min(max_group, raw.channels - c))
            work.partial[:] = 0
            if spectra > FLUSH_SPECTRA:
                work.total[:] = 0
            added = 0
            for k in range(0, spectra, batch):
                batch_valid = cell_valid[k : min(k + batch, spectra)]
                if batch_valid.any():
                    _filter(bank, raw, Span(t * spectra + k, len(batch_valid)), group, work)
                    for g in range(group.length):
                        _detect(bank, batch_valid, work.voltage[g], work.partial[g])
                added += len(batch_valid)
                if added + batch > FLUSH_SPECTRA and spectra > FLUSH_SPECTRA:
                    _flush(work)
                    added = 0
            scale = 1 / max(count[t], 1)
            if spectra > FLUSH_SPECTRA:
                _flush(work)
                _write(bank, work.total[: group.length], scale, c, power[t], moment4[t])
            else:
                _write(bank, work.partial[: group.length], scale, c, power[t], moment4[t])


@kernel
def _filter(bank: Filterbank, raw: RawVoltages, spectra: Span, group: Span, work: Workspace) -> None:
    """Filter spectra, and start long transforms while the filtered columns are in the cache."""
    n = bank.channels
    if n <= FFT_PIECE:
        filter_spectra(bank, raw, spectra, group, work)
        return
    for column in range(0, FFT_PIECE, WIDE_STRIP_COLUMNS):
        for g in range(group.length):
            done = filter_words(bank, raw, spectra, Span(column, WIDE_STRIP_COLUMNS), work.voltage[g])
            rest = Span(spectra.first + done, spectra.length - done)
            for pol in range(bank.n_pols):
                out = work.voltage[g, :, pol]
                if rest.length:
                    filter_columns(bank, raw, (group.first + g, pol), rest, column, work.strip, out[done:])
                for k in range(spectra.length):
                    fft_columns(out[k, 0, :n], out[k, 1, :n], bank.twiddle, column, column + WIDE_STRIP_COLUMNS)


@kernel
def _detect(
    bank: Filterbank, valid: NDArray[np.bool_], voltage: NDArray[np.float32], partial: NDArray[np.float32]
) -> None:
    """Transform spectra, and add their products and, after these, their fourth powers to ``partial``.

    Each polarisation is detected while it is in the cache, with many channels one spectrum at a time.
    """
    n, n_pols = bank.channels, bank.n_pols
    products = len(partial) - n_pols
    # Postprocessing of real input needs the whole transform.
    part = min(n, FFT_PIECE) if bank.components == 2 else n
    batch = max(_SAMPLES_PER_TRANSFORM // part, 1)
    # Without cross products, real input is postprocessed in registers, as part of the detection.
    power_from_unprocessed = bank.components == 1 and products == n_pols
    for start in range(0, n, part):
        for first in range(0, len(valid), batch):
            last = min(first + batch, len(valid))
            spectra, stop = voltage[first:last], start + part
            for pol in range(n_pols):
                square, fourth = partial[pol, start:stop], partial[products + pol, start:stop]
                _transform(bank, valid[first:last], spectra, pol, start, stop, not power_from_unprocessed)
                if power_from_unprocessed:
                    _add_real_power(bank, spectra, pol, square, fourth)
                else:
                    _add_power(spectra, pol, start, square, fourth)
            if products > n_pols:
                _add_cross(spectra, start, partial[2, start:stop], partial[3, start:stop])


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
    """Complete pieces of the transforms of a polarisation; those of invalid spectra become zeros.

    Transforms of real input are postprocessed, ``whole`` or only their first run of positions.
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
    steps, pol_step = (voltage.strides[0] // 4, voltage.strides[2] // 4), voltage.strides[1] // 4
    sums, fours = (square, fourth), spectra // 4 if n >= LANES else 0
    for k in range(fours):
        for j in range(0, n, LANES):
            detect_simd.power_4(voltage, 4 * k * steps[0] + pol * pol_step + start, steps, sums, j)
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
    """Add powers of transforms of real input of which only the first run of positions has been postprocessed."""
    n, low = len(square), first_run_length(len(square))
    _add_power(voltage, pol, 0, square[:low], fourth[:low])
    steps, pol_step = (voltage.strides[0] // 4, voltage.strides[2] // 4), voltage.strides[1] // 4
    factors, sums, fours = (bank.rfft_twiddle[0], bank.rfft_twiddle[1]), (square, fourth), len(voltage) // 4 * 4
    while low < n:
        for k in range(0, fours, 4):
            first = k * steps[0] + pol * pol_step
            for i in range(low, low + low // 2, LANES):
                detect_simd.power_real_4(voltage, first, steps, factors, sums, (i, 3 * low - LANES - i))
        for k in range(fours, len(voltage)):
            first = k * steps[0] + pol * pol_step
            for i in range(low, low + low // 2, LANES):
                detect_simd.power_real_1(voltage, first, steps, factors, sums, (i, 3 * low - LANES - i))
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
    """Write the means of a cell, channels in natural order."""
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
    """Write one product, channels in natural order: a transposition, a few columns at a time."""
    n, blocks, planes = bank.channels, len(bank.run_starts), out.shape[1]
    block, flat = n // blocks, out.reshape(-1)
    for q in range(0, block, _COLUMNS):
        for b in range(blocks):
            at, to = bank.run_starts[b] + q, b + blocks * q + bank.dc_channel
            for i in range(min(_COLUMNS, block - q)):
                flat[((to + blocks * i) & (n - 1)) * planes + plane] = total[at + i] * scale  # n is a power of two
