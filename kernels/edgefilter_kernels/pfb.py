"""Polyphase filterbank and detection in one pass: raw voltages in, mean power of time-channel cells out.

Everything between the raw bytes and the cell stays in the cache: a few spectra's samples are unpacked to scratch,
filtered, Fourier transformed in place, squared and added up, before the next few are touched.

What makes the inner loops plain:

- A row of a voltage is 2 N floats, N complex numbers or 2 N real ones, so that one filter loop serves both.
- The filter's coefficients carry (-1)^n for complex input, which moves DC to channel N/2 without a shift.
- 2 N real numbers are transformed as N complex ones (even + i odd) and untangled in place
  (Press et al., Numerical Recipes, 3rd ed., section 12.3.2).

The order of every sum is counted from the start of its cell, so that the bits of a cell depend on its samples alone.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import rocket_fft
from numpy.typing import NDArray
from scipy.signal import firwin

from edgefilter_kernels.jit import kernel
from edgefilter_kernels.unpack import as_words, flip_and_bias, take

_FFT_BYTES = 512 << 10  # one batch of spectra, half of a usual L2 cache
_SCRATCH_BYTES = 4 << 20  # unpacked samples of a group of raw channels
_SPECTRA = 256  # most that are added up in float32 before the sum goes to float64
_STRIP = 512  # floats of a row that the filter works on at a time: taps of it fit the L1 cache
_PAD = 16  # floats between rows: rows a power of two apart would share few sets of the L1 cache

_c2c: Callable[..., Any] = rocket_fft.c2c


def prototype(channels: int, taps: int, window: str, complex_samples: bool) -> NDArray[np.float64]:
    r"""Design the low-pass filter whose shifted copies are the channels.

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
        If ``channels`` is odd or the filter is too short for its window.
    """
    if channels < 2 or channels % 2 or taps < 1:
        raise ValueError(f"{channels} channels and {taps} taps, must be an even number and at least 1")
    step = channels if complex_samples else 2 * channels
    shape = ("kaiser", 8.0) if window == "kaiser" else window
    if window == "hann" and step * taps == 2:
        raise ValueError("a hann window of 2 samples is 0 throughout, must be longer")
    filter_: NDArray[np.float64] = firwin(step * taps, 1 / step, window=shape, fs=2)
    return np.asarray(filter_ / np.sqrt(np.sum(filter_**2)), np.float64)


def polyphase(filter_: NDArray[np.float64], taps: int, complex_samples: bool) -> NDArray[np.float32]:
    """Arrange a prototype filter as :func:`pfb` wants it.

    Parameters
    ----------
    filter_
        As :func:`prototype` returns it.
    taps
        T.
    complex_samples
        As there.

    Returns
    -------
    NDArray
        float32 ``[T, 2 N]``, a coefficient for each float of a row.
    """
    rows = filter_.reshape(taps, -1)
    if complex_samples:
        rows = np.repeat(rows * (-1.0) ** np.arange(rows.shape[1]), 2, axis=1)
    return np.ascontiguousarray(rows, np.float32)


def pfb(
    raw: NDArray[np.uint8],
    valid: NDArray[np.bool_],
    coefficients: NDArray[np.float32],
    bits: int,
    encoding: str,
    hands: int,
    complex_samples: bool,
    power: NDArray[np.float32],
    moment4: NDArray[np.float32],
    count: NDArray[np.int32],
) -> None:
    r"""Channelise voltages, detect, and average the valid spectra of each cell.

    Spectrum r is made of samples ``[r S, (r + T) S)`` of ``raw``: its own S samples come last.

    Parameters
    ----------
    raw
        uint8 ``[(spectra + T - 1) S, sample_bytes]``, C-contiguous, the numbers ``[channel, hand, component]`` of each
        sample.
    valid
        bool ``[spectra]``: which spectra are complete. The others' samples may be anything.
    coefficients
        float32 ``[T, 2 N]`` of :func:`polyphase`.
    bits, encoding
        How a number is written, see :func:`edgefilter_kernels.unpack.unpack`.
    hands
        1 or 2.
    complex_samples
        S is N complex samples, or 2 N real ones.
    power
        float32 ``[time, channels N, product]``, written: mean \|v\|² of the hands, and, if there are two more
        products, real and imaginary part of the mean of X Y*. The raw channel is slowest. Fine channel N/2 of complex
        input is at DC, channel 0 of real input. Where no spectrum is valid it is 0.
    moment4
        float32 ``[time, channels N, hand]``, written: mean \|v\|⁴.
    count
        int32 ``[time]``, written: valid spectra of a cell.

    Raises
    ------
    ValueError
        If the arrays do not fit each other.
    """
    flip, bias = flip_and_bias(bits, encoding)
    taps, width = coefficients.shape
    n = width // 2
    components = 2 if complex_samples else 1
    step = width // components
    times, _, products = power.shape
    channels = raw.shape[1] * 8 // (bits * hands * components)
    _expect("coefficients", coefficients, np.float32, (taps, width))
    _expect("raw", raw, np.uint8, ((len(valid) + taps - 1) * step, channels * hands * components * bits // 8))
    _expect("power", power, np.float32, (times, channels * n, products))
    _expect("moment4", moment4, np.float32, (times, channels * n, hands))
    _expect("count", count, np.int32, (times,))
    _expect("valid", valid, np.bool_, valid.shape)
    if hands not in (1, 2) or products not in (hands, 2 * hands) or (products > hands and hands == 1):
        raise ValueError(f"{hands} hands and {products} products, must be 1 and 1, 2 and 2 or 2 and 4")
    if width % 4 or not times or len(valid) % times or not len(valid):
        raise ValueError(f"{len(valid)} spectra of {n} channels in {times} cells: must be whole cells, channels even")
    spectra = len(valid) // times
    batch = min(spectra, _SPECTRA, max(_FFT_BYTES // (hands * width * 4), taps, 4))
    group = min(channels, max(1, _SCRATCH_BYTES // (hands * (batch + taps - 1) * width * 4)))
    turn = np.exp(-1j * np.pi * np.arange(n // 2 + 1) / n).astype(np.complex64)
    _pfb(
        as_words(raw, bits), bits, flip, bias, components, channels, hands, spectra, batch, group,
        coefficients, turn, valid, power, moment4, count,
    )  # fmt: skip


def _expect(name: str, array: NDArray[Any], dtype: type[np.generic], shape: tuple[int, ...]) -> None:
    if array.dtype != dtype or array.shape != shape or not array.flags.c_contiguous:
        expected = f"C-contiguous {np.dtype(dtype)} {shape}"
        raise ValueError(f"{name} is {array.dtype} {array.shape}, must be {expected}")


@kernel
def _pfb(
    words: NDArray[np.unsignedinteger],
    bits: int,
    flip: int,
    bias: int,
    components: int,
    channels: int,
    hands: int,
    spectra: int,
    batch: int,
    group: int,
    coefficients: NDArray[np.float32],
    turn: NDArray[np.complex64],
    valid: NDArray[np.bool_],
    power: NDArray[np.float32],
    moment4: NDArray[np.float32],
    count: NDArray[np.int32],
) -> None:
    taps, width = coefficients.shape
    n = width // 2
    step = width // components
    products = power.shape[2]
    rows = np.empty((group * hands, batch + taps - 1, width + _PAD), np.float32)
    filtered = np.empty((batch * hands, width + _PAD), np.float32)
    voltage = filtered.view(np.complex64)[:, :n]
    axes = np.array([1])
    sums = np.empty((group, products + hands, n), np.float64)
    partial = np.empty((products + hands, n), np.float32)
    for t in range(len(power)):
        number = 0
        for k in range(spectra):
            number += valid[t * spectra + k]
        count[t] = number
        for c0 in range(0, channels, group):
            c1 = min(c0 + group, channels)
            sums[:] = 0
            for k0 in range(0, spectra, batch):
                k1 = min(k0 + batch, spectra)
                r0 = t * spectra + k0
                here = valid[r0 : r0 + k1 - k0]
                if not here.any():
                    continue
                for c in range(c0, c1):
                    for h in range(hands):
                        _fill(words, bits, flip, bias, components, channels * hands, c * hands + h,
                              r0 * step, step, rows[(c - c0) * hands + h, : k1 - k0 + taps - 1])  # fmt: skip
                for g in range(c1 - c0):
                    for h in range(hands):
                        _filter(coefficients, rows[g * hands + h], here, filtered[h * (k1 - k0) :])
                    _c2c(voltage[: hands * (k1 - k0)], voltage[: hands * (k1 - k0)], axes, True, 1.0, 1)
                    if components == 1:
                        _untangle(voltage[: hands * (k1 - k0)], turn)
                    _detect(filtered, here, hands, products, partial)
                    for i in range(products + hands):
                        for j in range(n):
                            sums[g, i, j] += partial[i, j]
            scale = 1.0 / max(number, 1)
            for g in range(c1 - c0):
                for j in range(n):
                    for i in range(products):
                        power[t, (c0 + g) * n + j, i] = sums[g, i, j] * scale
                    for i in range(hands):
                        moment4[t, (c0 + g) * n + j, i] = sums[g, products + i, j] * scale


@kernel
def _fill(
    words: NDArray[np.unsignedinteger],
    bits: int,
    flip: int,
    bias: int,
    components: int,
    columns: int,
    column: int,
    sample: int,
    step: int,
    rows: NDArray[np.float32],
) -> None:
    """Unpack one voltage (``column`` of ``columns`` in a sample) from ``sample`` on, ``step`` samples to a row."""
    stride = columns * components
    for r in range(len(rows)):
        first = (sample + r * step) * stride + column * components
        for part in range(components):
            take(words, bits, flip, bias, first + part, stride, rows[r], part, components, step)


@kernel
def _add_one(coefficients: NDArray[np.float32], row: NDArray[np.float32], out: NDArray[np.float32], add: bool) -> None:
    # Slices indexed from 0 up: numba then knows that no index is negative, and the loop becomes vector instructions.
    for w in range(len(out)):
        product = coefficients[w] * row[w]
        out[w] = out[w] + product if add else product


@kernel
def _add_four(
    coefficients: NDArray[np.float32],
    rows: NDArray[np.float32],
    tap: int,
    k: int,
    start: int,
    stop: int,
    out: NDArray[np.float32],
    add: bool,
) -> None:
    """Add four taps of spectrum k in one pass over a strip."""
    h0, h1 = coefficients[tap, start:stop], coefficients[tap + 1, start:stop]
    h2, h3 = coefficients[tap + 2, start:stop], coefficients[tap + 3, start:stop]
    x0, x1 = rows[k + tap, start:stop], rows[k + tap + 1, start:stop]
    x2, x3 = rows[k + tap + 2, start:stop], rows[k + tap + 3, start:stop]
    if add:
        for w in range(len(out)):
            out[w] += h0[w] * x0[w] + h1[w] * x1[w] + h2[w] * x2[w] + h3[w] * x3[w]
    else:
        for w in range(len(out)):
            out[w] = h0[w] * x0[w] + h1[w] * x1[w] + h2[w] * x2[w] + h3[w] * x3[w]


@kernel
def _filter(
    coefficients: NDArray[np.float32],
    rows: NDArray[np.float32],
    valid: NDArray[np.bool_],
    filtered: NDArray[np.float32],
) -> None:
    """Weight and add the taps of each spectrum; a spectrum that is not valid becomes 0, whatever its samples are."""
    taps, width = coefficients.shape
    for start in range(0, width, _STRIP):
        stop = min(start + _STRIP, width)
        for k in range(len(valid)):
            out = filtered[k, start:stop]
            if not valid[k]:
                out[:] = 0
                continue
            done = min(taps, 4)
            if done == 4:
                _add_four(coefficients, rows, 0, k, start, stop, out, False)
            else:
                _add_one(coefficients[0, start:stop], rows[k, start:stop], out, False)
                done = 1
            while done + 4 <= taps:
                _add_four(coefficients, rows, done, k, start, stop, out, True)
                done += 4
            for tap in range(done, taps):
                _add_one(coefficients[tap, start:stop], rows[k + tap, start:stop], out, True)


@kernel
def _untangle(voltage: NDArray[np.complex64], turn: NDArray[np.complex64]) -> None:
    """Turn the transforms of even + i odd into the first N channels of 2 N real samples, in place."""
    n = voltage.shape[1]
    for k in range(len(voltage)):
        voltage[k, 0] = np.complex64(voltage[k, 0].real + voltage[k, 0].imag)
        for j in range(1, n // 2 + 1):
            here, there = voltage[k, j], np.conj(voltage[k, n - j])
            even, odd = here + there, turn[j] * (here - there)
            # The spectra of the even and the odd samples are even / 2 and odd / 2i.
            lower = complex(even.real + odd.imag, even.imag - odd.real)
            upper = complex(even.real - odd.imag, -even.imag - odd.real)
            voltage[k, n - j] = np.complex64(upper) * np.float32(0.5)
            voltage[k, j] = np.complex64(lower) * np.float32(0.5)


@kernel
def _detect(
    filtered: NDArray[np.float32],
    valid: NDArray[np.bool_],
    hands: int,
    products: int,
    partial: NDArray[np.float32],
) -> None:
    """Add up the products and the fourth moments of the valid spectra; hand h's are rows ``h len(valid)`` and on."""
    spectra, n = len(valid), partial.shape[1]
    partial[:] = 0
    for h in range(hands):
        square, fourth = partial[h], partial[products + h]
        for k in range(spectra):
            if valid[k]:
                row = filtered[h * spectra + k]
                for j in range(n):
                    power = row[2 * j] * row[2 * j] + row[2 * j + 1] * row[2 * j + 1]
                    square[j] += power
                    fourth[j] += power * power
    if products > hands:
        real, imaginary = partial[2], partial[3]
        for k in range(spectra):
            if valid[k]:
                x, y = filtered[k], filtered[spectra + k]
                for j in range(n):
                    real[j] += x[2 * j] * y[2 * j] + x[2 * j + 1] * y[2 * j + 1]
                    imaginary[j] += x[2 * j + 1] * y[2 * j] - x[2 * j] * y[2 * j + 1]
