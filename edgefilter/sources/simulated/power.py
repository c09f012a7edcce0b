"""A simulated telescope that sends power spectra."""

from dataclasses import KW_ONLY, dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from edgefilter.core.plan import dispersion_delay
from edgefilter.core.stream import Encoding, SampleKind, Stream
from edgefilter.sources.simulated.base import (
    BandLimitedNoise,
    Carrier,
    Chirp,
    Impulses,
    Interference,
    Sky,
    SkyPulse,
    epoch,
    on_ranges,
)
from edgefilter.sources.simulated.voltage import impulse_ranges
from edgefilter_kernels.simulation import noise

_BLOCK = 256
_MEAN, _STD = 96.0, 14.0


@dataclass(eq=False)
class PowerSky(Sky):
    """Total intensity ``[channel]``, highest frequency first, 8 bit unsigned or 32 bit float.

    Noise has the gamma distribution of its bandwidth and integration time. It is scaled, as digitisers do, to a mean of
    96 and a standard deviation of 14 in the middle of the band, less towards its edges.

    Parameters
    ----------
    seconds, seed, pulses, interference, name
        As of a :class:`~edgefilter.sources.simulated.base.Sky`; the S/N of a pulse is that of a filter matched to its
        profile after the smearing within channels.
    rate
        Spectra a second, Hz.
    centre_mhz, bandwidth_mhz, channels
        The band, MHz.
    bits
        8, or 32 for float.

    Raises
    ------
    InputError
        As :class:`~edgefilter.sources.simulated.base.Sky`, and if ``bits`` is neither.
    """

    _: KW_ONLY
    rate: float | Fraction = 1000
    centre_mhz: float = 1400.0
    bandwidth_mhz: float = 256.0
    channels: int = 256
    bits: int = 8

    def __post_init__(self) -> None:
        step = self.bandwidth_mhz / max(self.channels, 1)
        stream = Stream(
            name=self.name,
            kind=SampleKind.POWER,
            epoch_tai_ns=epoch(),
            rate=Fraction(self.rate),
            channels=self.channels,
            first_channel_hz=(self.centre_mhz + self.bandwidth_mhz / 2 - step / 2) * 1e6,
            channel_step_hz=-step * 1e6,
            products=("I",),
            bits=self.bits,
            encoding=Encoding.FLOAT if self.bits == 32 else Encoding.UNSIGNED,
            telescope="synthetic",
            source=f"seed {self.seed}",
        )
        self._set_stream(stream, _BLOCK)
        self._mhz = stream.frequencies_hz / 1e6
        self._step_mhz = step
        # (Mean / standard deviation)², the number of independent values: bandwidth × time in each of two polarisations.
        self._gamma_shape = max(1.0, 2 * step * 1e6 / float(self.rate))
        self._noise_key = noise.make_key(self.seed, 0)
        self._keys = [noise.make_key(self.seed, use) for use in range(1, 1 + len(self.interference))]
        self._table = noise.gamma_table(self._gamma_shape)
        edge = np.abs(self._mhz - self.centre_mhz) / (self.bandwidth_mhz / 2)
        bandpass = (1 - 0.6 * edge**8) * (1 + 0.1 * np.cos(9 * edge))
        self._std = (_STD * bandpass).astype(np.float32)
        self._mean = (_MEAN * bandpass).astype(np.float32)
        self._dispersed_pulses = [self._dispersed_pulse(pulse) for pulse in self.pulses]

    def _make_block(self, base: int) -> NDArray[np.uint8]:
        channels = self._stream.channels
        groups = -(-channels // 4)
        field = np.empty((_BLOCK, 4 * groups), np.float32)
        noise.draw(field.reshape(-1, 4), self._noise_key, base * groups, self._table)
        for emitter, key in zip(self.interference, self._keys, strict=True):
            self._add_interference(field, base, emitter, key)
        for starts, profiles in self._dispersed_pulses:
            if starts.min() < base + _BLOCK and starts.max() + profiles.shape[1] > base:
                noise.add_channel_profiles(field, base, starts, profiles)
        power = field[:, :channels]
        power *= self._std
        power += self._mean
        if self._stream.bits == 32:
            return np.ascontiguousarray(power).view(np.uint8)
        return np.asarray(np.clip(power + np.float32(0.5), 0, 255), np.uint8)

    def _add_interference(self, field: NDArray[np.float32], base: int, emitter: Interference, key: int) -> None:
        rate, stop = self._stream.rate, base + _BLOCK
        if isinstance(emitter, Carrier):
            for _, begin, end in on_ranges(emitter.period, emitter.on_seconds, rate, base, stop):
                self._scale_power(
                    field[begin - base : end - base], emitter.level * self._stream.channels, emitter.mhz, emitter.mhz
                )
        elif isinstance(emitter, Chirp):
            level = emitter.level * self._stream.channels
            for origin, begin, end in on_ranges(emitter.period, emitter.period, rate, base, stop):
                part = (np.arange(begin, end) - origin) / (emitter.period * float(rate))
                mhz = emitter.low_mhz + (emitter.high_mhz - emitter.low_mhz) * part
                channel = np.floor((self.top_mhz - mhz) / self._step_mhz).astype(np.int64)
                inside = (channel >= 0) & (channel < self._stream.channels)
                where = np.arange(begin - base, end - base)[inside], channel[inside]
                field[where] = field[where] * np.float32(1 + level) + np.float32(level * np.sqrt(self._gamma_shape))
        elif isinstance(emitter, BandLimitedNoise):
            for _, begin, end in on_ranges(emitter.period, emitter.on_seconds, rate, base, stop):
                self._scale_power(field[begin - base : end - base], emitter.level, emitter.low_mhz, emitter.high_mhz)
        else:
            level = emitter.level * min(1.0, emitter.width * float(rate))
            for begin, end in impulse_ranges(emitter, key, rate, base, stop):
                self._scale_power(field[begin - base : end - base], level, self.low_mhz, self.top_mhz)

    def _scale_power(self, part: NDArray[np.float32], level: float, low: float, high: float) -> None:
        """Add ``level`` times the noise power to the channels that touch a band (one channel if ``low == high``)."""
        half = self._step_mhz / 2
        touched = np.flatnonzero((self._mhz + half > low) & (self._mhz - half <= high))
        if len(touched):
            band = part[:, touched[0] : touched[-1] + 1]
            band *= np.float32(1 + level)
            band += np.float32(level * np.sqrt(self._gamma_shape))

    def _dispersed_pulse(self, pulse: SkyPulse) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the first row ``[channel]`` and the profile ``[channel, time]`` of a pulse, in standard deviations.

        The Gaussian is averaged over the dispersion delay within the channel and over the sample: second differences of
        the integral of the normal distribution function.
        """
        rate = float(self._stream.rate)
        sigma = pulse.width / np.sqrt(8 * np.log(2)) * rate
        half = self._step_mhz / 2
        upper_edge_delay, lower_edge_delay = (
            np.array([dispersion_delay(pulse.dm, mhz + side, self.top_mhz) * rate for mhz in self._mhz])
            for side in (half, -half)
        )
        smear = np.maximum(lower_edge_delay - upper_edge_delay, 1e-3)
        middle = pulse.seconds * rate + (upper_edge_delay + lower_edge_delay) / 2
        half_length = int(np.ceil(4 * sigma + smear.max() / 2)) + 1
        starts = np.floor(middle).astype(np.int64) - half_length
        edges = starts[:, None] + np.arange(2 * half_length + 2) - middle[:, None]
        ramp = [_normal_cdf_integral((edges + side * smear[:, None] / 2) / sigma) * sigma for side in (1, -1)]
        profiles = np.diff((ramp[0] - ramp[1]) / smear[:, None], axis=1)
        return starts, (pulse.snr / np.sqrt(np.sum(profiles**2)) * profiles).astype(np.float32)


def power_interference(rate: float, centre_mhz: float, bandwidth_mhz: float, channels: int) -> tuple[Interference, ...]:
    """Return interference of every kind, spread over a band; its strength is relative to the radiometer noise.

    Parameters
    ----------
    rate
        Spectra a second, Hz.
    centre_mhz, bandwidth_mhz, channels
        The band, MHz.

    Returns
    -------
    tuple
        For :class:`PowerSky`.
    """

    def at(part: float) -> float:
        return centre_mhz + part * bandwidth_mhz

    sigma = float((2 * bandwidth_mhz * 1e6 / channels / rate) ** -0.5)  # standard deviation / mean of a cell
    return (
        Carrier(at(0.31), level=5 * sigma / channels),
        Carrier(at(-0.17), level=8 * sigma / channels),
        Carrier(at(-0.22), level=6 * sigma / channels, period=1.7, on_seconds=0.4),
        Chirp(at(-0.40), at(-0.34), level=6 * sigma / channels, period=2.3),
        BandLimitedNoise(at(0.10), at(0.16), level=3 * sigma, period=3.1, on_seconds=0.7),
        Impulses(interval=0.9, width=1 / rate, level=4 * sigma),
    )


def _normal_cdf_integral(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Integrate the normal distribution function from -∞."""
    return np.asarray(x * ndtr(x) + np.exp(-0.5 * x * x) / np.sqrt(2 * np.pi), np.float64)
