"""Small simulated recordings in memory, of power and of voltages, and their plans."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from edgefilter.core.chunk import Chunk, Gap, Loss, clip_gaps
from edgefilter.core.config import NodeConfig
from edgefilter.core.plan import Plan, resolve
from edgefilter.core.stream import Stream
from edgefilter.core.validation import validate
from edgefilter.node.ring import RingReader, RingWriter
from edgefilter.sources.base import Source
from edgefilter.sources.simulated.sky import PowerSky, SkyPulse, VoltageSky

POWER = {
    "block": {"rows": 512},
    "pulses": {"dm": [0, 60], "widths": 3, "bands": 2, "snr": 7},
}
VOLTAGE = {
    "block": {"rows": 128},
    "channelise": {"channels": 32},
    "detect": {"spectra": 32, "stokes": "IQUV"},
    "pulses": {"dm": [0, 40], "widths": 3, "bands": 1},
}


@dataclass
class MemorySource:
    """A source held in memory."""

    stream: Stream
    data: np.ndarray
    gaps: tuple[Gap, ...] = ()
    warnings: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()

    @property
    def samples(self) -> int:
        return len(self.data)

    def read(self, start: int, stop: int) -> Chunk:
        data = np.zeros((stop - start, self.stream.sample_bytes), np.uint8)
        first, last = max(start, 0), min(stop, self.samples)
        data[first - start : last - start] = self.data[first:last]
        outside = (Gap(start, 0, Loss.OUTSIDE), Gap(self.samples, stop, Loss.OUTSIDE))
        return Chunk(start, data, clip_gaps((outside[0], *self.gaps, outside[1]), start, stop))

    def present_ranges(self) -> list[tuple[int, int]]:
        edges = [0] + [edge for gap in self.gaps for edge in (gap.start, gap.stop)] + [self.samples]
        return [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if b > a]

    @contextmanager
    def as_ring(self, frames: list[tuple[int, int]]) -> Iterator[RingReader]:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "ring"
            with RingWriter.create(path, self.stream, 2 * self.samples, slack=self.samples) as ring:
                for start, stop in frames:
                    ring.write(start, self.data[start:stop].tobytes())
                ring.end(self.samples)
                with RingReader.attach(path, "reader") as reader:
                    yield reader

    def close(self) -> None:
        pass


def record_sky(sky: Source, tree: dict) -> tuple[Plan, MemorySource]:
    plan = Plan(sky.stream, resolve(validate(NodeConfig, dict(tree)), sky.stream, sky.samples))
    return plan, MemorySource(sky.stream, np.array(sky.read(0, sky.samples).data))


@cache
def power() -> tuple[Plan, MemorySource]:
    pulses = [SkyPulse(t, dm, 3e-3, 25) for t, dm in ((0.3, 20), (0.51, 40), (1.0235, 30), (1.5, 55), (1.9, 10))]
    sky = PowerSky(2.3, 3, channels=32, bandwidth_mhz=128, pulses=pulses)
    return record_sky(sky, POWER)


@cache
def voltage() -> tuple[Plan, MemorySource]:
    sky = VoltageSky(0.55, 4, rate=1_000_000, centre_mhz=400, pulses=[SkyPulse(0.13, 20, 2e-3, 30)])
    return record_sky(sky, VOLTAGE)
