import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefilter_kernels.filterbank.integrate import combine_parts, integrate, make_sums
from tests.reference.filterbank.integrate import integrate as reference

BITS = 6


def outputs(planes, rows, channels):
    return make_sums(planes, rows, channels, BITS)


@settings(deadline=None, max_examples=40)
@given(
    rows=st.integers(1, 40),
    cells=st.integers(1, 5),
    channels=st.integers(1, 9) | st.integers(250, 600),
    products=st.integers(1, 4),
    flagged=st.sampled_from([0.0, 0.3, 1.0]),
    seed=st.integers(0, 1000),
    data=st.data(),
)
def test_the_kernel_equals_the_reference_for_any_division_of_the_parts(
    rows, cells, channels, products, flagged, seed, data
):
    rng = np.random.default_rng(seed)
    times = rows * cells
    power = rng.normal(10, 3, (times, channels, products)).astype(np.float32)
    flags = np.where(rng.random((times, channels)) < flagged, rng.integers(1, 64, (times, channels)), 0)
    flags = flags.astype(np.uint16)
    matrix = rng.integers(-2, 3, (products, products)).astype(np.float64)
    first = data.draw(st.integers(0, times))
    last = data.draw(st.integers(first, times))
    whole, pieces = outputs(products, rows, channels), outputs(products, rows, channels)
    parts = len(whole.total)
    cut = data.draw(st.integers(0, parts))
    integrate(power, flags, matrix, (first, last), whole, 0, parts)
    integrate(power, flags, matrix, (first, last), pieces, cut, parts)
    integrate(power, flags, matrix, (first, last), pieces, 0, cut)

    for one, other in zip(whole, pieces, strict=True):
        np.testing.assert_array_equal(one, other)
    for one, plain in zip(combine_parts(whole), reference(power, flags, matrix, rows, first, last, BITS), strict=True):
        np.testing.assert_allclose(one, plain, rtol=1e-6, atol=1e-5)


def test_arrays_that_do_not_fit_are_rejected():
    power, flags, matrix = np.ones((4, 3, 1), np.float32), np.zeros((4, 3), np.uint16), np.ones((1, 1))
    with pytest.raises(ValueError, match="do not integrate"):
        integrate(power, flags, matrix, (0, 4), outputs(1, 3, 3), 0, 1)
    with pytest.raises(ValueError, match="lie outside"):
        integrate(power, flags, matrix, (0, 5), outputs(1, 2, 3), 0, 2)
    with pytest.raises(ValueError, match="contiguous"):
        integrate(power[:, ::-1], flags, matrix, (0, 4), outputs(1, 2, 3), 0, 2)
    with pytest.raises(ValueError, match="bits beyond"):
        integrate(power, flags + np.uint16(64), matrix, (0, 4), outputs(1, 2, 3), 0, 2)
