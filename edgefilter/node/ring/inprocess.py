"""The ring: raw samples between the receiver, which writes, and the reducer, which reads.

The ring holds samples ``[tail, tail + capacity)`` of one run of a stream, each at its number modulo the capacity.
Frames may come in any order; the first that brings a sample wins. Three rules make what the reader sees dependable:

* *Nothing is overwritten.* A frame that needs room which the reader still holds waits, and with it the sender.
* *What was read is decided.* A sample that was missing when it was read stays missing, in every later window too.
* *Waiting ends.* A gap is given up once the newest sample lies ``slack`` beyond it, once the stream has ended, or once
  the writer itself waits for room: frames come through one writer, so nothing more can come before the reader moves on.
"""

from bisect import bisect_left, bisect_right
from threading import Condition

import numpy as np
from numpy.typing import NDArray

from edgefilter.chunk import Chunk, Gap, Loss, complement
from edgefilter.errors import InputError
from edgefilter.node.ring.writer import Placed
from edgefilter.stream import Stream


class Ring:
    """A circular buffer of raw samples with one writing and one reading thread.

    Parameters
    ----------
    stream
        What the samples are.
    capacity_samples
        Samples that it holds, at least as many as the reader's longest window.
    buffer
        Writable memory of ``capacity_samples * stream.sample_bytes`` bytes to use, for instance shared memory; own
        memory if None.

    Raises
    ------
    InputError
        If there is not the memory for it.
    ValueError
        If the capacity is not positive or the buffer has another size.
    """

    def __init__(
        self, stream: Stream, capacity_samples: int, buffer: bytearray | memoryview | NDArray[np.uint8] | None = None
    ) -> None:
        if capacity_samples < 1:
            raise ValueError(f"capacity of {capacity_samples} samples, must be at least 1")
        size = capacity_samples * stream.sample_bytes
        memory = _allocate(size) if buffer is None else np.frombuffer(buffer, np.uint8)
        if memory.size != size:
            raise ValueError(f"buffer has {memory.size} bytes, {capacity_samples} samples take {size}")
        self.stream = stream
        self.capacity = capacity_samples
        self._data = memory.reshape(capacity_samples, stream.sample_bytes)
        self._changed = Condition()
        self._present: list[tuple[int, int]] = []  # sorted, disjoint, not touching, nothing below the tail
        self._tail: int | None = None
        self._first: int | None = None
        self._head = 0
        self._decided = 0  # every sample below was read or let go: it can no longer come
        self._end: int | None = None
        self._wanted: int | None = None
        self._closed = False

    @property
    def tail(self) -> int | None:
        """The oldest sample that is held; None before the first frame."""
        return self._tail

    @property
    def first(self) -> int | None:
        """The first sample of the run; None before the first frame."""
        return self._first

    @property
    def head(self) -> int:
        """One past the newest sample; 0 before the first frame."""
        return self._head

    @property
    def last(self) -> int | None:
        """One past the last sample of the run; None while it goes on."""
        return self._end

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` was called: nothing more will come."""
        return self._closed

    @property
    def wanted(self) -> int | None:
        """The sample for which the writer waits because the reader holds its room; None while it need not wait."""
        with self._changed:
            return self._wanted if self._blocked() else None

    # --- the writer's side

    def place(self, start: int, payload: bytes | memoryview) -> Placed:
        """Put the samples of a frame at their places, as far as there is room; never waits.

        Parameters
        ----------
        start
            Number of the frame's first sample.
        payload
            Raw bytes of whole samples.

        Raises
        ------
        ValueError
            If the payload does not end on a sample.
        """
        if len(payload) % self.stream.sample_bytes:
            raise ValueError(f"{len(payload)} bytes are not samples of {self.stream.sample_bytes} bytes")
        data = np.frombuffer(payload, np.uint8).reshape(-1, self.stream.sample_bytes)
        stop = start + len(data)
        with self._changed:
            if self._tail is None and not self._closed:
                self._tail = start
            room_stop = self._room_stop(stop)
            self._wanted = max(room_stop, start) if room_stop < stop else None
            taken = max(min(stop, room_stop), start)
            pieces = self._missing(start, taken)
            for here, there in pieces:
                self._copy_in(here, data[here - start : there - start])
            repeated = sum(there - here for here, there in self._inside(start, taken))
            written = sum(there - here for here, there in pieces)
            for piece in pieces:
                self._insert(*piece)
            self._changed.notify_all()
        return Placed(written, repeated, taken - start - repeated - written, stop - taken)

    def wait_for_room(self, timeout: float | None = None) -> bool:
        """Wait until the held samples of the last frame can be placed at least in part.

        Returns
        -------
        bool
            False if the ring was closed or the time, s, has passed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or not self._blocked(), timeout)
            return not self._closed and not self._blocked()

    def end(self, sample: int) -> None:
        """Mark the end of the run: ``sample`` is one past the last one. The first call counts.

        Samples that came already are never cut off: the end lies at the head at least.
        """
        with self._changed:
            if self._end is None:
                self._end = max(sample, self._head)
            self._changed.notify_all()

    def close(self) -> None:
        """Let nothing more in and wake all who wait; what is there stays readable.

        The writer calls it when it stops, the reader when it gives up. Without :meth:`end`, the run ends at the head.
        """
        with self._changed:
            if self._end is None:
                self._end = self._head
            self._closed = True
            self._changed.notify_all()

    # --- the reader's side

    def ready(self, stop: int, slack: int) -> bool:
        """Say whether nothing is worth waiting for among the samples before ``stop``.

        Parameters
        ----------
        stop
            One past the last sample wanted, at most ``tail + capacity``.
        slack
            Samples by which the newest sample must lie beyond a gap before the gap is given up.

        Raises
        ------
        ValueError
            If the ring can never hold the samples before ``stop`` and what it holds now.
        """
        with self._changed:
            return self._ready(stop, slack)

    def wait_until_ready(self, stop: int, slack: int, timeout: float | None = None) -> bool:
        """Wait until :meth:`ready`; False if the time, s, has passed before.

        Raises
        ------
        ValueError
            As :meth:`ready`.
        """
        with self._changed:
            return self._changed.wait_for(lambda: self._ready(stop, slack), timeout)

    def wait_for_first(self, timeout: float | None = None) -> int | None:
        """Wait for the first sample of the run; None if the run ends or the time, s, passes before one comes."""
        with self._changed:
            self._changed.wait_for(lambda: self._first is not None or self._end is not None, timeout)
            return self._first

    def read(self, start: int, stop: int) -> Chunk:
        """Read samples ``[start, stop)``; what is not there by now stays missing for good.

        Samples before the first and after the last of the run are gaps of reason OUTSIDE, others that are not there
        of reason MISSING. The chunk is a read-only view of the ring where the samples lie in one piece, and then good
        until they are released; otherwise a copy.

        Raises
        ------
        ValueError
            If samples of the run were released already or lie beyond ``tail + capacity``.
        """
        with self._changed:
            self._check_window(stop)
            if self._first is not None and self._tail is not None and max(start, self._first) < min(stop, self._tail):
                raise ValueError(f"samples [{start}, {stop}) were released up to {self._tail}")
            gaps = self._gaps(start, stop)
            self._decided = max(self._decided, stop)
            present = self._inside(start, stop)
            slot = start % self.capacity
            in_one_piece = self._tail is not None and start >= self._tail and slot + stop - start <= self.capacity
        if in_one_piece:
            data = self._data[slot : slot + stop - start]
        else:
            # Outside the lock: the writer never touches samples that are present and not released.
            data = np.zeros((stop - start, self.stream.sample_bytes), np.uint8)
            for here, there in present:
                self._copy_out(here, data[here - start : there - start])
        data.setflags(write=False)
        return Chunk(start, data, gaps)

    def release(self, sample: int) -> None:
        """Give the room of all samples before ``sample`` back to the writer; the tail never moves back.

        Before the first frame this sets where the ring begins: frames before ``sample`` are late.
        """
        with self._changed:
            if self._tail is not None and sample <= self._tail:
                return
            self._tail = sample
            self._decided = max(self._decided, sample)
            self._present = [(max(here, sample), there) for here, there in self._present if there > sample]
            self._changed.notify_all()

    # --- all below with the lock held

    def _room_stop(self, stop: int) -> int:
        """One past the last sample of a frame up to ``stop`` that can be dealt with now: placed or dropped."""
        if self._closed or self._tail is None:
            return stop
        limit = self._tail + self.capacity
        # What lies past the end is dropped, which takes no room.
        return stop if self._end is not None and self._end <= limit else limit

    def _blocked(self) -> bool:
        return self._wanted is not None and self._tail is not None and self._wanted >= self._tail + self.capacity

    def _missing(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Parts of ``[start, stop)`` that are still welcome."""
        if self._closed:
            return []
        start = max(start, self._decided, self._tail or 0)
        stop = stop if self._end is None else min(stop, self._end)
        gaps = complement(self._inside(start, stop), start, stop, Loss.MISSING)
        return [(gap.start, gap.stop) for gap in gaps]

    def _inside(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Parts of ``[start, stop)`` that are present."""
        at = bisect_right(self._present, start, key=lambda interval: interval[1])
        inside = []
        while at < len(self._present) and self._present[at][0] < stop:
            here, there = self._present[at]
            inside.append((max(here, start), min(there, stop)))
            at += 1
        return inside

    def _insert(self, start: int, stop: int) -> None:
        """Mark ``[start, stop)``, which is not present, as present; joins it with the neighbours that it touches."""
        self._first = start if self._first is None else min(self._first, start)
        self._head = max(self._head, stop)
        low = bisect_left(self._present, start, key=lambda interval: interval[1])
        high = bisect_right(self._present, stop, key=lambda interval: interval[0])
        if low < high:
            start = min(start, self._present[low][0])
            stop = max(stop, self._present[high - 1][1])
        self._present[low:high] = [(start, stop)]

    def _ready(self, stop: int, slack: int) -> bool:
        self._check_window(stop)
        if self._end is not None or self._blocked():
            return True
        if self._first is None:
            return False
        open_from = max(self._first, self._decided)
        gaps = complement(self._inside(open_from, stop), open_from, stop, Loss.MISSING)
        return not gaps or self._head >= gaps[-1].stop + slack

    def _check_window(self, stop: int) -> None:
        # Reading past the room would decide samples that the writer could not have placed yet.
        if self._tail is not None and stop > self._tail + self.capacity:
            raise ValueError(f"sample {stop} needs more than the {self.capacity} samples of the ring from {self._tail}")

    def _gaps(self, start: int, stop: int) -> tuple[Gap, ...]:
        run_start = stop if self._first is None else min(max(self._first, start), stop)
        run_stop = stop if self._end is None else min(max(self._end, run_start), stop)
        return (
            complement([], start, run_start, Loss.OUTSIDE)
            + complement(self._inside(run_start, run_stop), run_start, run_stop, Loss.MISSING)
            + complement([], run_stop, stop, Loss.OUTSIDE)
        )

    def _copy_in(self, start: int, data: NDArray[np.uint8]) -> None:
        slot = start % self.capacity
        before_wrap = min(len(data), self.capacity - slot)
        self._data[slot : slot + before_wrap] = data[:before_wrap]
        self._data[: len(data) - before_wrap] = data[before_wrap:]

    def _copy_out(self, start: int, data: NDArray[np.uint8]) -> None:
        slot = start % self.capacity
        before_wrap = min(len(data), self.capacity - slot)
        data[:before_wrap] = self._data[slot : slot + before_wrap]
        data[before_wrap:] = self._data[: len(data) - before_wrap]


def _allocate(size: int) -> NDArray[np.uint8]:
    try:
        return np.empty(size, np.uint8)
    except (MemoryError, ValueError):  # NumPy's words for too much, and for far too much
        raise InputError(f"a ring of {size / 2**30:.1f} GiB does not fit into memory") from None
