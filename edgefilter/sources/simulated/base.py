"""Base class of the simulated skies, their pulses and their interference.

To add a kind of interference, write a dataclass beside :class:`Carrier`, add it to :data:`Interference`, and add it to
``_add_interference`` of the skies.
"""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from edgefilter.core.chunk import Gap
from edgefilter.core.clock import NS, sample_at, tai_ns_from_iso
from edgefilter.core.errors import InputError
from edgefilter.core.plan import DISPERSION_S_MHZ2, dispersion_delay
from edgefilter.core.stream import Stream
from edgefilter.sources.base import FiniteSource

EPOCH_UTC = "2026-01-01T00:00:00"
"""Start of all simulated skies, fixed so that a run gives the same bytes again."""


@dataclass(frozen=True, slots=True)
class SkyPulse:
    """A dispersed pulse to add to the sky.

    Parameters
    ----------
    seconds
        Arrival of its centre at the upper edge of the band, s since sample 0.
    dm
        Dispersion measure, pc cm⁻³.
    width
        Full width at half maximum of its Gaussian profile, s.
    snr
        Signal-to-noise ratio of a matched filter in the total intensity of the whole band.
    """

    seconds: float
    dm: float
    width: float
    snr: float


@dataclass(frozen=True, slots=True)
class TruePulse(SkyPulse):
    """A pulse that was added to the sky.

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
        """Return the arrival at a frequency.

        Parameters
        ----------
        mhz
            Frequency, MHz; may be infinite.

        Returns
        -------
        float
            Time since sample 0, s.
        """
        return self.seconds + DISPERSION_S_MHZ2 * self.dm * (mhz**-2 - self.top_mhz**-2)


@dataclass(frozen=True, slots=True)
class Carrier:
    """A narrowband tone.

    Parameters
    ----------
    mhz
        Its frequency, MHz.
    level
        Its power relative to that of the noise in the whole band.
    period, on_seconds
        It is on during the first ``on_seconds`` s of every ``period`` s; always if ``period`` is 0.
    """

    mhz: float
    level: float
    period: float = 0.0
    on_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Chirp:
    """A tone that sweeps from ``low_mhz`` up to ``high_mhz`` in every ``period`` s; ``level`` as of a carrier."""

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
        Its edges, MHz.
    level
        Its power relative to that of the noise between its edges.
    period, on_seconds
        As of a carrier.
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
        One occurs in every ``interval`` s, at a time that depends on the seed.
    width
        Duration, s.
    level
        Its power relative to that of the noise.
    """

    interval: float
    width: float
    level: float


Interference = Carrier | Chirp | BandLimitedNoise | Impulses


def on_ranges(
    period: float, on_seconds: float, rate: Fraction, start: int, stop: int
) -> Iterator[tuple[int, int, int]]:
    """Yield the times at which a periodic emitter is on.

    Parameters
    ----------
    period, on_seconds
        As of a :class:`Carrier`, s.
    rate
        Samples a second, Hz.
    start, stop
        Samples ``[start, stop)`` to look at.

    Yields
    ------
    begin, first, last
        Sample at which a period begins, and samples ``[first, last)`` of the range at which the emitter is on.
    """
    if period <= 0:
        yield 0, start, stop
        return
    length, on_samples = max(1, round(period * rate)), max(1, round(on_seconds * rate))
    for cycle in range(start // length, -(-stop // length)):
        first, last = max(start, cycle * length), min(stop, cycle * length + min(on_samples, length))
        if first < last:
            yield cycle * length, first, last


@dataclass(eq=False)
class Sky(FiniteSource):
    """A source whose samples are made in blocks of fixed length; each sample is a function of its number alone.

    A subclass describes its stream and calls :meth:`_set_stream` in ``__post_init__``.

    Parameters
    ----------
    seconds
        Length, s; rounded down to whole samples.
    seed
        Each seed has its own noise and interference.
    pulses, interference
        Signals added to the noise.
    name
        Name of the stream.

    Raises
    ------
    InputError
        If the sky has no sample, a parameter of a pulse or of interference is out of range, or the band reaches 0 MHz.
    """

    seconds: float
    seed: int = 0
    _: KW_ONLY
    pulses: Sequence[SkyPulse] = ()
    interference: Sequence[Interference] = ()
    name: str = "sky"

    def _set_stream(self, stream: Stream, block: int) -> None:
        """Check the settings; ``block`` is the number of samples that are made together."""
        frequencies = stream.frequencies_hz / 1e6
        half = abs(stream.channel_step_hz) / 2e6
        self.low_mhz, self.top_mhz = float(frequencies.min() - half), float(frequencies.max() + half)
        self.pulses, self.interference = tuple(self.pulses), tuple(self.interference)
        self._block = block
        samples = int(self.seconds * stream.rate) if np.isfinite(self.seconds) else 0
        super().__init__(stream, samples)
        if samples < 1:
            raise InputError(f"a sky of {self.seconds} s at {float(stream.rate)} Hz holds no sample")
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
    def truth(self) -> tuple[TruePulse, ...]:
        """The added pulses, earliest first."""
        return tuple(
            TruePulse(
                *(pulse.seconds, pulse.dm, pulse.width, pulse.snr),
                sample=sample_at(0, self._stream.rate, round(pulse.seconds * NS)),
                top_mhz=self.top_mhz,
            )
            for pulse in sorted(self.pulses, key=lambda pulse: pulse.seconds)
        )

    def sweep_seconds(self, dm: float) -> float:
        """Return the time that a pulse takes from the upper to the lower edge of the band.

        Parameters
        ----------
        dm
            Dispersion measure, pc cm⁻³.

        Returns
        -------
        float
            Delay, s.
        """
        return dispersion_delay(dm, self.low_mhz, self.top_mhz)

    def _read_samples(self, start: int, stop: int, out: NDArray[np.uint8]) -> tuple[Gap, ...]:
        self._prepare(start, stop)
        for base in range(start // self._block * self._block, stop, self._block):
            first, last = max(start, base), min(stop, base + self._block)
            out[first - start : last - start] = self._make_block(base)[first - base : last - base]
        return ()

    def close(self) -> None:
        """Release memory."""

    def _prepare(self, start: int, stop: int) -> None:
        """Compute what the blocks of samples ``[start, stop)`` have in common."""

    @abstractmethod
    def _make_block(self, base: int) -> NDArray[np.uint8]:
        """Make the block that begins at sample ``base``, uint8 ``[block, sample_bytes]``."""


def epoch() -> int:
    """Return TAI of sample 0 of all simulated skies, ns since 1970 TAI."""
    return tai_ns_from_iso(EPOCH_UTC)
