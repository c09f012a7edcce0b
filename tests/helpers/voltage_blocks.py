"""Plans of small voltage streams, and blocks of their raw samples."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from edgefilter.core.chunk import Chunk, Gap
from edgefilter.core.config import BlockSettings, ChanneliseSettings, DetectSettings, IntegrateSettings, Reduction
from edgefilter.core.plan import Plan, resolve
from edgefilter.core.stream import Encoding, SampleKind, Stream


@dataclass(frozen=True)
class VoltageStream:
    """A stream at 1 MHz for each raw channel, and how it is channelised."""

    n_pols: int = 2
    complex_samples: bool = True
    bits: int = 8
    encoding: Encoding = Encoding.SIGNED
    channels: int = 2
    fine: int = 16
    taps: int = 4
    window: str = "hamming"
    stokes: str = "I"
    spectra: int = 6
    rows: int = 16
    step_hz: float = 1e6
    oversampling: str = "1"

    def plan(self) -> Plan:
        stream = Stream(
            name="test",
            kind=SampleKind.VOLTAGE,
            epoch_tai_ns=0,
            rate=Fraction(1_000_000 if self.complex_samples else 2_000_000),
            channels=self.channels,
            first_channel_hz=1.4e9,
            channel_step_hz=self.step_hz,
            products=("X", "Y")[: self.n_pols],
            bits=self.bits,
            encoding=self.encoding,
            complex_samples=self.complex_samples,
        )
        channelise = ChanneliseSettings(
            channels=self.fine, taps=self.taps, window=self.window, oversampling=self.oversampling
        )
        settings = Reduction(
            block=BlockSettings(rows=self.rows),
            channelise=channelise,
            detect=DetectSettings(stokes=self.stokes, spectra=self.spectra),
            integrate=IntegrateSettings(cells=1),
        )
        return Plan(stream, resolve(settings, stream))


def voltage_plan(**stream: Any) -> Plan:
    """Return the plan of a :class:`VoltageStream` with these fields."""
    return VoltageStream(**stream).plan()


def voltage_block(plan: Plan, block: int = 0, gaps: tuple[Gap, ...] = (), seed: int = 3) -> Chunk:
    """Return a block and its history from a stream of random samples that depend on the seed alone."""
    start, stop = block * plan.samples_per_block - plan.filter_samples, (block + 1) * plan.samples_per_block
    numbers = np.random.default_rng(seed).integers(
        0, 256, (stop + plan.filter_samples, plan.stream.sample_bytes), np.uint8
    )
    if plan.stream.encoding is Encoding.FLOAT:
        numbers = (numbers[:, ::4].astype(np.float32) - 128).view(np.uint8)
    return Chunk(start, np.ascontiguousarray(numbers[start + plan.filter_samples :]), gaps)
