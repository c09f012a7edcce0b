"""The channeliser from int8 voltages to mean power, beside plain NumPy and SciPy, liquid-dsp and baseband-tasks.

Rates are MHz of dual-polarisation bandwidth that are processed in real time: millions of complex samples of both
polarisations a second. One thread is one core.
"""

import ctypes
import ctypes.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import scipy.fft
from numba import njit

from benchmarks.harness import OURS, Bench
from edgefilter.compute.threads import ThreadBackend
from edgefilter_kernels.filterbank.fft import fft
from edgefilter_kernels.filterbank.fir import filter_spectra
from edgefilter_kernels.filterbank.pfb import pfb
from edgefilter_kernels.filterbank.workspace import (
    Filterbank,
    RawVoltages,
    Span,
    Workspace,
    make_filterbank,
    make_workspace,
    prototype_filter,
)

GROUP = "channeliser"
UNIT = "MHz"
SIZES = ((64, 4), (256, 4), (1024, 4), (1024, 8), (4096, 4), (4096, 8), (16384, 4), (65536, 4))
_SAMPLES = 1 << 21
_PEER_SAMPLES = 1 << 20
_PEER_CASES = ((1024, 4), (1024, 8), (4096, 8))


@dataclass
class FilterbankWorkload:
    """Voltages, and the arrays that a filterbank needs for them."""

    channels: int
    taps: int
    n_pols: int = 2
    bits: int = 8
    complex_samples: bool = True
    stokes: str = "I"
    samples: int = _SAMPLES
    oversampling: Fraction = Fraction(1)

    def __post_init__(self) -> None:
        n, per = self.channels, 1 if self.complex_samples else 2
        self.spectra = min(max(32, (1 << 17) // n), 1024)
        self.cells = max(2, self.samples // (self.spectra * n))
        self.filter = prototype_filter(n, self.taps, "hamming", self.complex_samples)
        self.bank: Filterbank = make_filterbank(
            self.filter, n, self.bits, "signed", self.n_pols, self.complex_samples, self.step
        )
        samples = (self.cells * self.spectra - 1) * self.step + self.taps * n * per
        sample_bytes = self.n_pols * self.bits * (3 - per) // 8
        self.raw = np.random.default_rng(1).integers(0, 256, (samples, sample_bytes), np.uint8)
        self.valid = np.ones(self.cells * self.spectra, np.bool_)
        products = 2 * self.n_pols if self.stokes == "IQUV" else self.n_pols
        self.power = np.zeros((self.cells, n, products), np.float32)
        self.moment4 = np.zeros((self.cells, n, self.n_pols), np.float32)
        self.count = np.zeros(self.cells, np.int32)
        self.scratch: list[Workspace] = [make_workspace(self.bank, self.spectra, 1, products) for _ in range(2)]

    @property
    def step(self) -> int:
        """Samples from one spectrum to the next."""
        return int(self.channels * (1 if self.complex_samples else 2) / self.oversampling)

    @property
    def mhz(self) -> float:
        """Bandwidth times duration of the voltages, in MHz s."""
        return self.cells * self.spectra * self.step / (1 if self.complex_samples else 2) / 1e6

    def run(self, backend: ThreadBackend) -> None:
        overlap = self.taps * self.channels * (1 if self.complex_samples else 2) - self.step
        free = list(self.scratch)

        def part(start: int, stop: int) -> None:
            first, last = start * self.spectra, stop * self.spectra
            pfb(
                self.bank, self.raw[first * self.step : last * self.step + overlap], self.valid[first:last],
                self.power[start:stop], self.moment4[start:stop], self.count[start:stop], free.pop(),
            )  # fmt: skip

        backend.parallel_for(self.cells, part)

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield voltages complex64 ``[row, channel, pol]`` for other programs, some megabytes at a time."""
        rows = max(self.taps, (1 << 18) // self.channels)
        for first in range(0, self.cells * self.spectra, rows):
            raw = self.raw[first * self.channels : (first + rows + self.taps - 1) * self.channels]
            yield raw.view(np.int8).astype(np.float32).view(np.complex64).reshape(-1, self.channels, 2)


def run(bench: Bench) -> None:
    with ThreadBackend(1) as one, ThreadBackend(2) as two:
        for channels, taps in SIZES:
            work, case = FilterbankWorkload(channels, taps), f"{channels} channels, {taps} taps, int8 x 2, I"
            bench.rate(GROUP, case, OURS, work.mhz, UNIT, lambda work=work: work.run(one))
            bench.rate(GROUP, case, OURS, work.mhz, UNIT, lambda work=work: work.run(two), threads=2)
            _limits(bench, work, case)
            if (channels, taps) in _PEER_CASES:
                _peers(bench, FilterbankWorkload(channels, taps, samples=_PEER_SAMPLES), case)
        for name, work in (
            ("int8 x 2, IQUV", FilterbankWorkload(1024, 4, stokes="IQUV")),
            ("4 bit x 2, I", FilterbankWorkload(1024, 4, bits=4)),
            ("int8 x 1, I", FilterbankWorkload(1024, 4, n_pols=1)),
            ("real int8 x 2, I", FilterbankWorkload(1024, 4, complex_samples=False)),
            ("int8 x 2, I, oversampled 32/27", FilterbankWorkload(1024, 4, oversampling=Fraction(32, 27))),
            ("int8 x 2, I, oversampled 4/3", FilterbankWorkload(1024, 4, oversampling=Fraction(4, 3))),
        ):
            case = f"1024 channels, 4 taps, {name}"
            bench.rate(GROUP, case, OURS, work.mhz, UNIT, lambda work=work: work.run(one))
        # The same bandwidth takes twice as many real samples.
        whole, real = (
            bench.value(GROUP, f"1024 channels, 4 taps, {name}", OURS) for name in ("int8 x 2, I", "real int8 x 2, I")
        )
        if whole and real:
            case = "1024 channels, 4 taps, int8 x 2, I: time of a real sample over that of a complex one"
            bench.record(GROUP, case, OURS, whole / real / 2, "")


@njit(nogil=True)
def _transforms(bank: Filterbank, work: Workspace, batches: int) -> None:
    for _ in range(batches):
        for k in range(work.batch):
            for pol in range(bank.n_pols):
                real, imag = work.voltage[0, k, pol, 0, : bank.channels], work.voltage[0, k, pol, 1, : bank.channels]
                fft(real, imag, bank.twiddle)


@njit(nogil=True)
def _filters(bank: Filterbank, raw: RawVoltages, spectra: int, work: Workspace) -> None:
    batch = work.batch
    for k in range(0, spectra - batch + 1, batch):
        filter_spectra(bank, raw, Span(k, batch), Span(0, 1), work)


def _limits(bench: Bench, work: FilterbankWorkload, case: str) -> None:
    """Measure the transform alone on a batch in the cache, and unpacking and filtering alone: the whole's limits."""
    first_scratch, batch = work.scratch[0], work.scratch[0].batch
    first_scratch.voltage[:] = 0
    batches = max(1, (1 << 20) // (batch * work.channels))
    amount = batches * batch * work.channels / 1e6
    transforms = bench.rate(
        GROUP, case, "limit: transform alone", amount, UNIT, lambda: _transforms(work.bank, first_scratch, batches)
    )
    raw, spectra = RawVoltages(work.raw.reshape(-1), 1), len(work.valid) // batch * batch
    filters = bench.rate(
        GROUP, case, "limit: unpacking and filter alone", spectra * work.channels / 1e6, UNIT,
        lambda: _filters(work.bank, raw, spectra, first_scratch),
    )  # fmt: skip
    bound = 1 / (1 / transforms + 1 / filters)
    bench.record(GROUP, case, "limit: both one after the other", bound, UNIT)


def _peers(bench: Bench, work: FilterbankWorkload, case: str) -> None:
    bench.rate(GROUP, case, "NumPy", work.mhz, UNIT, lambda: _numpy_filterbank(work, np.fft.fft))
    bench.rate(GROUP, case, "SciPy", work.mhz, UNIT, lambda: _numpy_filterbank(work, scipy.fft.fft))
    with bench.peer("liquid-dsp", "apt install libliquid1"), _liquid(work) as analyse:
        bench.rate(GROUP, case, "liquid-dsp", work.mhz, UNIT, lambda: _detect(work, analyse))
    with bench.peer("baseband-tasks", "pip install --group peers"):
        bench.rate(GROUP, case, "baseband-tasks", work.mhz, UNIT, lambda: _baseband_tasks(work))


def _numpy_filterbank(work: FilterbankWorkload, transform: Callable[..., Any]) -> None:
    window = work.filter.astype(np.float32).reshape(work.taps, work.channels, 1)

    def analyse(rows: np.ndarray) -> np.ndarray:
        count = len(rows) - work.taps + 1
        filtered = sum(window[t] * rows[t : t + count] for t in range(work.taps))
        return np.asarray(transform(filtered, axis=1))

    _detect(work, analyse)


def _detect(work: FilterbankWorkload, analyse: Callable[[np.ndarray], np.ndarray]) -> None:
    """Sum power and its square over spectra, as the channeliser does."""
    total, fourth = np.zeros((2, work.channels, 2), np.float64)
    for rows in work.blocks():
        spectra = analyse(rows)
        power = spectra.real**2 + spectra.imag**2
        total += power.sum(axis=0)
        fourth += (power * power).sum(axis=0)


@contextmanager
def _liquid(work: FilterbankWorkload) -> Iterator[Callable[[np.ndarray], np.ndarray]]:
    """Yield the polyphase analysis filterbank of liquid-dsp, one spectrum a call, one polarisation after the other."""
    name = ctypes.util.find_library("liquid")
    if name is None:
        raise OSError("library liquid not found")
    library = ctypes.CDLL(name)
    create, execute = library.firpfbch_crcf_create, library.firpfbch_crcf_analyzer_execute
    create.restype, create.argtypes = ctypes.c_void_p, [ctypes.c_int, ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p]
    execute.argtypes = [ctypes.c_void_p] * 3
    library.firpfbch_crcf_destroy.argtypes = [ctypes.c_void_p]
    window = work.filter.astype(np.float32)
    analyser = create(0, work.channels, work.taps, window.ctypes.data)

    def analyse(rows: np.ndarray) -> np.ndarray:
        by_pol = np.ascontiguousarray(rows.transpose(2, 0, 1))
        out = np.empty_like(by_pol)
        step = by_pol.strides[1]
        for pol in range(2):
            source, target = by_pol[pol].ctypes.data, out[pol].ctypes.data
            for row in range(len(rows)):
                execute(analyser, source + row * step, target + row * step)
        return out.transpose(1, 2, 0)[work.taps - 1 :]

    try:
        yield analyse
    finally:
        library.firpfbch_crcf_destroy(analyser)


def _baseband_tasks(work: FilterbankWorkload) -> None:
    """Run the faster of the two filterbanks of baseband-tasks on the same voltages, a frame at a time."""
    from astropy import units
    from astropy.time import Time
    from baseband_tasks.generators import StreamGenerator
    from baseband_tasks.pfb import PolyphaseFilterBank

    voltage = work.raw.view(np.int8)
    frame = 1 << 17

    def read(stream: Any) -> np.ndarray:
        start = stream.tell()
        return voltage[start : start + stream.samples_per_frame].astype(np.float32).view(np.complex64)

    stream = StreamGenerator(
        read, shape=(len(voltage) // frame * frame, 2), start_time=Time("2026-01-01"), sample_rate=1 * units.MHz,
        samples_per_frame=frame, dtype=np.complex64,
    )  # fmt: skip
    response = work.filter.astype(np.float32).reshape(work.taps, work.channels)
    rows = 2 * frame // work.channels
    task = PolyphaseFilterBank(stream, response, samples_per_frame=rows)
    total, fourth = np.zeros((2, work.channels, 2), np.float64)
    remaining = task.shape[0]
    while remaining:
        spectra = task.read(min(remaining, rows))
        power = spectra.real**2 + spectra.imag**2
        total += power.sum(axis=0)
        fourth += (power * power).sum(axis=0)
        remaining -= len(spectra)
