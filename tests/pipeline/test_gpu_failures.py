"""Whatever CuPy raises of a card that fails is one clear line, and with ``auto`` the processor makes every block."""

from types import SimpleNamespace

import pytest

from edgefilter.compute import gpu
from edgefilter.compute.gpu import GpuBackend
from edgefilter.compute.threads import ThreadBackend
from edgefilter.core.errors import ConfigError, GpuError
from edgefilter.pipeline import backend
from edgefilter.pipeline.backend import BackendSelector
from edgefilter_kernels.cuda import raw
from tests.helpers.emulator.gpu import EmulatedGpuBackend, FailingGpuBackend
from tests.pipeline.test_backend import reduce
from tests.pipeline.test_reducer import power

cupy = pytest.importorskip("cupy", reason="needs CuPy, without a card")


class CuFFTError(RuntimeError):
    """Stands for CuPy's, which cannot be imported without cuFFT."""


def unsupported():
    """A driver that does not know what was compiled; CuPy's own words need the driver."""
    kind = cupy.cuda.driver.CUDADriverError
    return kind.__new__(kind, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION: compiled with an unsupported toolchain")


FAILURES = {
    "no memory": (lambda: cupy.cuda.memory.OutOfMemoryError(1 << 30, 1 << 31, 0), "Out of memory allocating"),
    "lost": (lambda: cupy.cuda.runtime.CUDARuntimeError(46), "cudaErrorDevicesUnavailable"),
    "illegal address": (lambda: cupy.cuda.runtime.CUDARuntimeError(700), "cudaErrorIllegalAddress"),
    "driver too old": (lambda: cupy.cuda.runtime.CUDARuntimeError(35), "driver version is insufficient"),
    "driver": (unsupported, "CUDADriverError: CUDA_ERROR_UNSUPPORTED_PTX_VERSION"),
    "transform": (lambda: CuFFTError("CUFFT_ALLOC_FAILED"), "CuFFTError: CUFFT_ALLOC_FAILED"),
    "compiler": (
        lambda: cupy.cuda.compiler.CompileException("nvrtc: error:\ninvalid -arch", "", "k.cu", (), "nvrtc"),
        "CompileException: nvrtc: error: invalid -arch",
    ),
}


class GpuWithoutDevice(GpuBackend):
    """A real card as far as it can be made without a device."""

    def _initialise(self, *_):
        ThreadBackend.__init__(self, 1)


@pytest.fixture
def fake_cuda_runtime(monkeypatch):
    """What CuPy asks a device when it is made out to be there."""
    runtime = cupy.cuda.runtime
    monkeypatch.setattr(gpu, "ctypes", SimpleNamespace(CDLL=lambda _: None))
    monkeypatch.setitem(vars(cupy.cuda), "cufft", SimpleNamespace(CuFFTError=CuFFTError))
    monkeypatch.setattr(runtime, "getDevice", lambda: 0)
    monkeypatch.setattr(runtime, "getDeviceProperties", lambda _: {"name": b"NVIDIA H100"})
    monkeypatch.setattr(runtime, "memGetInfo", lambda: (80 << 30, 80 << 30))
    return runtime


@pytest.fixture
def device_errors(fake_cuda_runtime):
    """What a real card takes for its failure."""
    return GpuWithoutDevice().device_errors


@pytest.fixture
def emulated_only(gpu_backend):
    if not isinstance(gpu_backend, EmulatedGpuBackend):
        pytest.skip("fails by itself or not at all")


@pytest.mark.parametrize("what", FAILURES)
def test_every_failure_at_work_is_one_line_and_costs_no_block(emulated_only, device_errors, monkeypatch, what):
    make, words = FAILURES[what]
    plan, recording = power()
    notifications = []

    def failing():
        gpu_backend = FailingGpuBackend(1, make())
        gpu_backend.device_errors = device_errors
        return gpu_backend

    monkeypatch.setattr(backend, "GpuBackend", failing)
    found = reduce(BackendSelector("auto", 1, lambda *what: notifications.append(what)), plan, recording)
    assert found == reduce(BackendSelector("cpu", 1), plan, recording)  # the card has finished none
    assert [which for which, _ in notifications] == ["gpu", "cpu"]
    assert notifications[1][1].startswith("processor, 1 threads: from block 0 on: the GPU has failed: ")
    assert words in notifications[1][1]
    assert "\n" not in notifications[1][1]
    with pytest.raises(GpuError, match="the GPU has failed") as error:
        reduce(BackendSelector("gpu", 1), plan, recording)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("where", ["empty", "kernel"])
def test_a_failure_within_a_stage_is_the_card_s(emulated_only, device_errors, monkeypatch, where):
    plan, recording = power()
    gpu_backend = EmulatedGpuBackend()
    gpu_backend.device_errors = device_errors
    monkeypatch.setattr(backend, "GpuBackend", lambda: gpu_backend)

    def fail(*_):
        raise FAILURES["no memory" if where == "empty" else "compiler"][0]()

    if where == "empty":
        monkeypatch.setattr(gpu_backend, "empty", fail)
    else:
        monkeypatch.setattr(raw, "module", fail)
    assert reduce(BackendSelector("auto", 1), plan, recording) == reduce(BackendSelector("cpu", 1), plan, recording)


def test_what_is_no_failure_of_the_card_is_no_reason_to_go_on(emulated_only, device_errors, monkeypatch):
    plan, recording = power()
    gpu_backend = FailingGpuBackend(1, ValueError("a mistake"))
    gpu_backend.device_errors = device_errors
    monkeypatch.setattr(backend, "GpuBackend", lambda: gpu_backend)
    with pytest.raises(ValueError, match="a mistake"):
        reduce(BackendSelector("auto", 1), plan, recording)


def test_a_driver_too_old_to_begin_with_is_no_card(fake_cuda_runtime, monkeypatch):
    def refuse(_):
        raise fake_cuda_runtime.CUDARuntimeError(35)

    monkeypatch.setattr(fake_cuda_runtime, "getDeviceProperties", refuse)
    with pytest.raises(ConfigError, match=r"^no card: cudaErrorInsufficientDriver: .*$"):
        GpuWithoutDevice()
    notifications = []
    monkeypatch.setattr(backend, "GpuBackend", GpuWithoutDevice)
    plan, _ = power()
    BackendSelector("auto", 1, lambda *what: notifications.append(what)).create_backend(plan).close()
    assert notifications[0][0] == "cpu"
    assert "no card: cudaErrorInsufficientDriver" in notifications[0][1]
    with pytest.raises(ConfigError, match="backend gpu: no card: cudaErrorInsufficientDriver"):
        BackendSelector("gpu").create_backend(plan)
