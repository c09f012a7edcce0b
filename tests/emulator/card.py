"""A card that is a host: arrays that say where they are, and kernels run by the emulator."""

import sys
from types import ModuleType

import numpy as np

from edgefilter.card import Card
from edgefilter.workers import Workers


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


class EmulatedCupy(ModuleType):
    """NumPy, of arrays that are on the card."""

    def __getattr__(self, name):
        function = getattr(np, name)
        if not callable(function) or isinstance(function, type):
            return function

        def on_card(*args, **options):
            if name not in ("array", "asarray", "ascontiguousarray"):
                expect_on_card((args, options))
            return there(function(*here(args), **{key: here(value) for key, value in options.items()}))

        return on_card


sys.modules["emulated_cupy"] = EmulatedCupy("emulated_cupy")


def here(value):
    if isinstance(value, OnCard):
        return value.view(np.ndarray)
    return type(value)(map(here, value)) if type(value) in (tuple, list) else value


def there(value):
    if isinstance(value, np.ndarray):
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
    """As ``Card``, without CuPy; ``raw.module`` must be the emulator's."""

    def __init__(self):
        Workers.__init__(self, 1)
        self.name, self.memory = "emulated card", 1 << 40

    def empty(self, shape, kind):
        return there(np.full(shape, 99, kind))  # anything

    def zeros(self, shape, kind=np.float64):
        return there(np.zeros(shape, kind))

    def put(self, array):
        return array if isinstance(array, OnCard) and array.flags.c_contiguous else there(np.array(array, order="C"))

    def upload(self, samples):
        return self.put(samples)

    def get(self, array):
        assert isinstance(array, OnCard)
        return np.array(array)

    def close(self):
        Workers.close(self)


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
