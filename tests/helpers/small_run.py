"""A small run with three known pulses, reduced once per test process."""

from functools import cache

import edgefilter
from edgefilter.analysis.archive import Archive
from edgefilter.sources.simulated.sky import PowerSky, SkyPulse

PULSES = (SkyPulse(1.0, 60.0, 3e-3, 40.0), SkyPulse(2.5, 150.0, 6e-3, 25.0), SkyPulse(4.2, 20.0, 2e-3, 15.0))


def make_sky(seconds: float = 6.0, **settings) -> PowerSky:
    """Return 96 channels of noise from 1250 to 1550 MHz in rows of 1 ms, with the pulses.

    Parameters
    ----------
    seconds
        Duration, s.
    **settings
        Parameters of the sky to replace.

    Returns
    -------
    PowerSky
        The sky.
    """
    defaults = {"rate": 1000, "channels": 96, "centre_mhz": 1400.0, "bandwidth_mhz": 300.0, "pulses": PULSES}
    return PowerSky(seconds, 3, **(defaults | settings))


@cache
def small_run() -> Archive:
    """Return the open store of the run: six blocks of 1024 rows, with 1290 to 1300 MHz masked."""
    settings = {"block": {"rows": 1024}, "flag": {"mask": [[1290, 1300]]}}
    return edgefilter.replay(make_sky(), dm=(0, 300), threads=1, **settings)
