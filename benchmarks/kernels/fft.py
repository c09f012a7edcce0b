"""Fourier transforms of blocks of spectra that fit the cache, complex64, one thread."""

import numpy as np
import scipy.fft
from numba import njit

from benchmarks.harness import OURS, Bench
from edgefilter_kernels.filterbank.fft import fft, twiddles

GROUP = "Fourier transform"
SIZES = (64, 256, 1024, 4096, 16384, 65536)
_NUMBERS = 1 << 16


@njit(nogil=True)
def transform(spectra: np.ndarray, twiddle: np.ndarray) -> None:
    for k in range(len(spectra)):
        fft(spectra[k, 0], spectra[k, 1], twiddle)


def run(bench: Bench) -> None:
    for n in SIZES:
        _measure(bench, n, max(1, _NUMBERS // n))


def _measure(bench: Bench, n: int, count: int) -> None:
    flops, case = 5 * n * np.log2(n) * count / 1e9, f"{count} x {n}"
    planes, twiddle = np.zeros((count, 2, n), np.float32), twiddles(n)
    numbers, out = np.zeros((2, count, n), np.complex64)
    bench.rate(GROUP, case, OURS, flops, "GFLOP/s", lambda: transform(planes, twiddle))
    bench.rate(GROUP, case, "NumPy", flops, "GFLOP/s", lambda: np.fft.fft(numbers))
    bench.rate(GROUP, case, "SciPy", flops, "GFLOP/s", lambda: scipy.fft.fft(numbers))
    with bench.peer("pyFFTW", "pip install --group peers"):
        import pyfftw

        plan = pyfftw.builders.fft(numbers, axis=1, overwrite_input=True, planner_effort="FFTW_MEASURE")
        bench.rate(GROUP, case, "pyFFTW", flops, "GFLOP/s", plan)
    with bench.peer("rocket-fft", "pip install --group peers"):
        import rocket_fft

        c2c, axes = rocket_fft.c2c, np.array([1])

        @njit(nogil=True)
        def batch(values: np.ndarray) -> None:
            c2c(values, values, axes, True, 1.0, 1)

        bench.rate(GROUP, case, "rocket-fft, in Numba", flops, "GFLOP/s", lambda: batch(out))
    with bench.peer("ducc0", "pip install --group peers"):
        import ducc0

        bench.rate(GROUP, case, "ducc0", flops, "GFLOP/s", lambda: ducc0.fft.c2c(numbers, axes=(1,), out=out))
