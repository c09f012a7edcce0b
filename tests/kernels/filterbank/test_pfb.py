import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import firwin

from edgefilter_kernels.filterbank.pfb import pfb, voltages
from edgefilter_kernels.filterbank.workspace import make_filterbank, make_workspace, prototype_filter
from tests.reference.filterbank.pfb import pfb as reference
from tests.reference.filterbank.unpack import unpack

ENCODINGS = [(1, "unsigned"), (2, "offset"), (4, "signed"), (8, "signed"), (16, "offset"), (32, "float")]
COMPLEX_FLOAT, REAL_FLOAT, COMPLEX_INT8 = (32, "float", True), (32, "float", False), (8, "signed", True)
Result = tuple[np.ndarray, np.ndarray, np.ndarray]


def run(
    raw: np.ndarray,
    valid: np.ndarray,
    filter_: np.ndarray,
    shape: tuple[int, int, int, int],
    samples: tuple[int, str, bool] = COMPLEX_FLOAT,
    products: int = 0,
    hop: int | None = None,
) -> Result:
    """Run the kernel; shape is times, raw channels, fine channels, polarisations; samples bits, encoding, complex."""
    bits, encoding, complex_samples = samples
    times, coarse, fine, n_pols = shape
    power = np.full((times, coarse * fine, products or n_pols), np.nan, np.float32)
    moment4 = np.full((times, coarse * fine, n_pols), np.nan, np.float32)
    count = np.full(times, -1, np.int32)
    bank = make_filterbank(filter_, fine, bits, encoding, n_pols, complex_samples, hop)
    pfb(bank, raw, valid, power, moment4, count)
    return power, moment4, count


def as_raw(voltage: np.ndarray) -> np.ndarray:
    """Return the raw bytes [time, byte] of float32 voltages [time, ...]."""
    kind = np.complex64 if np.iscomplexobj(voltage) else np.float32
    return np.ascontiguousarray(voltage, kind).reshape(len(voltage), -1).view(np.uint8)


def noise(samples: int, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((samples, 1, 1)) + 1j * rng.standard_normal((samples, 1, 1))) * np.sqrt(0.5)


@settings(deadline=None, max_examples=60)
@given(
    size=st.tuples(
        st.integers(1, 3), st.integers(1, 9), st.sampled_from([1, 2, 3]), st.sampled_from([2, 4, 8, 32, 64, 128])
    ),
    taps=st.integers(1, 9),
    samples=st.tuples(st.sampled_from(ENCODINGS), st.booleans()),
    pols=st.sampled_from([(1, 1), (2, 2), (2, 4)]),
    oversampling=st.sampled_from([(1, 1), (4, 3), (32, 27)]),
    present=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_kernel_agrees_with_the_reference(
    size: tuple[int, int, int, int],
    taps: int,
    samples: tuple[tuple[int, str], bool],
    pols: tuple[int, int],
    oversampling: tuple[int, int],
    present: float,
    seed: int,
) -> None:
    times, spectra, coarse, fine = size
    encoding, complex_samples = samples
    n_pols, products = pols
    rng = np.random.default_rng(seed)
    numbers = coarse * n_pols * (2 if complex_samples else 1)
    coarse *= 8 if numbers * encoding[0] % 8 else 1
    numbers = coarse * n_pols * (2 if complex_samples else 1)
    step = fine if complex_samples else 2 * fine
    hop = step * oversampling[1] // oversampling[0]
    hop -= hop % 2 if hop < step else 0
    hop = hop or step
    n_samples = (times * spectra - 1) * hop + taps * step
    if encoding[1] == "float":
        raw = rng.standard_normal((n_samples, numbers)).astype(np.float32).view(np.uint8)
    else:
        raw = rng.integers(0, 256, (n_samples, numbers * encoding[0] // 8), np.uint8)
    values = unpack(raw, *encoding).astype(np.float64).reshape(n_samples, coarse, n_pols, -1)
    voltage = values[..., 0] + 1j * values[..., 1] if complex_samples else values[..., 0]
    valid = rng.random(times * spectra) < present
    filter_ = prototype_filter(fine, taps, "hamming", complex_samples)

    shape = (times, coarse, fine, n_pols)
    power, moment4, count = run(raw, valid, filter_, shape, (*encoding, complex_samples), products, hop)

    power_, moment4_, count_ = reference(voltage, filter_, fine, valid, times, hop)
    np.testing.assert_array_equal(count, count_)
    np.testing.assert_allclose(power, power_[..., :products], rtol=2e-5, atol=1e-5 * max(power_.max(), 1e-30))
    np.testing.assert_allclose(moment4, moment4_, rtol=2e-5, atol=1e-5 * max(moment4_.max(), 1e-30))


@pytest.mark.parametrize("hop", [1, 0.75])
@pytest.mark.parametrize("coarse", [1, 9])
@pytest.mark.parametrize("fine", [256, 1024])
def test_long_cells_and_many_raw_channels_agree_with_the_reference(fine: int, coarse: int, hop: float) -> None:
    rng = np.random.default_rng(2)
    spectra, step = 300 // (fine // 256), int(hop * fine)
    raw = rng.integers(0, 256, ((spectra - 1) * step + 4 * fine, 4 * coarse), np.uint8)
    values = raw.view(np.int8).astype(np.float64).reshape(len(raw), coarse, 2, 2)
    valid = rng.random(spectra) < 0.9
    filter_ = prototype_filter(fine, 4, "hamming", True)
    power, moment4, _ = run(raw, valid, filter_, (1, coarse, fine, 2), COMPLEX_INT8, 4, step)
    power_, moment4_, _ = reference(values[..., 0] + 1j * values[..., 1], filter_, fine, valid, 1, step)
    np.testing.assert_allclose(power, power_, rtol=1e-5, atol=1e-5 * power_.max())
    np.testing.assert_allclose(moment4, moment4_, rtol=1e-5)


@pytest.mark.parametrize(
    ("fine", "taps", "coarse", "complex_samples", "hop"),
    [
        (8192, 2, 1, True, 6144),
        (8192, 4, 1, True, 8192),
        (16384, 2, 1, False, 32768),
        (32768, 2, 2, True, 32768),
        (65536, 2, 1, True, 65536),
    ],
)
def test_long_transforms_agree_with_the_reference(
    fine: int, taps: int, coarse: int, complex_samples: bool, hop: int
) -> None:
    rng = np.random.default_rng(4)
    spectra, step = 6, fine if complex_samples else 2 * fine
    samples = (spectra - 1) * hop + taps * step
    values = rng.integers(-128, 128, (samples, coarse, 2, 2 if complex_samples else 1), np.int8)
    voltage = values[..., 0] + 1j * values[..., 1] if complex_samples else values[..., 0].astype(float)
    valid = np.array([True, True, False, True, True, True])
    filter_ = prototype_filter(fine, taps, "hamming", complex_samples)
    raw = values.reshape(samples, -1).view(np.uint8)
    power, moment4, _ = run(raw, valid, filter_, (1, coarse, fine, 2), (8, "signed", complex_samples), 4, hop)
    power_, moment4_, _ = reference(voltage, filter_, fine, valid, 1, hop)
    np.testing.assert_allclose(power, power_, rtol=2e-5, atol=1e-5 * power_.max())
    np.testing.assert_allclose(moment4, moment4_, rtol=2e-5, atol=1e-5 * moment4_.max())


@pytest.mark.parametrize("window", ["hamming", "hann", "boxcar", "kaiser"])
@pytest.mark.parametrize(("fine", "taps"), [(2, 4), (16, 1), (64, 5)])
def test_the_prototype_equals_scipy_s_windowed_sinc(window: str, fine: int, taps: int) -> None:
    expected = firwin(2 * fine * taps, 1 / (2 * fine), window=("kaiser", 8.0) if window == "kaiser" else window, fs=2)
    ours = prototype_filter(fine, taps, window, False)
    np.testing.assert_allclose(ours, expected / np.sqrt((expected**2).sum()), atol=1e-15)


@pytest.mark.parametrize("channel", [0, 5, 16, 31])
def test_a_complex_tone_lands_in_its_channel_at_its_power(channel: int) -> None:
    fine, amplitude = 32, 3.0
    filter_ = prototype_filter(fine, 4, "hamming", True)
    tone = amplitude * np.exp(2j * np.pi * (channel - fine / 2) / fine * np.arange(11 * fine))
    power, moment4, _ = run(as_raw(tone), np.ones(8, np.bool_), filter_, (1, 1, fine, 1))
    expected = amplitude**2 * filter_.sum() ** 2
    assert power[0].argmax() == channel
    np.testing.assert_allclose(power[0, channel, 0], expected, rtol=1e-5)
    np.testing.assert_allclose(moment4[0, channel, 0], expected**2, rtol=1e-5)


@pytest.mark.parametrize("channel", [1, 7, 16, 31])
def test_a_real_tone_lands_in_its_channel_at_its_power(channel: int) -> None:
    fine, amplitude = 32, 3.0
    filter_ = prototype_filter(fine, 4, "hamming", False)
    tone = amplitude * np.cos(np.pi * channel / fine * np.arange(11 * 2 * fine) + 0.3)
    power, _, _ = run(as_raw(tone), np.ones(8, np.bool_), filter_, (1, 1, fine, 1), REAL_FLOAT)
    assert power[0].argmax() == channel
    # The tone's image at the negative frequency leaks a little into the lowest and highest channels.
    np.testing.assert_allclose(power[0, channel, 0], (amplitude * filter_.sum() / 2) ** 2, rtol=0.01)


@pytest.mark.parametrize("complex_samples", [True, False])
def test_white_noise_keeps_its_mean_power(complex_samples: bool) -> None:
    fine, spectra = 64, 2048
    step = fine if complex_samples else 2 * fine
    voltage = noise((spectra + 3) * step)
    voltage = 5 * (voltage if complex_samples else voltage.real * np.sqrt(2))
    filter_ = prototype_filter(fine, 4, "hamming", complex_samples)
    shape = (1, 1, fine, 1)
    power, moment4, _ = run(
        as_raw(voltage), np.ones(spectra, np.bool_), filter_, shape, samples=(32, "float", complex_samples)
    )
    np.testing.assert_allclose(power[0, 1:], 25, rtol=0.15)
    np.testing.assert_allclose(power[0].mean(), 25, rtol=0.01)
    np.testing.assert_allclose((moment4[0, 1:] / power[0, 1:] ** 2).mean(), 2, rtol=0.02)  # an exponential's


def test_the_power_of_noise_has_the_variance_of_gaussian_noise() -> None:
    """Mean |v|^2 of M independent spectra is a gamma variate of variance P^2 / M, and channels are independent."""
    fine, times, spectra, sigma = 64, 512, 16, 10.0
    rng = np.random.default_rng(5)
    voltage = np.clip(np.rint(rng.normal(0, sigma, ((times * spectra + 3) * fine, 4))), -127, 127).astype(np.int8)
    filter_ = prototype_filter(fine, 4, "hamming", True)
    valid = np.ones(times * spectra, np.bool_)
    power, moment4, _ = run(voltage.view(np.uint8), valid, filter_, (times, 1, fine, 2), COMPLEX_INT8, 4)
    mean = 2 * (sigma**2 + 1 / 12)  # of both components, with the noise of rounding
    cells = times * fine
    np.testing.assert_allclose(power[..., :2].mean(axis=(0, 1)), mean, rtol=5 / np.sqrt(cells * spectra))
    # The filters of neighbouring spectra overlap, so 4 taps give a few per cent more variance.
    np.testing.assert_allclose(power[..., :2].var(axis=0).mean(), mean**2 / spectra, rtol=0.06)
    np.testing.assert_allclose(power[..., 2:].mean(axis=(0, 1)), 0, atol=5 * mean / np.sqrt(2 * cells * spectra))
    np.testing.assert_allclose(moment4.mean(axis=(0, 1)), 2 * mean**2, rtol=0.02)
    together = np.corrcoef(power[..., 0].T)
    assert np.abs(together[np.triu_indices(fine, 2)]).mean() < 1.5 / np.sqrt(times)


@pytest.mark.parametrize("complex_samples", [True, False])
@pytest.mark.parametrize("fine", [2, 64, 1024])
def test_the_shortest_input_is_one_spectrum_of_one_tap(fine: int, complex_samples: bool) -> None:
    step = fine if complex_samples else 2 * fine
    voltage = np.random.default_rng(3).standard_normal((step, 1, 1))
    voltage = voltage + 1j * voltage[::-1] if complex_samples else voltage
    filter_ = prototype_filter(fine, 1, "boxcar", complex_samples)
    valid = np.ones(1, np.bool_)
    power, moment4, count = run(
        as_raw(voltage), valid, filter_, (1, 1, fine, 1), samples=(32, "float", complex_samples)
    )
    power_, moment4_, _ = reference(
        voltage.astype(np.complex64 if complex_samples else np.float32), filter_, fine, valid, 1
    )
    np.testing.assert_allclose(power, power_, rtol=1e-4, atol=1e-5 * power_.max())
    np.testing.assert_allclose(moment4, moment4_, rtol=1e-4, atol=1e-5 * moment4_.max())
    assert count.tolist() == [1]


def test_no_valid_spectra_give_zeros_and_scratch_memory_can_be_reused() -> None:
    fine, taps = 64, 4
    layout = make_filterbank(prototype_filter(fine, taps, "hamming", True), fine, 8, "signed", 2, True)
    work = make_workspace(layout, 8, 1, 4)
    raw = np.random.default_rng(6).integers(0, 256, ((8 + taps - 1) * fine, 4), np.uint8)
    results = []
    for valid in (True, False, True):
        power = np.full((1, fine, 4), np.nan, np.float32)
        moment4, count = np.full((1, fine, 2), np.nan, np.float32), np.full(1, -1, np.int32)
        pfb(layout, raw, np.full(8, valid), power, moment4, count, work)
        results.append((power, moment4, count[0]))
    assert not results[1][0].any()
    assert not results[1][1].any()
    assert [count for _, _, count in results] == [8, 0, 8]
    np.testing.assert_array_equal(results[0][0], results[2][0])


@pytest.mark.parametrize("fine", [64, 1024])
@pytest.mark.parametrize(("window", "taps", "decibels"), [("hamming", 4, -50), ("hamming", 8, -63), ("kaiser", 8, -84)])
def test_a_tone_does_not_leak_beyond_the_next_channel(window: str, taps: int, decibels: float, fine: int) -> None:
    spectra = 4
    filter_ = prototype_filter(fine, taps, window, True)
    for offset in (0.0, 0.25, 0.5):
        tone = np.exp(2j * np.pi * offset / fine * np.arange((spectra + taps - 1) * fine))
        power, _, _ = run(as_raw(tone), np.ones(spectra, np.bool_), filter_, (1, 1, fine, 1))
        distance = np.abs(np.arange(fine) - fine / 2 - offset)
        worst = 10 * np.log10(power[0, distance > 1, 0].max() / filter_.sum() ** 2)
        assert worst <= decibels


@pytest.mark.parametrize("complex_samples", [True, False])
def test_samples_of_invalid_spectra_have_no_effect(complex_samples: bool) -> None:
    fine, taps, spectra = 16, 4, 12
    step = fine if complex_samples else 2 * fine
    rng = np.random.default_rng(4)
    voltage = rng.standard_normal(((spectra + taps - 1) * step, 4 if complex_samples else 2)).astype(np.float32)
    bad = slice(6 * step + 3, 7 * step - 2)
    valid = np.array([not r <= 6 < r + taps for r in range(spectra)])
    filter_ = prototype_filter(fine, taps, "hamming", complex_samples)
    results = []
    for garbage in (0, 1e30, np.nan, np.inf):
        voltage[bad] = garbage
        result = run(voltage.view(np.uint8), valid, filter_, (2, 1, fine, 2), samples=(32, "float", complex_samples))
        assert all(np.isfinite(array).all() for array in result)
        results.append([array.tobytes() for array in result])
    assert results[1:] == results[:1] * 3


def test_arrays_and_sizes_that_do_not_fit_are_rejected() -> None:
    filter_ = prototype_filter(16, 4, "hamming", True)
    raw, valid = np.zeros((11 * 16, 8), np.uint8), np.ones(8, np.bool_)
    with pytest.raises(ValueError, match="raw is"):
        run(raw[:-1], valid, filter_, (1, 1, 16, 1))
    with pytest.raises(ValueError, match="raw is"):
        run(raw[:, :4], valid, filter_, (1, 1, 16, 1))
    with pytest.raises(ValueError, match="whole cells"):
        run(raw, valid, filter_, (3, 1, 16, 1))
    with pytest.raises(ValueError, match="polarisations and 2 products"):
        run(raw, valid, filter_, (1, 1, 16, 1), products=2)
    with pytest.raises(ValueError, match="is not an encoding"):
        run(raw, valid, filter_, (1, 1, 16, 1), (16, "float", True))
    with pytest.raises(ValueError, match="even"):
        prototype_filter(3, 4, "hamming", True)
    with pytest.raises(ValueError, match="power of two"):
        make_filterbank(prototype_filter(6, 4, "hamming", True), 6, 8, "signed", 2, True)
    with pytest.raises(ValueError, match="whole taps"):
        make_filterbank(filter_[1:], 16, 8, "signed", 2, True)
    with pytest.raises(ValueError, match="hann"):
        prototype_filter(2, 1, "hann", True)


@pytest.mark.parametrize("oversampling", [(1, 1), (4, 3), (32, 27)])
@pytest.mark.parametrize("complex_samples", [True, False])
def test_voltages_keep_a_tone_s_amplitude_phase_and_frequency(
    complex_samples: bool, oversampling: tuple[int, int]
) -> None:
    """At every offset from the centre of the channel; the filter determines the amplitude."""
    fine, taps, channel, spectra, first = 64, 8, 21, 24, 5
    step = fine if complex_samples else 2 * fine
    hop = step * oversampling[1] // oversampling[0]
    filter_ = prototype_filter(fine, taps, "hamming", complex_samples)
    bank = make_filterbank(filter_, fine, 32, "float", 1, complex_samples, hop)
    time = np.arange(first * hop, first * hop + (spectra - 1) * hop + taps * step)
    centre = (channel - fine / 2 if complex_samples else channel) / step
    when = hop * (first + np.arange(spectra))
    for offset in np.linspace(-0.5, 0.5, 41):
        turns = centre + offset / step
        tone = np.exp(2j * np.pi * turns * time)
        raw = as_raw((tone if complex_samples else tone.real)[:, None, None])
        voltage = voltages(bank, raw, spectra, first)[:, channel, 0]
        response = filter_ @ np.exp(2j * np.pi * offset / step * np.arange(len(filter_)))
        expected = response * np.exp(2j * np.pi * offset / step * when) * (1 if complex_samples else 0.5)
        # A real tone's image at the negative frequency is attenuated by the filter to what is allowed here.
        np.testing.assert_allclose(voltage, expected, atol=1e-4 * np.abs(filter_.sum()))
    # Half a channel up, at the border of two channels, both have the same amplitude.
    other = voltages(bank, raw, spectra, first)[:, channel + 1, 0]
    np.testing.assert_allclose(np.abs(other), np.abs(voltage), rtol=1e-3)


def test_voltages_do_not_depend_on_where_time_is_cut() -> None:
    fine, taps, hop, cut = 64, 4, 48, 7
    bank = make_filterbank(prototype_filter(fine, taps, "hamming", True), fine, 8, "signed", 2, True, hop)
    raw = np.random.default_rng(8).integers(0, 256, (19 * hop + taps * fine, 8), np.uint8)
    whole = voltages(bank, raw, 20)
    np.testing.assert_array_equal(voltages(bank, raw[cut * hop :], 20 - cut, cut), whole[cut:])
    power, _, _ = run(
        raw,
        np.ones(20, np.bool_),
        prototype_filter(fine, taps, "hamming", True),
        (20, 2, fine, 2),
        COMPLEX_INT8,
        hop=hop,
    )
    np.testing.assert_allclose(np.abs(whole) ** 2, power, rtol=1e-5)


@pytest.mark.parametrize("hop", [0, 65, 31])
def test_impossible_steps_are_rejected(hop: int) -> None:
    with pytest.raises(ValueError, match="from spectrum to spectrum"):
        make_filterbank(prototype_filter(32, 4, "hamming", False), 32, 8, "signed", 1, False, hop)
