"""Digitisers of 1 to 8 bits, with levels that are set once for each channel."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

_STEP = {1: 2.0, 2: 0.996, 4: 0.335, 8: 1.0 / 12.0}  # standard deviations of noise between two numbers
_MIDDLE = {1: 0.5, 2: 1.5, 4: 7.5, 8: 96.0}  # number at the mean of the noise; 8 bits leave room for what is bright


@dataclass(frozen=True)
class Digitiser:
    """Turns power into numbers of ``bits`` bits.

    Parameters
    ----------
    bits
        1, 2, 4 or 8.
    level
        float64 ``[channel]``: power of quiet noise when the levels were set.
    scatter
        Standard deviation of the quiet noise relative to its mean.
    common
        Whether all channels have one scale, on which no power is 0 and the highest level is the middle number;
        otherwise each has levels around its own.
    """

    bits: int
    level: NDArray[np.float64]
    scatter: float
    common: bool = False

    def numbers(self, power: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Digitise power.

        Parameters
        ----------
        power
            float32 ``[row, channel]``.

        Returns
        -------
        ndarray
            uint8 ``[row, channel]``, of 0 to 2^bits - 1.
        """
        scale = (1.0 / (_STEP[self.bits] * self.scatter * self.level)).astype(np.float32)
        offset = np.float32(_MIDDLE[self.bits] - 1.0 / (_STEP[self.bits] * self.scatter))
        if self.common:
            scale, offset = np.full_like(scale, _MIDDLE[self.bits] / self.level.max()), np.float32(0.0)
        values = power * scale
        values += offset
        np.rint(values, out=values)
        np.clip(values, 0, (1 << self.bits) - 1, out=values)
        return values.astype(np.uint8)

    def pack(self, numbers: NDArray[np.uint8]) -> bytes:
        """Pack numbers into bytes, the first channel in the low bits.

        Parameters
        ----------
        numbers
            uint8 ``[row, channel]``.

        Returns
        -------
        bytes
            ``channels · bits / 8`` for a row.
        """
        if self.bits == 8:
            return numbers.tobytes()
        per_byte = 8 // self.bits
        shifts = (self.bits * np.arange(per_byte)).astype(np.uint8)
        packed: NDArray[np.uint8] = np.bitwise_or.reduce(numbers.reshape(-1, per_byte) << shifts, axis=1)
        return packed.tobytes()

    def efficiency(self) -> float:
        """Return the S/N of a faint signal in the numbers, over its S/N in the power, for Gaussian noise."""
        limits = self._limits
        density = np.exp(-0.5 * limits**2) / np.sqrt(2.0 * np.pi)
        return float(density.sum() / self._deviation)

    def response(self, excess: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return how much a signal raises the mean number: linear while it is faint, less where it saturates.

        Parameters
        ----------
        excess
            Power above that of quiet noise, in standard deviations of the noise.

        Returns
        -------
        ndarray
            float64, in standard deviations of the numbers of quiet noise.
        """
        powers, numbers = self._table
        return np.asarray(np.interp(excess, powers, numbers), np.float64)

    @cached_property
    def _limits(self) -> NDArray[np.float64]:
        """Power at which the number rises by one, in standard deviations above the mean."""
        return np.asarray((np.arange(1, 1 << self.bits) - 0.5 - _MIDDLE[self.bits]) * _STEP[self.bits], np.float64)

    @cached_property
    def _deviation(self) -> float:
        """Standard deviation of the numbers of quiet noise; a number is the count of the limits that it exceeds."""
        above = ndtr(-self._limits)
        square = ((2 * np.arange(len(above)) + 1) * above).sum()
        return float(np.sqrt(square - above.sum() ** 2))

    @cached_property
    def _table(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        powers = np.linspace(0.0, 40.0, 2001)
        numbers = ndtr(powers[:, None] - self._limits).sum(axis=1)
        return powers, (numbers - numbers[0]) / self._deviation
