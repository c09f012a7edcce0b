"""The compute backend on a GPU: CUDA versions of the kernels, and CuPy arrays."""

import ctypes
import importlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from edgefilter.compute.gpu_transfer import DeviceToHost, HostToDevice
from edgefilter.compute.threads import Function, ThreadBackend
from edgefilter.core.errors import ConfigError

_DRIVER = "libcuda.so.1"


class GpuBackend(ThreadBackend):
    """Runs the CUDA versions of kernels on the current CUDA device.

    The interface is that of :class:`~edgefilter.compute.threads.ThreadBackend`. :meth:`kernel` returns the function of
    the same name and arguments in ``edgefilter_kernels.cuda``, which takes CuPy arrays. :meth:`parallel_for` calls it
    once for the whole axis: the GPU divides the work among its own threads. Kernels are queued on CuPy's current
    stream, and the host waits in :meth:`to_host` and in the function that :meth:`start_download` returns. Windows of
    samples and rows are copied while kernels run, see :mod:`edgefilter.compute.gpu_transfer`.

    Attributes
    ----------
    name
        Name of the GPU, such as ``NVIDIA H100``.
    free_bytes
        Free memory of the GPU at the start, in bytes.

    Raises
    ------
    ConfigError
        If there is no GPU, or CuPy cannot be imported.
    """

    backend = "gpu"
    name: str
    free_bytes: int
    overlaps_transfers = True

    def __init__(self) -> None:
        try:
            ctypes.CDLL(_DRIVER)  # fails at once without a driver; importing CuPy takes a second
        except OSError:
            raise ConfigError(f"no GPU: there is no NVIDIA driver ({_DRIVER})") from None
        try:
            import cupy
            import cupyx
            from cupy.cuda import cufft
        except (ImportError, RuntimeError) as error:
            raise ConfigError(f"CuPy, which a GPU needs, cannot be imported: {_one_line(error)}") from error
        runtime = cupy.cuda.runtime
        try:
            self.name = runtime.getDeviceProperties(runtime.getDevice())["name"].decode()
            self.free_bytes = int(runtime.memGetInfo()[0])
            self._initialise(cupy, cupyx.empty_pinned)
        except runtime.CUDARuntimeError as error:
            raise ConfigError(f"no GPU: {_one_line(error)}") from error
        self.device_errors = (
            cupy.cuda.memory.OutOfMemoryError,
            runtime.CUDARuntimeError,
            cupy.cuda.driver.CUDADriverError,
            cufft.CuFFTError,
            cupy.cuda.compiler.CompileException,
        )

    def _initialise(self, cupy: Any, empty_pinned: Callable[..., Any]) -> None:
        super().__init__(1)
        self._cupy = cupy
        self._host_to_device, self._device_to_host = HostToDevice(cupy, empty_pinned), DeviceToHost(cupy, empty_pinned)

    def limit_memory(self, size: int) -> None:
        """Limit the memory of arrays; an allocation beyond the limit fails as if the GPU's memory were full.

        Parameters
        ----------
        size
            Bytes; 0 for no limit.
        """
        self._cupy.get_default_memory_pool().set_limit(size=size)

    def kernel(self, function: Function) -> Function:
        module = importlib.import_module(function.__module__.replace("edgefilter_kernels", "edgefilter_kernels.cuda"))
        gpu_kernel: Function = getattr(module, function.__name__)
        return gpu_kernel

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> Any:
        return self._cupy.empty(shape, dtype)

    def zeros(self, shape: int | tuple[int, ...], dtype: DTypeLike = np.float64) -> Any:
        return self._cupy.zeros(shape, dtype)

    def to_device(self, array: Any) -> Any:
        return self._cupy.ascontiguousarray(self._cupy.asarray(array))

    def detach_view(self, array: Any) -> Any:
        return array.copy()

    def fill_where(self, array: Any, where: Any, value: int) -> None:
        # Unlike array[where] = value, this needs no list of elements, for which the host would have to wait.
        self._cupy.copyto(array, value, where=where.reshape(where.shape + (1,) * (array.ndim - where.ndim)))

    def start_upload(self, samples: Any) -> None:
        self._host_to_device.start_upload(samples)

    def upload(self, samples: Any) -> Any:
        return self._host_to_device.take(samples)

    def start_download(self, arrays: Sequence[Any]) -> Callable[[], tuple[Any, ...]]:
        return self._device_to_host.start_download(arrays)

    def to_host(self, array: Any) -> Any:
        return self._cupy.asnumpy(array)

    def close(self) -> None:
        """Free the memory that is no longer used."""
        super().close()
        self._host_to_device.close()
        self._device_to_host.close()
        with suppress(*self.device_errors):  # a failed GPU raises them here, too
            self.limit_memory(0)
            self._cupy.get_default_memory_pool().free_all_blocks()
            self._cupy.get_default_pinned_memory_pool().free_all_blocks()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
