"""CUDA versions of unpacking and the filterbank against the CPU's and the reference, on small and odd shapes."""

import numpy as np
import pytest

from edgefilter.compute.threads import ThreadBackend
from edgefilter_kernels.cuda.filterbank import pfb as gpu_pfb
from edgefilter_kernels.cuda.filterbank import unpack as gpu_unpack
from edgefilter_kernels.cuda.filterbank import workspace as gpu_workspace
from edgefilter_kernels.filterbank import pfb, unpack
from edgefilter_kernels.filterbank.fft import FFT_PIECE
from edgefilter_kernels.filterbank.workspace import FLUSH_SPECTRA, make_filterbank, prototype_filter
from tests.helpers.filterbanks import ENCODINGS, MOMENT4_TOLERANCE, POWER_TOLERANCE
from tests.reference.filterbank.pfb import pfb as reference
from tests.reference.filterbank.unpack import unpack as numbers

COMPLEX_INT8 = (8, "signed", True)


def make_filterbank_and_raw(rng, shape, taps, samples, spectra, oversampling=(1, 1)):
    """Return a bank and raw samples; shape is raw channels, fine channels, pols; samples bits, encoding, complex."""
    coarse, fine, n_pols = shape
    *encoding, complex_samples = samples
    step = fine if complex_samples else 2 * fine
    hop = step * oversampling[1] // oversampling[0]
    bank = make_filterbank(
        prototype_filter(fine, taps, "hamming", complex_samples), fine, *encoding, n_pols, complex_samples, hop
    )
    n_samples, numbers = (spectra - 1) * hop + taps * step, coarse * n_pols * (2 if complex_samples else 1)
    if encoding[1] == "float":
        return bank, rng.standard_normal((n_samples, numbers)).astype(np.float32).view(np.uint8)
    return bank, rng.integers(0, 256, (n_samples, numbers * encoding[0] // 8), np.uint8)


def compute_cells(bank, raw, valid, shape, gpu_backend=None):
    """Compute cells on the CPU, or on a GPU; shape is times, raw channels, products."""
    times, channels, products = shape
    backend = gpu_backend or ThreadBackend(1)
    to_device = backend.to_device
    size = times, channels * bank.channels
    power = to_device(np.full((*size, products), np.nan, np.float32))
    moment4 = to_device(np.full((*size, bank.n_pols), np.nan, np.float32))
    count = to_device(np.full(times, -1, np.int32))
    bank = bank._replace(coefficients=to_device(bank.coefficients))
    backend.kernel(pfb.pfb)(bank, to_device(raw), to_device(valid), power, moment4, count)
    return power, moment4, count


def assert_same_cells(gpu_backend, bank, raw, valid, shape):
    expected = compute_cells(bank, raw, valid, shape)
    found = [compute_cells(bank, raw, valid, shape, gpu_backend) for _ in range(2)]
    power, moment4, count = (gpu_backend.to_host(array) for array in found[0])
    np.testing.assert_array_equal(count, expected[2])
    np.testing.assert_allclose(power, expected[0], rtol=0, atol=POWER_TOLERANCE * max(expected[0].max(), 1e-30))
    np.testing.assert_allclose(moment4, expected[1], rtol=0, atol=MOMENT4_TOLERANCE * max(expected[1].max(), 1e-30))
    for one, other in zip(*found, strict=True):  # every run computes the same bits
        assert gpu_backend.to_host(one).tobytes() == gpu_backend.to_host(other).tobytes()
    return power, moment4


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_unpacked_numbers_equal_the_cpu_s(gpu_backend, encoding):
    raw = np.random.default_rng(1).integers(0, 256, 1044, np.uint8)
    on_cpu = np.empty(raw.size * 8 // encoding[0], np.float32)
    on_gpu = gpu_backend.to_device(np.empty_like(on_cpu))
    unpack.unpack(raw, *encoding, on_cpu)
    gpu_unpack.unpack(gpu_backend.to_device(raw), *encoding, on_gpu)
    np.testing.assert_array_equal(gpu_backend.to_host(on_gpu), on_cpu)
    np.testing.assert_array_equal(on_cpu, numbers(raw, *encoding))


@pytest.mark.parametrize(
    ("raw", "bits", "out"),
    [
        (np.zeros(4, np.uint8), 3, np.zeros(4, np.float32)),
        (np.zeros(4, np.int8), 8, np.zeros(4, np.float32)),
        (np.zeros(4, np.uint8), 8, np.zeros(5, np.float32)),
    ],
)
def test_arrays_that_do_not_fit_are_rejected(gpu_backend, raw, bits, out):
    with pytest.raises(ValueError, match="must be"):
        gpu_unpack.unpack(gpu_backend.to_device(raw), bits, "unsigned", gpu_backend.to_device(out))


def test_cells_with_a_nan_or_infinity_are_zeroed_and_flagged(gpu_backend):
    rng = np.random.default_rng(2)
    power, flags = rng.standard_normal((9, 31, 2)).astype(np.float32), np.zeros((9, 31), np.uint16)
    power[rng.random(power.shape) < 0.1] = np.nan
    power[rng.random(power.shape) < 0.1] = -np.inf
    on_gpu, flags_on_gpu = gpu_backend.to_device(power), gpu_backend.to_device(flags)
    unpack.zero_nonfinite(power, flags, 1)
    gpu_unpack.zero_nonfinite(on_gpu, flags_on_gpu, 1)
    np.testing.assert_array_equal(gpu_backend.to_host(on_gpu), power)
    np.testing.assert_array_equal(gpu_backend.to_host(flags_on_gpu), flags)
    assert 0 < flags.sum() < flags.size


@pytest.mark.parametrize("products", [1, 4])
@pytest.mark.parametrize("complex_samples", [True, False])
@pytest.mark.parametrize(
    "case",  # encoding, raw channels, fine channels, taps, oversampling, fraction of valid spectra
    [
        ((1, "unsigned"), 8, 2, 1, (1, 1), 1.0),
        ((2, "offset"), 4, 64, 4, (1, 1), 0.6),
        ((4, "signed"), 2, 16, 5, (4, 3), 0.6),
        ((8, "signed"), 1, 256, 4, (1, 1), 0.6),
        ((8, "signed"), 3, 32, 9, (32, 27), 1.0),
        ((16, "offset"), 5, 8, 3, (4, 3), 0.6),
        ((32, "float"), 1, 1024, 2, (1, 1), 0.0),
        ((8, "signed"), 1, 2 * FFT_PIECE, 2, (1, 1), 0.6),  # a long transform, which the CPU computes in pieces
    ],
)
def test_cells_equal_the_cpu_s(gpu_backend, products, complex_samples, case):
    encoding, coarse, fine, taps, oversampling, present = case
    rng = np.random.default_rng(fine)
    n_pols, times, spectra = min(products, 2), 3, 5
    bank, raw = make_filterbank_and_raw(
        rng, (coarse, fine, n_pols), taps, (*encoding, complex_samples), times * spectra, oversampling
    )
    valid = rng.random(times * spectra) < present
    power, moment4 = assert_same_cells(gpu_backend, bank, raw, valid, (times, coarse, products))
    values = numbers(raw, *encoding).astype(np.float64).reshape(len(raw), coarse, n_pols, -1)
    voltage = values[..., 0] + 1j * values[..., 1] if complex_samples else values[..., 0]
    filter_ = prototype_filter(fine, taps, "hamming", complex_samples)
    hop = bank.hop if complex_samples else 2 * bank.hop
    power_, moment4_, _ = reference(voltage, filter_, fine, valid, times, hop)
    np.testing.assert_allclose(power, power_[..., :products], rtol=0, atol=1e-5 * max(power_.max(), 1e-30))
    np.testing.assert_allclose(moment4, moment4_, rtol=0, atol=1e-5 * max(moment4_.max(), 1e-30))


@pytest.mark.parametrize(
    ("times", "spectra", "coarse", "batch", "sizes"),
    [
        (7, 5, 1, 3000, (2, 5, 1)),  # several whole cells at a time, the last batch is not full
        (2, 2 * FLUSH_SPECTRA + 9, 1, 512, (1, FLUSH_SPECTRA, 1)),  # pieces of a cell
        (
            2,
            2 * FLUSH_SPECTRA + 9,
            1,
            1 << 20,
            (7, 2 * FLUSH_SPECTRA + 9, 1),
        ),  # cells whose sums are added in two steps
        (3, 9, 5, 5000, (1, 9, 2)),  # groups of raw channels
        (3, 9, 5, 1, (1, 9, 1)),  # the smallest batch
    ],
)
def test_the_batch_size_changes_no_bit(gpu_backend, monkeypatch, times, spectra, coarse, batch, sizes):
    rng = np.random.default_rng(3)
    bank, raw = make_filterbank_and_raw(rng, (coarse, 16, 2), 4, COMPLEX_INT8, times * spectra)
    valid = rng.random(times * spectra) < 0.9
    whole = assert_same_cells(gpu_backend, bank, raw, valid, (times, coarse, 4))
    monkeypatch.setattr(gpu_workspace, "BATCH_BYTES", batch)
    assert gpu_workspace.batch_size(bank, spectra, coarse) == sizes
    parts = assert_same_cells(gpu_backend, bank, raw, valid, (times, coarse, 4))
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(one, other)


def test_samples_of_invalid_spectra_have_no_effect(gpu_backend):
    rng = np.random.default_rng(4)
    bank, raw = make_filterbank_and_raw(rng, (1, 16, 2), 4, (32, "float", True), 12)
    valid = np.array([not r <= 6 < r + 4 for r in range(12)])
    results = []
    for garbage in (0, 1e30, np.nan, np.inf):
        raw.view(np.float32)[6 * 16 + 3 : 7 * 16 - 2] = garbage
        found = compute_cells(bank, raw, valid, (2, 1, 2), gpu_backend)
        assert all(np.isfinite(gpu_backend.to_host(array)).all() for array in found)
        results.append([gpu_backend.to_host(array).tobytes() for array in found])
    assert results[1:] == results[:1] * 3


@pytest.mark.parametrize("complex_samples", [True, False])
@pytest.mark.parametrize("products", [2, 4])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
def test_nan_and_infinity_affect_the_same_cells_as_on_the_cpu(gpu_backend, bad, products, complex_samples):
    samples, valid = (32, "float", complex_samples), np.ones(12, np.bool_)
    bank, raw = make_filterbank_and_raw(np.random.default_rng(7), (2, 16, 2), 4, samples, 12)
    raw.view(np.float32)[16 * 9 + 2, 1] = bad
    on_cpu = compute_cells(bank, raw, valid, (3, 2, products))
    on_gpu = compute_cells(bank, raw, valid, (3, 2, products), gpu_backend)
    for one, other in zip(on_gpu, on_cpu, strict=True):
        np.testing.assert_array_equal(np.isfinite(gpu_backend.to_host(one)), np.isfinite(other))
    assert not np.isfinite(on_cpu[0]).all()
    assert np.isfinite(on_cpu[0]).any()


@pytest.mark.parametrize("complex_samples", [True, False])
@pytest.mark.parametrize(("oversampling", "first"), [((1, 1), 0), ((4, 3), 5), ((4, 3), -5), ((4, 3), 1 << 57)])
def test_voltages_equal_the_cpu_s(gpu_backend, complex_samples, oversampling, first):
    rng = np.random.default_rng(5)
    bank, raw = make_filterbank_and_raw(rng, (2, 32, 2), 4, (8, "signed", complex_samples), 7, oversampling)
    on_cpu = pfb.voltages(bank, raw, 7, first)
    gpu_bank = bank._replace(coefficients=gpu_backend.to_device(bank.coefficients))
    on_gpu = gpu_backend.to_host(gpu_pfb.voltages(gpu_bank, gpu_backend.to_device(raw), 7, first))
    np.testing.assert_allclose(on_gpu, on_cpu, rtol=0, atol=POWER_TOLERANCE * np.abs(on_cpu).max())


def test_cells_that_do_not_fit_are_rejected(gpu_backend):
    bank, raw = make_filterbank_and_raw(np.random.default_rng(6), (1, 16, 2), 4, COMPLEX_INT8, 8)
    valid = np.ones(8, np.bool_)
    with pytest.raises(ValueError, match="raw is"):
        compute_cells(bank, raw[:-1], valid, (1, 1, 2), gpu_backend)
    with pytest.raises(ValueError, match="whole cells"):
        compute_cells(bank, raw, valid, (3, 1, 2), gpu_backend)
