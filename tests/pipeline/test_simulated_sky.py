"""The synthetic telescope through the whole of edgefilter: known pulses are found, noise gives none."""

import numpy as np
import pytest

from benchmarks.completeness import SkyResult, power_sky, replay, voltage_sky
from edgefilter.sources.simulated.sky import PowerSky


@pytest.fixture(scope="module")
def power() -> SkyResult:
    return replay(power_sky(30, seed=11, spacing=1.2))


@pytest.fixture(scope="module")
def voltage() -> SkyResult:
    return replay(voltage_sky(6, seed=12, spacing=0.4))


def test_pulses_in_power_spectra_are_found(power):
    missed = [injection.truth for injection in power.injections if not injection.found]
    assert len(power.injections) == 30
    assert len(missed) <= 1, missed


def test_every_pulse_in_voltages_that_can_be_told_from_dm_0_is_found(voltage):
    assert len(voltage.injections) == 6
    found = {injection.truth: injection.found for injection in voltage.injections}
    dispersed = [truth for truth in found if truth.seconds_at(truth.top_mhz - 16) - truth.seconds > 2 * truth.width]
    assert len(dispersed) == 5
    assert all(found[truth] for truth in dispersed)


@pytest.mark.parametrize("kind", ["power", "voltage"])
def test_signal_to_noise_is_about_that_put_in(kind, request):
    sky_result = request.getfixturevalue(kind)
    ratios = [
        injection.candidate["snr"] / injection.truth.snr for injection in sky_result.injections if injection.found
    ]
    assert 0.7 < np.mean(ratios) < 1.1


def test_the_error_of_the_dispersion_measure_is_honest(power):
    pulls = [
        abs(injection.dm_offset) / injection.candidate["dm_error"] for injection in power.injections if injection.found
    ]
    assert np.median(pulls) < 1.5


@pytest.mark.parametrize("kind", ["power", "voltage"])
def test_a_pulse_gives_no_second_strong_candidate(kind, request):
    unmatched = request.getfixturevalue(kind).unmatched
    assert sum(candidate["snr"] >= 8 for candidate in unmatched) <= 1


def test_a_minute_of_noise_gives_no_candidate():
    sky_result = replay(PowerSky(60, seed=13))
    assert not [candidate for candidate in sky_result.unmatched if candidate["snr"] >= 8]
