import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefilter_kernels.filterbank.fft import channel_order, fft, rfft_postprocess, rfft_twiddles, run_starts, twiddles

SIZES = [1 << power for power in range(1, 17)]


def spectrum_of(numbers: np.ndarray, real_input: bool = False) -> np.ndarray:
    """Return the spectrum in natural order of complex numbers, or of real numbers taken in pairs."""
    pairs = numbers.reshape(-1, 2) if real_input else np.stack([numbers.real, numbers.imag], axis=1)
    real, imag = np.ascontiguousarray(pairs.T, np.float32)
    fft(real, imag, twiddles(len(pairs)))
    if real_input:
        rfft_postprocess(real, imag, rfft_twiddles(len(pairs)))
    result = np.empty(len(pairs), np.complex128)
    result[channel_order(len(pairs))] = real + 1j * imag
    return result


@pytest.mark.parametrize("n", SIZES)
def test_a_spectrum_equals_numpy_s_to_single_precision(n: int) -> None:
    random = np.random.default_rng(n)
    numbers = random.standard_normal((n, 2)) @ [1, 1j]
    expected = np.fft.fft(numbers.astype(np.complex64))
    np.testing.assert_allclose(spectrum_of(numbers), expected, atol=3e-7 * np.log2(2 * n) * np.abs(expected).max())


@pytest.mark.parametrize("n", SIZES)
def test_pairs_of_real_numbers_give_all_channels_but_the_last(n: int) -> None:
    numbers = np.random.default_rng(n).standard_normal(2 * n).astype(np.float32)
    expected = np.fft.rfft(numbers)[:n]
    result = spectrum_of(numbers, real_input=True)
    np.testing.assert_allclose(result, expected, atol=3e-7 * np.log2(4 * n) * np.abs(expected).max())


@settings(max_examples=30)
@given(power=st.integers(1, 12), data=st.data())
def test_a_tone_appears_in_one_channel_only(power: int, data: st.DataObject) -> None:
    n = 1 << power
    channel = data.draw(st.integers(0, n - 1))
    result = np.abs(spectrum_of(np.exp(2j * np.pi * channel * np.arange(n) / n)))
    assert result.argmax() == channel
    assert np.delete(result, channel).max() < 1e-5 * n
    np.testing.assert_allclose(result[channel], n, rtol=1e-6)


@pytest.mark.parametrize("n", SIZES)
def test_channels_are_at_the_documented_positions(n: int) -> None:
    channel, first = channel_order(n), run_starts(n)
    assert sorted(channel) == list(range(n))
    for b, start in enumerate(first):
        run = channel[start : start + n // len(first)]
        np.testing.assert_array_equal(run, b + len(first) * np.arange(len(run)))


def test_nan_stays_in_its_own_spectrum() -> None:
    spectra = np.ones((2, 2, 256), np.float32)
    spectra[0, 0, 3] = np.nan
    for real, imag in spectra:
        fft(real, imag, twiddles(256))
    assert np.isnan(spectra[0]).any(axis=0).all()
    assert np.isfinite(spectra[1]).all()
