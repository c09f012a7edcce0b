"""Fourier transform of one spectrum in place, eight numbers at a time, with its output in bit-reversed runs.

N complex numbers, a power of two, are two arrays: real parts and imaginary parts.

1. From N = 128 on, passes of radix 4 (the first one of radix 2 if log2 N is odd) by decimation in frequency (Cooley
   and Tukey 1965, doi:10.1090/S0025-5718-1965-0178586-1; Gentleman and Sande 1966, doi:10.1145/1464291.1464352) divide
   the transform into B = N / 64 blocks of 64 neighbours. The passes run depth first: a part that fits the L1 cache is
   completed before the next one starts, so that a large N needs few passes over memory. Above :data:`FFT_PIECE`, the
   passes that lead to pieces of that size can be run a few columns at a time, while the filter produces the next ones.
2. Each block is transformed in registers: 8 vectors of 8, transposed between two transforms of 8.
3. The output stays where it is computed: number q of block b is channel ``bit_reverse(b) + B q``. The channels are put
   in order after detection and summation, once for hundreds of spectra: :func:`run_starts`.

In this order channel -k lies as far from the end of a run of 64 * 2^s numbers as channel k lies from its start. So
:func:`rfft_postprocess` converts the transform of N pairs of real numbers to their first N channels with plain loads.

With 8 to 32 channels there is one block, of 8 numbers a run. Below 8 channels the transform is a matrix product.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefilter_kernels.jit import kernel
from edgefilter_kernels.simd.float8 import (
    LANES,
    Lanes,
    Pointers,
    constant,
    dft,
    index,
    offset_at,
    transpose,
    vector_code,
)

_Parts = tuple[NDArray[np.float32], NDArray[np.float32]]  # real and imaginary parts

_BLOCK = LANES * LANES
FFT_PIECE = 4096
"""Numbers of a long transform that are completed independently after the passes over all of it: 32 KiB."""
_PART = 1024  # numbers that are completed before the next ones are touched: 8 KiB


def run_starts(channels: int) -> NDArray[np.int64]:
    """Return the positions of a transform's channels: channel ``b + B q`` is at ``run_starts[b] + q``.

    Parameters
    ----------
    channels
        N, a power of two.

    Returns
    -------
    NDArray
        int64 ``[B]``: B is N / 64, below 64 channels N / 8, below 8 channels 1.
    """
    run = first_run_length(channels)
    return np.asarray(run * _reversed(channels // run), np.int64)


def _reversed(count: int) -> NDArray[np.int64]:
    """Return the numbers below a power of two with their bits reversed."""
    reverse = np.zeros(1, np.int64)
    while len(reverse) < count:
        reverse = np.concatenate([2 * reverse, 2 * reverse + 1])
    return reverse


@kernel
def first_run_length(channels: int) -> int:
    """Return the length of the runs of positions whose channels are equally far apart.

    Parameters
    ----------
    channels
        N, a power of two.

    Returns
    -------
    int
        Numbers of a run.
    """
    return _BLOCK if channels >= _BLOCK else min(channels, LANES)


def channel_order(channels: int) -> NDArray[np.int64]:
    """Return the channel at each position of a transform.

    Parameters
    ----------
    channels
        N, a power of two.

    Returns
    -------
    NDArray
        int64 ``[N]``.
    """
    first = run_starts(channels)
    result = np.empty(channels, np.int64)
    for b, start in enumerate(first):
        run = np.arange(channels // len(first))
        result[start + run] = b + len(first) * run
    return result


def twiddles(channels: int) -> NDArray[np.float32]:
    """Return the constants that :func:`fft` takes.

    Parameters
    ----------
    channels
        N, a power of two.

    Returns
    -------
    NDArray
        float32 ``[2, any]``: real and imaginary parts, pass by pass; below 8 channels of the whole matrix.
    """
    parts = [np.zeros(LANES, np.complex128)]  # never empty, so that it always has an address
    if channels < LANES:
        k = np.arange(channels)
        parts = [np.exp(-2j * np.pi * np.outer(k, k) / channels).ravel()]
    size = channels
    if size > _BLOCK and _is_odd_power(size):
        parts.append(np.exp(-2j * np.pi * np.arange(size // 2) / size))
        size //= 2
    while size > _BLOCK:
        parts += [np.exp(-2j * np.pi * i * np.arange(size // 4) / size) for i in (1, 2, 3)]
        size //= 4
    values = np.concatenate(parts)
    return np.stack([values.real, values.imag]).astype(np.float32)


def rfft_twiddles(channels: int) -> NDArray[np.float32]:
    """Return the constants that :func:`rfft_postprocess` takes.

    Parameters
    ----------
    channels
        N, a power of two.

    Returns
    -------
    NDArray
        float32 ``[2, N]``: real and imaginary part of exp(-pi i k / N) in :func:`channel_order`.
    """
    values = np.exp(-1j * np.pi * channel_order(channels) / channels)
    return np.stack([values.real, values.imag]).astype(np.float32)


@kernel
def _is_odd_power(size: int) -> bool:
    """Return whether passes of radix 4 alone do not lead from ``size`` to blocks of 64."""
    blocks = size // _BLOCK
    while blocks > 2:
        blocks //= 4
    return blocks == 2


def _make_pass(radix: int) -> Callable[..., None]:
    """One butterfly on eight neighbours: transform, then multiply by the twiddle factors.

    ``arrays`` are real and imaginary parts, ``factors`` those of the twiddle factors.
    """

    @vector_code
    def butterfly(builder: Any, arrays: Any, at: Any, step: Any, factors: Any, by: Any, by_step: Any) -> None:
        numbers, twiddle = Pointers(builder, *arrays), Pointers(builder, *factors)
        positions = [offset_at(builder, at, step, i) for i in range(radix)]
        result = dft([numbers.load(position) for position in positions])
        for i in range(1, radix):
            result[i] = result[i] * twiddle.load(offset_at(builder, by, by_step, i - 1))
        # Blocks come out in bit-reversed order with either radix.
        for position, i in zip(positions, (0, 2, 1, 3) if radix == 4 else (0, 1), strict=True):
            numbers.store(result[i], position)

    return butterfly


_radix4, _radix2 = _make_pass(4), _make_pass(2)


@vector_code
def _block(builder: Any, arrays: Any, at: Any) -> None:
    """Transform 64 numbers: element 8 i + j of the input, 8 l + k of the output."""
    numbers = Pointers(builder, *arrays)
    positions = [builder.add(at, index(LANES * i)) for i in range(LANES)]
    rows = dft([numbers.load(position) for position in positions])
    for k in range(1, LANES):
        rows[k] = rows[k] * constant(builder, np.exp(-2j * np.pi * k * np.arange(LANES) / _BLOCK))
    for position, row in zip(positions, dft(transpose(rows)), strict=True):
        numbers.store(row, position)


def _make_short(rows: int) -> Callable[..., None]:
    """Transform ``8 rows`` numbers, fewer than a block: the other vectors are 0 and not stored."""

    @vector_code
    def short(builder: Any, arrays: Any, at: Any) -> None:
        numbers = Pointers(builder, *arrays)
        positions = [builder.add(at, index(LANES * i)) for i in range(rows)]
        values = dft([numbers.load(position) for position in positions])
        for k in range(1, rows):
            values[k] = values[k] * constant(builder, np.exp(-2j * np.pi * k * np.arange(LANES) / (LANES * rows)))
        values += [constant(builder, 0)] * (LANES - rows)
        values = transpose(dft(transpose(values)))
        for position, k in zip(positions, _reversed(rows), strict=True):
            numbers.store(values[k], position)

    return short


_short1, _short2, _short4 = (_make_short(rows) for rows in (1, 2, 4))


def rfft_postprocessed(one: Lanes, two: Lanes, rfft_twiddle: Lanes) -> tuple[Lanes, Lanes]:
    """Return the channels of real input from their transform, see :func:`rfft_postprocess`.

    Parameters
    ----------
    one
        Eight numbers of the transform.
    two
        Their mirror images, conjugate and in reverse order.
    rfft_twiddle
        Constants at the positions of ``one``.

    Returns
    -------
    tuple
        The channels at the positions of ``one``, and the conjugates of those of ``two``, in reverse order.
    """
    even, odd = (one + two).scaled(0.5), (one - two).times_minus_i().scaled(0.5) * rfft_twiddle
    return even + odd, even - odd


@vector_code
def _rfft_postprocess_lanes(builder: Any, arrays: Any, here: Any, there: Any, factors: Any) -> None:
    """Postprocess eight numbers from ``here`` on, and their mirror images from ``there`` on."""
    numbers = Pointers(builder, *arrays)
    rfft_twiddle = Pointers(builder, *factors).load(here)
    one, two = rfft_postprocessed(numbers.load(here), numbers.load(there).reversed().conjugate(), rfft_twiddle)
    numbers.store(one, here)
    numbers.store(two.conjugate().reversed(), there)


@kernel
def fft(real: NDArray[np.float32], imag: NDArray[np.float32], twiddle: NDArray[np.float32]) -> None:
    """Transform N complex numbers in place. Nothing is checked: kernels call this.

    Parameters
    ----------
    real, imag
        float32 ``[N]``, contiguous; the result is in :func:`channel_order`.
    twiddle
        :func:`twiddles` of N.
    """
    fft_columns(real, imag, twiddle, 0, len(real))
    for start in range(0, len(real), FFT_PIECE):
        fft_piece(real, imag, twiddle, start)


@kernel
def fft_columns(
    real: NDArray[np.float32], imag: NDArray[np.float32], twiddle: NDArray[np.float32], first: int, last: int
) -> None:
    """Run the passes that divide a transform into pieces of :data:`FFT_PIECE`, for some columns of each piece.

    A transform of up to that length is one piece: nothing is done.

    Parameters
    ----------
    real, imag, twiddle
        As :func:`fft` takes them.
    first, last
        Columns ``[first, last)``, multiples of 8.
    """
    n = len(real)
    arrays, factors = (real, imag), (twiddle[0], twiddle[1])
    last = min(last, FFT_PIECE)
    size, by = n, LANES
    if n > FFT_PIECE and _is_odd_power(n):
        size = n // 2
        for row in range(0, size, FFT_PIECE):
            for at in range(row + first, row + last, LANES):
                _radix2(arrays, at, size, factors, by + at, 0)
        by += size
    while size > FFT_PIECE:
        quarter = size // 4
        for begin in range(0, n, size):
            for row in range(0, quarter, FFT_PIECE):
                for at in range(row + first, row + last, LANES):
                    _radix4(arrays, begin + at, quarter, factors, by + at, quarter)
        by += 3 * quarter
        size = quarter


@kernel
def fft_piece(real: NDArray[np.float32], imag: NDArray[np.float32], twiddle: NDArray[np.float32], start: int) -> None:
    """Complete one piece of a transform, after :func:`fft_columns` of all columns.

    Parameters
    ----------
    real, imag, twiddle
        As :func:`fft` takes them.
    start
        First number of the piece, a multiple of :data:`FFT_PIECE`.
    """
    n, arrays = len(real), (real, imag)
    if n < LANES:
        _by_matrix(real, imag, twiddle[0], twiddle[1])
    elif n == LANES:
        _short1(arrays, 0)
    elif n == 2 * LANES:
        _short2(arrays, 0)
    elif n == 4 * LANES:
        _short4(arrays, 0)
    else:
        _by_blocks(arrays, (twiddle[0], twiddle[1]), start)


@kernel
def _by_blocks(arrays: _Parts, factors: _Parts, start: int) -> None:
    whole = min(len(arrays[0]), FFT_PIECE)
    size = whole
    if size > _BLOCK and _is_odd_power(size):
        size //= 2
        for at in range(0, size, LANES):
            _radix2(arrays, at, size, factors, LANES + at, 0)
    by = len(factors[0]) - (size - _BLOCK)  # three quarters of each size above a block
    part = min(size, _PART)
    for at in range(start, start + whole, part):
        _passes(arrays, at, part, size, factors, by)
        for block in range(at, at + part, _BLOCK):
            _block(arrays, block)


@kernel
def _passes(arrays: _Parts, start: int, part: int, size: int, factors: _Parts, by: int) -> None:
    """Run the passes of radix 4 that the blocks of ``[start, start + part)`` still need."""
    while size > _BLOCK:
        quarter = size // 4
        if start % size == 0 or size < part:
            for begin in range(start, start + max(part, size), size):
                for i in range(0, quarter, LANES):
                    _radix4(arrays, begin + i, quarter, factors, by + i, quarter)
        by += 3 * quarter
        size = quarter


@kernel
def _by_matrix(
    real: NDArray[np.float32], imag: NDArray[np.float32], cos: NDArray[np.float32], sin: NDArray[np.float32]
) -> None:
    n = len(real)
    re, im = np.zeros(n, np.float32), np.zeros(n, np.float32)
    for j in range(n):
        for k in range(n):
            re[k] += real[j] * cos[j * n + k] - imag[j] * sin[j * n + k]
            im[k] += real[j] * sin[j * n + k] + imag[j] * cos[j * n + k]
    real[:] = re
    imag[:] = im


@kernel
def rfft_postprocess(real: NDArray[np.float32], imag: NDArray[np.float32], rfft_twiddle: NDArray[np.float32]) -> None:
    """Convert the transform of ``even + i odd`` numbers to the first N channels of those 2 N real numbers, in place.

    Method: Press et al., Numerical Recipes, 3rd ed., section 12.3.2.

    Parameters
    ----------
    real, imag
        float32 ``[N]`` as :func:`fft` leaves them.
    rfft_twiddle
        :func:`rfft_twiddles` of N.
    """
    rfft_postprocess_first_run(real, imag, rfft_twiddle)
    arrays, factors = (real, imag), (rfft_twiddle[0], rfft_twiddle[1])
    low = first_run_length(len(real))
    while low < len(real):
        for i in range(0, low // 2, LANES):
            _rfft_postprocess_lanes(arrays, low + i, 2 * low - LANES - i, factors)
        low *= 2


@kernel
def rfft_postprocess_first_run(
    real: NDArray[np.float32], imag: NDArray[np.float32], rfft_twiddle: NDArray[np.float32]
) -> None:
    """As :func:`rfft_postprocess`, for the first run of positions only: 64, or all if there are fewer."""
    run = first_run_length(len(real))
    real[0], imag[0] = real[0] + imag[0], 0
    if run == _BLOCK:  # the middle channel is computed twice, with the same result
        arrays, factors = (real, imag), (rfft_twiddle[0], rfft_twiddle[1])
        for i in range(0, run // 2, LANES):
            _rfft_postprocess_lanes(arrays, 1 + i, run - LANES - i, factors)
        return
    for i in range(1, run // 2 + 1):
        j = run - i
        even_re, even_im = real[i] + real[j], imag[i] - imag[j]
        odd_re, odd_im = imag[i] + imag[j], real[j] - real[i]
        re, im = (
            odd_re * rfft_twiddle[0, i] - odd_im * rfft_twiddle[1, i],
            odd_re * rfft_twiddle[1, i] + odd_im * rfft_twiddle[0, i],
        )
        half = np.float32(0.5)
        real[j], imag[j] = half * (even_re - re), half * (im - even_im)
        real[i], imag[i] = half * (even_re + re), half * (even_im + im)
