"""Windows go to a card and arrays come back while it computes; whoever does not wait for the other is found out."""

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
from tests.pipeline.test_reducer import VOLTAGE, power, record_sky


def window(number, rows=40):
    return np.random.default_rng(number).integers(0, 256, (rows, 4), np.uint8)


def round_trip(gpu_backend, windows):
    """Windows as a card finds them when it has computed with them, as a reducer takes them: the next one is staged.

    The first one that is staged is given up.
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
        other = gpu_backend.zeros(samples.shape, np.uint8)  # where memory was let go of
        other += np.uint8(7)
        found.append(wait()[0].copy() - np.uint8(1))
    gpu_backend.to_host(other)  # the host knows now of all that was sent
    return found


class LazyThreadPool:
    """Threads that work as late as they may: when someone waits for a piece, and on the forgotten ones at the end."""

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
def test_windows_arrive_as_they_are(gpu_backend, rows):
    windows = [window(number, rows) for number in range(7)]
    with gpu_backend:
        for samples, found in zip(windows, round_trip(gpu_backend, windows), strict=True):
            np.testing.assert_array_equal(found, samples)


def test_windows_arrive_however_late_the_threads_are(lazy_gpu):
    windows = [window(number) for number in range(7)]
    np.testing.assert_array_equal(round_trip(lazy_gpu, windows), windows)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 3)), min_size=1, max_size=12))
def test_whatever_was_staged_what_is_taken_is_there(steps):
    """Windows that were staged and not taken, taken and not staged, and of other lengths."""
    with EmulatedGpuBackend() as gpu_backend:
        for number, (staged, length) in enumerate(steps):
            samples, given_up = window(number, 10 * length), window(-number % 1000, 10)
            if staged:
                gpu_backend.start_upload(samples)
                gpu_backend.start_upload(given_up)
            np.testing.assert_array_equal(gpu_backend.to_host(gpu_backend.upload(samples)), samples)


def test_the_same_array_with_other_samples_is_copied_again(gpu_backend):
    samples = window(1)
    with gpu_backend:
        for number in (2, 3, 4):
            samples[:] = window(number)
            np.testing.assert_array_equal(gpu_backend.to_host(gpu_backend.upload(samples)), samples)


def test_cupy_takes_what_is_asked_of_it():
    """The emulator takes the same; what CuPy's functions do can only be seen on a card."""
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
    "samples go where what computes has read those before": ("up", "wait_event"),
    "samples are there, and pinned memory is read, when a piece is done": ("up", "synchronize"),
    "what comes back has been computed": ("down", "wait_event"),
    "what comes back has come": ("down", "synchronize"),
    "a window waits for the threads of the one before": ("start_copy", "_wait_for_copies"),
    "a block waits for the threads of its window": ("take", "_wait_for_copies"),
}


@pytest.mark.parametrize("sync_point", SYNC_POINTS)
def test_a_guard_that_is_missing_is_noticed(lazy_gpu, monkeypatch, sync_point):
    """Each of them is needed: without it, something is used by two, or arrives as something else."""
    windows = [window(number) for number in range(8)]  # the last one goes where the first one was
    way, how = SYNC_POINTS[sync_point]
    patched_streams = (
        [buffer._stream for buffer in lazy_gpu._host_to_device._buffers]
        if way == "up"
        else [lazy_gpu._device_to_host._stream]
    )
    if how == "_wait_for_copies":
        whole = getattr(gpu_transfer._StagingBuffer, way)

        def without(buffer, *samples):
            with monkeypatch.context() as here:
                here.setattr(buffer, how, do_nothing)
                return whole(buffer, *samples)

        monkeypatch.setattr(gpu_transfer._StagingBuffer, way, without)
    elif how == "wait_event":
        for stream in patched_streams:
            monkeypatch.setattr(stream, how, do_nothing)
    else:
        whole = streams.Event.synchronize
        monkeypatch.setattr(streams.Event, how, lambda event: None if event.stream in patched_streams else whole(event))
    with pytest.raises((RaceError, AssertionError)):
        np.testing.assert_array_equal(round_trip(lazy_gpu, windows), windows)


def test_memory_that_comes_back_is_kept_so_long(lazy_gpu, monkeypatch):
    monkeypatch.setattr(DeviceToHost, "_in_flight", property(lambda _: (), do_nothing), raising=False)
    with pytest.raises(RaceError, match="let go of"):
        round_trip(lazy_gpu, [window(1)])


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to compile the CUDA sources for the host with")
@pytest.mark.parametrize("voltage", [True, False])
def test_the_next_window_is_under_way_before_a_block_is_reduced(monkeypatch, voltage):
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
    assert len(windows) == -(-recording.samples // plan.samples_per_block)  # each of them is read once
    order = [(name, numbers[key]) for name, key in done]
    for number in range(1, len(windows)):
        assert order.index(("start_upload", number)) < order.index(("take", number - 1))
