"""Streams of the emulated GPU, which run everything as late as CUDA allows, and so reveal missing synchronisation.

The current stream computes at once. Work on another stream is done when something waits for it, with the content that
memory has then: a read that is too early finds old data, a write that is too early changes the data that are copied.
Errors that this does not reveal raise `RaceError`: GPU memory that is written while the current stream may still read
it, or read before the current stream has written it; memory that is freed while it is copied; and pinned memory that
the host changes before it knows that it has been read.
"""

import functools
import threading
import weakref
from collections import deque
from types import SimpleNamespace

import numpy as np


class RaceError(AssertionError):
    """Two users of memory are not synchronised."""


class Timeline:
    """The uses of memory by the current stream, and the work that other streams and the host know to be complete.

    Attributes
    ----------
    cuda
        Stands for ``cupy.cuda``.
    """

    def __init__(self):
        self.lock = threading.RLock()
        self.current = CurrentStream(self)
        self.last_use = {}  # last step of the current stream that used each memory
        self.host_known_step = 0  # last step of the current stream that the host knows to be complete
        self.unconfirmed_reads = []  # stream, current step, pinned memory and its content
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
        unconfirmed = []
        for reader, step, pinned, content in self.unconfirmed_reads:
            if reader is not stream and not (stream is self.current and step <= at):
                unconfirmed.append((reader, step, pinned, content))
            elif not np.array_equal(pinned, content):
                raise RaceError("pinned memory was overwritten while it was read")
        self.unconfirmed_reads = unconfirmed


class Event:
    def __init__(self, timeline, block, disable_timing):
        assert block  # otherwise the host waits in a busy loop
        assert disable_timing  # timing costs time and is not used
        self.timeline = timeline

    def synchronize(self):
        with self.timeline.lock:
            self.stream.run_until(self.at)
            self.timeline.confirm_done(self.stream, self.at)


class Stream:
    """A stream other than the current one."""

    def __init__(self, timeline, non_blocking):
        assert non_blocking  # otherwise it and the default stream wait for each other
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
        """Queue a copy from pinned memory to the GPU."""
        timeline, host_known_step, memory = self.timeline, self.timeline.host_known_step, Memory(gpu_array)

        def copy():
            array, last = memory.array(), timeline.last_use.get(memory.key, 0)
            if max(host_known_step, self.current_known_step) < last:
                raise RaceError("GPU memory is written while the current stream uses it")
            array[...] = pinned
            timeline.unconfirmed_reads.append((self, timeline.current.position, pinned, pinned.copy()))

        self.enqueue(copy)

    def copy_to_host(self, gpu_array, pinned):
        """Queue a copy from the GPU to pinned memory."""
        host_known_step, memory = self.timeline.host_known_step, Memory(gpu_array)
        last = self.timeline.last_use.get(memory.key, 0)

        def copy():
            if max(host_known_step, self.current_known_step) < last:
                raise RaceError("GPU memory is read before the current stream has written it")
            pinned[...] = memory.array()

        self.enqueue(copy)


class CurrentStream(Stream):
    """The stream that computes at once. A step lasts from one event to the next."""

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
    """The memory of an array, without a reference that keeps it alive."""

    def __init__(self, array):
        memory = base_array(array)
        self.key, self._memory = id(memory), weakref.ref(memory)
        self._layout = array.shape, array.dtype, array.ctypes.data - memory.ctypes.data
        assert array.flags.c_contiguous

    def array(self):
        memory = self._memory()
        if memory is None:
            raise RaceError("GPU memory was freed while it was copied")
        shape, kind, offset = self._layout
        return np.ndarray(shape, kind, memory, offset)


def base_array(array):
    """Return the array that owns the memory."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array
