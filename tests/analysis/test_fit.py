"""Fits return the DM, width and scattering of simulated bursts."""

import numpy as np
import pytest
from scipy.stats import exponnorm

import edgefilter
from edgefilter.analysis.export.sigproc import write_power
from edgefilter.analysis.fit import fit_dm, fit_profile
from edgefilter.core.errors import StoreError
from edgefilter.core.plan import dispersion_delay
from tests.helpers.pulse_cutout import DM, make_cutout


@pytest.fixture(scope="module")
def scattered(tmp_path_factory):
    """Return a pulse of DM 80 and sigma 1.5 ms, with a decay of 6 ms at 600 MHz that goes as frequency to the -4."""
    mhz = 700 - 200 / 128 * (np.arange(128) + 0.5)
    times = np.arange(6000) * 5e-4
    power = np.random.default_rng(5).normal(100, 5, (6000, 128))
    for channel, f in enumerate(mhz):
        tau = 6e-3 * (f / 600) ** -4
        shape = exponnorm.pdf(times - 1.0 - dispersion_delay(80.0, f, mhz[0]), tau / 1.5e-3, 0, 1.5e-3)
        power[:, channel] += 5 * 2 * shape * 6e-3
    path = write_power(
        tmp_path_factory.mktemp("fit") / "scattered.fil", power.astype(np.float32), mhz[0], mhz[1] - mhz[0], 5e-4
    )
    return edgefilter.replay(path, dm=(0, 200), threads=1).pulses[0].product


@pytest.mark.parametrize("method", ["snr", "structure"])
def test_the_dispersion_measure_is_found_within_its_error(method):
    fit = fit_dm(make_cutout(), method)
    assert fit.error < 1.0
    assert abs(fit.dm - DM) < 4 * fit.error + 0.2
    assert fit.dms[0] < fit.dm < fit.dms[-1]
    assert fit.curve.shape == fit.dms.shape


def test_scattering_is_found_and_falls_with_frequency(scattered):
    whole = fit_profile(scattered, dm=80.0)
    assert whole.tau_ms[0] == pytest.approx(6, rel=0.25)
    assert whole.sigma_ms[0] == pytest.approx(1.5, rel=0.3)
    low, high = (fit_profile(scattered, 80.0, band) for band in ((500, 560), (640, 700)))
    assert low.tau_ms[0] > 1.7 * high.tau_ms[0]
    index = np.log(low.tau_ms[0] / high.tau_ms[0]) / np.log(low.frequency_mhz / high.frequency_mhz)
    assert -6 < index < -2
    # The residuals are noise of unit variance.
    assert np.std(whole.profile - whole.model) == pytest.approx(1, abs=0.25)


def test_a_pulse_without_a_tail_has_no_scattering():
    fit = fit_profile(make_cutout(), scattered=False)
    assert fit.tau_ms == (0.0, 0.0)
    assert abs(fit.arrival_ms[0]) < 0.6
    assert fit.sigma_ms[0] == pytest.approx(4 / np.sqrt(12), rel=0.3)
    assert fit_profile(make_cutout()).tau_ms[0] < 1.5


def test_errors_name_what_cannot_be_fitted():
    with pytest.raises(StoreError, match=r"no channel lies in 1 to 2 MHz"):
        fit_profile(make_cutout(), band=(1, 2))
    with pytest.raises(StoreError, match="method is 'best'"):
        fit_dm(make_cutout(), "best")
    with pytest.raises(StoreError, match="nothing to fit"):
        fit_dm(make_cutout(mask=slice(None)))
    with pytest.raises(StoreError, match="has 0 rows with enough good channels"):
        fit_profile(make_cutout(mask=slice(None)))
    with pytest.raises(StoreError, match="no peak between"):
        fit_dm(make_cutout(dm=80.0), reach=2.0)
