"""What happens to the power of a chunk: small functions of time and frequency, without state.

Each effect changes a :class:`Chunk` in place. What is noise-like (satellites, broadband bursts, pulses of the sky)
adds to the expected power, whose noise grows with it; what is coherent (carriers, radar, chirps) adds a power of its
own and beats with the noise; the gain multiplies all of it. Effects take the times at which rows begin and end, so a
source that is on for part of a row adds that part.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.scenes.band import Band


@dataclass(frozen=True, slots=True)
class Interval:
    """When and where an effect acts: seconds and MHz."""

    name: str
    start: float
    stop: float
    low: float = 0.0
    high: float = np.inf


@dataclass
class Chunk:
    """Expected power of some rows, in units of the system noise.

    Parameters
    ----------
    first, row_seconds
        Its first row; length of a row, s.
    band
        The channels.
    power
        float32 ``[row, channel]``: expected noise-like power.
    coherent
        float32 ``[row, channel]``: power of coherent signals.
    gain
        float32 ``[row, channel]``.
    """

    first: int
    row_seconds: float
    band: Band
    power: NDArray[np.float32]
    coherent: NDArray[np.float32]
    gain: NDArray[np.float32]

    @property
    def edges(self) -> NDArray[np.float64]:
        """Times at which rows begin, and the end of the last row, s."""
        return np.asarray((self.first + np.arange(len(self.power) + 1)) * self.row_seconds, np.float64)

    @property
    def times(self) -> NDArray[np.float64]:
        """Middles of the rows, s."""
        return np.asarray((self.first + 0.5 + np.arange(len(self.power))) * self.row_seconds, np.float64)

    def covered(self, start: float, stop: float) -> NDArray[np.float64]:
        """Return the fraction of each row that lies between two times.

        Parameters
        ----------
        start, stop
            Times, s.

        Returns
        -------
        ndarray
            float64 ``[row]``.
        """
        edges = np.clip(self.edges, start, stop)
        return np.asarray(np.diff(edges)) / self.row_seconds


class Effect(Protocol):
    """Something that changes the power of a chunk."""

    def apply(self, chunk: Chunk) -> None:
        """Change a chunk in place.

        Parameters
        ----------
        chunk
            The chunk.
        """

    def intervals(self) -> Iterator[Interval]:
        """Yield when and where it acts."""


@dataclass(frozen=True)
class RollOff:
    """The gain falls at the edges of the band, to ``floor`` of that in its middle."""

    floor: float
    steepness: float = 6.0

    def apply(self, chunk: Chunk) -> None:
        """See :meth:`Effect.apply`."""
        x = np.linspace(-1.0, 1.0, chunk.band.channels)
        chunk.gain *= (self.floor + (1.0 - self.floor) * np.exp(-((np.abs(x) / 0.85) ** self.steepness))).astype("f4")

    def intervals(self) -> Iterator[Interval]:
        """See :meth:`Effect.intervals`."""
        yield from ()


@dataclass(frozen=True)
class GainWander:
    """The gain of the whole band wanders: a sum of sines with an rms of ``rms`` (relative)."""

    rms: float
    periods: tuple[float, ...]
    phases: tuple[float, ...]

    def apply(self, chunk: Chunk) -> None:
        """See :meth:`Effect.apply`."""
        angles = 2.0 * np.pi * (chunk.times[:, None] / np.array(self.periods) + np.array(self.phases))
        wander = np.sin(angles).sum(axis=1) * np.sqrt(2.0 / len(self.periods))
        chunk.gain *= (1.0 + self.rms * wander).astype(np.float32)[:, None]

    def intervals(self) -> Iterator[Interval]:
        """See :meth:`Effect.intervals`."""
        yield Interval("gain wander", 0.0, np.inf)


@dataclass(frozen=True)
class GainStep:
    """The gain of a part of the band changes by ``change`` (relative) at ``start`` and returns at ``stop``.

    A change of -1 is a receiver that is off: the recorder writes its lowest number.
    """

    start: float
    stop: float
    low: float
    high: float
    change: float
    name: str = "level step"

    def apply(self, chunk: Chunk) -> None:
        """See :meth:`Effect.apply`."""
        on = chunk.covered(self.start, self.stop)
        if on.any():
            channels = chunk.band.covers(self.low, self.high) > 0.5
            chunk.gain[:, channels] *= (1.0 + self.change * on).astype(np.float32)[:, None]

    def intervals(self) -> Iterator[Interval]:
        """See :meth:`Effect.intervals`."""
        for at in (self.start, self.stop):
            yield Interval(self.name, at - 0.2, at + 0.2, self.low, self.high)


@dataclass(frozen=True)
class ZeroDmBurst:
    """The whole band rises by ``power`` at once, for ``seconds``: sparks, lightning, a motor."""

    start: float
    seconds: float
    power: float

    def apply(self, chunk: Chunk) -> None:
        """See :meth:`Effect.apply`."""
        on = chunk.covered(self.start, self.start + self.seconds)
        if on.any():
            chunk.power += (self.power * on).astype(np.float32)[:, None]

    def intervals(self) -> Iterator[Interval]:
        """See :meth:`Effect.intervals`."""
        yield Interval("zero-DM burst", self.start, self.start + self.seconds)


@dataclass(frozen=True)
class Carrier:
    """A narrow transmitter, on for ``on`` of every ``period`` seconds, with ``power`` in a channel that it fills."""

    mhz: float
    width_mhz: float
    power: float
    period: float
    on: float
    phase: float

    def apply(self, chunk: Chunk) -> None:
        """See :meth:`Effect.apply`."""
        duty = _on_fraction(chunk.edges + self.phase * self.period, self.period, self.on)
        _add_band(chunk, self.mhz - 0.5 * self.width_mhz, self.mhz + 0.5 * self.width_mhz, self.power * duty)

    def intervals(self) -> Iterator[Interval]:
        """See :meth:`Effect.intervals`."""
        yield Interval("carrier", 0.0, np.inf, self.mhz - self.width_mhz, self.mhz + self.width_mhz)


@dataclass(frozen=True)
class Radar:
    """Short pulses at a fixed rate, seen for ``beam`` seconds each time that the antenna turns to us."""

    mhz: float
    width_mhz: float
    power: float
    repetition: float = 1.0 / 350.0
    pulse: float = 60e-6
    rotation: float = 4.8
    beam: float = 0.05
    phase: float = 0.3

    def apply(self, chunk: Chunk) -> None:
        """See :meth:`Effect.apply`."""
        duty = _on_fraction(chunk.edges, self.repetition, self.pulse)
        turn = (chunk.times / self.rotation + self.phase + 0.5) % 1.0 - 0.5
        pattern = np.exp(-4.0 * np.log(2.0) * (turn * self.rotation / self.beam) ** 2)
        low, high = self.mhz - 0.5 * self.width_mhz, self.mhz + 0.5 * self.width_mhz
        _add_band(chunk, low, high, self.power * duty * pattern)

    def intervals(self) -> Iterator[Interval]:
        """See :meth:`Effect.intervals`."""
        yield Interval("radar", 0.0, np.inf, self.mhz - self.width_mhz, self.mhz + self.width_mhz)


@dataclass(frozen=True)
class Chirp:
    """A tone that moves from one frequency to another at a constant rate."""

    start: float
    seconds: float
    from_mhz: float
    to_mhz: float
    power: float

    def apply(self, chunk: Chunk) -> None:
        """See :meth:`Effect.apply`."""
        stop = self.start + self.seconds
        rows = np.flatnonzero(chunk.covered(self.start, stop) > 0.0)
        if not len(rows):
            return
        rate = (self.to_mhz - self.from_mhz) / self.seconds
        ends = self.from_mhz + rate * (np.clip(chunk.edges, self.start, stop) - self.start)
        half = 0.5 * chunk.band.channel_mhz
        f = chunk.band.frequencies
        for row in rows:
            low, high = sorted(ends[row : row + 2])
            high = max(high, low + 1e-6)
            crossed = np.clip(np.minimum(high, f + half) - np.maximum(low, f - half), 0.0, None) / (high - low)
            chunk.coherent[row] += (self.power * crossed).astype(np.float32)

    def intervals(self) -> Iterator[Interval]:
        """See :meth:`Effect.intervals`."""
        low, high = sorted((self.from_mhz, self.to_mhz))
        yield Interval("chirp", self.start, self.start + self.seconds, low, high)


@dataclass(frozen=True)
class Satellite:
    """A broad transmitter that rises within ``ramp`` seconds and falls again, once every ``period``."""

    low: float
    high: float
    power: float
    period: float
    ramp: float
    on: float
    phase: float

    def apply(self, chunk: Chunk) -> None:
        """See :meth:`Effect.apply`."""
        t = (chunk.times + self.phase * self.period) % self.period
        rise = np.clip(np.minimum(t, self.on + 2 * self.ramp - t) / self.ramp, 0.0, 1.0)
        level = self.power * 0.5 * (1.0 - np.cos(np.pi * rise))
        chunk.power += (level[:, None] * chunk.band.covers(self.low, self.high)).astype(np.float32)

    def intervals(self) -> Iterator[Interval]:
        """See :meth:`Effect.intervals`."""
        yield Interval("satellite", 0.0, np.inf, self.low, self.high)


def _on_fraction(edges: NDArray[np.float64], period: float, on: float) -> NDArray[np.float64]:
    """Return the fraction of each row during which a source is on that is on for ``on`` of every ``period``."""
    turns = np.floor(edges / period)
    total = turns * on + np.minimum(edges - turns * period, on)
    return np.asarray(np.diff(total) / np.diff(edges))


def _add_band(chunk: Chunk, low: float, high: float, power: NDArray[np.float64]) -> None:
    covers = chunk.band.covers(low, high)
    for channel in np.flatnonzero(covers):
        chunk.coherent[:, channel] += (power * covers[channel]).astype(np.float32)
