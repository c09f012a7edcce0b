import numpy as np
import pytest

from edgefilter_kernels.filterbank.fir import filter_spectra
from edgefilter_kernels.filterbank.workspace import RawVoltages, Span, make_filterbank, make_workspace, prototype_filter
from tests.reference.filterbank.unpack import unpack


@pytest.mark.parametrize("complex_samples", [True, False])
@pytest.mark.parametrize("encoding", [(8, "signed"), (8, "offset"), (8, "unsigned"), (4, "signed"), (4, "unsigned")])
@pytest.mark.parametrize(("fine", "taps"), [(8, 4), (64, 8), (1024, 4), (8192, 4), (64, 5)])
def test_filtered_rows_are_weighted_sums_independent_of_the_number_filtered_at_once(
    fine: int, taps: int, encoding: tuple[int, str], complex_samples: bool
) -> None:
    spectra, rng = 7, np.random.default_rng(5)
    filter_ = prototype_filter(fine, taps, "hamming", complex_samples)
    bank = make_filterbank(filter_, fine, *encoding, 2, complex_samples)
    raw = rng.integers(0, 256, (spectra + taps - 1) * fine * 4 * encoding[0] // 8, np.uint8)
    together, alone = (make_workspace(bank, count, 1, 2) for count in (spectra, 1))
    voltages = RawVoltages(raw, 1)
    filter_spectra(bank, voltages, Span(0, spectra), Span(0, 1), together)
    rows = together.voltage[0, :spectra, :, :, :fine]
    for k in range(spectra):
        filter_spectra(bank, voltages, Span(k, 1), Span(0, 1), alone)
        np.testing.assert_array_equal(rows[k], alone.voltage[0, 0, :, :, :fine])

    pairs = unpack(raw, *encoding).astype(np.float64).reshape(-1, fine, 2, 2)  # row, column, pol and part or reverse
    pairs = pairs.transpose(0, 2, 3, 1) if complex_samples else pairs.transpose(0, 3, 2, 1)
    weights = bank.coefficients[:, :, :fine].astype(np.float64)
    expected = sum(weights[:, t] * pairs[t : t + spectra] for t in range(taps))
    # Each of a few float32 sums of numbers up to 2^8, times weights, is rounded at 2^-24.
    np.testing.assert_allclose(rows, expected, rtol=0, atol=taps * 2.0**-24 * 2**8 * weights.max() * taps)
