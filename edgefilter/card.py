"""A card: a CUDA device in the place of threads."""

import ctypes
import importlib
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from edgefilter.errors import ConfigError
from edgefilter.workers import Function, Workers

_DRIVER = "libcuda.so.1"


class Card(Workers):
    """Takes the place of :class:`~edgefilter.workers.Workers` where there is a CUDA device.

    A kernel's twin has its name and its arguments, and works on arrays that are on the card. One call does a whole
    axis: who shares it, the card decides.

    Attributes
    ----------
    name
        What its maker calls it.
    memory
        Bytes of its memory that are free.

    Raises
    ------
    ConfigError
        If there is no card, or no CuPy to use it with.
    """

    backend = "gpu"
    name: str
    memory: int

    def __init__(self) -> None:
        try:
            ctypes.CDLL(_DRIVER)  # CuPy takes a second to be imported, in vain where this is not there
        except OSError:
            raise ConfigError(f"no card: there is no NVIDIA driver ({_DRIVER})") from None
        try:
            import cupy
            from cupy.cuda import cufft
        except (ImportError, RuntimeError) as error:
            raise ConfigError(f"no CuPy to use a card with: {_line(error)}") from error
        runtime = cupy.cuda.runtime
        try:
            self.name = runtime.getDeviceProperties(runtime.getDevice())["name"].decode()
            self.memory = int(runtime.memGetInfo()[0])
        except runtime.CUDARuntimeError as error:
            raise ConfigError(f"no card: {_line(error)}") from error
        super().__init__(1)
        self.failures = (
            cupy.cuda.memory.OutOfMemoryError,
            runtime.CUDARuntimeError,
            cupy.cuda.driver.CUDADriverError,
            cufft.CuFFTError,
            cupy.cuda.compiler.CompileException,
        )
        self._cupy = cupy
        self._pinned: Any = None
        self._samples: Any = None

    def kernel(self, function: Function) -> Function:
        """Return the twin of a kernel."""
        module = importlib.import_module(function.__module__.replace("edgefilter_kernels", "edgefilter_kernels.cuda"))
        twin: Function = getattr(module, function.__name__)
        return twin

    def empty(self, shape: tuple[int, ...], kind: DTypeLike) -> Any:
        """Return an array on the card that holds anything."""
        return self._cupy.empty(shape, kind)

    def zeros(self, shape: int | tuple[int, ...], kind: DTypeLike = np.float64) -> Any:
        """Return an array on the card that holds zeros."""
        return self._cupy.zeros(shape, kind)

    def put(self, array: Any) -> Any:
        """Return a C-contiguous array on the card; itself, if it is one."""
        return self._cupy.ascontiguousarray(self._cupy.asarray(array))

    def upload(self, samples: Any) -> Any:
        """As :meth:`put`, through memory that is pinned once: the bus is twice as fast from there."""
        if self._pinned is None or self._pinned.shape != samples.shape:
            import cupyx

            self._pinned = cupyx.empty_pinned(samples.shape, samples.dtype)
            self._samples = self._cupy.empty(samples.shape, samples.dtype)
        self._cupy.cuda.get_current_stream().synchronize()  # nothing still reads what is overwritten now
        self._pinned[:] = samples
        self._samples.set(self._pinned)
        return self._samples

    def get(self, array: Any) -> Any:
        """Return an array of the card as a NumPy one, when all that it comes from has been computed."""
        return self._cupy.asnumpy(array)

    def close(self) -> None:
        """Give the memory back that is no longer used."""
        super().close()
        self._pinned = self._samples = None
        with suppress(*self.failures):  # as of a card that is lost
            self._cupy.get_default_memory_pool().free_all_blocks()
            self._cupy.get_default_pinned_memory_pool().free_all_blocks()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
