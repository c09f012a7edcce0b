"""Plans of small power streams."""

from fractions import Fraction

from edgefilter.core.config import BlockSettings, DetectSettings, IntegrateSettings, PulseSettings, Reduction
from edgefilter.core.plan import Plan, resolve
from edgefilter.core.stream import Encoding, SampleKind, Stream


def packed_power_plan(bits: int, encoding: Encoding, products: tuple[str, ...] = ("I",), channels: int = 8) -> Plan:
    """Return the plan of a stream whose blocks are 32 samples."""
    stream = Stream("test", SampleKind.POWER, 0, Fraction(1000), channels, 1.5e9, -1e6, products, bits, encoding)
    return Plan(stream, resolve(Reduction(block=BlockSettings(rows=16), integrate=IntegrateSettings(cells=2)), stream))


def integration_plan(channels: int, per_row: int, products: tuple[str, ...] = ("I",), stokes: str = "I") -> Plan:
    """Return the plan of a float stream with ``per_row`` cells a row."""
    stream = Stream("s", SampleKind.POWER, 0, Fraction(1000), channels, 1400e6, -1e6, products, 32, Encoding.FLOAT)
    settings = Reduction(
        block=BlockSettings(rows=16),
        detect=DetectSettings(stokes=stokes),
        integrate=IntegrateSettings(cells=per_row),
        pulses=PulseSettings(dm=(0.0, 10.0)),
    )
    return Plan(stream, resolve(settings, stream))
