"""A simulated telescope that sends raw voltages of two polarisations.

The order is that of a receiver: noise, pulses and interference are summed, then filtered, then rounded by the
digitiser. Noise has unit variance in each real component; ``level`` and S/N are relative to it.
"""

from dataclasses import KW_ONLY, dataclass
from fractions import Fraction

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.signal import firwin2

from edgefilter.core.plan import DISPERSION_S_MHZ2
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
from edgefilter_kernels.simulation import noise

_BLOCK = 16384  # four float32 a sample: 256 KiB stay in the L2 cache from the noise to the digitiser
_SYMBOL_SAMPLES = 1024
_RMS_COUNTS = 20.0
_PHASE_UNITS_PER_TURN = 1 << 64
_POL_AMPLITUDES = (float(np.sqrt(1.5)), float(np.sqrt(0.5)))
"""Amplitudes of interference in the two polarisations: it is polarised at 30° from X; the mean power is 1."""


def receiver_taps() -> NDArray[np.float32]:
    """Return the impulse response of the receiver, float32 ``[13]``: a roll-off at the band edges, a cable reflection.

    The reflection, an echo of amplitude 0.12 after four samples, makes a ripple of ±12 % across the band.
    """
    taps = firwin2(9, [0, 0.75, 1], [1, 1, 0])
    taps = np.convolve(taps, [1, 0, 0, 0, 0.12])
    return np.asarray(taps / np.sqrt(np.sum(taps**2)), np.float32)


@dataclass(eq=False)
class VoltageSky(Sky):
    """Complex voltages, int8 ``[1 channel, 2 polarisations, (real, imaginary)]``, of about 20 counts rms.

    Parameters
    ----------
    seconds, seed, pulses, interference, name
        As of a :class:`~edgefilter.sources.simulated.base.Sky`.
    rate
        Samples a second and bandwidth, Hz.
    centre_mhz
        Sky frequency of 0 Hz, MHz.

    Raises
    ------
    InputError
        As :class:`~edgefilter.sources.simulated.base.Sky`.
    """

    _: KW_ONLY
    rate: float | Fraction = 16_000_000
    centre_mhz: float = 1400.0

    def __post_init__(self) -> None:
        stream = Stream(
            name=self.name,
            kind=SampleKind.VOLTAGE,
            epoch_tai_ns=epoch(),
            rate=Fraction(self.rate),
            channels=1,
            first_channel_hz=self.centre_mhz * 1e6,
            channel_step_hz=float(self.rate),
            products=("X", "Y"),
            bits=8,
            encoding=Encoding.SIGNED,
            complex_samples=True,
            telescope="synthetic",
            source=f"seed {self.seed}",
        )
        self._set_stream(stream, _BLOCK)
        self._noise_key = noise.make_key(self.seed, 0)
        sources = len(self.interference) + len(self.pulses)
        self._keys = [noise.make_key(self.seed, use) for use in range(1, 1 + sources)]
        self._normal_table = noise.normal_table()
        self._cosine_table = noise.cosine_table()
        self._taps = receiver_taps()
        self._waveforms: dict[int, tuple[int, NDArray[np.float32]]] = {}

    def close(self) -> None:
        """Release the waveforms of pulses."""
        self._waveforms.clear()

    def _prepare(self, start: int, stop: int) -> None:
        """Make the waveforms of the pulses in samples ``[start, stop)``, and drop all others.

        Both ends are widened by a block and the length of the filter. A waveform is a function of its pulse alone, so
        dropping it and making it again changes nothing.
        """
        margin = _BLOCK + len(self._taps)
        needed: dict[int, tuple[int, NDArray[np.float32]]] = {}
        for number, pulse in enumerate(self.pulses):
            first, last = self._pulse_extent(pulse)
            if first < stop + margin and last > start - margin:
                needed[number] = self._waveforms.get(number) or (first, self._waveform(number))
        self._waveforms = needed

    def _make_block(self, base: int) -> NDArray[np.uint8]:
        lead = len(self._taps) // 2  # the filter is centred, so that it causes no delay
        first, count = base - lead, _BLOCK + len(self._taps) - 1
        field = np.empty((count, 4), np.float32)
        noise.draw(field, self._noise_key, first, self._normal_table)
        for start, waveform in self._waveforms.values():
            begin, end = max(first, start), min(first + count, start + len(waveform))
            if begin < end:
                field[begin - first : end - first] += waveform[begin - start : end - start]
        for emitter, key in zip(self.interference, self._keys, strict=False):
            self._add_interference(field, first, emitter, key)
        out = np.empty((_BLOCK, 4), np.int8)
        noise.filter_to_int8(out, field, self._taps, _RMS_COUNTS)
        return out.view(np.uint8)

    def _add_interference(self, field: NDArray[np.float32], first: int, emitter: Interference, key: int) -> None:
        rate, stop = self._stream.rate, first + len(field)
        if isinstance(emitter, Carrier):
            step = self._phase_step(emitter.mhz)
            for _, begin, end in on_ranges(emitter.period, emitter.on_seconds, rate, first, stop):
                self._add_tone(field[begin - first : end - first], step * begin, step, 0, emitter.level)
        elif isinstance(emitter, Chirp):
            step, length = self._phase_step(emitter.low_mhz), max(1, round(emitter.period * rate))
            chirp_rate = (self._phase_step(emitter.high_mhz) - step) // length
            for origin, begin, end in on_ranges(emitter.period, emitter.period, rate, first, stop):
                n = begin - origin
                phase = step * n + chirp_rate * (n * (n - 1) // 2)
                self._add_tone(
                    field[begin - first : end - first], phase, step + chirp_rate * n, chirp_rate, emitter.level
                )
        elif isinstance(emitter, BandLimitedNoise):
            for _, begin, end in on_ranges(emitter.period, emitter.on_seconds, rate, first, stop):
                field[begin - first : end - first] += self._ofdm_samples(emitter, key, begin, end)
        else:
            for begin, end in impulse_ranges(emitter, key, rate, first, stop):
                field[begin - first : end - first] *= np.float32(np.sqrt(1 + emitter.level))

    def _phase_step(self, mhz: float) -> int:
        """Return the phase step of a tone in turns / 2^64 a sample."""
        return round(Fraction(mhz - self.centre_mhz) * 1_000_000 / self._stream.rate * _PHASE_UNITS_PER_TURN)

    def _add_tone(self, field: NDArray[np.float32], phase: int, step: int, chirp_rate: int, level: float) -> None:
        amplitude = float(np.sqrt(2 * level))  # the noise has a mean |v|² of 2
        noise.add_chirp(
            field,
            phase,
            step,
            chirp_rate,
            (amplitude * _POL_AMPLITUDES[0], amplitude * _POL_AMPLITUDES[1]),
            self._cosine_table,
        )

    def _ofdm_samples(self, band: BandLimitedNoise, key: int, begin: int, end: int) -> NDArray[np.float32]:
        """Make samples of an OFDM signal: symbols of 1024 samples, each subcarrier with one of four phases."""
        first, last = begin // _SYMBOL_SAMPLES, -(-end // _SYMBOL_SAMPLES)
        quadrant = noise.hash_numbers(key, first * _SYMBOL_SAMPLES, (last - first) * _SYMBOL_SAMPLES).reshape(
            -1, _SYMBOL_SAMPLES
        ) >> np.uint64(62)
        mhz = self.centre_mhz + np.fft.fftfreq(_SYMBOL_SAMPLES, float(1e6 / self._stream.rate))
        inside = (mhz >= band.low_mhz) & (mhz < band.high_mhz)
        phase = np.array([1, 1j, -1, -1j], np.complex64)[quadrant] * np.sqrt(
            np.float32(2 * _SYMBOL_SAMPLES * band.level)
        )
        wave = scipy.fft.ifft(np.where(inside, phase, np.complex64(0)), axis=1).ravel()
        wave = wave[begin - first * _SYMBOL_SAMPLES : end - first * _SYMBOL_SAMPLES]
        return np.asarray((wave[:, None] * np.array(_POL_AMPLITUDES, np.float32)).view(np.float32), np.float32)

    def _pulse_extent(self, pulse: SkyPulse) -> tuple[int, int]:
        """Return the samples that a pulse covers: four sigma about its centre, its sweep, and a margin for ringing."""
        rate = float(self._stream.rate)
        arrival = round(pulse.seconds * rate)
        half = int(4 * _sigma(pulse) * rate) + 1024
        return arrival - half, arrival + half + int(self.sweep_seconds(pulse.dm) * rate) + 1024

    def _waveform(self, number: int) -> NDArray[np.float32]:
        """Return the waveform of a pulse, float32 ``[time, 4]``: dispersed noise with a Gaussian envelope.

        The total intensity of N complex samples of two polarisations, whose components have unit variance, has variance
        8 N. So a power envelope g, in units of the noise power, has a matched-filter S/N² = 2 sum(g²).
        """
        pulse = self.pulses[number]
        rate = float(self._stream.rate)
        start, stop = self._pulse_extent(pulse)
        length = scipy.fft.next_fast_len(stop - start)
        arrival = round(pulse.seconds * rate) - start
        time = (np.arange(2 * arrival) - arrival) / rate
        envelope = np.exp(-0.5 * (time / _sigma(pulse)) ** 2)
        power = pulse.snr / np.sqrt(2 * np.sum(envelope**2)) * envelope
        raw = np.empty((len(time), 4), np.float32)
        noise.draw(raw, self._keys[len(self.interference) + number], 0, self._normal_table)
        raw *= np.sqrt(power, dtype=np.float64).astype(np.float32)[:, None]
        response = self._dispersion(pulse.dm, length)
        out = np.empty((stop - start, 2), np.complex64)
        for pol in range(2):
            spectrum = scipy.fft.fft(raw.view(np.complex64)[:, pol], length)
            spectrum *= response
            out[:, pol] = scipy.fft.ifft(spectrum, overwrite_x=True)[: stop - start]
        return out.view(np.float32)

    def _dispersion(self, dm: float, length: int) -> NDArray[np.complex64]:
        """Return the transfer function of cold plasma, complex64 ``[length]``, without delay at the band's upper edge.

        Its group delay is ``constant dm (f⁻² - top⁻²)``; the phase is the integral of the delay over frequency
        (Hankins & Rickett 1975).
        """
        mhz = self.centre_mhz + np.fft.fftfreq(length, float(1e6 / self._stream.rate))
        turns = DISPERSION_S_MHZ2 * 1e6 * dm * (-1 / mhz - mhz / self.top_mhz**2)
        return np.asarray(np.exp(-2j * np.pi * (turns - np.floor(turns))), np.complex64)


def impulse_ranges(impulses: Impulses, key: int, rate: Fraction, start: int, stop: int) -> list[tuple[int, int]]:
    """Return when impulses are on.

    Parameters
    ----------
    impulses
        One occurs in every interval.
    key
        Random key, which places them.
    rate
        Samples a second, Hz.
    start, stop
        Samples ``[start, stop)`` to look at.

    Returns
    -------
    list of (first, last)
        Parts ``[first, last)`` of the range.
    """
    interval, width = max(1, round(impulses.interval * rate)), max(1, round(impulses.width * rate))
    slots = range(start // interval, -(-stop // interval))
    found = []
    for slot, value in zip(slots, noise.hash_numbers(key, slots.start, len(slots)).tolist(), strict=True):
        begin = slot * interval + value % max(1, interval - width + 1)
        if begin < stop and begin + width > start:
            found.append((max(begin, start), min(begin + width, stop)))
    return found


def voltage_interference(rate: float, centre_mhz: float) -> tuple[Interference, ...]:
    """Return interference of every kind, spread over a band.

    Parameters
    ----------
    rate
        Bandwidth, Hz.
    centre_mhz
        Centre of the band, MHz.

    Returns
    -------
    tuple
        For :class:`VoltageSky`.
    """

    def at(part: float) -> float:
        return centre_mhz + part * rate / 1e6

    return (
        Carrier(at(0.31), level=0.05),
        Carrier(at(-0.22), level=0.02, period=1.7, on_seconds=0.4),
        Chirp(at(-0.40), at(-0.34), level=0.02, period=2.3),
        BandLimitedNoise(at(0.10), at(0.16), level=0.5, period=3.1, on_seconds=0.7),
        Impulses(interval=0.9, width=40e-6, level=8.0),
    )


def _sigma(pulse: SkyPulse) -> float:
    """Return the standard deviation of a pulse's Gaussian profile, s."""
    return pulse.width / float(np.sqrt(8 * np.log(2)))
