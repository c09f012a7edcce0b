"""A polyphase filterbank's filter, constants and scratch memory."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgefilter_kernels.filterbank import fft
from edgefilter_kernels.filterbank.unpack import flip_and_bias
from edgefilter_kernels.memory import huge_page_zeros
from edgefilter_kernels.simd.float8 import LANES

FLUSH_SPECTRA = 256
"""Most spectra that are added up in float32 before the sum is added to a float64 one."""
STRIP_COLUMNS = 128
"""Columns that are unpacked and filtered at a time: they stay in the L1 cache."""
WIDE_STRIP_COLUMNS = 512
"""Columns that are filtered at a time of each piece of a long transform: memory delivers longer runs faster."""
ROW_PADDING = 16
"""Numbers between rows: rows a power of two apart would share few sets of the L1 cache."""
STRIP_STRIDE = WIDE_STRIP_COLUMNS + ROW_PADDING
"""Numbers from row to row of a strip of any width: the filter is faster with a constant."""

_BATCH_BYTES = 256 << 10  # filtered spectra of a batch: they stay in a typical L2 cache
_BATCH_SAMPLES = 2048  # samples of a batch of interleaved raw channels
_GROUP_BYTES = 4 << 20  # filtered spectra of a batch of a group of raw channels
_MIN_BATCH_SPECTRA = 8  # fewer unpack too much twice: the first taps - 1 rows of every batch
_MAX_BATCH_BYTES = 4 << 20  # if the minimum takes more, a batch is _SPECTRA_PER_FIR spectra
_SPECTRA_PER_FIR = 4  # spectra that the filter computes together


def prototype_filter(channels: int, taps: int, window: str, complex_samples: bool) -> NDArray[np.float64]:
    r"""Design the low-pass filter whose frequency-shifted copies are the channels.

    It is a sinc with zeros every N samples (2 N of real input) times a window, equal to ``scipy.signal.firwin`` but for
    its scale (importing SciPy takes a second).

    Its squares sum to 1: white noise of mean power P (mean \|v\|² of a sample, all components together) has mean power
    P in every channel. A tone of amplitude A at the centre of a channel has power A² (Σh)², a quarter of that for real
    input, where half of the amplitude lies at the negative frequency.

    Parameters
    ----------
    channels
        N, even.
    taps
        T, length of the filter in spectra.
    window
        ``hamming``, ``hann``, ``boxcar``, or ``kaiser`` with beta 8.
    complex_samples
        Whether samples are complex, N a spectrum, or real, 2 N a spectrum.

    Returns
    -------
    NDArray
        float64 ``[T S]`` for S samples a spectrum, oldest sample first.

    Raises
    ------
    ValueError
        If ``channels`` is odd, the window is unknown, or the filter is too short for it.
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
    """A filterbank as the kernels take it; made by :func:`make_filterbank`.

    Parameters
    ----------
    coefficients
        float32 ``[2, taps, at least N]``: weights of the real and imaginary (even and odd) numbers of a row.
    twiddle, rfft_twiddle
        Constants of :func:`~edgefilter_kernels.filterbank.fft.fft` and of ``rfft_postprocess``.
    run_starts
        int64 ``[B]``: positions in the transform where the runs of channels ``b + B i`` start.
    dc_channel
        Output channel of the transform's channel 0.
    channels
        N.
    hop
        Complex samples, or pairs of real ones, from one spectrum to the next: N, or fewer if channels are
        oversampled.
    bits, flip, bias
        Encoding of a number, see :func:`edgefilter_kernels.filterbank.unpack.flip_and_bias`.
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
    """Return a filterbank for a prototype filter and an encoding of samples.

    Parameters
    ----------
    filter_
        float64 ``[T S]``, from :func:`prototype_filter`.
    channels
        N, a power of two.
    bits, encoding
        Encoding of a number, see :func:`edgefilter_kernels.filterbank.unpack.unpack`.
    n_pols
        Polarisations, 1 or 2.
    complex_samples
        Whether samples are complex, N a tap, or real, 2 N a tap.
    step
        Samples from one spectrum to the next: by default those of a tap, fewer for oversampled channels; an even number
        if they are real.

    Returns
    -------
    Filterbank
        The filterbank.

    Raises
    ------
    ValueError
        If the sizes do not fit each other or the encoding is unknown.
    """
    flip, bias = flip_and_bias(bits, encoding)
    components = 2 if complex_samples else 1
    tap = 2 * channels // components
    step = tap if step is None else step
    if channels < 2 or channels & (channels - 1) or n_pols not in (1, 2) or not len(filter_) or len(filter_) % tap:
        raise ValueError(
            f"{channels} channels, {n_pols} polarisations and a filter of {len(filter_)} samples, "
            f"must be a power of two, 1 or 2, and whole taps of {tap} samples"
        )
    if not 0 < step <= tap or step * components % 2:
        raise ValueError(f"{step} samples from spectrum to spectrum, must be 1 to {tap}, an even number of real ones")
    taps = len(filter_) // tap
    coefficients = np.zeros((2, taps, max(channels, LANES)), np.float32)
    coefficients[:, :, :channels] = (
        filter_.reshape(taps, channels) if complex_samples else filter_.reshape(taps, channels, 2).transpose(2, 0, 1)
    )
    return Filterbank(
        coefficients, fft.twiddles(channels), fft.rfft_twiddles(channels), fft.run_starts(channels),
        channels // 2 if complex_samples else 0, channels, step * components // 2, bits, flip, bias, n_pols, components,
    )  # fmt: skip


class RawVoltages(NamedTuple):
    """Packed voltages as the kernels take them.

    Parameters
    ----------
    data
        uint8, flat: the numbers ``[sample, channel, pol, component]``.
    channels
        Raw channels of a sample.
    """

    data: NDArray[np.uint8]
    channels: int


class Span(NamedTuple):
    """A range of spectra, columns or raw channels.

    Parameters
    ----------
    first, length
        The first one, and how many there are.
    """

    first: int
    length: int


class Workspace(NamedTuple):
    """Scratch memory of the filterbank; made by :func:`make_workspace`.

    Parameters
    ----------
    batch
        Spectra that are filtered, transformed and detected at a time.
    strip
        float32, flat: unpacked rows, :data:`STRIP_STRIDE` numbers apart.
    voltage
        float32 ``[group, at least batch, pol, part, at least N]``: filtered rows of a group of raw channels,
        transformed in place.
    partial
        float32 ``[group, sum, N]``: sums of up to :data:`FLUSH_SPECTRA` spectra.
    total
        float64 ``[group, sum, N]``: sums of a cell.
    """

    batch: int
    strip: NDArray[np.float32]
    voltage: NDArray[np.float32]
    partial: NDArray[np.float32]
    total: NDArray[np.float64]


def make_workspace(bank: Filterbank, spectra: int, channels: int, products: int) -> Workspace:
    """Allocate scratch memory for a filterbank.

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

    Returns
    -------
    Workspace
        For one call at a time.
    """
    _, taps, width = bank.coefficients.shape
    n, sums = bank.channels, products + bank.n_pols
    row_bytes = 2 * width * 4 * bank.n_pols
    # Raw channels are interleaved: the rows of a batch are read once for each of them, from the cache if they fit.
    most = _BATCH_BYTES // row_bytes if channels == 1 else _BATCH_SAMPLES // n
    long_rows = taps <= _SPECTRA_PER_FIR and row_bytes * _MIN_BATCH_SPECTRA > _MAX_BATCH_BYTES
    least = _SPECTRA_PER_FIR if long_rows else _MIN_BATCH_SPECTRA
    batch = min(spectra, FLUSH_SPECTRA, max(most, taps, least))
    group = min(channels, max(1, _GROUP_BYTES // (row_bytes * batch)))
    # The filter computes four spectra together; of oversampled channels only the first of them is used.
    padded_batch = -(-batch // _SPECTRA_PER_FIR) * _SPECTRA_PER_FIR if bank.hop == n else batch + 3
    # The wide strips of one array lie beside those of the next one, also in the sets of the L2 cache.
    pad = ROW_PADDING if n <= fft.FFT_PIECE else WIDE_STRIP_COLUMNS + ROW_PADDING
    strip, voltage, partial, total = huge_page_zeros(
        (((padded_batch + taps - 1) * STRIP_STRIDE,), np.float32),
        ((group, padded_batch, bank.n_pols, 2, width + pad), np.float32),
        ((group, sums, n), np.float32),
        ((group, sums, n), np.float64),
    )
    return Workspace(batch, strip, voltage, partial, total)
