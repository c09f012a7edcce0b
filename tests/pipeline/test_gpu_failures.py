"""Every exception that CuPy raises for a failed GPU becomes one line, and with ``auto`` the processor takes over."""

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
from tests.helpers.recordings import power
from tests.helpers.reductions import reduce_recording

cupy = pytest.importorskip("cupy", reason="needs CuPy, but no GPU")


class CuFFTError(RuntimeError):
    """Replaces CuPy's class, which cannot be imported without cuFFT."""


def unsupported_code():
    """Return the error of a driver that is too old for the compiled code; CuPy's message needs the driver."""
    kind = cupy.cuda.driver.CUDADriverError
    return kind.__new__(kind, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION: compiled with an unsupported toolchain")


FAILURES = {
    "no memory": (lambda: cupy.cuda.memory.OutOfMemoryError(1 << 30, 1 << 31, 0), "Out of memory allocating"),
    "lost": (lambda: cupy.cuda.runtime.CUDARuntimeError(46), "cudaErrorDevicesUnavailable"),
    "illegal address": (lambda: cupy.cuda.runtime.CUDARuntimeError(700), "cudaErrorIllegalAddress"),
    "driver too old": (lambda: cupy.cuda.runtime.CUDARuntimeError(35), "driver version is insufficient"),
    "driver": (unsupported_code, "CUDADriverError: CUDA_ERROR_UNSUPPORTED_PTX_VERSION"),
    "transform": (lambda: CuFFTError("CUFFT_ALLOC_FAILED"), "CuFFTError: CUFFT_ALLOC_FAILED"),
    "compiler": (
        lambda: cupy.cuda.compiler.CompileException("nvrtc: error:\ninvalid -arch", "", "k.cu", (), "nvrtc"),
        "CompileException: nvrtc: error: invalid -arch",
    ),
}


class GpuWithoutDevice(GpuBackend):
    """The real class, without the parts that need a device."""

    def _initialise(self, *_):
        ThreadBackend.__init__(self, 1)


@pytest.fixture
def fake_cuda_runtime(monkeypatch):
    """Make CuPy report a device."""
    runtime = cupy.cuda.runtime
    monkeypatch.setattr(gpu, "ctypes", SimpleNamespace(CDLL=lambda _: None))
    monkeypatch.setitem(vars(cupy.cuda), "cufft", SimpleNamespace(CuFFTError=CuFFTError))
    monkeypatch.setattr(runtime, "getDevice", lambda: 0)
    monkeypatch.setattr(runtime, "getDeviceProperties", lambda _: {"name": b"NVIDIA H100"})
    monkeypatch.setattr(runtime, "memGetInfo", lambda: (80 << 30, 80 << 30))
    return runtime


@pytest.fixture
def device_errors(fake_cuda_runtime):
    """Return the exceptions that the real class treats as failures of the device."""
    return GpuWithoutDevice().device_errors


@pytest.fixture
def emulated_only(gpu_backend):
    if not isinstance(gpu_backend, EmulatedGpuBackend):
        pytest.skip("only the emulated GPU can be made to fail")


@pytest.mark.parametrize("what", FAILURES)
def test_every_failure_during_a_reduction_is_one_line_and_loses_no_block(
    emulated_only, device_errors, monkeypatch, what
):
    make, words = FAILURES[what]
    plan, recording = power()
    notifications = []

    def failing():
        gpu_backend = FailingGpuBackend(1, make())
        gpu_backend.device_errors = device_errors
        return gpu_backend

    monkeypatch.setattr(backend, "GpuBackend", failing)
    found = reduce_recording(BackendSelector("auto", 1, lambda *what: notifications.append(what)), plan, recording)
    assert found == reduce_recording(BackendSelector("cpu", 1), plan, recording)  # the GPU has finished none
    assert [which for which, _ in notifications] == ["gpu", "cpu"]
    assert notifications[1][1].startswith("processor, 1 threads: from block 0 on: the GPU has failed: ")
    assert words in notifications[1][1]
    assert "\n" not in notifications[1][1]
    with pytest.raises(GpuError, match="the GPU has failed") as error:
        reduce_recording(BackendSelector("gpu", 1), plan, recording)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("where", ["empty", "kernel"])
def test_a_failure_within_a_stage_is_a_failure_of_the_gpu(emulated_only, device_errors, monkeypatch, where):
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
    assert reduce_recording(BackendSelector("auto", 1), plan, recording) == reduce_recording(
        BackendSelector("cpu", 1), plan, recording
    )


def test_other_errors_end_the_reduction(emulated_only, device_errors, monkeypatch):
    plan, recording = power()
    gpu_backend = FailingGpuBackend(1, ValueError("a mistake"))
    gpu_backend.device_errors = device_errors
    monkeypatch.setattr(backend, "GpuBackend", lambda: gpu_backend)
    with pytest.raises(ValueError, match="a mistake"):
        reduce_recording(BackendSelector("auto", 1), plan, recording)


def test_a_driver_that_is_too_old_counts_as_no_gpu(fake_cuda_runtime, monkeypatch):
    def refuse(_):
        raise fake_cuda_runtime.CUDARuntimeError(35)

    monkeypatch.setattr(fake_cuda_runtime, "getDeviceProperties", refuse)
    with pytest.raises(ConfigError, match=r"^no GPU: cudaErrorInsufficientDriver: .*$"):
        GpuWithoutDevice()
    notifications = []
    monkeypatch.setattr(backend, "GpuBackend", GpuWithoutDevice)
    plan, _ = power()
    BackendSelector("auto", 1, lambda *what: notifications.append(what)).create_backend(plan).close()
    assert notifications[0][0] == "cpu"
    assert "no GPU: cudaErrorInsufficientDriver" in notifications[0][1]
    with pytest.raises(ConfigError, match="backend gpu: no GPU: cudaErrorInsufficientDriver"):
        BackendSelector("gpu").create_backend(plan)
