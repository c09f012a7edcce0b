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
        self.current = Current(self)
        self.used = {}  # memory that the current stream has used: its last step that did
        self.known = 0  # last step of the current stream that the host knows to be done
        self.sent = []  # what the host does not know to be read: stream, current step, pinned memory, its content
        self.cuda = SimpleNamespace(
            Stream=functools.partial(Stream, self),
            Event=functools.partial(Event, self),
            Device=lambda: SimpleNamespace(use=lambda: None),
            get_current_stream=lambda: self.current,
        )

    def use(self, array):
        self.used[id(owner(array))] = self.current.put

    def host_knows(self, stream, at):
        if stream is self.current:
            self.known = max(self.known, at)
        left = []
        for of, step, pinned, held in self.sent:
            if of is not stream and not (stream is self.current and step <= at):
                left.append((of, step, pinned, held))
            elif not np.array_equal(pinned, held):
                raise RaceError("pinned memory was overwritten while it was read")
        self.sent = left


class Event:
    def __init__(self, timeline, block, disable_timing):
        assert block  # or it takes a core to wait
        assert disable_timing  # it costs, and nobody asks for it
        self.timeline = timeline

    def synchronize(self):
        with self.timeline.lock:
            self.stream.reach(self.at)
            self.timeline.host_knows(self.stream, self.at)


class Stream:
    """A stream beside the current one."""

    def __init__(self, timeline, non_blocking):
        assert non_blocking  # or it waits for the current stream, and that for it
        self.timeline = timeline
        self.queue, self.done, self.knows = deque(), 0, 0

    @property
    def put(self):
        return self.done + len(self.queue)

    def add(self, work):
        with self.timeline.lock:
            self.queue.append(work)

    def reach(self, at):
        while self.done < at:
            work = self.queue.popleft()
            self.done += 1
            work()

    def record(self, event):
        with self.timeline.lock:
            event.stream, event.at = self, self.put
        return event

    def wait_event(self, event):
        stream, at = event.stream, event.at

        def wait():
            stream.reach(at)
            if stream is self.timeline.current:
                self.knows = max(self.knows, at)

        self.add(wait)

    def send(self, pinned, there):
        """Copy pinned memory to the card."""
        timeline, known, memory = self.timeline, self.timeline.known, Memory(there)

        def copy():
            array, last = memory.array(), timeline.used.get(memory.key, 0)
            if max(known, self.knows) < last:
                raise RaceError("memory of the card is written while the current stream uses it")
            array[...] = pinned
            timeline.sent.append((self, timeline.current.put, pinned, pinned.copy()))

        self.add(copy)

    def bring(self, there, pinned):
        """Copy memory of the card to pinned memory, as the current stream has left it."""
        known, memory = self.timeline.known, Memory(there)
        last = self.timeline.used.get(memory.key, 0)

        def copy():
            if max(known, self.knows) < last:
                raise RaceError("memory of the card is read before the current stream has written it")
            pinned[...] = memory.array()

        self.add(copy)


class Current(Stream):
    """Computes at once. A step lasts from one event to the next."""

    put = 1

    def __init__(self, timeline):
        self.timeline = timeline

    def reach(self, at):
        pass

    def record(self, event):
        event.stream, event.at = self, self.put
        self.put += 1
        return event

    def synchronize(self):
        self.put += 1
        self.timeline.host_knows(self, self.put - 1)


class Memory:
    """Where an array lies; does not keep it."""

    def __init__(self, array):
        memory = owner(array)
        self.key, self._memory = id(memory), weakref.ref(memory)
        self._layout = array.shape, array.dtype, array.ctypes.data - memory.ctypes.data
        assert array.flags.c_contiguous

    def array(self):
        memory = self._memory()
        if memory is None:
            raise RaceError("memory of the card was let go of while it was copied")
        shape, kind, offset = self._layout
        return np.ndarray(shape, kind, memory, offset)


def owner(array):
    """The array that has the memory."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array
