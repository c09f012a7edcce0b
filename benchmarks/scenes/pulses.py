"""Dispersed pulses: the power that they add to each sample of each channel."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtr

from benchmarks.scenes.band import Band
from edgefilter.core.plan import dispersion_delay

_FWHM = 2.0 * np.sqrt(2.0 * np.log(2.0))  # of a Gaussian, in standard deviations
_SIGMAS, _TAILS = 5.0, 8.0  # standard deviations of a Gaussian, and scattering times, that are rendered
_PARTS_OF_A_ROW = 4  # the smear in a channel is a sum of narrower channels, this many for each row of smear


@dataclass(frozen=True, slots=True)
class Pulse:
    """A pulse of the sky.

    Parameters
    ----------
    seconds
        Arrival of its middle, before scattering, at the centre of the highest channel, s.
    dm
        Dispersion measure, pc cm⁻³.
    width
        Full width at half maximum, s.
    snr
        Its S/N for an ideal search before digitisation, see :mod:`benchmarks.scenes.ideal`, if no sample of it is lost.
    low, high
        The part of the band that it fills, MHz; by default all.
    scattering
        1/e time of the exponential tail at the centre of the band, s; it scales with frequency to the power -4.
    name
        What it is, to tell pulses of a pulsar from bursts.
    """

    seconds: float
    dm: float
    width: float
    snr: float
    low: float = 0.0
    high: float = np.inf
    scattering: float = 0.0
    name: str = "burst"

    def edges(self, band: Band) -> tuple[float, float]:
        """Return the lowest and the highest frequency that it fills.

        Parameters
        ----------
        band
            The band of the scene.

        Returns
        -------
        tuple of float
            MHz.
        """
        return max(self.low, band.low), min(self.high, band.high)

    def effective_width(self, band: Band) -> float:
        """Return the width at the low end of its band: intrinsic, smeared and scattered, in quadrature.

        Parameters
        ----------
        band
            The band of the scene.

        Returns
        -------
        float
            s.
        """
        low, _ = self.edges(band)
        smear = dispersion_delay(self.dm, low, low + band.channel_mhz)
        return float(np.sqrt(self.width**2 + smear**2 + scattering_time(self, band, low) ** 2))


@dataclass(frozen=True)
class RenderedPulse:
    """The power of a pulse.

    Parameters
    ----------
    first
        int64 ``[channel]``: the row of the first value; channels that the pulse does not fill have no values but zero.
    power
        float32 ``[channel, row]``: mean power in a row, in units of the system noise.
    """

    first: NDArray[np.int64]
    power: NDArray[np.float32]

    @property
    def span(self) -> tuple[int, int]:
        """The first row with power in some channel, and one past the last."""
        return int(self.first.min()), int(self.first.max()) + self.power.shape[1]

    def add_to(self, power: NDArray[np.float32], first_row: int) -> None:
        """Add the pulse to a chunk.

        Parameters
        ----------
        power
            float32 ``[row, channel]``, changed in place.
        first_row
            Its first row.
        """
        start, stop = self.span
        if stop <= first_row or start >= first_row + len(power):
            return
        rows = self.first[:, None] - first_row + np.arange(self.power.shape[1])
        inside = (rows >= 0) & (rows < len(power))
        channels = np.broadcast_to(np.arange(len(self.first))[:, None], rows.shape)
        power[rows[inside], channels[inside]] += self.power[inside]


def delays(band: Band, dm: float) -> NDArray[np.float64]:
    """Return the delay of each channel's centre after the highest channel's.

    Parameters
    ----------
    band
        The band.
    dm
        Dispersion measure, pc cm⁻³.

    Returns
    -------
    ndarray
        float64 ``[channel]``, s.
    """
    return np.asarray(dispersion_delay(dm, 1.0, np.inf) * (band.frequencies**-2 - band.frequencies.max() ** -2))


def scattering_time(pulse: Pulse, band: Band, mhz: float) -> float:
    """Return the 1/e time of a pulse's tail at a frequency.

    Parameters
    ----------
    pulse, band
        The pulse; the band, at whose centre its scattering time is given.
    mhz
        The frequency, MHz.

    Returns
    -------
    float
        s.
    """
    return pulse.scattering * (mhz / (0.5 * (band.low + band.high))) ** -4


def render(pulse: Pulse, band: Band, row_seconds: float, amplitude: float = 1.0) -> RenderedPulse:
    """Compute the mean power of a pulse in each row of each channel.

    The smear within a channel is the sum of narrower channels with delays of their own; the mean over a row is the
    difference of the cumulative profile at its ends.

    Parameters
    ----------
    pulse
        The pulse.
    band, row_seconds
        The channels; length of a row, s.
    amplitude
        Fluence in a channel, in rows of the power of the system noise.

    Returns
    -------
    RenderedPulse
        Its power.
    """
    low, high = pulse.edges(band)
    sigma = pulse.width / _FWHM
    filled = (band.frequencies > low) & (band.frequencies < high)
    half = 0.5 * band.channel_mhz
    smear = dispersion_delay(pulse.dm, 1.0, np.inf) * (
        (band.frequencies - half) ** -2 - (band.frequencies + half) ** -2
    )
    longest = scattering_time(pulse, band, low)
    before = _SIGMAS * sigma + 0.5 * smear[filled].max()
    after = before + _TAILS * longest
    rows = int(np.ceil((before + after) / row_seconds)) + 3
    arrival = pulse.seconds + delays(band, pulse.dm)
    first = np.floor((arrival - before) / row_seconds).astype(np.int64) - 1
    power = np.zeros((len(first), rows), np.float32)
    parts = int(np.ceil(_PARTS_OF_A_ROW * smear[filled].max() / row_seconds)) + 1
    offsets = ((np.arange(parts) + 0.5) / parts - 0.5) * band.channel_mhz
    edges = np.arange(rows + 1) * row_seconds
    top = band.frequencies.max()
    for channel in np.flatnonzero(filled):
        f = band.frequencies[channel]
        middle = pulse.seconds + dispersion_delay(pulse.dm, 1.0, np.inf) * ((f + offsets) ** -2 - top**-2)
        x = first[channel] * row_seconds + edges - middle[:, None]
        cumulative = _cumulative(x, sigma, scattering_time(pulse, band, f)).mean(axis=0)
        power[channel] = amplitude * np.diff(cumulative)
    return RenderedPulse(first, power)


def _cumulative(x: NDArray[np.float64], sigma: float, tau: float) -> NDArray[np.float64]:
    """Return the integral to x of a Gaussian convolved with an exponential tail of 1/e time tau."""
    gaussian = np.asarray(ndtr(x / sigma))
    if tau < 1e-3 * sigma:
        return gaussian
    exponent = 0.5 * (sigma / tau) ** 2 - x / tau + log_ndtr(x / sigma - sigma / tau)
    return np.asarray(gaussian - np.exp(np.minimum(exponent, 0.0)))
