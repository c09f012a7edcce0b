"""Reference of edgefilter_kernels.simulation.noise in NumPy."""

import numpy as np
from numpy.typing import NDArray

_MASK = (1 << 64) - 1


def splitmix64(key: int, number: int) -> int:
    """Return SplitMix64's output for state ``key + (number + 1) golden``, with Python's integers."""
    z = (key + (number + 1) * 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def draw(key: int, first: int, count: int, table: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return four table entries for each of ``count`` hashes, ``[count, 4]``."""
    rows = [[splitmix64(key, first + i) >> shift & 0xFFFF for shift in (0, 16, 32, 48)] for i in range(count)]
    return table[np.array(rows, np.int64).reshape(count, 4)]


def tone(count: int, phase: int, step: int, chirp_rate: int, gains: tuple[float, float]) -> NDArray[np.float64]:
    """Return a tone of linearly changing frequency, ``[count, 4]``; phases in turns / 2^64."""
    turns = [((phase + step * i + chirp_rate * i * (i - 1) // 2) & _MASK) / 2**64 for i in range(count)]
    wave = np.exp(2j * np.pi * np.array(turns))
    return np.stack([gains[0] * wave.real, gains[0] * wave.imag, gains[1] * wave.real, gains[1] * wave.imag], axis=1)


def filtered(samples: NDArray[np.float32], taps: NDArray[np.float32], scale: float) -> NDArray[np.float64]:
    """Return every column convolved and scaled, but not rounded."""
    return scale * np.stack([np.convolve(column, taps, "valid") for column in samples.T.astype(np.float64)], axis=1)
