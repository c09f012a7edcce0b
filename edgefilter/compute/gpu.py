"""A card: a CUDA device in the place of threads."""

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
    """Takes the place of :class:`~edgefilter.compute.threads.ThreadBackend` where there is a CUDA device.

    A kernel's twin has its name and its arguments, and works on arrays that are on the card. One call does a whole
    axis: who shares it, the card decides.

    Attributes
    ----------
    name
        What its maker calls it.
    free_bytes
        Bytes of its memory that are free.

    Raises
    ------
    ConfigError
        If there is no card, or no CuPy to use it with.
    """

    backend = "gpu"
    name: str
    free_bytes: int
    overlaps_transfers = True

    def __init__(self) -> None:
        try:
            ctypes.CDLL(_DRIVER)  # CuPy takes a second to be imported, in vain where this is not there
        except OSError:
            raise ConfigError(f"no card: there is no NVIDIA driver ({_DRIVER})") from None
        try:
            import cupy
            import cupyx
            from cupy.cuda import cufft
        except (ImportError, RuntimeError) as error:
            raise ConfigError(f"no CuPy to use a card with: {_one_line(error)}") from error
        runtime = cupy.cuda.runtime
        try:
            self.name = runtime.getDeviceProperties(runtime.getDevice())["name"].decode()
            self.free_bytes = int(runtime.memGetInfo()[0])
            self._initialise(cupy, cupyx.empty_pinned)
        except runtime.CUDARuntimeError as error:
            raise ConfigError(f"no card: {_one_line(error)}") from error
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
        """Let arrays take so many bytes and no more: what asks for more fails as where the memory is full."""
        self._cupy.get_default_memory_pool().set_limit(size=size)

    def kernel(self, function: Function) -> Function:
        """Return the twin of a kernel."""
        module = importlib.import_module(function.__module__.replace("edgefilter_kernels", "edgefilter_kernels.cuda"))
        gpu_kernel: Function = getattr(module, function.__name__)
        return gpu_kernel

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> Any:
        """Return an array on the card that holds anything."""
        return self._cupy.empty(shape, dtype)

    def zeros(self, shape: int | tuple[int, ...], dtype: DTypeLike = np.float64) -> Any:
        """Return an array on the card that holds zeros."""
        return self._cupy.zeros(shape, dtype)

    def to_device(self, array: Any) -> Any:
        """Return a C-contiguous array on the card; itself, if it is one."""
        return self._cupy.ascontiguousarray(self._cupy.asarray(array))

    def detach_view(self, array: Any) -> Any:
        """Return a copy, so that the rest takes no room any more."""
        return array.copy()

    def fill_where(self, array: Any, where: Any, value: int) -> None:
        """Set elements of an array without waiting, and without a list of them."""
        self._cupy.copyto(array, value, where=where.reshape(where.shape + (1,) * (array.ndim - where.ndim)))

    def start_upload(self, samples: Any) -> None:
        """Begin to copy samples to the card, beside what it computes; see :mod:`edgefilter.compute.gpu_transfer`."""
        self._host_to_device.start_upload(samples)

    def upload(self, samples: Any) -> Any:
        """Return samples on the card, copied now if they were not staged; those of the host are needed no longer."""
        return self._host_to_device.take(samples)

    def start_download(self, arrays: Sequence[Any]) -> Callable[[], tuple[Any, ...]]:
        """Begin to bring arrays back, beside what is computed next; what is returned waits for them."""
        return self._device_to_host.start_download(arrays)

    def to_host(self, array: Any) -> Any:
        """Return an array of the card as a NumPy one, when all that it comes from has been computed."""
        return self._cupy.asnumpy(array)

    def close(self) -> None:
        """Give the memory back that is no longer used."""
        super().close()
        self._host_to_device.close()
        self._device_to_host.close()
        with suppress(*self.device_errors):  # as of a card that is lost
            self.limit_memory(0)  # none
            self._cupy.get_default_memory_pool().free_all_blocks()
            self._cupy.get_default_pinned_memory_pool().free_all_blocks()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
