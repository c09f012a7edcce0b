import numpy as np
import pytest

import edgefilter
from edgefilter.core.errors import ConfigError, InputError
from edgefilter.core.plan import dispersion_delay

FREQUENCIES = np.linspace(1200e6, 1600e6, 128)
ARRAY_METADATA = {"accumulated": 64, "sample_time": 0.25e-3, "frequencies": FREQUENCIES}


def noise(times=1024, spectra=64, seed=1):
    squares = np.random.default_rng(seed).exponential(1.0, (times, 128, spectra)).astype(np.float32)
    return squares.mean(axis=2), (squares**2).mean(axis=2)


def test_noise_is_clean_and_a_tone_has_the_bits_of_its_flaggers():
    power, moment4 = noise()
    assert ((edgefilter.flag(power, moment4, **ARRAY_METADATA) & ~edgefilter.FLAGS["tagged"]) != 0).mean() < 1e-3
    moment4[100:140, 40] += 4 * power[100:140, 40] * 3 + 9
    power[100:140, 40] += 3
    flags = edgefilter.flag(power, moment4, **ARRAY_METADATA)
    assert flags.dtype == np.uint16
    for name in ("power", "kurtosis"):
        assert (flags[100:140, 40] & edgefilter.FLAGS[name] > 0).mean() > 0.95
    only = edgefilter.flag(power, moment4, **ARRAY_METADATA, power_sigma=0)
    assert not (only & edgefilter.FLAGS["power"]).any()


def test_lost_cells_are_not_flagged_and_do_not_change_other_flags():
    power, moment4 = noise()
    valid = np.ones(power.shape, bool)
    valid[50:60] = valid[:, 7] = False
    clean = edgefilter.flag(np.where(valid, power, 0), moment4, **ARRAY_METADATA, valid=valid)
    dirty = edgefilter.flag(np.where(valid, power, 1e6), moment4, **ARRAY_METADATA, valid=valid)
    np.testing.assert_array_equal(clean, dirty)
    assert (clean[~valid] == edgefilter.FLAGS["lost"]).all()
    assert not (clean[valid] & edgefilter.FLAGS["lost"]).any()
    power[20, 30] = np.nan
    assert edgefilter.flag(power, moment4, **ARRAY_METADATA)[20, 30] == edgefilter.FLAGS["lost"]


def test_cells_of_a_protected_band_are_tagged():
    power, moment4 = noise()
    power[100:140, 40] += 3
    f = FREQUENCIES[40]
    flags = edgefilter.flag(power, moment4, **ARRAY_METADATA, protect=[(f - 1e6, f + 1e6)])
    assert set(np.unique(flags[:, 40])) == {0, edgefilter.FLAGS["tagged"]}


def test_flags_do_not_depend_on_threads_or_on_the_axis_of_polarisations():
    power, moment4 = noise()
    power[100:140, 40] += 3
    one = edgefilter.flag(power, moment4, **ARRAY_METADATA, threads=1)
    np.testing.assert_array_equal(
        one, edgefilter.flag(power[:, :, None], moment4[:, :, None], **ARRAY_METADATA, threads=3)
    )
    other, other4 = noise(seed=2)
    other[100:140, 40] += 3
    two = edgefilter.flag(np.stack([power, other], 2), np.stack([moment4, other4], 2), **ARRAY_METADATA)
    assert (two[100:140, 40] & edgefilter.FLAGS["power"] > 0).all()


@pytest.mark.parametrize(
    ("name", "dm"), [("transients/FRB180417.fil", (300, 600)), ("synthetic/dispersed_pulse_dm1000.fil", (0, 1500))]
)
def test_the_pulses_of_recordings_keep_their_strength(data, name, dm):
    """The second pulse is smeared within its channels, saturated, and sweeps through three blocks."""
    off = dict.fromkeys(("power_sigma", "zero_dm_sigma", "channel_sigma", "carrier_sigma"), 0)
    clean, flagged = (edgefilter.replay(data / name, dm=dm, threads=1, flag=flag).pulses[0] for flag in (off, {}))
    assert flagged.snr >= 0.98 * clean.snr
    assert flagged.dm == pytest.approx(clean.dm, abs=5)


@pytest.mark.parametrize(("channels", "milliseconds"), [(96, 1.0), (256, 1.0), (16, 1.0), (128, 0.5)])
@pytest.mark.parametrize("times", [128, 1024])
def test_bright_pulses_are_kept_in_narrow_bands_and_short_recordings(channels, milliseconds, times):
    mhz = np.linspace(1550, 1250, channels)
    power = np.random.default_rng(3).gamma(2000, 1 / 2000, (times, channels))
    delay = np.array([dispersion_delay(60.0, f, 1550.0) for f in mhz]) / (1e-3 * milliseconds)
    pulse = abs(np.arange(times)[:, None] - 10 - delay) <= 1.5
    flags = edgefilter.flag(
        power * (1 + 10 / np.sqrt(2000) * pulse), accumulated=0, sample_time=1e-3 * milliseconds, frequencies=mhz * 1e6
    )
    assert (flags[pulse] != 0).mean() <= 0.02


def test_a_sweep_that_entered_the_band_before_the_block_is_kept():
    mhz = np.linspace(1600, 1200, 256)
    power = np.random.default_rng(4).gamma(64, 1 / 64, (2048, 256))
    delay = np.array([dispersion_delay(400.0, f, 1600.0) for f in mhz]) / 0.25e-3
    pulse = abs(np.arange(2048)[:, None] + 500 - delay) <= 2.5
    flags = edgefilter.flag(power * (1 + 10 / 8 * pulse), accumulated=64, sample_time=0.25e-3, frequencies=mhz * 1e6)
    assert (flags[pulse] != 0).mean() <= 0.02


@pytest.mark.parametrize("band", [(0, 512), (130, 300), (205, 300)])
@pytest.mark.parametrize("enters", [100, 990, -900])
@pytest.mark.parametrize("direction", [1, -1])
def test_sweeps_that_an_end_of_the_block_cuts_are_kept(band, enters, direction):
    """The sweeps are of a pulse and of bursts in a part of the band, cut at different times."""
    mhz, times = np.linspace(1600, 1200, 512)[::direction], 1024
    power = np.random.default_rng(5).gamma(64, 1 / 64, (times, 512))
    delay = np.array([dispersion_delay(500.0, f, 1600.0) for f in mhz]) / 0.25e-3
    pulse = abs(np.arange(times)[:, None] - enters - delay) <= 4.5
    inside = (np.arange(512)[::direction] >= band[0]) & (np.arange(512)[::direction] < band[1])
    pulse &= inside
    flags = edgefilter.flag(power * (1 + 10 / 8 * pulse), accumulated=64, sample_time=0.25e-3, frequencies=mhz * 1e6)
    assert np.count_nonzero(flags[pulse]) <= max(0.02 * np.count_nonzero(pulse), 60)


def test_impulses_at_cells_of_a_millisecond_are_flagged():
    found = edgefilter.replay(edgefilter.sky("power", seconds=3, seed=1, channels=256, interference="all"), threads=1)
    assert not [pulse for pulse in found.pulses if pulse.dm < 5]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frequencies": FREQUENCIES[1:]}, "frequencies are"),
        ({"sample_time": 0.0}, "sample_time is 0.0"),
        ({"valid": np.ones(3, bool)}, "valid is"),
        ({"accumulated": [1, 2]}, "accumulated is"),
        ({"moment4": np.ones((3, 3))}, "moment4 is"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        edgefilter.flag(np.ones((64, 128)), **(ARRAY_METADATA | change))


def test_invalid_settings_are_refused():
    with pytest.raises(ConfigError, match="power_sigma"):
        edgefilter.flag(np.ones((64, 128)), **ARRAY_METADATA, power_sigma=-1)
