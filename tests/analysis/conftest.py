"""One small run with known pulses, which all tests of the analysis look at."""

import pytest

import edgefilter
from edgefilter.analysis.archive import Archive
from edgefilter.sources.simulated.sky import PowerSky, SkyPulse

PULSES = (SkyPulse(1.0, 60.0, 3e-3, 40.0), SkyPulse(2.5, 150.0, 6e-3, 25.0), SkyPulse(4.2, 20.0, 2e-3, 15.0))


def make_sky(**settings) -> PowerSky:
    given = {"rate": 1000, "channels": 96, "centre_mhz": 1400.0, "bandwidth_mhz": 300.0, "pulses": PULSES}
    return PowerSky(6.0, 3, **(given | settings))


@pytest.fixture(scope="session")
def run() -> Archive:
    settings = {"block": {"rows": 1024}, "flag": {"mask": [[1290, 1300]]}}
    return edgefilter.replay(make_sky(), dm=(0, 300), threads=1, **settings)
