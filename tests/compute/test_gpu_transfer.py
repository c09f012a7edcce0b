"""Copies to and from a GPU while it computes: data are correct, and every synchronisation is needed."""

import functools
import inspect
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgefilter.compute import gpu_transfer
from edgefilter.compute.gpu_transfer import DeviceToHost, HostToDevice
from edgefilter.pipeline.backend import BackendSelector
from edgefilter.pipeline.engine import Engine
from edgefilter.sources.simulated.sky import VoltageSky
from tests.helpers.emulator import streams
from tests.helpers.emulator.gpu import EmulatedGpuBackend
from tests.helpers.emulator.streams import RaceError
from tests.helpers.recordings import VOLTAGE, power, record_sky


def window(number, rows=40):
    return np.random.default_rng(number).integers(0, 256, (rows, 4), np.uint8)


def round_trip(gpu_backend, windows):
    """Send windows to the GPU, compute with them and copy the results back, in the order of a reducer.

    The next window is started before each one is used; the very first one is never taken.
    """
    found, wait = [], None
    gpu_backend.start_upload(window(99))
    for at, samples in enumerate(windows):
        for near in windows[at : at + 2]:
            gpu_backend.start_upload(near)
        there = gpu_backend.upload(samples)
        computed = there + np.uint8(1)
        del there
        wait = gpu_backend.start_download((computed,))
        del computed
        other = gpu_backend.zeros(samples.shape, np.uint8)  # reuses freed memory
        other += np.uint8(7)
        found.append(wait()[0].copy() - np.uint8(1))
    gpu_backend.to_host(other)  # after this, the host knows that all copies are complete
    return found


class LazyThreadPool:
    """A pool that runs each piece of work only when its result is requested, and the others at the end."""

    def __init__(self, *_):
        self.pending = []

    def submit(self, work, *arguments):
        piece = SimpleNamespace(run=functools.partial(work, *arguments))
        piece.result = functools.partial(self.result, piece)
        self.pending.append(piece)
        return piece

    def result(self, piece):
        if piece in self.pending:
            last = piece is self.pending[-1]
            self.pending.remove(piece)
            piece.run()
            while last and self.pending:
                self.pending.pop(0).run()

    def shutdown(self):
        pass


@pytest.fixture
def lazy_gpu(monkeypatch):
    monkeypatch.setattr(gpu_transfer, "COPY_BYTES", 64)
    monkeypatch.setattr(gpu_transfer, "ThreadPoolExecutor", LazyThreadPool)
    with EmulatedGpuBackend() as made:
        yield made


@pytest.mark.parametrize("rows", [40, 1 << 20])
def test_windows_arrive_unchanged(gpu_backend, rows):
    windows = [window(number, rows) for number in range(7)]
    with gpu_backend:
        for samples, found in zip(windows, round_trip(gpu_backend, windows), strict=True):
            np.testing.assert_array_equal(found, samples)


def test_windows_arrive_unchanged_with_late_threads(lazy_gpu):
    windows = [window(number) for number in range(7)]
    np.testing.assert_array_equal(round_trip(lazy_gpu, windows), windows)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 3)), min_size=1, max_size=12))
def test_a_window_is_complete_when_it_is_taken(steps):
    """Windows that are started and not taken, taken and not started, and of different lengths."""
    with EmulatedGpuBackend() as gpu_backend:
        for number, (started, length) in enumerate(steps):
            samples, dropped = window(number, 10 * length), window(-number % 1000, 10)
            if started:
                gpu_backend.start_upload(samples)
                gpu_backend.start_upload(dropped)
            np.testing.assert_array_equal(gpu_backend.to_host(gpu_backend.upload(samples)), samples)


def test_a_reused_array_is_copied_again(gpu_backend):
    samples = window(1)
    with gpu_backend:
        for number in (2, 3, 4):
            samples[:] = window(number)
            np.testing.assert_array_equal(gpu_backend.to_host(gpu_backend.upload(samples)), samples)


def test_cupy_functions_have_the_emulated_signatures():
    """Only a real GPU can show what CuPy's functions do."""
    cupy = pytest.importorskip("cupy")
    import cupyx

    for function, arguments in (
        (cupy.ndarray.get, ("stream=None", "out=None", "blocking=True")),
        (cupy.ndarray.set, ("arr", "stream=None")),
        (cupy.cuda.Stream.__init__, ("non_blocking=False",)),
        (cupy.cuda.Event.__doc__, ("block", "disable_timing")),
        (cupy.cuda.MemoryPool.set_limit, ("size=None",)),
        (cupy.cuda.Device.use, ("self",)),
    ):
        signature = function if isinstance(function, str) else function.__doc__
        assert all(one in signature for one in arguments), signature
    assert list(inspect.signature(cupyx.empty_pinned).parameters)[:2] == ["shape", "dtype"]
    assert "where" in inspect.signature(cupy.copyto).parameters
    assert {"order", "shape"} <= inspect.signature(cupy.zeros_like).parameters.keys()


def do_nothing(*_):
    pass


SYNC_POINTS = {
    "samples overwrite memory that has been read": ("up", "wait_event"),
    "a piece is complete when it is on the GPU and pinned memory has been read": ("up", "synchronize"),
    "results are copied after they have been computed": ("down", "wait_event"),
    "results are used after they have arrived": ("down", "synchronize"),
    "a window waits for the threads of the previous window": ("start_copy", "_wait_for_copies"),
    "a block waits for the threads of its window": ("take", "_wait_for_copies"),
}


@pytest.mark.parametrize("sync_point", SYNC_POINTS)
def test_every_synchronisation_is_needed(lazy_gpu, monkeypatch, sync_point):
    """Without it, memory is used by two at a time or data are wrong."""
    windows = [window(number) for number in range(8)]  # the last one reuses the memory of the first one
    direction, method = SYNC_POINTS[sync_point]
    patched_streams = (
        [buffer._stream for buffer in lazy_gpu._host_to_device._buffers]
        if direction == "up"
        else [lazy_gpu._device_to_host._stream]
    )
    if method == "_wait_for_copies":
        original = getattr(gpu_transfer._StagingBuffer, direction)

        def unsynchronised(buffer, *samples):
            with monkeypatch.context() as patch:
                patch.setattr(buffer, method, do_nothing)
                return original(buffer, *samples)

        monkeypatch.setattr(gpu_transfer._StagingBuffer, direction, unsynchronised)
    elif method == "wait_event":
        for stream in patched_streams:
            monkeypatch.setattr(stream, method, do_nothing)
    else:
        original = streams.Event.synchronize
        monkeypatch.setattr(
            streams.Event, method, lambda event: None if event.stream in patched_streams else original(event)
        )
    with pytest.raises((RaceError, AssertionError)):
        np.testing.assert_array_equal(round_trip(lazy_gpu, windows), windows)


def test_arrays_live_until_they_have_been_copied(lazy_gpu, monkeypatch):
    monkeypatch.setattr(DeviceToHost, "_in_flight", property(lambda _: (), do_nothing), raising=False)
    with pytest.raises(RaceError, match="freed"):
        round_trip(lazy_gpu, [window(1)])


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to compile the CUDA sources for the host with")
@pytest.mark.parametrize("voltage", [True, False])
def test_the_next_window_is_started_before_a_block_is_reduced(monkeypatch, voltage):
    from edgefilter.pipeline import backend
    from edgefilter_kernels.cuda import raw
    from tests.helpers.emulator import compiler

    monkeypatch.setattr(raw, "module", compiler.module)
    monkeypatch.setattr(backend, "GpuBackend", EmulatedGpuBackend)
    plan, recording = record_sky(VoltageSky(0.7, 4, rate=1_000_000, centre_mhz=400), VOLTAGE) if voltage else power()
    done = []
    for name in ("start_upload", "take"):
        original = getattr(HostToDevice, name)

        def record_call(self, samples, name=name, original=original):
            done.append((name, id(samples)))
            return original(self, samples)

        monkeypatch.setattr(HostToDevice, name, record_call)
    windows = []

    def read(start, stop):
        if stop - plan.samples_per_block >= recording.samples:
            return None
        windows.append(recording.read(start, stop))
        return windows[-1]

    with Engine(plan, do_nothing, "node", BackendSelector("gpu")) as engine:
        while (raw_samples := engine.window(read)) is not None:
            engine.feed(raw_samples, read_ahead=read)
        engine.finish()
    numbers = {id(one.data): number for number, one in enumerate(windows)}
    assert len(windows) == -(-recording.samples // plan.samples_per_block)  # each one is read once
    order = [(name, numbers[key]) for name, key in done]
    for number in range(1, len(windows)):
        assert order.index(("start_upload", number)) < order.index(("take", number - 1))
