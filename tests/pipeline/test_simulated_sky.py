"""The synthetic telescope through the whole of edgefilter: known pulses are found, noise gives none."""

import numpy as np
import pytest

from benchmarks.completeness import Outcome, power_sky, replay, voltage_sky
from edgefilter.sources.simulated.sky import PowerSky


@pytest.fixture(scope="module")
def power() -> Outcome:
    return replay(power_sky(30, seed=11, spacing=1.2))


@pytest.fixture(scope="module")
def voltage() -> Outcome:
    return replay(voltage_sky(6, seed=12, spacing=0.4))


def test_pulses_in_power_spectra_are_found(power):
    missed = [verdict.truth for verdict in power.verdicts if not verdict.found]
    assert len(power.verdicts) == 30
    assert len(missed) <= 1, missed


def test_every_pulse_in_voltages_is_found(voltage):
    missed = [verdict.truth for verdict in voltage.verdicts if not verdict.found]
    assert len(voltage.verdicts) == 6
    assert not missed


@pytest.mark.parametrize("kind", ["power", "voltage"])
def test_signal_to_noise_is_about_that_put_in(kind, request):
    outcome = request.getfixturevalue(kind)
    ratios = [verdict.candidate["snr"] / verdict.truth.snr for verdict in outcome.verdicts if verdict.found]
    assert 0.7 < np.mean(ratios) < 1.1


def test_the_error_of_the_dispersion_measure_is_honest(power):
    pulls = [abs(verdict.dm_off) / verdict.candidate["dm_error"] for verdict in power.verdicts if verdict.found]
    assert np.median(pulls) < 1.5


@pytest.mark.parametrize("kind", ["power", "voltage"])
def test_a_pulse_gives_no_second_strong_candidate(kind, request):
    extra = request.getfixturevalue(kind).extra
    assert sum(candidate["snr"] >= 8 for candidate in extra) <= 1


def test_a_minute_of_noise_gives_no_candidate():
    outcome = replay(PowerSky(60, seed=13))
    assert not [candidate for candidate in outcome.extra if candidate["snr"] >= 8]
