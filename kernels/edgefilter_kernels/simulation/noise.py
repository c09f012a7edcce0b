"""The parts of a simulated sky: noise, tones, the receiver's filter and dispersed pulses.

Random numbers are counter based: hash ``n`` of a key is the SplitMix64 output function (Steele, Lea & Flood 2014,
doi:10.1145/2714064.2660195) of ``key + (n + 1) * golden``. Its 64 bits are four 16-bit indices into a table of the
inverse of a distribution. So any stretch of noise can be generated without the noise before it.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv, ndtri

from edgefilter_kernels.checks import check_array
from edgefilter_kernels.jit import kernel

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_A = np.uint64(0xBF58476D1CE4E5B9)
_MIX_B = np.uint64(0x94D049BB133111EB)
_S16, _S27, _S30, _S31, _S32, _S48 = (np.uint64(shift) for shift in (16, 27, 30, 31, 32, 48))
_LOW = np.uint64(0xFFFF)
_QUARTER = np.uint64(0x4000)
_WRAP = 1 << 64
_TABLE = 1 << 16
_TILE = 2048  # numbers that are filtered at a time: they stay in the L1 cache


def normal_table() -> NDArray[np.float32]:
    """Return the inverse of the normal distribution, float32 ``[65536]`` at evenly spaced probabilities."""
    return _standard(ndtri((np.arange(_TABLE) + 0.5) / _TABLE))


def gamma_table(shape: float) -> NDArray[np.float32]:
    """Return the inverse of the gamma distribution, scaled to mean 0 and variance 1.

    Parameters
    ----------
    shape
        Shape parameter: the variate is a sum of so many exponential ones.

    Returns
    -------
    NDArray
        float32 ``[65536]``, at evenly spaced probabilities.
    """
    return _standard(gammaincinv(shape, (np.arange(_TABLE) + 0.5) / _TABLE))


def cosine_table() -> NDArray[np.float32]:
    """Return one turn of the cosine, float32 ``[65536]``."""
    return np.cos(2 * np.pi * np.arange(_TABLE) / _TABLE).astype(np.float32)


def _standard(values: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.asarray((values - values.mean()) / values.std(), np.float32)


def make_key(seed: int, sequence: int) -> int:
    """Return the key of one of a seed's independent sequences of random numbers.

    Parameters
    ----------
    seed
        Any integer.
    sequence
        Number of the sequence.

    Returns
    -------
    int
        64 bits.
    """
    return int(hash_numbers(int(hash_numbers(seed % _WRAP, 0, 1)[0]), sequence, 1)[0])


def hash_numbers(key: int, first: int, count: int) -> NDArray[np.uint64]:
    """Return the hashes of consecutive numbers.

    Parameters
    ----------
    key
        The sequence, see :func:`make_key`.
    first
        First number, any integer.
    count
        How many.

    Returns
    -------
    NDArray
        uint64 ``[count]``.
    """
    out = np.empty(count, np.uint64)
    _hash_numbers(out, np.uint64(key), np.uint64(first % _WRAP))
    return out


def draw(out: NDArray[np.float32], key: int, first: int, table: NDArray[np.float32]) -> None:
    """Fill an array with random numbers, four from each hash.

    Parameters
    ----------
    out
        float32 ``[count, 4]``, C-contiguous, written; row i is made from hash ``first + i``.
    key
        The sequence, see :func:`make_key`.
    first
        Number of the first row, any integer.
    table
        float32 ``[65536]``: inverse of the distribution.

    Raises
    ------
    ValueError
        If an array does not have that shape and dtype.
    """
    check_array("out", out, np.float32, (None, 4))
    check_array("table", table, np.float32, (_TABLE,))
    _draw(out, np.uint64(key), np.uint64(first % _WRAP), table)


def add_chirp(
    out: NDArray[np.float32],
    phase: int,
    step: int,
    chirp_rate: int,
    gains: tuple[float, float],
    cosine: NDArray[np.float32],
) -> None:
    """Add a tone of linearly changing frequency to complex dual-polarisation voltages.

    Parameters
    ----------
    out
        float32 ``[time, 4]``, changed in place: real and imaginary part of polarisation 0, then of polarisation 1.
    phase, step, chirp_rate
        Phase of the first sample, its increase per sample, and the increase of that per sample, in turns / 2^64, modulo
        2^64: the phase does not depend on where time is cut.
    gains
        Amplitude in each polarisation.
    cosine
        :func:`cosine_table`.

    Raises
    ------
    ValueError
        If an array does not have that shape and dtype.
    """
    check_array("out", out, np.float32, (None, 4))
    check_array("cosine", cosine, np.float32, (_TABLE,))
    phases = (np.uint64(value % _WRAP) for value in (phase, step, chirp_rate))
    _add_chirp(out, *phases, np.float32(gains[0]), np.float32(gains[1]), cosine)


def filter_to_int8(
    out: NDArray[np.int8], samples: NDArray[np.float32], taps: NDArray[np.float32], scale: float
) -> None:
    """Filter along time, scale, round and clip to ±127.

    ``out[t] = round(scale * sum_k taps[k] * samples[t + K - 1 - k])`` for K taps.

    Parameters
    ----------
    out
        int8 ``[time, columns]``, written.
    samples
        float32 ``[time + K - 1, columns]``.
    taps
        float32 ``[K]``.
    scale
        Counts per unit.

    Raises
    ------
    ValueError
        If an array does not have that shape and dtype.
    """
    check_array("out", out, np.int8, (None, None))
    check_array("taps", taps, np.float32, (None,))
    check_array("samples", samples, np.float32, (len(out) + len(taps) - 1, out.shape[1]))
    _filter_to_int8(out.reshape(-1), samples.reshape(-1), taps * np.float32(scale), out.shape[1])


def add_channel_profiles(
    out: NDArray[np.float32], first: int, starts: NDArray[np.int64], profiles: NDArray[np.float32]
) -> None:
    """Add to every channel its own profile.

    Parameters
    ----------
    out
        float32 ``[time, at least channel]``, changed in place.
    first
        Number of the first row of ``out``.
    starts
        int64 ``[channel]``: number of the row at which the channel's profile starts.
    profiles
        float32 ``[channel, time]``.

    Raises
    ------
    ValueError
        If an array does not have that shape and dtype.
    """
    check_array("out", out, np.float32, (None, None))
    check_array("starts", starts, np.int64, (None,))
    check_array("profiles", profiles, np.float32, (len(starts), None))
    if out.shape[1] < len(starts):
        raise ValueError(f"out has {out.shape[1]} channels, must be at least the {len(starts)} of starts")
    _add_channel_profiles(out, first, starts, profiles)


@kernel
def _hash(key: np.uint64, number: np.uint64) -> np.uint64:
    z = key + (number + np.uint64(1)) * _GOLDEN
    z = (z ^ (z >> _S30)) * _MIX_A
    z = (z ^ (z >> _S27)) * _MIX_B
    return z ^ (z >> _S31)  # type: ignore[no-any-return]


@kernel
def _hash_numbers(out: NDArray[np.uint64], key: np.uint64, first: np.uint64) -> None:
    for i in range(len(out)):
        out[i] = _hash(key, first + np.uint64(i))


@kernel
def _draw(out: NDArray[np.float32], key: np.uint64, first: np.uint64, table: NDArray[np.float32]) -> None:
    for i in range(out.shape[0]):
        z = _hash(key, first + np.uint64(i))
        out[i, 0] = table[z & _LOW]
        out[i, 1] = table[(z >> _S16) & _LOW]
        out[i, 2] = table[(z >> _S32) & _LOW]
        out[i, 3] = table[z >> _S48]


@kernel
def _add_chirp(
    out: NDArray[np.float32],
    phase: np.uint64,
    step: np.uint64,
    chirp_rate: np.uint64,
    gain0: np.float32,
    gain1: np.float32,
    cosine: NDArray[np.float32],
) -> None:
    for i in range(out.shape[0]):
        turn = phase >> _S48
        real, imag = cosine[turn], cosine[(turn - _QUARTER) & _LOW]
        out[i, 0] += gain0 * real
        out[i, 1] += gain0 * imag
        out[i, 2] += gain1 * real
        out[i, 3] += gain1 * imag
        phase += step
        step += chirp_rate


@kernel
def _filter_to_int8(
    out: NDArray[np.int8], samples: NDArray[np.float32], taps: NDArray[np.float32], columns: int
) -> None:
    # Tap by tap over a tile that stays in the L1 cache: each pass is a vectorised multiply-add.
    total = np.empty(_TILE, np.float32)
    count = len(taps)
    for start in range(0, len(out), _TILE):
        size = min(_TILE, len(out) - start)
        total[:size] = np.float32(0.5)
        for k in range(count):
            tap = taps[k]
            shift = start + (count - 1 - k) * columns
            part = samples[shift : shift + size]  # a view indexed from 0 needs no test for negative indices
            for i in range(size):
                total[i] += tap * part[i]
        tile = out[start : start + size]
        for i in range(size):
            tile[i] = np.int8(np.floor(min(max(total[i], np.float32(-127)), np.float32(127))))


@kernel
def _add_channel_profiles(
    out: NDArray[np.float32], first: int, starts: NDArray[np.int64], profiles: NDArray[np.float32]
) -> None:
    for channel in range(len(starts)):
        begin = starts[channel] - first
        for i in range(max(0, -begin), min(profiles.shape[1], out.shape[0] - begin)):
            out[begin + i, channel] += profiles[channel, i]
