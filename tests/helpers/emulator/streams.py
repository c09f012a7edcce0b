"""Streams of an emulated card, which do everything as late as they may, and tell who did not wait.

The current stream computes at once. What is queued on another one is done when something waits for it, with what its
memory holds then: who reads too early finds nothing, who overwrites too early sends the wrong thing. Other mistakes
would still go unseen, and raise `RaceError`: memory of the card that is written while the current stream may yet read
it, or read before the current stream has written it; memory that is let go of while it is copied; and pinned memory
that the host changes before it knows that it was read.
"""

import functools
import threading
import weakref
from collections import deque
from types import SimpleNamespace

import numpy as np


class RaceError(AssertionError):
    """Something was used by two at a time."""


class Timeline:
    """What the current stream has used, and what the others and the host know to be done.

    Attributes
    ----------
    cuda
        As of CuPy.
    """

    def __init__(self):
        self.lock = threading.RLock()
        self.current = CurrentStream(self)
        self.last_use = {}  # memory that the current stream has used: its last step that did
        self.host_known_step = 0  # last step of the current stream that the host knows to be done
        self.unconfirmed_reads = []  # not known to be read: stream, current step, pinned memory, its content
        self.cuda = SimpleNamespace(
            Stream=functools.partial(Stream, self),
            Event=functools.partial(Event, self),
            Device=lambda: SimpleNamespace(use=lambda: None),
            get_current_stream=lambda: self.current,
        )

    def use(self, array):
        self.last_use[id(base_array(array))] = self.current.position

    def confirm_done(self, stream, at):
        if stream is self.current:
            self.host_known_step = max(self.host_known_step, at)
        left = []
        for of, step, pinned, content in self.unconfirmed_reads:
            if of is not stream and not (stream is self.current and step <= at):
                left.append((of, step, pinned, content))
            elif not np.array_equal(pinned, content):
                raise RaceError("pinned memory was overwritten while it was read")
        self.unconfirmed_reads = left


class Event:
    def __init__(self, timeline, block, disable_timing):
        assert block  # or it takes a core to wait
        assert disable_timing  # it costs, and nobody asks for it
        self.timeline = timeline

    def synchronize(self):
        with self.timeline.lock:
            self.stream.run_until(self.at)
            self.timeline.confirm_done(self.stream, self.at)


class Stream:
    """A stream beside the current one."""

    def __init__(self, timeline, non_blocking):
        assert non_blocking  # or it waits for the current stream, and that for it
        self.timeline = timeline
        self.queue, self.done, self.current_known_step = deque(), 0, 0

    @property
    def position(self):
        return self.done + len(self.queue)

    def enqueue(self, work):
        with self.timeline.lock:
            self.queue.append(work)

    def run_until(self, at):
        while self.done < at:
            work = self.queue.popleft()
            self.done += 1
            work()

    def record(self, event):
        with self.timeline.lock:
            event.stream, event.at = self, self.position
        return event

    def wait_event(self, event):
        stream, at = event.stream, event.at

        def wait():
            stream.run_until(at)
            if stream is self.timeline.current:
                self.current_known_step = max(self.current_known_step, at)

        self.enqueue(wait)

    def copy_to_gpu(self, pinned, gpu_array):
        """Copy pinned memory to the card."""
        timeline, host_known_step, memory = self.timeline, self.timeline.host_known_step, Memory(gpu_array)

        def copy():
            array, last = memory.array(), timeline.last_use.get(memory.key, 0)
            if max(host_known_step, self.current_known_step) < last:
                raise RaceError("memory of the card is written while the current stream uses it")
            array[...] = pinned
            timeline.unconfirmed_reads.append((self, timeline.current.position, pinned, pinned.copy()))

        self.enqueue(copy)

    def copy_to_host(self, gpu_array, pinned):
        """Copy memory of the card to pinned memory, as the current stream has left it."""
        host_known_step, memory = self.timeline.host_known_step, Memory(gpu_array)
        last = self.timeline.last_use.get(memory.key, 0)

        def copy():
            if max(host_known_step, self.current_known_step) < last:
                raise RaceError("memory of the card is read before the current stream has written it")
            pinned[...] = memory.array()

        self.enqueue(copy)


class CurrentStream(Stream):
    """Computes at once. A step lasts from one event to the next."""

    position = 1

    def __init__(self, timeline):
        self.timeline = timeline

    def run_until(self, at):
        pass

    def record(self, event):
        event.stream, event.at = self, self.position
        self.position += 1
        return event

    def synchronize(self):
        self.position += 1
        self.timeline.confirm_done(self, self.position - 1)


class Memory:
    """Where an array lies; does not keep it."""

    def __init__(self, array):
        memory = base_array(array)
        self.key, self._memory = id(memory), weakref.ref(memory)
        self._layout = array.shape, array.dtype, array.ctypes.data - memory.ctypes.data
        assert array.flags.c_contiguous

    def array(self):
        memory = self._memory()
        if memory is None:
            raise RaceError("memory of the card was let go of while it was copied")
        shape, kind, offset = self._layout
        return np.ndarray(shape, kind, memory, offset)


def base_array(array):
    """The array that has the memory."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array
