"""Polyphase filterbank and detection in one pass: raw voltages in, mean power of time-channel cells out.

Everything between the raw bytes and the cell stays in the cache. For a few spectra (a batch) at a time,

1. a strip of columns of their rows is unpacked, and the rows are weighted and added up, four spectra at once;
2. each spectrum is Fourier transformed in place;
3. its squares and fourth powers are added to float32 sums, which go to float64 every 256 spectra or so.

What makes the inner loops plain:

- A row of a voltage is N complex numbers or 2 N real ones, taken as N pairs: one filter loop serves both. Real and
  imaginary (even and odd) numbers lie in planes of their own, so that nothing has to be shuffled.
- Sums are kept in the order in which the transform leaves its numbers, and are put in order once a cell.
- A spectrum that is not valid is all zeros, and adds nothing.

The order of every sum is counted from the start of its cell, so that the bits of a cell depend on its samples alone.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgefilter_kernels import fft, lanes
from edgefilter_kernels.fft import fft as transform
from edgefilter_kernels.fft import untangle
from edgefilter_kernels.jit import kernel
from edgefilter_kernels.unpack import flip_and_bias

_BATCH_BYTES = 256 << 10  # filtered spectra of a batch: what stays in a usual L2 cache
_GROUP_BYTES = 4 << 20  # filtered spectra of a batch of a group of raw channels
_LEAST_BATCH = 8  # spectra: the first taps - 1 rows of a batch are unpacked twice
_FLUSH = 256  # most spectra that are added up in float32 before the sum goes to float64
_STRIP = 128  # columns that are unpacked and filtered at a time: they stay in the L1 cache
_COLUMNS = 8  # runs of output channels that are written side by side
_PAD = 16  # numbers between rows: rows a power of two apart would share few sets of the L1 cache


def prototype(channels: int, taps: int, window: str, complex_samples: bool) -> NDArray[np.float64]:
    r"""Design the low-pass filter whose shifted copies are the channels.

    A sinc that is 0 every N samples (2 N of real input) times a window, as ``scipy.signal.firwin`` makes it, without
    the second that importing SciPy takes.

    Its squares sum to 1: white noise of mean power P (mean \|v\|² of a sample, all components together) comes out with
    mean power P in every channel. A tone of amplitude A at the centre of a channel comes out with power A² (Σh)², a
    quarter of it for real input, where half of the amplitude lies at the negative frequency.

    Parameters
    ----------
    channels
        N, even.
    taps
        T, spectra that a spectrum's filter spans.
    window
        ``hamming``, ``hann``, ``boxcar``, or ``kaiser``, which has beta 8.
    complex_samples
        A spectrum takes N complex samples, or 2 N real ones.

    Returns
    -------
    NDArray
        float64 ``[T S]``, S samples per spectrum, oldest sample first.

    Raises
    ------
    ValueError
        If ``channels`` is odd, or there is no such window or the filter is too short for it.
    """
    if channels < 2 or channels % 2 or taps < 1:
        raise ValueError(f"{channels} channels and {taps} taps, must be an even number and at least 1")
    step = channels if complex_samples else 2 * channels
    length = step * taps
    shapes: dict[str, Callable[[int], NDArray[np.float64]]] = {
        "hamming": np.hamming,
        "hann": np.hanning,
        "boxcar": np.ones,
        "kaiser": lambda count: np.kaiser(count, 8.0),
    }
    if window not in shapes:
        raise ValueError(f"window {window} must be one of {', '.join(shapes)}")
    filter_ = np.sinc((np.arange(length) - (length - 1) / 2) / step) * shapes[window](length)
    energy = np.sum(filter_**2)
    if not energy:
        raise ValueError(f"a {window} window of {length} samples is 0 throughout, must be longer")
    return np.asarray(filter_ / np.sqrt(energy), np.float64)


class Bank(NamedTuple):
    """What a filterbank is, as the kernel takes it; made by :func:`bank`.

    Parameters
    ----------
    coefficients
        float32 ``[2, taps, at least N]``: of the real and imaginary (even and odd) numbers of a row.
    twiddle, turn
        Constants of the transform, and of untangling real input.
    starts, middle
        int64 ``[B]``: where in the transform channels ``b + B i`` lie, one after another; and the output channel of 0.
    channels
        N.
    bits, flip, bias
        How a number is written, see :func:`edgefilter_kernels.unpack.flip_and_bias`.
    hands
        Polarisations, 1 or 2.
    components
        Numbers of a sample: 2 if it is complex, 1 if it is real.
    """

    coefficients: NDArray[np.float32]
    twiddle: NDArray[np.float32]
    turn: NDArray[np.float32]
    starts: NDArray[np.int64]
    middle: int
    channels: int
    bits: int
    flip: int
    bias: int
    hands: int
    components: int


def bank(
    filter_: NDArray[np.float64], channels: int, bits: int, encoding: str, hands: int, complex_samples: bool
) -> Bank:
    """Arrange a filterbank.

    Parameters
    ----------
    filter_
        As :func:`prototype` returns it.
    channels
        N, a power of two.
    bits, encoding
        How a number is written, see :func:`edgefilter_kernels.unpack.unpack`.
    hands
        1 or 2.
    complex_samples
        A spectrum takes N complex samples, or 2 N real ones.

    Raises
    ------
    ValueError
        If there is no such filterbank or encoding.
    """
    flip, bias = flip_and_bias(bits, encoding)
    step = channels if complex_samples else 2 * channels
    if channels < 2 or channels & (channels - 1) or hands not in (1, 2) or not len(filter_) or len(filter_) % step:
        raise ValueError(
            f"{channels} channels, {hands} hands and a filter of {len(filter_)} samples: "
            f"must be a power of two, 1 or 2, and whole spectra of {step} samples"
        )
    taps = len(filter_) // step
    coefficients = np.zeros((2, taps, max(channels, lanes.LANES)), np.float32)
    coefficients[:, :, :channels] = (
        filter_.reshape(taps, channels) if complex_samples else filter_.reshape(taps, channels, 2).transpose(2, 0, 1)
    )
    return Bank(
        coefficients, fft.twiddles(channels), fft.turns(channels), fft.starts(channels),
        channels // 2 if complex_samples else 0, channels, bits, flip, bias, hands, 2 if complex_samples else 1,
    )  # fmt: skip


class Scratch(NamedTuple):
    """What :func:`pfb` works in; made by :func:`scratch`.

    Parameters
    ----------
    strip
        float32: unpacked strips of rows, real parts, then imaginary parts.
    voltage
        float32 ``[group, spectrum, hand, part, at least N]``: filtered rows, transformed in place.
    partial
        float32 ``[group, sum, N]``.
    total
        float64 ``[group, sum, N]``.
    """

    strip: NDArray[np.float32]
    voltage: NDArray[np.float32]
    partial: NDArray[np.float32]
    total: NDArray[np.float64]


def scratch(bank: Bank, spectra: int, channels: int, products: int) -> Scratch:
    """Allocate what :func:`pfb` works in.

    Parameters
    ----------
    bank
        The filterbank.
    spectra
        Spectra of a cell.
    channels
        Raw channels.
    products
        Products of a cell.
    """
    _, taps, width = bank.coefficients.shape
    n, sums = bank.channels, products + bank.hands
    row_bytes = 2 * width * 4 * bank.hands
    batch = min(spectra, _FLUSH, max(_BATCH_BYTES // row_bytes, taps, _LEAST_BATCH))
    group = min(channels, max(1, _GROUP_BYTES // (row_bytes * batch)))
    fours = -(-batch // 4) * 4  # the filter makes four spectra at a time
    return Scratch(
        np.zeros(2 * (fours + taps - 1) * (_STRIP + _PAD), np.float32),
        np.zeros((group, fours, bank.hands, 2, width + _PAD), np.float32),
        np.zeros((group, sums, n), np.float32),
        np.zeros((group, sums, n), np.float64),
    )


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

    Spectrum r is made of samples ``[r S, (r + T) S)`` of ``raw``: its own S samples come last.

    Parameters
    ----------
    bank
        The filterbank.
    raw
        uint8 ``[(spectra + T - 1) S, sample_bytes]``, C-contiguous, the numbers ``[channel, hand, component]`` of each
        sample.
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
        Of :func:`scratch` for cells like these, to allocate nothing here. One call at a time may use it.

    Raises
    ------
    ValueError
        If the arrays do not fit each other.
    """
    taps, n, hands = bank.coefficients.shape[1], bank.channels, bank.hands
    step = 2 * n // bank.components
    times, _, products = power.shape
    channels = raw.shape[1] * 8 // (bank.bits * hands * bank.components)
    sample_bytes = channels * hands * bank.components * bank.bits // 8
    _expect("raw", raw, np.uint8, ((len(valid) + taps - 1) * step, sample_bytes))
    _expect("power", power, np.float32, (times, channels * n, products))
    _expect("moment4", moment4, np.float32, (times, channels * n, hands))
    _expect("count", count, np.int32, (times,))
    _expect("valid", valid, np.bool_, valid.shape)
    if products not in (hands, 2 * hands) or (products > hands and hands == 1):
        raise ValueError(f"{hands} hands and {products} products, must be 1 and 1, 2 and 2 or 2 and 4")
    if not times or not len(valid) or len(valid) % times:
        raise ValueError(f"{len(valid)} spectra in {times} cells, must be whole cells")
    if work is None:
        work = scratch(bank, len(valid) // times, channels, products)
    _pfb(bank, raw.reshape(-1), channels, valid, power, moment4, count, work)


def _expect(name: str, array: NDArray[Any], dtype: type[np.generic], shape: tuple[int, ...]) -> None:
    if array.dtype != dtype or array.shape != shape or not array.flags.c_contiguous:
        expected = f"C-contiguous {np.dtype(dtype)} {shape}"
        raise ValueError(f"{name} is {array.dtype} {array.shape}, must be {expected}")


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
    group, batch = work.voltage.shape[:2]
    batch = min(batch, spectra)
    for t in range(len(power)):
        here = valid[t * spectra : (t + 1) * spectra]
        count[t] = here.sum()
        for c in range(0, channels, group):
            some = min(group, channels - c)
            work.partial[:] = 0
            work.total[:] = 0
            added = 0
            for k in range(0, spectra, batch):
                now = here[k : min(k + batch, spectra)]
                if now.any():
                    filter_spectra(bank, raw, channels, t * spectra + k, len(now), c, some, work)
                    for g in range(some):
                        _transform(bank, now, work.voltage[g])
                        _detect(work.voltage[g], len(now), work.partial[g])
                added += len(now)
                if added + batch > _FLUSH:
                    _flush(work)
                    added = 0
            _flush(work)
            _write(bank, work.total[:some], 1 / max(count[t], 1), c, power[t], moment4[t])


@kernel
def filter_spectra(
    bank: Bank,
    raw: NDArray[np.uint8],
    channels: int,
    first: int,
    spectra: int,
    channel: int,
    group: int,
    work: Scratch,
) -> None:
    """Weight and add the rows of spectra ``[first, first + spectra)`` of a group of raw channels."""
    n, hands = bank.channels, bank.hands
    taps = bank.coefficients.shape[1]
    rows = spectra + taps - 1
    for column in range(0, n, _STRIP):
        columns = min(_STRIP, n - column)
        for g in range(group):
            for h in range(hands):
                for part in range(2):
                    if bank.components == 2:
                        number = ((channel + g) * hands + h) * 2 + part
                    else:
                        number = (part * channels + channel + g) * hands + h
                    unpack_rows(
                        raw, bank, channels * hands * 2, number, first * n + column, n, columns, rows, work.strip
                    )
                    filter_rows(
                        bank.coefficients[part], work.strip, column, columns, work.voltage[g, :, h, part], spectra
                    )


@kernel
def unpack_rows(
    raw: NDArray[np.uint8],
    bank: Bank,
    unit: int,
    number: int,
    first: int,
    step: int,
    columns: int,
    rows: int,
    strip: NDArray[np.float32],
) -> None:
    """Unpack number ``number`` of every unit of so many numbers: columns of rows that are ``step`` units apart."""
    bits, stride = bank.bits, unit * bank.bits
    offset = number * bits
    field = (np.int32(offset), np.int32((1 << min(bits, 16)) - 1), np.int32(bank.flip), np.int32(bank.bias))
    low = (np.int32(offset & 7), field[1], field[2], field[3])
    none = (np.int32(0), field[1], field[2], field[3])
    for r in range(rows):
        at, to = (first + r * step) * stride, r * (_STRIP + _PAD)
        if columns < lanes.LANES or stride & 7:
            for i in range(columns):
                strip[to + i] = _number(raw, at + offset + i * stride, bits, bank.flip, bank.bias)
        elif bits > 8:
            for i in range(0, columns, lanes.LANES):
                place = (at + offset + i * stride) >> 3
                if bits == 16:
                    lanes.unpack_2_apart(raw, place, stride >> 3, none, strip, to + i)
                else:
                    lanes.unpack_float_apart(raw, place, stride >> 3, none, strip, to + i)
        elif stride == 32:
            for i in range(0, columns, lanes.LANES):
                lanes.unpack_4(raw, (at >> 3) + i * 4, 0, field, strip, to + i)
        elif stride == 16:
            for i in range(0, columns, lanes.LANES):
                lanes.unpack_2(raw, (at >> 3) + i * 2, 0, field, strip, to + i)
        elif stride == 8:
            for i in range(0, columns, lanes.LANES):
                lanes.unpack_1(raw, (at >> 3) + i, 0, field, strip, to + i)
        else:
            for i in range(0, columns, lanes.LANES):
                lanes.unpack_1_apart(raw, (at + offset + i * stride) >> 3, stride >> 3, low, strip, to + i)


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
def filter_rows(
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
    step, row = out.strides[0] // 4, _STRIP + _PAD
    for k in range(0, spectra, 4):
        target = out[k]
        done = 0
        while done < taps:
            at, by = (k + done) * row, done * width + column
            if done + 4 > taps:
                if done == 0:
                    for i in range(0, columns, lanes.LANES):
                        lanes.fir_1(strip, at + i, row, weights, by + i, width, target, column + i, step)
                else:
                    for i in range(0, columns, lanes.LANES):
                        lanes.fir_1_add(strip, at + i, row, weights, by + i, width, target, column + i, step)
                done += 1
            else:
                if done == 0:
                    for i in range(0, columns, lanes.LANES):
                        lanes.fir_4(strip, at + i, row, weights, by + i, width, target, column + i, step)
                else:
                    for i in range(0, columns, lanes.LANES):
                        lanes.fir_4_add(strip, at + i, row, weights, by + i, width, target, column + i, step)
                done += 4


@kernel
def _transform(bank: Bank, valid: NDArray[np.bool_], voltage: NDArray[np.float32]) -> None:
    n = bank.channels
    for k in range(len(valid)):
        for h in range(bank.hands):
            real, imag = voltage[k, h, 0, :n], voltage[k, h, 1, :n]
            if valid[k]:
                transform(real, imag, bank.twiddle)
                if bank.components == 1:
                    untangle(real, imag, bank.turn)
            else:
                real[:] = 0
                imag[:] = 0


@kernel
def _detect(voltage: NDArray[np.float32], spectra: int, partial: NDArray[np.float32]) -> None:
    """Add the products of spectra, and the fourth powers behind them, to ``partial``."""
    hands, n = voltage.shape[1], partial.shape[1]
    products = len(partial) - hands
    for k in range(spectra):
        for h in range(hands):
            real, imag = voltage[k, h, 0, :n], voltage[k, h, 1, :n]
            square, fourth = partial[h], partial[products + h]
            for j in range(n):
                power = real[j] * real[j] + imag[j] * imag[j]
                square[j] += power
                fourth[j] += power * power
        if products > hands:
            x_real, x_imag = voltage[k, 0, 0, :n], voltage[k, 0, 1, :n]
            y_real, y_imag = voltage[k, 1, 0, :n], voltage[k, 1, 1, :n]
            real, imag = partial[2], partial[3]
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
    """Put the sums of a cell in order: a transpose, of which a few columns at a time are written."""
    n, products, blocks = bank.channels, power.shape[1], len(bank.starts)
    block = n // blocks
    for g in range(len(total)):
        for q in range(0, block, _COLUMNS):
            for b in range(blocks):
                for i in range(q, min(q + _COLUMNS, block)):
                    to = (channel + g) * n + (b + blocks * i + bank.middle) % n
                    for p in range(products):
                        power[to, p] = total[g, p, bank.starts[b] + i] * scale
                    for p in range(bank.hands):
                        moment4[to, p] = total[g, products + p, bank.starts[b] + i] * scale
