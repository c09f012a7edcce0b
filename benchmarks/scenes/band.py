"""The channels of a scene."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Band:
    """Equal channels between two frequencies (MHz), the highest first, as most telescopes record them."""

    low: float
    high: float
    channels: int

    @property
    def channel_mhz(self) -> float:
        """Width of a channel, MHz."""
        return (self.high - self.low) / self.channels

    @cached_property
    def frequencies(self) -> NDArray[np.float64]:
        """Centres of the channels, MHz, descending."""
        return np.asarray(self.high - self.channel_mhz * (np.arange(self.channels) + 0.5), np.float64)

    def covers(self, low: float, high: float) -> NDArray[np.float64]:
        """Return the fraction of each channel that lies between two frequencies.

        Parameters
        ----------
        low, high
            Frequencies, MHz.

        Returns
        -------
        ndarray
            float64 ``[channel]``.
        """
        half = 0.5 * self.channel_mhz
        overlap = np.minimum(high, self.frequencies + half) - np.maximum(low, self.frequencies - half)
        return np.clip(overlap / self.channel_mhz, 0.0, 1.0)
