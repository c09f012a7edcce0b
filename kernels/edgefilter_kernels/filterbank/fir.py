"""From raw bytes to filtered rows: the part of a filterbank before its Fourier transform.

A row of a voltage is N complex samples, or 2 N real ones, taken as N pairs: one loop serves both. The first numbers of
all pairs (real, even) and the second ones (imaginary, odd) are filtered on their own, so that nothing has to be
shuffled. A few columns of all rows of a batch are unpacked and weighted at a time, and stay in the L1 cache meanwhile.
Where the numbers of two polarisations are a word of bytes, all four are unpacked, weighted and added without leaving
registers.
"""

import numpy as np
from numpy.typing import NDArray

from edgefilter_kernels.filterbank.fft import FFT_PIECE
from edgefilter_kernels.filterbank.workspace import (
    STRIP_COLUMNS,
    STRIP_STRIDE,
    WIDE_STRIP_COLUMNS,
    Filterbank,
    Workspace,
)
from edgefilter_kernels.jit import kernel
from edgefilter_kernels.simd import float8


@kernel
def filter_spectra(
    bank: Filterbank,
    raw: NDArray[np.uint8],
    channels: int,
    first: int,
    spectra: int,
    channel: int,
    group: int,
    work: Workspace,
) -> None:
    """Weight and add the rows of spectra ``[first, first + spectra)`` of a group of raw channels."""
    n_pols = bank.n_pols
    done = filter_words(bank, raw, channels, first, spectra, 0, min(bank.channels, FFT_PIECE), work.voltage[0])
    if done == spectra:
        return
    for column in range(0, bank.channels, STRIP_COLUMNS):
        columns = min(STRIP_COLUMNS, bank.channels - column)
        for g in range(group):
            for h in range(n_pols):
                for part in range(2):
                    if bank.components == 2:
                        number = ((channel + g) * n_pols + h) * 2 + part
                    else:
                        number = (part * channels + channel + g) * n_pols + h
                    _filter_strip(
                        bank, raw, channels, number, first + done, spectra - done, column, columns, work.strip, part,
                        work.voltage[g, done:, h, part],
                    )  # fmt: skip


@kernel
def filter_columns(
    bank: Filterbank,
    raw: NDArray[np.uint8],
    channels: int,
    first: int,
    spectra: int,
    channel: int,
    pol: int,
    column: int,
    strip: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """As :func:`filter_spectra`, of one polarisation, but only a wide strip from ``column`` on of each FFT piece."""
    for part in range(2):
        if bank.components == 2:
            number = (channel * bank.n_pols + pol) * 2 + part
        else:
            number = (part * channels + channel) * bank.n_pols + pol
        for at in range(column, bank.channels, FFT_PIECE):
            _filter_strip(
                bank, raw, channels, number, first, spectra, at, WIDE_STRIP_COLUMNS, strip, part, out[:, part]
            )


@kernel
def filter_words(
    bank: Filterbank,
    raw: NDArray[np.uint8],
    channels: int,
    first: int,
    spectra: int,
    column: int,
    columns: int,
    out: NDArray[np.float32],
) -> int:
    """Filter spectra without a strip, as many as can be done so; return how many.

    These are whole fours, where a sample (a pair of real ones) is a word of four numbers, and so are the taps. Of each
    piece of a transform, columns ``[column, column + columns)`` are filtered; ``out`` is ``[spectrum, pol, part, N]``.
    """
    if (
        channels != 1
        or bank.n_pols != 2
        or (bank.bits != 4 and bank.bits != 8)
        or bank.hop != bank.channels
        or bank.channels < float8.LANES
        or bank.coefficients.shape[1] % 4
    ):
        return 0
    fours = spectra // 4 * 4
    if fours:
        for at in range(column, bank.channels, FFT_PIECE):
            _filter_words(bank, raw, first, fours, at, columns, out)
    return fours


@kernel
def _filter_words(
    bank: Filterbank,
    raw: NDArray[np.uint8],
    first: int,
    spectra: int,
    column: int,
    columns: int,
    out: NDArray[np.float32],
) -> None:
    _, taps, width = bank.coefficients.shape
    size, row = bank.bits >> 1, bank.channels * (bank.bits >> 1)
    weights, target = bank.coefficients.reshape(-1), out[0, 0, 0]
    code = np.int32(bank.flip), np.int32(bank.bias)
    step, pol, part = out.strides[0] // 4, out.strides[1] // 4, out.strides[2] // 4
    for tap in range(0, taps, 4):
        for i in range(column, column + columns, float8.LANES):
            at, by = ((first + tap) * bank.channels + i) * size, tap * width + i
            weigh = by, by + taps * width  # of the first two numbers and of the others: all are alike in complex ones
            if bank.components == 2:
                to = i, i + part, i + pol, i + pol + part
            else:
                to = i, i + pol, i + part, i + pol + part
            if size == 4:
                if tap == 0:
                    float8.fir_words_4(raw, at, row, spectra, code, weights, weigh, width, target, to, step)
                else:
                    float8.fir_words_4_add(raw, at, row, spectra, code, weights, weigh, width, target, to, step)
            elif tap == 0:
                float8.fir_words_2(raw, at, row, spectra, code, weights, weigh, width, target, to, step)
            else:
                float8.fir_words_2_add(raw, at, row, spectra, code, weights, weigh, width, target, to, step)


@kernel
def _filter_strip(
    bank: Filterbank,
    raw: NDArray[np.uint8],
    channels: int,
    number: int,
    first: int,
    spectra: int,
    column: int,
    columns: int,
    strip: NDArray[np.float32],
    part: int,
    out: NDArray[np.float32],
) -> None:
    unit, taps = channels * bank.n_pols * 2, bank.coefficients.shape[1]
    start = first * bank.hop + column
    if bank.hop == bank.channels:  # each row serves as many spectra as there are taps
        _unpack_strip(raw, bank, unit, number, start, columns, spectra + taps - 1, strip)
        _filter_rows(bank.coefficients[part], strip, column, columns, out, spectra)
    else:
        for k in range(spectra):
            _unpack_strip(raw, bank, unit, number, start + k * bank.hop, columns, taps, strip)
            _filter_rows(bank.coefficients[part], strip, column, columns, out[k:], 1)


@kernel
def _unpack_strip(
    raw: NDArray[np.uint8],
    bank: Filterbank,
    unit: int,
    number: int,
    first: int,
    columns: int,
    rows: int,
    strip: NDArray[np.float32],
) -> None:
    """Unpack number ``number`` of each unit of so many numbers: some columns of rows, from unit ``first`` on."""
    bits, stride = bank.bits, unit * bank.bits
    offset = number * bits
    field = (np.int32(offset), np.int32((1 << min(bits, 16)) - 1), np.int32(bank.flip), np.int32(bank.bias))
    low = (np.int32(offset & 7), field[1], field[2], field[3])
    none = (np.int32(0), field[1], field[2], field[3])
    for r in range(rows):
        at, to = (first + r * bank.channels) * stride, r * STRIP_STRIDE
        if columns < float8.LANES or stride & 7:
            for i in range(columns):
                strip[to + i] = _number(raw, at + offset + i * stride, bits, bank.flip, bank.bias)
        elif bits > 8:
            for i in range(0, columns, float8.LANES):
                place = (at + offset + i * stride) >> 3
                if bits == 16:
                    float8.unpack_2_apart(raw, place, stride >> 3, none, strip, to + i)
                else:
                    float8.unpack_float_apart(raw, place, stride >> 3, none, strip, to + i)
        elif stride == 32:
            for i in range(0, columns, float8.LANES):
                float8.unpack_4(raw, (at >> 3) + i * 4, 0, field, strip, to + i)
        elif stride == 16:
            for i in range(0, columns, float8.LANES):
                float8.unpack_2(raw, (at >> 3) + i * 2, 0, field, strip, to + i)
        elif stride == 8:
            for i in range(0, columns, float8.LANES):
                float8.unpack_1(raw, (at >> 3) + i, 0, field, strip, to + i)
        else:
            for i in range(0, columns, float8.LANES):
                float8.unpack_1_apart(raw, (at + offset + i * stride) >> 3, stride >> 3, low, strip, to + i)


@kernel
def _number(raw: NDArray[np.uint8], bit: int, bits: int, flip: int, bias: int) -> np.float32:
    word = np.uint32(0)
    for i in range((bits + 7) >> 3):
        word |= np.uint32(raw[(bit >> 3) + i]) << np.uint32(8 * i)
    if bits == 32:
        return np.uint32(word).view(np.float32)  # type: ignore[return-value]
    field = (np.int32(word) >> np.int32(bit & 7)) & np.int32((1 << bits) - 1)
    return np.float32((field ^ np.int32(flip)) - np.int32(bias))


@kernel
def _filter_rows(
    coefficients: NDArray[np.float32],
    strip: NDArray[np.float32],
    column: int,
    columns: int,
    out: NDArray[np.float32],
    spectra: int,
) -> None:
    """Weight and add rows of a strip, four spectra at a time; what is beyond the last spectrum is rubbish."""
    taps, width = coefficients.shape
    weights = coefficients.reshape(-1)
    step, row = out.strides[0] // 4, STRIP_STRIDE
    for k in range(0, spectra, 4):
        target = out[k]
        done = 0
        while done < taps:
            at, by = (k + done) * row, done * width + column
            if done + 4 > taps:
                if done == 0:
                    for i in range(0, columns, float8.LANES):
                        float8.fir_1(strip, at + i, row, weights, by + i, width, target, column + i, step)
                else:
                    for i in range(0, columns, float8.LANES):
                        float8.fir_1_add(strip, at + i, row, weights, by + i, width, target, column + i, step)
                done += 1
            else:
                if done == 0:
                    for i in range(0, columns, float8.LANES):
                        float8.fir_4(strip, at + i, row, weights, by + i, width, target, column + i, step)
                else:
                    for i in range(0, columns, float8.LANES):
                        float8.fir_4_add(strip, at + i, row, weights, by + i, width, target, column + i, step)
                done += 4
