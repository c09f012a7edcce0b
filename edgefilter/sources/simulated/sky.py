"""Simulated skies, in which each sample is a function of settings, seed and sample number.

Reading any range in any pieces gives the same bytes, so a sky replaces a stored recording of any length, and its pulses
are known.
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
    """Make a simulated sky.

    Parameters
    ----------
    kind
        Voltages or power spectra.
    seconds
        Length, s.
    seed
        Each seed has its own noise and interference.
    **settings
        Those of :class:`VoltageSky` or :class:`PowerSky`; ``interference="all"`` adds interference of every kind.

    Returns
    -------
    VoltageSky or PowerSky
        The source.

    Raises
    ------
    InputError
        If a setting is out of range.
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
    """Make the sky of the demo: 16 MHz about 600 MHz, two polarisations, six pulses, interference of every kind.

    At 600 MHz a pulse of DM 300 takes 0.18 s through the band, many times its width, so that DMs are well measured.

    Parameters
    ----------
    seconds
        Length, s; the pulses are spread over it.
    seed
        Each seed has its own noise and interference.

    Returns
    -------
    VoltageSky
        The source.
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
