"""``python -m benchmarks.gpu``: a GPU beside its own limits, plain CuPy, and the processor.

Rates of channelising, flagging and the chain are MHz of dual-polarisation bandwidth that are processed in real time.
Without a GPU, nothing is measured and no result is written.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import OURS, Bench
from benchmarks.kernels.channeliser import UNIT, FilterbankWorkload
from benchmarks.search import make_plan
from edgefilter.compute.gpu import GpuBackend
from edgefilter.compute.threads import ThreadBackend
from edgefilter.core.cells import Rows
from edgefilter.core.chunk import Chunk
from edgefilter.core.config import NodeConfig, Reduction
from edgefilter.core.errors import ConfigError
from edgefilter.core.plan import Plan, resolve
from edgefilter.core.stream import Encoding, SampleKind, Stream
from edgefilter.core.validation import validate
from edgefilter.pipeline.reducer import Reducer
from edgefilter.stages.rfi.flagger import Flagger
from edgefilter.stages.search.normalise import Normaliser
from edgefilter.stages.search.normalise_gpu import GpuNormaliser
from edgefilter.stages.search.single_pulse import SinglePulseSearch
from edgefilter.stages.search.single_pulse_gpu import GpuSinglePulseSearch
from edgefilter_kernels.cuda.raw import array_namespace
from edgefilter_kernels.filterbank.pfb import pfb
from edgefilter_kernels.filterbank.workspace import make_workspace

GROUP = "GPU"
BUS_CASE = "bus, from the host's memory to the GPU"


@dataclass(frozen=True)
class Sizes:
    """Sizes of the measurements, for an H100."""

    copy_bytes: int = 1 << 30
    samples: int = 1 << 26
    channels: int = 1024
    times: int = 4096
    search_rows: int = 4096
    chain_rows: int = 1024
    bands: int = 4
    dm: tuple[float, float] = (0.0, 1000.0)


@dataclass(frozen=True)
class Device:
    """A backend and its name in the results."""

    who: str
    backend: ThreadBackend

    def timed(self, bench: Bench, case: str, amount: float, unit: str, work: Callable[[], Any]) -> None:
        """Measure the wall-clock time until the result of ``work`` has been computed."""
        bench.rate(GROUP, case, self.who, amount, unit, lambda: self.backend.to_host(work()), self.backend.threads + 1)


class WindowStream:
    """The same samples again and again; a backend identifies a window by its array, so each is a new view."""

    def __init__(self, samples: Any, backend: ThreadBackend) -> None:
        self._samples, self._backend = samples, backend
        self._next = samples[:]

    def next_window(self) -> Any:
        """Return a window while the copy of the next one has started, as in the engine."""
        window, self._next = self._next, self._samples[:]
        self._backend.start_upload(window)
        self._backend.start_upload(self._next)
        return window


def measure(bench: Bench, gpu: GpuBackend, processor: ThreadBackend, sizes: Sizes) -> None:
    """Measure everything."""
    devices = Device(OURS, gpu), Device("processor", processor)
    _limits(bench, devices[0], sizes)
    for device in devices:
        _channelise(bench, device, sizes)
        _flag(bench, device, sizes)
        _search(bench, device, sizes)
        _chain(bench, device, sizes)


def _limits(bench: Bench, gpu: Device, sizes: Sizes) -> None:
    """Measure the GPU's memory, the bus, cuFFT alone, and a filterbank of CuPy's own functions."""
    source, target = (gpu.backend.zeros(sizes.copy_bytes // 4, np.float32) for _ in range(2))

    def copy() -> Any:
        target[:] = source
        return target[:1]

    limit = Device("limit", gpu.backend)
    limit.timed(bench, "memory, bytes read and written", 2 * source.nbytes / 1e9, "GB/s", copy)
    windows = WindowStream(np.ones((sizes.copy_bytes // 16, 4), np.uint8), gpu.backend)
    size = sizes.copy_bytes // 4 / 1e9
    limit.timed(bench, BUS_CASE, size, "GB/s", lambda: gpu.backend.upload(windows.next_window())[:1])
    xp, n = array_namespace(source), sizes.channels
    voltage = gpu.backend.zeros((2 * sizes.samples // n, n), np.complex64)
    case = f"channelise, {n} channels, 4 taps, int8 x 2"
    limit.timed(bench, case, sizes.samples / 1e6, UNIT, lambda: xp.fft.fft(voltage)[:1, :1])
    work = FilterbankWorkload(n, 4, samples=sizes.samples)
    raw, window = gpu.backend.to_device(work.raw.view(np.int8)), gpu.backend.to_device(work.filter.astype(np.float32))

    def plain() -> Any:
        rows = raw.reshape(-1, n, 2, 2).astype(np.float32)
        taps = window.reshape(work.taps, n, 1, 1)
        count = len(rows) - work.taps + 1
        filtered = sum(taps[t] * rows[t : t + count] for t in range(work.taps))
        spectra = xp.fft.fft(filtered[..., 0] + 1j * filtered[..., 1], axis=1)
        power = spectra.real**2 + spectra.imag**2
        cells = power[: work.cells * work.spectra].reshape(work.cells, work.spectra, n, 2)
        return cells.mean(axis=1)[:1], (cells * cells).mean(axis=1)[:1]

    Device("plain CuPy", gpu.backend).timed(bench, case, work.mhz, UNIT, lambda: plain()[1])


def _channelise(bench: Bench, device: Device, sizes: Sizes) -> None:
    """Measure the channeliser on voltages that are on the device."""
    work, backend = FilterbankWorkload(sizes.channels, 4, samples=sizes.samples), device.backend
    bank = work.bank._replace(coefficients=backend.to_device(work.bank.coefficients))
    scratch = [backend.kernel(make_workspace)(bank, work.spectra, 1, 2) for _ in range(backend.threads)]
    arrays = [backend.to_device(array) for array in (work.raw, work.valid, work.power, work.moment4, work.count)]
    raw, valid, power, moment4, count = arrays
    overlap = (work.taps - 1) * work.channels
    kernel = backend.kernel(pfb)

    def run() -> Any:
        free = list(scratch)

        def part(start: int, stop: int) -> None:
            first, last = start * work.spectra, stop * work.spectra
            kernel(
                bank, raw[first * work.step : last * work.step + overlap], valid[first:last], power[start:stop],
                moment4[start:stop], count[start:stop], free.pop(),
            )  # fmt: skip

        backend.parallel_for(work.cells, part)
        return count

    device.timed(bench, f"channelise, {sizes.channels} channels, 4 taps, int8 x 2", work.mhz, UNIT, run)


def _flag(bench: Bench, device: Device, sizes: Sizes) -> None:
    spectra, backend = 64, device.backend
    shape, rng = (sizes.times, sizes.channels, 2), np.random.default_rng(1)
    power = rng.gamma(spectra, 1 / spectra, shape).astype(np.float32)
    moment4 = (2 * power**2).astype(np.float32)
    cells = [backend.to_device(array) for array in (power, moment4, np.full(sizes.times, spectra, np.int32))]
    megahertz = np.linspace(1200, 1500, sizes.channels)
    flagger = Flagger(megahertz, 0.25e-3, validate(NodeConfig, {}).flag, backend)

    def run() -> Any:
        flags = backend.zeros(shape[:2], np.uint16)
        flagger.flag(cells[0], cells[1], cells[2], 2, flags)
        return flags

    amount = sizes.times * sizes.channels * spectra / 1e6
    device.timed(bench, f"flag, {sizes.channels} channels, cells of {spectra} spectra", amount, UNIT, run)


def _search(bench: Bench, device: Device, sizes: Sizes) -> None:
    """Measure the search on a block of noise on the device, between copies of the same block."""
    stream, tree, backend = make_plan().stream, make_plan().settings.model_dump(), device.backend
    tree["block"]["rows"] = sizes.search_rows
    tree["pulses"] |= {"bands": sizes.bands, "dm": sizes.dm}
    plan = Plan(stream, validate(Reduction, tree))
    normaliser = GpuNormaliser(plan, backend) if isinstance(backend, GpuBackend) else Normaliser(plan, backend)
    search = (
        GpuSinglePulseSearch(plan, backend) if isinstance(backend, GpuBackend) else SinglePulseSearch(plan, backend)
    )
    rows = normaliser.history + plan.rows_per_block
    noise = np.random.default_rng(1).normal(96, 16, (1, rows, plan.channels)).astype(np.float32)
    normalised = normaliser.reduce(Rows(0, noise, np.ones(noise.shape[1:], np.uint16)))
    n_blocks = 1 + sum(-(-depth // plan.rows_per_block) for depth in (search.history, search.lookahead))
    case, real = f"search, {search.trials} trials, {sizes.bands} bands", plan.block_seconds
    bench.rate(
        GROUP,
        case,
        device.who,
        real,
        "x real time",
        lambda: search.reduce([normalised] * n_blocks, 0),
        backend.threads + 1,
    )


def _chain(bench: Bench, device: Device, sizes: Sizes) -> None:
    """Measure from voltages in the host's memory to events, block by block, once the windows are full."""
    hertz = 300e6
    stream = Stream(
        "chain", SampleKind.VOLTAGE, 0, Fraction(300_000_000), 1, 1.35e9, hertz, ("X", "Y"), 8, Encoding.SIGNED, True
    )
    tree = {
        "channelise": {"channels": sizes.channels}, "detect": {"spectra": 64}, "pulses": {"dm": sizes.dm},
        "block": {"rows": sizes.chain_rows},
    }  # fmt: skip
    plan = Plan(stream, resolve(validate(NodeConfig, tree), stream))
    reducer = Reducer(plan, device.backend)
    start, stop = reducer.window(0)
    noise = np.random.default_rng(1).integers(0, 256, (stop - start, 4), np.uint8)

    windows, threads = WindowStream(noise, device.backend), device.backend.threads + 1

    def block(samples: Any) -> list[Any]:
        return list(reducer.feed(Chunk(reducer.window(reducer.next_input_block)[0], samples)))

    while not block(windows.next_window()):
        pass
    case = f"whole chain, {sizes.channels} channels, DM {sizes.dm[0]:g} to {sizes.dm[1]:g}, from the host's memory"
    amount = plan.samples_per_block / 1e6
    bench.rate(GROUP, case, device.who, amount, UNIT, lambda: block(windows.next_window()), threads)
    if isinstance(device.backend, GpuBackend):
        bus = bench.value(GROUP, BUS_CASE, "limit", threads)
        assert bus is not None
        bench.record(GROUP, case, "limit", bus * 1e9 / noise.nbytes * amount, UNIT, threads)
        without_overlap = case.replace("whole chain", "whole chain without overlap")
        bench.rate(GROUP, without_overlap, device.who, amount, UNIT, lambda: block(noise), threads)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="that each measurement is repeated at least")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/gpu.json"))
    arguments = parser.parse_args()
    try:
        gpu = GpuBackend()
    except ConfigError as error:
        print(f"nothing is measured: {error}")
        return
    bench = Bench(arguments.seconds)
    bench.console.print(f"{gpu.name}, {gpu.free_bytes / 1e9:.3g} GB free", highlight=False)
    with ThreadBackend() as processor, gpu:
        measure(bench, gpu, processor, Sizes())
    for table in bench.tables():
        bench.console.print(table)
    bench.write(arguments.out, {"gpu": gpu.name})


if __name__ == "__main__":
    main()
