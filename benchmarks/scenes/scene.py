"""A scene: a band, what happens in it, and the SIGPROC files that a telescope records of it.

Power is in units of the system noise. A row of a channel is the mean of N = 2 · channel width · row length independent
powers of two polarisations: its noise has a gamma distribution, with a scatter of 1/√N of its mean and a skewness of
2/√N.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.scenes.band import Band
from benchmarks.scenes.digitiser import Digitiser
from benchmarks.scenes.effects import Chunk, Effect, Interval, RollOff
from benchmarks.scenes.ideal import best_boxcar
from benchmarks.scenes.pulses import Pulse, RenderedPulse, render

_CHUNK_VALUES = 1 << 21  # of one array of a chunk
START_MJD = 60000.0
"""Start of every scene."""


@dataclass(frozen=True)
class Scene:
    """What a telescope sees and how it records it.

    Parameters
    ----------
    name, seed
        Its name; seed of the noise.
    band, row_seconds, seconds
        Channels, time resolution and length.
    pulses, effects
        What the sky sends; what interference, receiver and recorder do.
    bits
        Of a number of the file.
    dead
        Channels without a signal.
    gaps
        Times (s) that are not recorded: the file ends at the first, the next file begins at the second.
    zeros
        Times (s) for which the recorder wrote zeros.
    dm, widest
        Range of dispersion measures (pc cm⁻³) and widest boxcar (s) to search.
    quiet
        Whether there is nothing but noise and pulses.
    flat
        Whether the digitiser brings all channels to one level; otherwise the file shows the shape of the band.
    """

    name: str
    seed: int
    band: Band
    row_seconds: float
    seconds: float
    pulses: tuple[Pulse, ...] = ()
    effects: tuple[Effect, ...] = ()
    bits: int = 8
    dead: tuple[int, ...] = ()
    gaps: tuple[tuple[float, float], ...] = ()
    zeros: tuple[tuple[float, float], ...] = ()
    dm: tuple[float, float] = (0.0, 1000.0)
    widest: float = 0.0
    quiet: bool = False
    flat: bool = True

    @property
    def rows(self) -> int:
        """Rows of the scene; gaps are among them."""
        return round(self.seconds / self.row_seconds)

    @property
    def scatter(self) -> float:
        """Standard deviation of quiet noise relative to its mean."""
        return float(1.0 / np.sqrt(self._powers))

    @property
    def _powers(self) -> float:
        """Independent powers in a row of a channel."""
        return 2.0 * self.band.channel_mhz * 1e6 * self.row_seconds

    @cached_property
    def good(self) -> NDArray[np.bool_]:
        """Channels that are not dead, bool ``[channel]``."""
        good = np.ones(self.band.channels, np.bool_)
        good[list(self.dead)] = False
        return good

    @cached_property
    def digitiser(self) -> Digitiser:
        """The digitiser, with levels that follow from the shape of the band."""
        chunk = self._blank(0, 1)
        for effect in self.effects:
            if isinstance(effect, RollOff):
                effect.apply(chunk)
        level = chunk.gain[0].astype(np.float64)
        return Digitiser(self.bits, level, self.scatter, common=not self.flat)

    @cached_property
    def rendered(self) -> tuple[RenderedPulse, ...]:
        """The power of each pulse, scaled to its S/N."""
        shapes = [render(pulse, self.band, self.row_seconds) for pulse in self.pulses]
        units = [best_boxcar(self, *pair, None, False).snr for pair in zip(self.pulses, shapes, strict=True)]
        return tuple(
            RenderedPulse(shape.first, shape.power * np.float32(pulse.snr / unit))
            for pulse, shape, unit in zip(self.pulses, shapes, units, strict=True)
        )

    @property
    def recorded(self) -> NDArray[np.bool_]:
        """Rows that are recorded as they were, bool ``[row]``."""
        recorded = np.ones(self.rows, np.bool_)
        for start, stop in (*self.gaps, *self.zeros):
            recorded[round(start / self.row_seconds) : round(stop / self.row_seconds)] = False
        return recorded

    def intervals(self) -> Iterator[Interval]:
        """Yield when and where effects act."""
        for effect in self.effects:
            yield from effect.intervals()
        for name, lost in (("gap", self.gaps), ("zeros", self.zeros)):
            for start, stop in lost:
                yield Interval(name, start - 0.2, stop + 0.2)

    def chunks(self) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield the numbers of the scene.

        Yields
        ------
        tuple
            The first row; uint8 ``[row, channel]``.
        """
        length = max(1, _CHUNK_VALUES // self.band.channels)
        for number, first in enumerate(range(0, self.rows, length)):
            chunk = self._blank(first, min(length, self.rows - first))
            for pulse in self.rendered:
                pulse.add_to(chunk.power, first)
            for effect in self.effects:
                effect.apply(chunk)
            power = self._receive(chunk, np.random.default_rng([self.seed, number]))
            power[:, ~self.good] = 0.0
            for start, stop in self.zeros:
                rows = [min(max(round(at / self.row_seconds) - first, 0), len(power)) for at in (start, stop)]
                power[slice(*rows)] = 0.0
            yield first, self.digitiser.numbers(power)

    def write(self, folder: Path) -> list[Path]:
        """Write the files of the scene.

        Parameters
        ----------
        folder
            Where they are written.

        Returns
        -------
        list of Path
            The files, in order of time.
        """
        starts = [0, *(round(stop / self.row_seconds) for _, stop in self.gaps)]
        stops = [*(round(start / self.row_seconds) for start, _ in self.gaps), self.rows]
        paths = [folder / f"{self.name}-{number}.fil" for number in range(len(starts))]
        for path, start in zip(paths, starts, strict=True):
            path.write_bytes(self._header(start))
        for first, numbers in self.chunks():
            for path, start, stop in zip(paths, starts, stops, strict=True):
                part = numbers[max(0, start - first) : max(0, stop - first)]
                if len(part):
                    with path.open("ab") as file:
                        file.write(self.digitiser.pack(part))
        return paths

    def _blank(self, first: int, rows: int) -> Chunk:
        shape = rows, self.band.channels
        ones = np.ones(shape, np.float32)
        return Chunk(first, self.row_seconds, self.band, ones, np.zeros_like(ones), ones.copy())

    def _receive(self, chunk: Chunk, random: np.random.Generator) -> NDArray[np.float32]:
        """Return the power of a chunk with its noise; a coherent signal beats with the noise."""
        power = random.standard_gamma(self._powers, chunk.power.shape, np.float32)
        power *= chunk.power / np.float32(self._powers)
        coherent = chunk.coherent
        on = coherent > 0.0
        beat = np.sqrt(2.0 * coherent[on] * chunk.power[on] / self._powers)
        power[on] += coherent[on] + (beat * random.standard_normal(len(beat))).astype(np.float32)
        power *= chunk.gain
        return np.maximum(power, 0.0)

    def _header(self, first: int) -> bytes:
        def word(text: str) -> bytes:
            return struct.pack("<i", len(text)) + text.encode()

        integers = {"machine_id": 0, "telescope_id": 0, "data_type": 1, "nchans": self.band.channels}
        integers |= {"nbits": self.bits, "nifs": 1, "nbeams": 1, "ibeam": 1}
        numbers = {
            "tstart": START_MJD + first * self.row_seconds / 86400.0,
            "tsamp": self.row_seconds,
            "fch1": float(self.band.frequencies[0]),
            "foff": -self.band.channel_mhz,
            "src_raj": 0.0,
            "src_dej": 0.0,
        }
        parts = [word("HEADER_START"), word("source_name"), word("scene")]
        parts += [word(key) + struct.pack("<i", value) for key, value in integers.items()]
        parts += [word(key) + struct.pack("<d", value) for key, value in numbers.items()]
        return b"".join([*parts, word("HEADER_END")])
