"""The synthetic telescope: skies whose every sample is a function of settings, seed and sample number.

Reading any range in any pieces gives the same bytes, so a sky can stand in for a recording of any length that nobody
has to store, and the truth about it is known.
"""

from typing import Any, Literal

from edgefilter.sources.simulated.base import SkyPulse, TruePulse
from edgefilter.sources.simulated.power import PowerSky, power_interference
from edgefilter.sources.simulated.voltage import VoltageSky, voltage_interference

__all__ = ["PowerSky", "SkyPulse", "TruePulse", "VoltageSky", "demo_sky", "sky"]

_DEMO_PULSES = (  # when (as a part of the length), DM, width in s, S/N
    (0.08, 30.0, 1e-3, 16.0),
    (0.23, 120.0, 2e-3, 12.0),
    (0.38, 480.0, 8e-3, 30.0),
    (0.54, 56.8, 1e-3, 40.0),
    (0.70, 240.0, 4e-3, 20.0),
    (0.85, 350.0, 2e-3, 25.0),
)


def sky(
    kind: Literal["voltage", "power"] = "voltage", seconds: float = 10.0, seed: int = 0, **settings: Any
) -> VoltageSky | PowerSky:
    """Make a sky of one kind; ``settings`` are those of :class:`VoltageSky` or :class:`PowerSky`.

    ``interference="all"`` stands for some of every kind.

    Raises
    ------
    InputError
        If the settings do not describe a sky.
    """
    sky_type: type[VoltageSky] | type[PowerSky] = VoltageSky if kind == "voltage" else PowerSky
    if settings.get("interference") == "all":
        settings["interference"] = ()
        plain = sky_type(seconds, seed, **{**settings, "pulses": ()})
        stream, width = plain.stream, (plain.top_mhz - plain.low_mhz)
        centre = (plain.top_mhz + plain.low_mhz) / 2
        settings["interference"] = (
            voltage_interference(float(stream.rate), centre)
            if kind == "voltage"
            else power_interference(float(stream.rate), centre, width, stream.channels)
        )
    return sky_type(seconds, seed, **settings)


def demo_sky(seconds: float = 16.0, seed: int = 1) -> VoltageSky:
    """Make the demo's telescope: 16 MHz about 600 MHz, two polarisations, six pulses among interference of every kind.

    At 600 MHz a DM of 300 sweeps 0.18 s through the band, many times a pulse's width, so that DMs are well measured.
    """
    rate, centre = 16_000_000, 600.0
    return VoltageSky(
        seconds,
        seed,
        rate=rate,
        centre_mhz=centre,
        pulses=[SkyPulse(part * seconds, dm, width, snr) for part, dm, width, snr in _DEMO_PULSES],
        interference=voltage_interference(rate, centre),
        name="demo",
    )
