"""What both synthetic skies share: pulses, interference, and samples that are a function of their number."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from edgefilter.core.chunk import Chunk, Gap, Loss
from edgefilter.core.clock import NS, sample_at, tai_ns_from_iso
from edgefilter.core.errors import InputError
from edgefilter.core.plan import DISPERSION_S_MHZ2, dispersion_delay
from edgefilter.core.stream import Stream

EPOCH_UTC = "2026-01-01T00:00:00"
"""Start of every synthetic sky, so that a run can be repeated to the byte."""


@dataclass(frozen=True, slots=True)
class SkyPulse:
    """A dispersed pulse to put into the sky.

    Parameters
    ----------
    seconds
        Arrival of its middle at the upper edge of the band, s since sample 0.
    dm
        Dispersion measure, pc cm⁻³.
    width
        Full width at half maximum of its Gaussian profile, s.
    snr
        What a filter matched to it reaches in the total intensity of the whole band.
    """

    seconds: float
    dm: float
    width: float
    snr: float


@dataclass(frozen=True, slots=True)
class TruePulse(SkyPulse):
    """A pulse that is in the sky.

    Parameters
    ----------
    sample
        Sample nearest to the arrival at the upper edge of the band.
    top_mhz
        Upper edge of the band, MHz.
    """

    sample: int
    top_mhz: float

    def seconds_at(self, mhz: float) -> float:
        """Arrival at a frequency in MHz (infinity is one), s since sample 0."""
        return self.seconds + DISPERSION_S_MHZ2 * self.dm * (mhz**-2 - self.top_mhz**-2)


@dataclass(frozen=True, slots=True)
class Carrier:
    """A narrow tone.

    Parameters
    ----------
    mhz
        Its frequency.
    level
        Its power over that of the noise in the whole band.
    period, on_seconds
        It is on for the first ``on_seconds`` s of every ``period`` s; always if ``period`` is 0.
    """

    mhz: float
    level: float
    period: float = 0.0
    on_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Chirp:
    """A tone that sweeps up from ``low_mhz`` to ``high_mhz`` in every ``period`` s; ``level`` as for a carrier."""

    low_mhz: float
    high_mhz: float
    level: float
    period: float


@dataclass(frozen=True, slots=True)
class BandLimitedNoise:
    """A transmitter with a noise-like flat spectrum, such as OFDM.

    Parameters
    ----------
    low_mhz, high_mhz
        Its edges.
    level
        Its power over that of the noise between its edges.
    period, on_seconds
        As for a carrier.
    """

    low_mhz: float
    high_mhz: float
    level: float
    period: float = 0.0
    on_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Impulses:
    """Broadband, undispersed bursts of noise.

    Parameters
    ----------
    interval
        One comes in each run of so many seconds, at a time that follows from the seed.
    width
        Duration, s.
    level
        Its power over that of the noise.
    """

    interval: float
    width: float
    level: float


Interference = Carrier | Chirp | BandLimitedNoise | Impulses


def on_ranges(
    period: float, on_seconds: float, rate: Fraction, start: int, stop: int
) -> Iterator[tuple[int, int, int]]:
    """Yield ``(begin, first, last)``: a run that begins at sample ``begin`` covers ``[first, last)`` of the range."""
    if period <= 0:
        yield 0, start, stop
        return
    length, on_samples = max(1, round(period * rate)), max(1, round(on_seconds * rate))
    for cycle in range(start // length, -(-stop // length)):
        first, last = max(start, cycle * length), min(stop, cycle * length + min(on_samples, length))
        if first < last:
            yield cycle * length, first, last


class Sky(ABC):
    """A source that makes its samples in runs of fixed length, each a function of its number alone.

    Parameters
    ----------
    stream
        The header.
    seconds
        Length, s; rounded down to whole samples.
    pulses, interference
        What is in it.
    block
        Samples that are made together. Reads at multiples of it waste nothing.

    Raises
    ------
    InputError
        If the sky would be empty, a pulse or interference is not one, or the band reaches down to 0 MHz.
    """

    def __init__(
        self,
        stream: Stream,
        seconds: float,
        pulses: Sequence[SkyPulse],
        interference: Sequence[Interference],
        block: int,
    ) -> None:
        frequencies = stream.frequencies_hz / 1e6
        half = abs(stream.channel_step_hz) / 2e6
        self._stream = stream
        self._samples = int(seconds * stream.rate) if np.isfinite(seconds) else 0
        self.low_mhz, self.top_mhz = float(frequencies.min() - half), float(frequencies.max() + half)
        self.pulses = tuple(pulses)
        self.interference = tuple(interference)
        self._block = block
        if self._samples < 1:
            raise InputError(f"a sky of {seconds} s at {float(stream.rate)} Hz holds no sample")
        if self.low_mhz <= 0:
            raise InputError(f"the sky's band begins at {self.low_mhz} MHz, must be above 0")
        for pulse in self.pulses:
            if not (np.isfinite(pulse.seconds) and pulse.dm >= 0 and pulse.width > 0 and pulse.snr >= 0):
                raise InputError(f"{pulse}: dm and snr must not be negative, width must be positive")
        for emitter in self.interference:
            if emitter.level < 0 or (isinstance(emitter, Chirp) and emitter.period <= 0):
                raise InputError(f"{emitter}: level must not be negative, a chirp's period must be positive")
            if isinstance(emitter, Impulses) and not 0 < emitter.width <= emitter.interval:
                raise InputError(f"{emitter}: must be 0 < width <= interval")

    @property
    def stream(self) -> Stream:
        """The header."""
        return self._stream

    @property
    def samples(self) -> int:
        """One past the last sample."""
        return self._samples

    @property
    def warnings(self) -> tuple[str, ...]:
        """Nothing to warn of."""
        return ()

    @property
    def truth(self) -> tuple[TruePulse, ...]:
        """The pulses that were put in, earliest first."""
        return tuple(
            TruePulse(
                *(pulse.seconds, pulse.dm, pulse.width, pulse.snr),
                sample=sample_at(0, self._stream.rate, round(pulse.seconds * NS)),
                top_mhz=self.top_mhz,
            )
            for pulse in sorted(self.pulses, key=lambda pulse: pulse.seconds)
        )

    def sweep_seconds(self, dm: float) -> float:
        """Seconds from a pulse's arrival at the upper edge of the band to that at the lower edge."""
        return dispersion_delay(dm, self.low_mhz, self.top_mhz)

    def read(self, start: int, stop: int) -> Chunk:
        """Read samples ``[start, stop)``; those before 0 or after the end are a gap of reason OUTSIDE."""
        data = np.zeros((max(0, stop - start), self._stream.sample_bytes), np.uint8)
        first, last = max(start, 0), min(stop, self._samples)
        if first >= last:
            return Chunk(start, data, (Gap(start, stop, Loss.OUTSIDE),) if start < stop else ())
        self._prepare(first, last)
        for base in range(first // self._block * self._block, last, self._block):
            here, there = max(first, base), min(last, base + self._block)
            data[here - start : there - start] = self._make_block(base)[here - base : there - base]
        ends = ((start, first), (last, stop))
        return Chunk(start, data, tuple(Gap(*end, Loss.OUTSIDE) for end in ends if end[0] < end[1]))

    def close(self) -> None:  # noqa: B027 - most skies hold nothing
        """Give back memory."""

    def _prepare(self, first: int, last: int) -> None:  # noqa: B027 - most skies need nothing
        """Make ready what runs within samples ``[first, last)`` have in common."""

    @abstractmethod
    def _make_block(self, base: int) -> NDArray[np.uint8]:
        """Make the run that begins at sample ``base``, uint8 ``[block, sample_bytes]``."""


def epoch() -> int:
    """TAI of sample 0 of every synthetic sky, ns since 1970 TAI."""
    return tai_ns_from_iso(EPOCH_UTC)
