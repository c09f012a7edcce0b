from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefilter.core.chunk import Gap, Loss
from edgefilter.core.errors import InputError
from edgefilter.core.plan import dispersion_delay
from edgefilter.sources.simulated.base import BandLimitedNoise, Carrier, Chirp, Impulses, Interference
from edgefilter.sources.simulated.sky import PowerSky, SkyPulse, VoltageSky, demo_sky, sky

RATE = 2_000_000
CENTRE = 400.0
CHANNELS = 128
SECONDS = 0.25
PULSES = [SkyPulse(0.03, 4.0, 2e-3, 60.0), SkyPulse(0.08, 30.0, 1e-3, 40.0)]


@pytest.fixture(scope="module")
def busy_sky() -> VoltageSky:
    """Return a short sky with pulses and all kinds of interference."""
    built = sky("voltage", SECONDS, 3, rate=RATE, centre_mhz=CENTRE, pulses=PULSES, interference="all")
    assert isinstance(built, VoltageSky)
    return built


@pytest.fixture(scope="module")
def busy_bytes(busy_sky: VoltageSky) -> np.ndarray:
    return busy_sky.read(0, busy_sky.samples).data


@pytest.fixture(scope="module")
def power() -> PowerSky:
    pulse = SkyPulse(0.5, 20.0, 4e-3, 30.0)
    built = sky("power", 2.0, 3, channels=50, pulses=[pulse], interference="all")
    assert isinstance(built, PowerSky)
    return built


def voltages(source: VoltageSky, start: int, stop: int) -> np.ndarray:
    """Read complex voltages ``[time, polarisation]``."""
    raw = source.read(start, stop).data.view(np.int8).astype(np.float32)
    return raw.view(np.complex64)


def spectra(source: VoltageSky) -> tuple[np.ndarray, np.ndarray]:
    """Return total intensity ``[time, channel]`` of a plain FFT, lowest frequency first, and the channels' MHz."""
    x = voltages(source, 0, source.samples // CHANNELS * CHANNELS).T.reshape(2, -1, CHANNELS)
    intensity = (np.abs(np.fft.fftshift(np.fft.fft(x, axis=2), axes=2)) ** 2).sum(axis=0)
    rate_mhz = float(source.stream.rate) / 1e6
    return intensity, source.stream.first_channel_hz / 1e6 + np.fft.fftshift(np.fft.fftfreq(CHANNELS, 1 / rate_mhz))


def matched_filter_peak(
    intensity: np.ndarray, mhz: np.ndarray, step: float, top: float, pulse: SkyPulse
) -> tuple[float, float]:
    """Return S/N and time of the peak of a matched filter after dedispersion to ``top`` by whole samples."""
    normalised = (intensity - np.median(intensity, axis=0)) / intensity.std(axis=0)
    shifts = [round(dispersion_delay(pulse.dm, frequency, top) / step) for frequency in mhz]
    series = sum(np.roll(normalised[:, c], -shift) for c, shift in enumerate(shifts)) / np.sqrt(len(mhz))
    sigma = pulse.width / np.sqrt(8 * np.log(2)) / step
    lags = np.arange(-int(4 * sigma) - 1, int(4 * sigma) + 2)
    kernel = np.exp(-0.5 * (lags / sigma) ** 2)
    filtered = np.convolve(series - np.median(series), kernel / np.sqrt(np.sum(kernel**2)), "same")
    peak = int(np.argmax(filtered))
    return float(filtered[peak]), (peak + 0.5) * step


RANGES = st.tuples(st.integers(-300, int(RATE * SECONDS)), st.integers(0, 50_000))


@given(RANGES, st.lists(st.integers(1, 20_000), max_size=4))
@settings(max_examples=20, deadline=None)
def test_bytes_do_not_depend_on_how_they_are_read(
    busy_sky: VoltageSky, busy_bytes: np.ndarray, span: tuple[int, int], cuts: list[int]
) -> None:
    start, stop = span[0], span[0] + span[1]
    edges = [start, *(edge for edge in np.cumsum([start, *cuts]).tolist()[1:] if edge < stop), stop]
    parts = [busy_sky.read(a, b) for a, b in pairwise(edges)]
    data = np.concatenate([part.data for part in parts])
    inside = slice(max(start, 0), max(0, min(stop, busy_sky.samples)))
    np.testing.assert_array_equal(data[inside.start - start : inside.stop - start], busy_bytes[inside])


@given(st.lists(st.integers(1, 700), min_size=1, max_size=5))
@settings(max_examples=20, deadline=None)
def test_power_does_not_depend_on_how_it_is_read(power: PowerSky, cuts: list[int]) -> None:
    edges = [0, *np.cumsum(cuts).tolist()]
    parts = np.concatenate([power.read(a, b).data for a, b in pairwise(edges)])
    np.testing.assert_array_equal(parts[:2000], power.read(0, edges[-1]).data[:2000])


@pytest.mark.parametrize("make", [VoltageSky, PowerSky])
def test_the_same_settings_give_the_same_sky_and_another_seed_another(make: type[VoltageSky | PowerSky]) -> None:
    first, again, other = (make(0.5, seed, rate=1e5).read(100, 900).data for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.8


def test_samples_outside_the_sky_are_a_gap(busy_sky: VoltageSky) -> None:
    end = busy_sky.samples
    assert busy_sky.read(-5, 3).gaps == (Gap(-5, 0, Loss.OUTSIDE),)
    assert busy_sky.read(end - 2, end + 7).gaps == (Gap(end, end + 7, Loss.OUTSIDE),)
    assert busy_sky.read(-9, -4).gaps == (Gap(-9, -4, Loss.OUTSIDE),)
    assert busy_sky.read(end + 1, end + 4).gaps == (Gap(end + 1, end + 4, Loss.OUTSIDE),)
    assert busy_sky.read(10, 20).gaps == ()
    assert len(busy_sky.read(5, 5).data) == 0
    whole = busy_sky.read(-5, end + 5)
    assert whole.gaps == (Gap(-5, 0, Loss.OUTSIDE), Gap(end, end + 5, Loss.OUTSIDE))
    assert len(whole.data) == end + 10


def test_voltages_without_signals_are_independent_noise_of_20_counts() -> None:
    source = VoltageSky(0.25, 5, rate=RATE, centre_mhz=CENTRE)
    raw = source.read(0, source.samples).data.view(np.int8).astype(np.float64)
    n = len(raw)
    assert np.abs(raw.mean(axis=0)).max() < 0.5
    assert raw.std(axis=0) == pytest.approx([20] * 4, rel=0.01)
    assert np.abs(np.corrcoef(raw.T) - np.eye(4)).max() < 6 / np.sqrt(n)
    intensity, _ = spectra(source)
    # White noise: successive spectra are not correlated.
    normalised = intensity / intensity.mean(axis=0) - 1
    assert abs((normalised[1:] * normalised[:-1]).mean()) < 0.01
    assert normalised.var() == pytest.approx(0.5, rel=0.05)  # two polarisations, exponential each


def test_bandpass_rolls_off_and_ripples() -> None:
    intensity, mhz = spectra(VoltageSky(0.25, 5, rate=RATE, centre_mhz=CENTRE))
    mean = intensity.mean(axis=0)
    middle = mean[np.abs(mhz - CENTRE) < 0.3 * RATE / 1e6]
    assert mean[0] < 0.6 * middle.mean()
    assert 1.2 < middle.max() / middle.min() < 2.5


@pytest.mark.parametrize("pulse", [SkyPulse(0.05, 4.0, 2e-3, 60.0), SkyPulse(0.1, 40.0, 1e-3, 50.0)])
def test_voltage_pulse_has_its_time_and_snr(pulse: SkyPulse) -> None:
    source = VoltageSky(0.5, 8, rate=RATE, centre_mhz=CENTRE, pulses=[pulse])
    intensity, mhz = spectra(source)
    snr, seconds = matched_filter_peak(intensity, mhz, CHANNELS / RATE, source.top_mhz, pulse)
    assert snr == pytest.approx(pulse.snr, abs=5)
    assert seconds == pytest.approx(pulse.seconds, abs=3e-4)


@pytest.mark.parametrize("bits", [8, 32])
def test_power_pulse_has_its_time_and_snr(bits: int) -> None:
    pulse = SkyPulse(0.8, 300.0, 10e-3, 50.0)
    source = PowerSky(3.0, 8, rate=1000, centre_mhz=1400, bandwidth_mhz=128, channels=128, bits=bits, pulses=[pulse])
    data = source.read(0, source.samples).data
    intensity = (data if bits == 8 else data.view(np.float32)).astype(np.float64)
    assert intensity[:, 40].mean() == pytest.approx(96, rel=0.1)
    snr, seconds = matched_filter_peak(intensity, source.stream.frequencies_hz / 1e6, 1e-3, source.top_mhz, pulse)
    assert snr == pytest.approx(pulse.snr, abs=5)
    assert seconds == pytest.approx(pulse.seconds, abs=1e-3)


def test_power_pulse_is_smeared_within_channels() -> None:
    pulse = SkyPulse(0.5, 2000.0, 1e-3, 500.0)
    source = PowerSky(4.0, 1, rate=1000, centre_mhz=1400, bandwidth_mhz=64, channels=8, bits=32, pulses=[pulse])
    channel = source.read(0, source.samples).data.view(np.float32)[:, 3]
    bright = np.flatnonzero(channel > np.median(channel) + 6 * 14)
    mhz = source.stream.frequencies_hz[3] / 1e6
    assert np.ptp(bright) * 1e-3 == pytest.approx(dispersion_delay(2000.0, mhz - 4, mhz + 4), rel=0.1)


def power_ratio(emitter: Interference) -> tuple[np.ndarray, np.ndarray]:
    """Return power with / without interference, ``[time, channel]`` in steps of 3.2 ms, and the channels' MHz."""
    with_it, without = (VoltageSky(0.25, 2, rate=RATE, centre_mhz=CENTRE, interference=i) for i in ([emitter], []))
    (dirty, mhz), (clean, _) = spectra(with_it), spectra(without)
    rows = len(clean) // 50
    ratio = dirty[: rows * 50].reshape(rows, 50, -1).mean(axis=1) / clean[: rows * 50].reshape(rows, 50, -1).mean(
        axis=1
    )
    return ratio, mhz


def test_carrier_is_in_its_channel() -> None:
    ratio, mhz = power_ratio(Carrier(CENTRE + 0.25, 0.1))
    assert mhz[np.argmax(ratio.mean(axis=0))] == CENTRE + 0.25
    assert ratio.mean(axis=0).max() == pytest.approx(1 + 0.1 * CHANNELS, rel=0.2)
    assert np.median(ratio) == pytest.approx(1, abs=0.02)


def test_intermittent_carrier_is_off_in_between() -> None:
    ratio, mhz = power_ratio(Carrier(CENTRE + 0.25, 0.1, period=0.1, on_seconds=0.032))
    is_on = ratio[:, np.argmin(np.abs(mhz - CENTRE - 0.25))] > 3
    times = (np.arange(len(is_on)) + 0.5) * 3.2e-3
    np.testing.assert_array_equal(is_on[times % 0.1 < 0.028], True)
    np.testing.assert_array_equal(is_on[times % 0.1 > 0.036], False)


def test_chirp_sweeps_through_its_range() -> None:
    ratio, mhz = power_ratio(Chirp(CENTRE - 0.5, CENTRE + 0.5, 0.2, period=0.1))
    times = (np.arange(len(ratio)) + 0.5) * 3.2e-3 % 0.1
    found = mhz[np.argmax(ratio, axis=1)]
    inner = (times > 0.005) & (times < 0.095)
    np.testing.assert_allclose(found[inner], CENTRE - 0.5 + 10 * times[inner], atol=0.04)


def test_band_limited_noise_is_flat_between_its_edges() -> None:
    ratio, mhz = power_ratio(BandLimitedNoise(CENTRE + 0.1, CENTRE + 0.4, 2.0))
    inside = (mhz > CENTRE + 0.12) & (mhz < CENTRE + 0.38)
    assert ratio[:, inside].mean(axis=0) == pytest.approx(np.full(inside.sum(), 3.0), rel=0.3)
    assert ratio[:, np.abs(mhz - CENTRE - 0.25) > 0.25].mean() == pytest.approx(1, abs=0.05)


def test_impulses_occur_once_in_each_interval_over_the_whole_band() -> None:
    one = Impulses(interval=0.05, width=1e-3, level=20.0)
    ratio, _ = power_ratio(one)
    source = VoltageSky(0.25, 2, rate=RATE, centre_mhz=CENTRE, interference=[one])
    power = (np.abs(voltages(source, 0, source.samples)) ** 2).sum(axis=1).reshape(-1, 200).mean(axis=1)
    active = (power > 4 * np.median(power)).reshape(5, -1).sum(axis=1)
    assert np.abs(active - 10).max() <= 1
    assert (ratio.max(axis=0) > 3).mean() > 0.9


def test_power_interference_is_in_its_channels_and_intervals() -> None:
    sky_ = PowerSky(2.0, 1, channels=64, bits=32, interference=[Carrier(1350.1, 0.01), Impulses(0.5, 1e-3, 0.2)])
    data = sky_.read(0, sky_.samples).data.view(np.float32)
    frequencies = sky_.stream.frequencies_hz / 1e6
    plain = PowerSky(2.0, 1, channels=64, bits=32).read(0, sky_.samples).data.view(np.float32)
    raised = (data - plain).astype(np.float64)
    assert np.argmax(raised.mean(axis=0)) == np.argmin(np.abs(frequencies - 1350.1))
    np.testing.assert_array_equal((np.median(raised, axis=1) > 1).reshape(4, 500).sum(axis=1), 1)


def test_truth_lists_the_pulses_in_order_of_time() -> None:
    late, early = SkyPulse(0.2, 10.0, 1e-3, 9.0), SkyPulse(0.1, 20.0, 2e-3, 8.0)
    source = VoltageSky(0.25, rate=RATE, centre_mhz=CENTRE, pulses=[late, early])
    truth = source.truth
    assert [(one.sample, one.dm, one.snr) for one in truth] == [(200_000, 20.0, 8.0), (400_000, 10.0, 9.0)]
    assert truth[0].seconds_at(source.top_mhz) == 0.1
    assert truth[0].seconds_at(source.low_mhz) == pytest.approx(0.1 + source.sweep_seconds(20.0))
    assert truth[0].seconds_at(float("inf")) < 0.1


def test_the_demo_sky_is_as_documented() -> None:
    demo = demo_sky(2.0)
    assert demo.stream.rate == Fraction(16_000_000)
    assert len(demo.truth) == 6
    assert {type(one) for one in demo.interference} == {Carrier, Chirp, BandLimitedNoise, Impulses}
    assert demo.stream.digest == demo_sky(4.0).stream.digest
    assert demo.samples == 32_000_000
    assert demo.warnings == ()
    demo.close()


@pytest.mark.parametrize(
    ("settings_", "problem"),
    [
        ({"seconds": 0}, "holds no sample"),
        ({"seconds": float("nan")}, "holds no sample"),
        ({"centre_mhz": 1.0}, "must be above 0"),
        ({"pulses": [SkyPulse(0.1, -1.0, 1e-3, 9.0)]}, "dm and snr"),
        ({"pulses": [SkyPulse(0.1, 1.0, 0.0, 9.0)]}, "width must be positive"),
        ({"interference": [Carrier(400, -1.0)]}, "level"),
        ({"interference": [Chirp(399, 401, 1.0, 0.0)]}, "period"),
        ({"interference": [Impulses(0.1, 0.2, 1.0)]}, "width <= interval"),
    ],
)
def test_settings_out_of_range_are_refused_in_one_line(settings_: dict[str, object], problem: str) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        sky("voltage", **{"seconds": 1.0, "rate": RATE, "centre_mhz": CENTRE, **settings_})  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
