"""What a polyphase filterbank is made of: its filter, its constants, and the room that it works in."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgefilter_kernels.filterbank import fft
from edgefilter_kernels.filterbank.unpack import flip_and_bias
from edgefilter_kernels.simd import float8

FLUSH_SPECTRA = 256
"""Most spectra that are added up in float32 before the sum goes to float64."""
STRIP_COLUMNS = 128
"""Columns that are unpacked and filtered at a time: they stay in the L1 cache."""
WIDE_STRIP_COLUMNS = 512
"""Columns of each piece of a long transform, of which a batch is short: longer runs come faster out of memory."""
ROW_PADDING = 16
"""Numbers between rows: rows a power of two apart would share few sets of the L1 cache."""
STRIP_STRIDE = WIDE_STRIP_COLUMNS + ROW_PADDING
"""Numbers from row to row of a strip, whatever its width: the filter is faster where it is a constant."""

_BATCH_BYTES = 256 << 10  # filtered spectra of a batch: what stays in a usual L2 cache
_BATCH_SAMPLES = 2048  # samples of a batch of interleaved raw channels
_GROUP_BYTES = 4 << 20  # filtered spectra of a batch of a group of raw channels
_HUGE_PAGE_BYTES = 2 << 20
_CACHE_LINE_BYTES = 64
_MAX_BATCH_BYTES = 4 << 20  # of a batch of least length, beyond which it is a shorter one
_MIN_BATCH_SPECTRA = 8  # spectra: the first taps - 1 rows of a batch are unpacked twice
_SPECTRA_PER_FIR = 4  # spectra, which the filter makes together


def prototype_filter(channels: int, taps: int, window: str, complex_samples: bool) -> NDArray[np.float64]:
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


class Filterbank(NamedTuple):
    """What a filterbank is, as the kernel takes it; made by :func:`make_filterbank`.

    Parameters
    ----------
    coefficients
        float32 ``[2, taps, at least N]``: of the real and imaginary (even and odd) numbers of a row.
    twiddle, rfft_twiddle
        Constants of the transform, and of untangling real input.
    run_starts, dc_channel
        int64 ``[B]``: where in the transform channels ``b + B i`` lie, one after another; and the output channel of 0.
    channels
        N.
    hop
        Complex samples, or pairs of real ones, from one spectrum to the next: N, or fewer where channels are
        oversampled.
    bits, flip, bias
        How a number is written, see :func:`edgefilter_kernels.filterbank.unpack.flip_and_bias`.
    n_pols
        Polarisations, 1 or 2.
    components
        Numbers of a sample: 2 if it is complex, 1 if it is real.
    """

    coefficients: NDArray[np.float32]
    twiddle: NDArray[np.float32]
    rfft_twiddle: NDArray[np.float32]
    run_starts: NDArray[np.int64]
    dc_channel: int
    channels: int
    hop: int
    bits: int
    flip: int
    bias: int
    n_pols: int
    components: int


def make_filterbank(
    filter_: NDArray[np.float64],
    channels: int,
    bits: int,
    encoding: str,
    n_pols: int,
    complex_samples: bool,
    step: int | None = None,
) -> Filterbank:
    """Arrange a filterbank.

    Parameters
    ----------
    filter_
        As :func:`prototype_filter` returns it.
    channels
        N, a power of two.
    bits, encoding
        How a number is written, see :func:`edgefilter_kernels.filterbank.unpack.unpack`.
    n_pols
        1 or 2.
    complex_samples
        A tap of the filter spans N complex samples, or 2 N real ones.
    step
        Samples from one spectrum to the next; those of a tap if not given, fewer to oversample, even if they are real.

    Raises
    ------
    ValueError
        If there is no such filterbank or encoding.
    """
    flip, bias = flip_and_bias(bits, encoding)
    components = 2 if complex_samples else 1
    tap = 2 * channels // components
    step = tap if step is None else step
    if channels < 2 or channels & (channels - 1) or n_pols not in (1, 2) or not len(filter_) or len(filter_) % tap:
        raise ValueError(
            f"{channels} channels, {n_pols} polarisations and a filter of {len(filter_)} samples: "
            f"must be a power of two, 1 or 2, and whole taps of {tap} samples"
        )
    if not 0 < step <= tap or step * components % 2:
        raise ValueError(f"{step} samples from spectrum to spectrum, must be at most {tap}, and even if they are real")
    taps = len(filter_) // tap
    coefficients = np.zeros((2, taps, max(channels, float8.LANES)), np.float32)
    coefficients[:, :, :channels] = (
        filter_.reshape(taps, channels) if complex_samples else filter_.reshape(taps, channels, 2).transpose(2, 0, 1)
    )
    return Filterbank(
        coefficients, fft.twiddles(channels), fft.rfft_twiddles(channels), fft.run_starts(channels),
        channels // 2 if complex_samples else 0, channels, step * components // 2, bits, flip, bias, n_pols, components,
    )  # fmt: skip


class Workspace(NamedTuple):
    """What the filterbank works in; made by :func:`make_workspace`.

    Parameters
    ----------
    batch
        Spectra that go through it at a time.
    strip
        float32: a strip of unpacked rows.
    voltage
        float32 ``[group, at least batch, pol, part, at least N]``: filtered rows, transformed in place.
    partial
        float32 ``[group, sum, N]``.
    total
        float64 ``[group, sum, N]``.
    """

    batch: int
    strip: NDArray[np.float32]
    voltage: NDArray[np.float32]
    partial: NDArray[np.float32]
    total: NDArray[np.float64]


def make_workspace(bank: Filterbank, spectra: int, channels: int, products: int) -> Workspace:
    """Allocate what the filterbank works in.

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
    n, sums = bank.channels, products + bank.n_pols
    row_bytes = 2 * width * 4 * bank.n_pols
    # Raw channels are interleaved: rows of a batch are read once for each of them, from the cache if they are few.
    most = _BATCH_BYTES // row_bytes if channels == 1 else _BATCH_SAMPLES // n
    long_rows = taps <= _SPECTRA_PER_FIR and row_bytes * _MIN_BATCH_SPECTRA > _MAX_BATCH_BYTES
    least = _SPECTRA_PER_FIR if long_rows else _MIN_BATCH_SPECTRA
    batch = min(spectra, FLUSH_SPECTRA, max(most, taps, least))
    group = min(channels, max(1, _GROUP_BYTES // (row_bytes * batch)))
    # Of the four spectra that the filter makes together, only the first is meant where they are oversampled.
    padded_batch = -(-batch // _SPECTRA_PER_FIR) * _SPECTRA_PER_FIR if bank.hop == n else batch + 3
    # Wide strips of one plane lie beside those of the next one, also in the sets of the L2 cache.
    pad = ROW_PADDING if n <= fft.FFT_PIECE else WIDE_STRIP_COLUMNS + ROW_PADDING
    strip, voltage, partial, total = huge_page_zeros(
        (((padded_batch + taps - 1) * STRIP_STRIDE,), np.float32),
        ((group, padded_batch, bank.n_pols, 2, width + pad), np.float32),
        ((group, sums, n), np.float32),
        ((group, sums, n), np.float64),
    )
    return Workspace(batch, strip, voltage, partial, total)


def huge_page_zeros(*arrays: tuple[tuple[int, ...], type[np.generic]]) -> list[NDArray[Any]]:
    """Allocate arrays of zeros together, at the start of a page of 2 MiB.

    NumPy asks Linux for pages of that size from 4 MiB on. They make the filterbank a fifth faster: its rows lie on more
    small pages than a processor remembers the places of.
    """
    sizes = [math.prod(shape) * np.dtype(kind).itemsize for shape, kind in arrays]
    padded = [-(-size // _CACHE_LINE_BYTES) * _CACHE_LINE_BYTES + _CACHE_LINE_BYTES for size in sizes]
    buffer = np.empty(max(sum(padded), 2 * _HUGE_PAGE_BYTES) + _HUGE_PAGE_BYTES, np.uint8)
    at = -buffer.ctypes.data % _HUGE_PAGE_BYTES
    result = []
    for (shape, kind), size, step in zip(arrays, sizes, padded, strict=True):
        part = buffer[at : at + size]
        part[:] = 0
        result.append(part.view(kind).reshape(shape))
        at += step
    return result
