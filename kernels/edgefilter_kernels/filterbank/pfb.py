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

from edgefilter_kernels.filterbank.fft import PIECE, fft_columns, fft_piece, first_run, untangle, untangle_first
from edgefilter_kernels.filterbank.fir import filter_columns, filter_spectra, filter_words
from edgefilter_kernels.filterbank.workspace import FLUSH, WIDE_STRIP, Bank, Scratch, make_scratch
from edgefilter_kernels.jit import kernel
from edgefilter_kernels.simd import float8

_TOGETHER = 65536  # numbers of a hand that are transformed before they are detected: half of a usual L2 cache
_COLUMNS = 8  # runs of output channels that are written side by side


def pfb(
    bank: Bank,
    raw: NDArray[np.uint8],
    valid: NDArray[np.bool_],
    power: NDArray[np.float32],
    moment4: NDArray[np.float32],
    count: NDArray[np.int32],
    work: Scratch | None = None,
) -> None:
    r"""Channelise voltages, detect, and average the valid spectra of each cell.

    Spectrum r is made of samples ``[r S, r S + T P)`` of ``raw``: T taps of P samples, the spectrum's own S last.

    Parameters
    ----------
    bank
        The filterbank.
    raw
        uint8 ``[(spectra - 1) S + T P, sample_bytes]``, C-contiguous, the numbers ``[channel, hand, component]`` of
        each sample.
    valid
        bool ``[spectra]``: which spectra are complete. The others' samples may be anything.
    power
        float32 ``[time, channels N, product]``, written: mean \|v\|² of the hands, and, if there are two more
        products, real and imaginary part of the mean of X Y*. The raw channel is slowest. Fine channel N/2 of complex
        input is at DC, channel 0 of real input. Where no spectrum is valid it is 0.
    moment4
        float32 ``[time, channels N, hand]``, written: mean \|v\|⁴.
    count
        int32 ``[time]``, written: valid spectra of a cell.
    work
        Of :func:`~edgefilter_kernels.filterbank.workspace.make_scratch` for cells like these, to allocate nothing
        here. One call at a time may use it.

    Raises
    ------
    ValueError
        If the arrays do not fit each other.
    """
    channels = expect_cells(bank, raw, valid, power, moment4, count)
    if work is None:
        work = make_scratch(bank, len(valid) // len(power), channels, power.shape[2])
    _pfb(bank, raw.reshape(-1), channels, valid, power, moment4, count, work)


def expect_cells(bank: Bank, raw: Any, valid: Any, power: Any, moment4: Any, count: Any) -> int:
    """Return how many raw channels there are; raise ValueError if the arrays of :func:`pfb` do not fit each other."""
    times, _, products = power.shape
    n, hands = bank.channels, bank.hands
    channels = raw_channels(bank, raw, len(valid))
    _expect("power", power, np.float32, (times, channels * n, products))
    _expect("moment4", moment4, np.float32, (times, channels * n, hands))
    _expect("count", count, np.int32, (times,))
    _expect("valid", valid, np.bool_, valid.shape)
    if products not in (hands, 2 * hands) or (products > hands and hands == 1):
        raise ValueError(f"{hands} hands and {products} products, must be 1 and 1, 2 and 2 or 2 and 4")
    if not times or not len(valid) or len(valid) % times:
        raise ValueError(f"{len(valid)} spectra in {times} cells, must be whole cells")
    return channels


def raw_channels(bank: Bank, raw: Any, spectra: int) -> int:
    """Return how many raw channels there are; raise ValueError if ``raw`` is not what so many spectra are made of."""
    pairs = (spectra - 1) * bank.hop + bank.coefficients.shape[1] * bank.channels
    numbers = bank.hands * bank.components
    channels = int(raw.shape[-1] * 8 // (bank.bits * numbers))
    _expect("raw", raw, np.uint8, (pairs * 2 // bank.components, channels * numbers * bank.bits // 8))
    return channels


def _expect(name: str, array: Any, dtype: type[np.generic], shape: tuple[int, ...]) -> None:
    if array.dtype != dtype or array.shape != shape or not array.flags.c_contiguous:
        expected = f"C-contiguous {np.dtype(dtype)} {shape}"
        raise ValueError(f"{name} is {array.dtype} {array.shape}, must be {expected}")


def voltages(bank: Bank, raw: NDArray[np.uint8], spectra: int, first: int = 0) -> NDArray[np.complex64]:
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
        complex64 ``[spectrum, channels N, hand]``, channels as :func:`pfb` orders them.

    Raises
    ------
    ValueError
        If ``raw`` does not fit.
    """
    channels = raw_channels(bank, raw, spectra)
    out = np.empty((spectra, channels * bank.channels, bank.hands), np.complex64)
    phase = np.exp(-2j * np.pi * np.arange(bank.channels) / bank.channels).astype(np.complex64)
    _voltages(bank, raw.reshape(-1), channels, first, phase, out, make_scratch(bank, spectra, channels, bank.hands))
    return out


@kernel
def _voltages(
    bank: Bank,
    raw: NDArray[np.uint8],
    channels: int,
    first: int,
    phase: NDArray[np.complex64],
    out: NDArray[np.complex64],
    work: Scratch,
) -> None:
    n, blocks = bank.channels, len(bank.starts)
    valid = np.ones(1, np.bool_)
    for k in range(len(out)):
        turns = (first + k) * bank.hop % n
        for c in range(channels):
            _filter(bank, raw, channels, k, 1, c, 1, work)
            for h in range(bank.hands):
                _transform(bank, valid, work.voltage[0], h, 0, n, True)
                for b in range(blocks):
                    for i in range(n // blocks):
                        channel, at = b + blocks * i, bank.starts[b] + i
                        value = complex(work.voltage[0, 0, h, 0, at], work.voltage[0, 0, h, 1, at])
                        out[k, c * n + (channel + bank.middle) % n, h] = value * phase[channel * turns % n]


@kernel
def _pfb(
    bank: Bank,
    raw: NDArray[np.uint8],
    channels: int,
    valid: NDArray[np.bool_],
    power: NDArray[np.float32],
    moment4: NDArray[np.float32],
    count: NDArray[np.int32],
    work: Scratch,
) -> None:
    spectra = len(valid) // len(power)
    group, batch = len(work.voltage), work.batch
    for t in range(len(power)):
        here = valid[t * spectra : (t + 1) * spectra]
        count[t] = here.sum()
        for c in range(0, channels, group):
            some = min(group, channels - c)
            work.partial[:] = 0
            if spectra > FLUSH:
                work.total[:] = 0
            added = 0
            for k in range(0, spectra, batch):
                now = here[k : min(k + batch, spectra)]
                if now.any():
                    _filter(bank, raw, channels, t * spectra + k, len(now), c, some, work)
                    for g in range(some):
                        _detect(bank, now, work.voltage[g], work.partial[g])
                added += len(now)
                if added + batch > FLUSH and spectra > FLUSH:
                    _flush(work)
                    added = 0
            scale = 1 / max(count[t], 1)
            if spectra > FLUSH:
                _flush(work)
                _write(bank, work.total[:some], scale, c, power[t], moment4[t])
            else:
                _write(bank, work.partial[:some], scale, c, power[t], moment4[t])


@kernel
def _filter(
    bank: Bank,
    raw: NDArray[np.uint8],
    channels: int,
    first: int,
    spectra: int,
    channel: int,
    group: int,
    work: Scratch,
) -> None:
    """Filter spectra, and begin long transforms while the columns that this takes are in the cache."""
    n = bank.channels
    if n <= PIECE:
        filter_spectra(bank, raw, channels, first, spectra, channel, group, work)
        return
    for column in range(0, PIECE, WIDE_STRIP):
        for g in range(group):
            done = filter_words(bank, raw, channels, first, spectra, column, WIDE_STRIP, work.voltage[g])
            at, rest = first + done, spectra - done
            for h in range(bank.hands):
                out = work.voltage[g, :, h]
                if rest:
                    filter_columns(bank, raw, channels, at, rest, channel + g, h, column, work.strip, out[done:])
                for k in range(spectra):
                    fft_columns(out[k, 0, :n], out[k, 1, :n], bank.twiddle, column, column + WIDE_STRIP)


@kernel
def _detect(bank: Bank, valid: NDArray[np.bool_], voltage: NDArray[np.float32], partial: NDArray[np.float32]) -> None:
    """Transform spectra, and add their products and the fourth powers behind them to ``partial``.

    Each hand is detected while it is in the cache, of many channels a spectrum at a time.
    """
    n, hands = bank.channels, bank.hands
    products = len(partial) - hands
    # Real input is untangled before it is detected, which takes all of a transform.
    part = min(n, PIECE) if bank.components == 2 else n
    some = max(_TOGETHER // part, 1)
    tangled = bank.components == 1 and products == hands  # else what is untangled is wanted once more
    for start in range(0, n, part):
        for first in range(0, len(valid), some):
            last = min(first + some, len(valid))
            few, stop = voltage[first:last], start + part
            for h in range(hands):
                square, fourth = partial[h, start:stop], partial[products + h, start:stop]
                _transform(bank, valid[first:last], few, h, start, stop, not tangled)
                if tangled:
                    _add_real_power(bank, few, h, square, fourth)
                else:
                    _add_power(few, h, start, square, fourth)
            if products > hands:
                _add_cross(few, start, partial[2, start:stop], partial[3, start:stop])


@kernel
def _transform(
    bank: Bank,
    valid: NDArray[np.bool_],
    voltage: NDArray[np.float32],
    hand: int,
    start: int,
    stop: int,
    whole: bool,
) -> None:
    """Finish pieces of the transforms of a hand; those of spectra that are not valid become zeros.

    Those of real input are untangled, ``whole`` or only their first run of positions.
    """
    n = bank.channels
    for k in range(len(valid)):
        real, imag = voltage[k, hand, 0, :n], voltage[k, hand, 1, :n]
        if valid[k]:
            for at in range(start, stop, PIECE):
                fft_piece(real, imag, bank.twiddle, at)
            if bank.components == 1 and whole:
                untangle(real, imag, bank.turn)
            elif bank.components == 1:
                untangle_first(real, imag, bank.turn)
        else:
            real[start:stop] = 0
            imag[start:stop] = 0


@kernel
def _add_power(
    voltage: NDArray[np.float32],
    hand: int,
    start: int,
    square: NDArray[np.float32],
    fourth: NDArray[np.float32],
) -> None:
    n, spectra = len(square), len(voltage)
    spectrum, both, part = voltage.strides[0] // 4, voltage.strides[1] // 4, voltage.strides[2] // 4
    fours = spectra // 4 if n >= float8.LANES else 0
    for k in range(fours):
        for j in range(0, n, float8.LANES):
            float8.power_4(voltage, 4 * k * spectrum + hand * both + start, spectrum, part, square, fourth, j)
    for k in range(4 * fours, spectra):
        real, imag = voltage[k, hand, 0, start : start + n], voltage[k, hand, 1, start : start + n]
        for j in range(n):
            power = real[j] * real[j] + imag[j] * imag[j]
            square[j] += power
            fourth[j] += power * power


@kernel
def _add_real_power(
    bank: Bank, voltage: NDArray[np.float32], hand: int, square: NDArray[np.float32], fourth: NDArray[np.float32]
) -> None:
    """Add powers of transforms of real input, of which only the first run of positions has been untangled."""
    n, low = len(square), first_run(len(square))
    _add_power(voltage, hand, 0, square[:low], fourth[:low])
    spectrum, both, part = voltage.strides[0] // 4, voltage.strides[1] // 4, voltage.strides[2] // 4
    cos, sin, fours = bank.turn[0], bank.turn[1], len(voltage) // 4 * 4
    while low < n:
        for k in range(0, fours, 4):
            at = k * spectrum + hand * both
            for i in range(low, low + low // 2, float8.LANES):
                there = 3 * low - float8.LANES - i
                float8.power_real_4(voltage, at, spectrum, part, cos, sin, square, fourth, i, there)
        for k in range(fours, len(voltage)):
            at = k * spectrum + hand * both
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
def _flush(work: Scratch) -> None:
    partial, total = work.partial.reshape(-1), work.total.reshape(-1)
    for i in range(len(partial)):
        total[i] += partial[i]
        partial[i] = 0


@kernel
def _write(
    bank: Bank,
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
        for p in range(bank.hands):
            _write_plane(bank, total[g, products + p], scale, moment4[start:stop], p)


@kernel
def _write_plane(bank: Bank, total: NDArray[np.float64], scale: float, out: NDArray[np.float32], plane: int) -> None:
    """Put one plane in order: transpose it, a few columns at a time."""
    n, blocks, planes = bank.channels, len(bank.starts), out.shape[1]
    block, flat = n // blocks, out.reshape(-1)
    for q in range(0, block, _COLUMNS):
        for b in range(blocks):
            at, to = bank.starts[b] + q, b + blocks * q + bank.middle
            for i in range(min(_COLUMNS, block - q)):
                flat[((to + blocks * i) & (n - 1)) * planes + plane] = total[at + i] * scale  # n is a power of two
