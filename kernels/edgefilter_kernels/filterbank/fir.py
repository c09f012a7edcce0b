"""From raw bytes to filtered rows: the part of a polyphase filterbank before its Fourier transform.

A row of a voltage is N complex samples, or 2 N real ones that are taken as N pairs: one loop serves both. The first
numbers of all pairs (real parts, even samples) and the second ones (imaginary parts, odd samples) are filtered
separately, so that no shuffles are needed. A few columns of all rows of a batch are unpacked, weighted and added at a
time, so that they stay in the L1 cache. Where the numbers of two polarisations form one word of bytes, all four are
unpacked, weighted and added in registers.

A *unit* is one complex sample, or a pair of real samples, of every raw channel and polarisation.
"""

import numpy as np
from numpy.typing import NDArray

from edgefilter_kernels.filterbank import fir_simd
from edgefilter_kernels.filterbank.fft import FFT_PIECE
from edgefilter_kernels.filterbank.workspace import (
    STRIP_COLUMNS,
    STRIP_STRIDE,
    WIDE_STRIP_COLUMNS,
    Filterbank,
    RawVoltages,
    Span,
    Workspace,
)
from edgefilter_kernels.jit import kernel
from edgefilter_kernels.simd.float8 import LANES


@kernel
def filter_spectra(bank: Filterbank, raw: RawVoltages, spectra: Span, channels: Span, work: Workspace) -> None:
    """Unpack, weight and add the rows of some spectra of a group of raw channels.

    Parameters
    ----------
    bank, raw
        Filterbank and input.
    spectra, channels
        Spectra and raw channels to filter.
    work
        Scratch memory; ``voltage[channel, spectrum]`` is written, both counted from the first of their span.
    """
    done = filter_words(bank, raw, spectra, Span(0, min(bank.channels, FFT_PIECE)), work.voltage[0])
    rest = Span(spectra.first + done, spectra.length - done)
    if rest.length == 0:
        return
    for column in range(0, bank.channels, STRIP_COLUMNS):
        columns = Span(column, min(STRIP_COLUMNS, bank.channels - column))
        for g in range(channels.length):
            for pol in range(bank.n_pols):
                for part in range(2):
                    source, out = (channels.first + g, pol, part), work.voltage[g, done:, pol, part]
                    _filter_strip(bank, raw, source, rest, columns, work.strip, out)


@kernel
def filter_columns(
    bank: Filterbank,
    raw: RawVoltages,
    source: tuple[int, int],
    spectra: Span,
    column: int,
    strip: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """As :func:`filter_spectra`, for one polarisation and a wide strip of columns of each piece of the transform.

    Parameters
    ----------
    bank, raw
        Filterbank and input.
    source
        Raw channel and polarisation.
    spectra
        Spectra to filter.
    column
        First column within a piece.
    strip
        Scratch memory, see :class:`Workspace`.
    out
        float32 ``[spectrum, part, at least N]``, written.
    """
    channel, pol = source
    for part in range(2):
        for at in range(column, bank.channels, FFT_PIECE):
            columns = Span(at, WIDE_STRIP_COLUMNS)
            _filter_strip(bank, raw, (channel, pol, part), spectra, columns, strip, out[:, part])


@kernel
def filter_words(bank: Filterbank, raw: RawVoltages, spectra: Span, columns: Span, out: NDArray[np.float32]) -> int:
    """Filter spectra in registers, without a strip, as many as possible.

    It needs one raw channel whose two polarisations form a word of four numbers of 4 or 8 bits, and a multiple of four
    taps; spectra are filtered four at a time.

    Parameters
    ----------
    bank, raw
        Filterbank and input.
    spectra
        Spectra to filter.
    columns
        Columns to filter of each piece of the transform.
    out
        float32 ``[spectrum, pol, part, at least N]``, written.

    Returns
    -------
    int
        How many spectra have been filtered, from the first one on.
    """
    if (
        raw.channels != 1
        or bank.n_pols != 2
        or (bank.bits != 4 and bank.bits != 8)
        or bank.hop != bank.channels
        or bank.channels < LANES
        or bank.coefficients.shape[1] % 4
    ):
        return 0
    fours = spectra.length // 4 * 4
    if fours:
        for at in range(columns.first, bank.channels, FFT_PIECE):
            _filter_words(bank, raw, Span(spectra.first, fours), Span(at, columns.length), out)
    return fours


@kernel
def _filter_words(bank: Filterbank, raw: RawVoltages, spectra: Span, columns: Span, out: NDArray[np.float32]) -> None:
    _, taps, width = bank.coefficients.shape
    size = bank.bits >> 1  # bytes of a word of four numbers
    data, weights, target = raw.data, bank.coefficients.reshape(-1), out[0, 0, 0]
    code = np.int32(bank.flip), np.int32(bank.bias)
    pol, part = out.strides[1] // 4, out.strides[2] // 4
    step = bank.channels * size, width, out.strides[0] // 4, spectra.length
    for tap in range(0, taps, 4):
        for i in range(columns.first, columns.first + columns.length, LANES):
            by = tap * width + i
            # Weights of the first two numbers and of the others; they are the same for complex samples.
            by_number = by, by + taps * width
            if bank.components == 2:
                to = i, i + part, i + pol, i + pol + part
            else:
                to = i, i + pol, i + part, i + pol + part
            at = ((spectra.first + tap) * bank.channels + i) * size, by_number, to
            if size == 4:
                if tap == 0:
                    fir_simd.fir_words_4(data, weights, target, at, step, code)
                else:
                    fir_simd.fir_words_4_add(data, weights, target, at, step, code)
            elif tap == 0:
                fir_simd.fir_words_2(data, weights, target, at, step, code)
            else:
                fir_simd.fir_words_2_add(data, weights, target, at, step, code)


@kernel
def _filter_strip(
    bank: Filterbank,
    raw: RawVoltages,
    source: tuple[int, int, int],
    spectra: Span,
    columns: Span,
    strip: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Filter some columns of one raw channel, polarisation and part."""
    channel, pol, part = source
    if bank.components == 2:
        number = (channel * bank.n_pols + pol) * 2 + part
    else:
        number = (part * raw.channels + channel) * bank.n_pols + pol
    taps, start = bank.coefficients.shape[1], spectra.first * bank.hop + columns.first
    if bank.hop == bank.channels:  # each row serves as many spectra as there are taps
        _unpack_strip(bank, raw, number, start, columns.length, spectra.length + taps - 1, strip)
        _filter_rows(bank.coefficients[part], strip, columns, out, spectra.length)
    else:
        for k in range(spectra.length):
            _unpack_strip(bank, raw, number, start + k * bank.hop, columns.length, taps, strip)
            _filter_rows(bank.coefficients[part], strip, columns, out[k:], 1)


@kernel
def _unpack_strip(
    bank: Filterbank, raw: RawVoltages, number: int, first: int, columns: int, rows: int, strip: NDArray[np.float32]
) -> None:
    """Unpack one number of each unit: some columns of some rows, from unit ``first`` on."""
    data, bits = raw.data, bank.bits
    offset, stride = number * bits, raw.channels * bank.n_pols * 2 * bits
    field = (np.int32(offset), np.int32((1 << min(bits, 16)) - 1), np.int32(bank.flip), np.int32(bank.bias))
    field_in_byte = (np.int32(offset & 7), field[1], field[2], field[3])
    whole_word = (np.int32(0), field[1], field[2], field[3])
    for r in range(rows):
        at, to = (first + r * bank.channels) * stride, r * STRIP_STRIDE
        if columns < LANES or stride & 7:
            for i in range(columns):
                strip[to + i] = _number(data, at + offset + i * stride, bits, bank.flip, bank.bias)
        elif bits > 8:
            for i in range(0, columns, LANES):
                byte = (at + offset + i * stride) >> 3
                if bits == 16:
                    fir_simd.unpack_2_apart(data, byte, stride >> 3, whole_word, strip, to + i)
                else:
                    fir_simd.unpack_float_apart(data, byte, stride >> 3, whole_word, strip, to + i)
        elif stride == 32:
            for i in range(0, columns, LANES):
                fir_simd.unpack_4(data, (at >> 3) + i * 4, 0, field, strip, to + i)
        elif stride == 16:
            for i in range(0, columns, LANES):
                fir_simd.unpack_2(data, (at >> 3) + i * 2, 0, field, strip, to + i)
        elif stride == 8:
            for i in range(0, columns, LANES):
                fir_simd.unpack_1(data, (at >> 3) + i, 0, field, strip, to + i)
        else:
            for i in range(0, columns, LANES):
                byte = (at + offset + i * stride) >> 3
                fir_simd.unpack_1_apart(data, byte, stride >> 3, field_in_byte, strip, to + i)


@kernel
def _number(data: NDArray[np.uint8], bit: int, bits: int, flip: int, bias: int) -> np.float32:
    word = np.uint32(0)
    for i in range((bits + 7) >> 3):
        word |= np.uint32(data[(bit >> 3) + i]) << np.uint32(8 * i)
    if bits == 32:
        return np.uint32(word).view(np.float32)  # type: ignore[return-value]
    field = (np.int32(word) >> np.int32(bit & 7)) & np.int32((1 << bits) - 1)
    return np.float32((field ^ np.int32(flip)) - np.int32(bias))


@kernel
def _filter_rows(
    coefficients: NDArray[np.float32], strip: NDArray[np.float32], columns: Span, out: NDArray[np.float32], spectra: int
) -> None:
    """Weight and add rows of a strip, four spectra at a time; rows of ``out`` after the last spectrum are garbage."""
    taps, width = coefficients.shape
    weights = coefficients.reshape(-1)
    step = STRIP_STRIDE, width, out.strides[0] // 4
    for k in range(0, spectra, 4):
        target = out[k]
        done = 0
        while done < taps:
            at, by, to = (k + done) * STRIP_STRIDE, done * width + columns.first, columns.first
            if done + 4 > taps:
                if done == 0:
                    for i in range(0, columns.length, LANES):
                        fir_simd.fir_1(strip, weights, target, (at + i, by + i, to + i), step)
                else:
                    for i in range(0, columns.length, LANES):
                        fir_simd.fir_1_add(strip, weights, target, (at + i, by + i, to + i), step)
                done += 1
            else:
                if done == 0:
                    for i in range(0, columns.length, LANES):
                        fir_simd.fir_4(strip, weights, target, (at + i, by + i, to + i), step)
                else:
                    for i in range(0, columns.length, LANES):
                        fir_simd.fir_4_add(strip, weights, target, (at + i, by + i, to + i), step)
                done += 4
