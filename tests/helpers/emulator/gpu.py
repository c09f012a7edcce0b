"""A card that is a host: arrays that say where they are, and kernels run by the emulator."""

import sys
import weakref
from types import ModuleType

import numpy as np

from edgefilter.compute.gpu import Card
from tests.helpers.emulator.streams import Timeline, owner


class OnCard(np.ndarray):
    """An array that does not mix with NumPy's, as CuPy's do not."""

    __module__ = "emulated_cupy"

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        expect_on_card((inputs, out))
        if out is not None:
            options["out"] = tuple(one.view(np.ndarray) for one in out)
        found = getattr(ufunc, method)(*map(here, inputs), **options)
        return out[0] if out is not None else there(found)

    def __array_function__(self, function, types, args, options):
        expect_on_card((args, options))
        return there(function(*here(args), **{key: here(value) for key, value in options.items()}))

    def __setitem__(self, key, value):
        DEVICE.timeline.use(self)
        super().__setitem__(key, value)

    def copy(self):
        return there(np.array(here(self)))

    def set(self, array, stream):
        assert type(array) is np.ndarray
        assert (array.shape, array.dtype) == (self.shape, self.dtype)
        stream.send(array, self)

    def get(self, stream, out, blocking):
        assert not blocking
        assert (out.shape, out.dtype) == (self.shape, self.dtype)
        stream.bring(self, out)


class EmulatedCupy(ModuleType):
    """NumPy, of arrays that are on the card."""

    def __getattr__(self, name):
        function = getattr(np, name)
        if not callable(function) or isinstance(function, type):
            return function

        def on_card(*args, **options):
            if name in ("array", "asarray", "ascontiguousarray"):
                args = [np.array(one) if type(one) is np.ndarray else one for one in args]
            else:
                expect_on_card((args, options))
            return there(function(*here(args), **{key: here(value) for key, value in options.items()}))

        return on_card


class Device:
    """Memory that is taken, at most and now, and streams."""

    def __init__(self):
        self.taken, self.now, self.most, self.limit = {}, 0, 0, 0
        self.timeline = Timeline()

    def take(self, array):
        memory = owner(array)
        if id(memory) not in self.taken:
            self.taken[id(memory)] = memory.nbytes
            weakref.finalize(memory, self.give_back, id(memory))
            self.now += memory.nbytes
            self.most = max(self.most, self.now)
            if self.now > self.limit > 0:
                raise MemoryError(f"{self.now} bytes are taken, {self.limit} were planned")

    def give_back(self, key):
        self.now -= self.taken.pop(key)
        self.timeline.used.pop(key, None)

    def set_limit(self, size):
        self.limit = size

    def free_all_blocks(self):
        pass


DEVICE = Device()
CUPY = sys.modules["emulated_cupy"] = EmulatedCupy("emulated_cupy")


def here(value):
    if isinstance(value, OnCard):
        DEVICE.timeline.use(value)
        return value.view(np.ndarray)
    return type(value)(map(here, value)) if type(value) in (tuple, list) else value


def there(value):
    if isinstance(value, np.ndarray):
        DEVICE.take(value)
        DEVICE.timeline.use(value)
        return value.view(OnCard)
    return type(value)(map(there, value)) if type(value) in (tuple, list) else value


def expect_on_card(value):
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, tuple | list):
        for one in value:
            expect_on_card(one)
    elif isinstance(value, np.ndarray) and not isinstance(value, OnCard):
        raise TypeError(f"an array {value.dtype} {value.shape} of the host among those of the card")


class EmulatedCard(Card):
    """As ``Card``, with NumPy in CuPy's place; ``raw.module`` must be the emulator's."""

    def __init__(self):
        global DEVICE
        DEVICE = Device()
        CUPY.cuda = DEVICE.timeline.cuda
        CUPY.get_default_memory_pool = CUPY.get_default_pinned_memory_pool = lambda: self.device
        self.device = DEVICE
        self.name, self.memory = "emulated card", 1 << 40
        self._begin(CUPY, lambda shape, kind: np.full(shape, 99, kind))

    def empty(self, shape, kind):
        return there(np.full(shape, 99, kind))  # anything

    def get(self, array):
        assert isinstance(array, OnCard)
        self.device.timeline.current.synchronize()
        return np.array(array)


class LostError(RuntimeError):
    """What CuPy raises of a card that is lost."""


class FailingCard(EmulatedCard):
    """Fails at the samples of one window, the first of which is number 0."""

    failures = (LostError,)

    def __init__(self, window, failure=None):
        super().__init__()
        self.left = window
        self.failure = failure or LostError("cudaErrorDeviceUnavailable:\nall is lost")

    def upload(self, samples):
        self.left -= 1
        if self.left < 0:
            raise self.failure
        return super().upload(samples)
