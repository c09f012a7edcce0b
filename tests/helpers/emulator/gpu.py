"""An emulated GPU: NumPy arrays in the role of CuPy's, and kernels that the host runs."""

import sys
import weakref
from types import ModuleType

import numpy as np

from edgefilter.compute.gpu import GpuBackend
from tests.helpers.emulator.streams import Timeline, base_array


class GpuArray(np.ndarray):
    """An array that cannot be mixed with NumPy's, like CuPy's."""

    __module__ = "emulated_cupy"

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        check_on_gpu((inputs, out))
        if out is not None:
            options["out"] = tuple(one.view(np.ndarray) for one in out)
        found = getattr(ufunc, method)(*map(as_host, inputs), **options)
        return out[0] if out is not None else as_gpu(found)

    def __array_function__(self, function, types, args, options):
        check_on_gpu((args, options))
        return as_gpu(function(*as_host(args), **{key: as_host(value) for key, value in options.items()}))

    def __setitem__(self, key, value):
        DEVICE.timeline.use(self)
        super().__setitem__(key, value)

    def copy(self):
        return as_gpu(np.array(as_host(self)))

    def set(self, array, stream):
        assert type(array) is np.ndarray
        assert (array.shape, array.dtype) == (self.shape, self.dtype)
        stream.copy_to_gpu(array, self)

    def get(self, stream, out, blocking):
        assert not blocking
        assert (out.shape, out.dtype) == (self.shape, self.dtype)
        stream.copy_to_host(self, out)


class EmulatedCupy(ModuleType):
    """NumPy's functions for arrays on the emulated GPU."""

    def __getattr__(self, name):
        function = getattr(np, name)
        if not callable(function) or isinstance(function, type):
            return function

        def on_gpu(*args, **options):
            if name in ("array", "asarray", "ascontiguousarray"):
                args = [np.array(one) if type(one) is np.ndarray else one for one in args]
            else:
                check_on_gpu((args, options))
            return as_gpu(function(*as_host(args), **{key: as_host(value) for key, value in options.items()}))

        return on_gpu


class Device:
    """Allocated memory, its peak and its limit, and the streams."""

    def __init__(self):
        self.allocated, self.in_use, self.peak, self.limit = {}, 0, 0, 0
        self.timeline = Timeline()

    def allocate(self, array):
        memory = base_array(array)
        if id(memory) not in self.allocated:
            self.allocated[id(memory)] = memory.nbytes
            weakref.finalize(memory, self.release, id(memory))
            self.in_use += memory.nbytes
            self.peak = max(self.peak, self.in_use)
            if self.in_use > self.limit > 0:
                raise MemoryError(f"{self.in_use} bytes are allocated, the limit is {self.limit}")

    def release(self, key):
        self.in_use -= self.allocated.pop(key)
        self.timeline.last_use.pop(key, None)

    def set_limit(self, size):
        self.limit = size

    def free_all_blocks(self):
        pass


DEVICE = Device()
CUPY = sys.modules["emulated_cupy"] = EmulatedCupy("emulated_cupy")


def as_host(value):
    if isinstance(value, GpuArray):
        DEVICE.timeline.use(value)
        return value.view(np.ndarray)
    return type(value)(map(as_host, value)) if type(value) in (tuple, list) else value


def as_gpu(value):
    if isinstance(value, np.ndarray):
        DEVICE.allocate(value)
        DEVICE.timeline.use(value)
        return value.view(GpuArray)
    return type(value)(map(as_gpu, value)) if type(value) in (tuple, list) else value


def check_on_gpu(value):
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, tuple | list):
        for one in value:
            check_on_gpu(one)
    elif isinstance(value, np.ndarray) and not isinstance(value, GpuArray):
        raise TypeError(f"array {value.dtype} {value.shape} of the host among arrays of the GPU")


class EmulatedGpuBackend(GpuBackend):
    """``GpuBackend`` with the emulated CuPy; ``raw.module`` must be the emulator's."""

    def __init__(self):
        global DEVICE
        DEVICE = Device()
        CUPY.cuda = DEVICE.timeline.cuda
        CUPY.get_default_memory_pool = CUPY.get_default_pinned_memory_pool = lambda: self.device
        self.device = DEVICE
        self.name, self.free_bytes = "emulated GPU", 1 << 40
        self._initialise(CUPY, lambda shape, dtype: np.full(shape, 99, dtype))

    def empty(self, shape, dtype):
        return as_gpu(np.full(shape, 99, dtype))  # a value that shows

    def to_host(self, array):
        assert isinstance(array, GpuArray)
        self.device.timeline.current.synchronize()
        return np.array(array)


class GpuLostError(RuntimeError):
    """Replaces the exception that CuPy raises for a lost device."""


class FailingGpuBackend(EmulatedGpuBackend):
    """Fails at the upload of a window; the first window is number 0."""

    device_errors = (GpuLostError,)

    def __init__(self, window, failure=None):
        super().__init__()
        self.windows_left = window
        self.failure = failure or GpuLostError("cudaErrorDeviceUnavailable:\ndevice lost")

    def upload(self, samples):
        self.windows_left -= 1
        if self.windows_left < 0:
            raise self.failure
        return super().upload(samples)
