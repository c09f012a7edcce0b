"""The writing side of a ring: places frames by their sample numbers and decides what will never come.

A frame goes through these steps; a fence (see ``memory``) stands between each and the next:

1. The floor is raised if the frame needs room: what lies below is no longer vouched for.
2. The samples are copied to their places.
3. The table of intervals is changed: from now on the samples are there.
4. Head and ``final`` follow.

A writer that dies anywhere leaves a ring that is right: samples that are half copied are in no interval.

Writers take turns by ``flock`` on the file, a frame each. Readers never touch that lock, nobody waits for it while
there is one writer, and it ends with its process. Two are for the moment in which one receiver replaces another.
"""

import fcntl
import secrets
import time
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from edgefilter.core.chunk import Loss, complement
from edgefilter.core.errors import InputError, WireError
from edgefilter.core.stream import Stream
from edgefilter.node.ring.layout import (
    AUTHOR,
    COUNT,
    CURSORS,
    FINAL,
    FIRST,
    FLOOR,
    FOREVER,
    GENERATION,
    HEAD,
    INTERVALS,
    KNOWN,
    LAST,
    LOST,
    NONE,
    READERS,
    RECORDS,
    Policy,
    RingFile,
    bank,
    inside,
    make_ring,
)

_POLL_SECONDS = 0.001
_REMEMBERED = 4  # capacities behind the floor of which the table still tells what had come


class Placed(NamedTuple):
    """What became of the samples of one frame; the four add up to its samples.

    Parameters
    ----------
    written
        Samples that are new in the ring.
    repeated
        Samples that were there already; the ring keeps the first.
    late
        Samples that come after they were given up, or past the end.
    held
        Samples at the end of the frame for which there is no room yet: to be placed again, after
        :meth:`RingWriter.wait_for_room`.
    """

    written: int
    repeated: int
    late: int
    held: int


class RingWriter(RingFile):
    """Writes a ring. Make one with :meth:`create` or :meth:`attach`; use it in one thread.

    Parameters
    ----------
    path
        The ring's file.
    slack
        Samples by which the newest must lie beyond a gap before the gap is given up.
    reach
        Most samples by which a frame may lie ahead of the newest: see :meth:`place`.

    Both are attributes too, and may be changed between two frames.

    Raises
    ------
    InputError
        If there is no ring there.
    """

    def __init__(self, path: Path, slack: int = 0, reach: int = FOREVER) -> None:
        super().__init__(path, data_writable=True, words_writable=True)
        self.slack = slack
        self.reach = reach
        self._identity = secrets.randbits(63)
        self._last = NONE
        self._wanted: int | None = None
        with self._turn():
            pass  # takes over from the writer that was last

    @classmethod
    def create(
        cls,
        path: str | Path,
        stream: Stream,
        capacity_samples: int,
        policy: Policy | str = Policy.HOLD,
        slack: int = 0,
        reach: int = FOREVER,
    ) -> Self:
        """Make a ring, or attach to it if it is there with the same stream and at least this size.

        Parameters
        ----------
        path
            Where, in a file system that is memory.
        stream
            What the samples are.
        capacity_samples
            Samples that it holds, at least as many as the longest window of a reader. Rounded up to whole pages.
        policy
            What happens when it is full.
        slack, reach
            As the class has them.

        Raises
        ------
        InputError
            If it cannot be made, or another ring is there.
        ValueError
            If the capacity is not positive.
        """
        policy = Policy(policy)
        made = make_ring(Path(path), stream, capacity_samples, policy)
        ring = cls(Path(path), slack, reach)
        if not made:
            problem = (
                f"stream {ring.stream.id}, expected {stream.id}" if ring.stream != stream
                else f"policy {ring.policy}, expected {policy}" if ring.policy is not policy
                else f"{ring.capacity} samples, expected {capacity_samples}" if ring.capacity < capacity_samples
                else ""
            )  # fmt: skip
            if problem:
                ring.close()
                raise InputError(f"{path}: there is another ring, of {problem}: remove it first")
        return ring

    @classmethod
    def attach(cls, path: str | Path, slack: int = 0, reach: int = FOREVER) -> Self:
        """Go on with a ring that is there.

        Raises
        ------
        InputError
            If there is none.
        """
        return cls(Path(path), slack, reach)

    def place(self, start: int, payload: bytes | memoryview) -> Placed:
        """Put the samples of a frame at their places, as far as there is room; never waits for a reader.

        Parameters
        ----------
        start
            Number of the frame's first sample.
        payload
            Raw bytes of whole samples.

        Raises
        ------
        WireError
            Of kind ``far`` if the frame lies more than ``reach`` ahead of the newest sample, of kind ``fragments`` if
            the ring has more separate gaps than its table can hold. Nothing was changed then.
        ValueError
            If the payload does not end on a sample.
        """
        if len(payload) % self._sample_bytes:
            raise ValueError(f"{len(payload)} bytes are not samples of {self._sample_bytes} bytes")
        data = np.frombuffer(payload, np.uint8)
        with self._turn():
            return self._place(start, start + len(payload) // self._sample_bytes, data)

    def wait_for_room(self, timeout: float) -> bool:
        """Wait until the held samples of the last frame can be placed at least in part; False if not within s."""
        deadline = time.monotonic() + timeout
        while self._wanted is not None and self._room(self._wanted, self._wanted + 1) <= self._wanted:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def end(self, sample: int | None = None) -> None:
        """Mark the end of the run, once: ``sample`` is one past the last one, the head if None.

        Samples that came already, or were given up, are never cut off: the end lies behind them.

        Raises
        ------
        WireError
            Of kind ``far`` if it lies more than ``reach`` ahead of the newest sample.
        """
        with self._turn():
            if self._last != NONE:
                return
            head = self._words[HEAD]
            sample = head if sample is None else sample
            self._check_reach(sample)
            self._last = self._words[LAST] = max(sample, head, self._final)
            self._fence()
            self._decide()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Keep other writers out; what they have changed meanwhile is known inside."""
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        try:
            if self._words[AUTHOR] != self._identity:
                self._recall()
                self._mend()
                self._words[AUTHOR] = self._identity
            yield
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def _recall(self) -> None:
        """Learn what the writer that was last has written."""
        words = self._words
        self._generation: int = words[GENERATION]
        table = self.snapshot()
        self._known, self._present = table.known, table.intervals
        self._floor: int = words[FLOOR]
        self._final: int = words[FINAL]
        self._first: int = words[FIRST]
        self._last = words[LAST]

    def _mend(self) -> None:
        """Finish what that writer left undone if it died in the middle; else this changes nothing."""
        if self._present:
            self._words[HEAD] = max(self._words[HEAD], self._present[-1][1])
        if self._last != NONE:
            self._decide()
        elif self._final < self._floor:
            self._final = self._words[FINAL] = self._floor

    # --- all below within a turn

    def _place(self, start: int, stop: int, data: NDArray[np.uint8]) -> Placed:
        if self._present and start == self._final == self._present[-1][1] and self._room(start, stop) == stop:
            self._append(start, stop, data)
            return Placed(stop - start, 0, 0, 0)
        if self._first == NONE and self._last == NONE:
            self._open(start)
        self._check_reach(start)
        taken = max(start, self._room(start, stop))
        low = max(start, self._final)
        repeated = sum(there - here for here, there in inside(self._present, start, taken))
        written = 0
        if low < taken:
            assert self._last == NONE, "after the end everything is late"
            span = self._span(low, taken)
            self._raise_floor(taken - self.capacity)
            self._fence()
            for gap in complement(inside(self._present, low, taken), low, taken, Loss.MISSING):
                at, size = self._offset(gap.start), (gap.stop - gap.start) * self._sample_bytes
                origin = (gap.start - start) * self._sample_bytes
                self._data[at : at + size] = data[origin : origin + size]
                written += gap.stop - gap.start
            self._fence()
            self._record(low, taken, *span)
            self._fence()
            self._words[HEAD] = max(self._words[HEAD], taken)
        self._wanted = taken if taken < stop else None
        self._decide()
        return Placed(written, repeated, taken - start - repeated - written, stop - taken)

    def _append(self, start: int, stop: int, data: NDArray[np.uint8]) -> None:
        """Place a frame that begins where the newest sample ends while no gap is open, as nearly all do.

        This is what the general way comes to then, at a fraction of its price.
        """
        words = self._words
        self._raise_floor(stop - self.capacity)
        self._fence()
        at = self._offset(start)
        self._data[at : at + len(data)] = data
        self._fence()
        self._present[-1] = (self._present[-1][0], stop)
        words[bank(self._generation) + RECORDS + 2 * len(self._present) - 1] = stop
        self._fence()
        words[HEAD] = stop
        self._final = words[FINAL] = stop
        self._wanted = None

    def _open(self, start: int) -> None:
        """Let the run begin with its first frame."""
        words = self._words
        self._floor = self._final = self._known = start
        words[bank(self._generation) + KNOWN] = words[FLOOR] = words[HEAD] = start
        self._fence()
        words[FINAL] = start
        self._first = words[FIRST] = start

    def _check_reach(self, sample: int) -> None:
        if self._first != NONE and sample - self._words[HEAD] > self.reach:
            ahead = self.stream.seconds(sample - self._words[HEAD])
            raise WireError(
                "far", f"sample {sample} lies {ahead:.6g} s ahead, at most {self.reach} samples may be lost"
            )

    def _room(self, start: int, stop: int) -> int:
        """One past the last sample of the frame ``[start, stop)`` that can be dealt with now: placed or dropped."""
        if self._last != NONE:
            return stop  # all of it is late
        if self.policy is Policy.DROP_OLDEST:
            return min(stop, start + self.capacity)
        kept: int = min(self._words[CURSORS : CURSORS + READERS])
        # Without readers nothing is let go: the first one is still to come.
        return min(stop, (self._floor if kept == NONE else max(kept, self._floor)) + self.capacity)

    def _raise_floor(self, floor: int) -> None:
        if floor > self._floor:
            self._floor = self._words[FLOOR] = floor

    def _span(self, start: int, stop: int) -> tuple[int, int]:
        """Range of the intervals that ``[start, stop)`` overlaps or touches."""
        low = bisect_left(self._present, start, key=lambda interval: interval[1])
        high = bisect_right(self._present, stop, key=lambda interval: interval[0])
        if low == high and len(self._present) - self._forgettable() >= INTERVALS:
            raise WireError("fragments", f"more than {INTERVALS} separate gaps in the ring")
        return low, high

    def _forgettable(self) -> int:
        """Intervals at the beginning of the table that lie below the floor."""
        return bisect_right(self._present, self._floor, key=lambda interval: interval[1])

    def _record(self, start: int, stop: int, low: int, high: int) -> None:
        """Put ``[start, stop)`` in the place of the intervals ``[low, high)``, which it overlaps or touches."""
        if low < high:
            start = min(start, self._present[low][0])
            stop = max(stop, self._present[high - 1][1])
        self._present[low:high] = [(start, stop)]
        words = self._words
        at = bank(self._generation)
        record = at + RECORDS + 2 * low
        if high - low == 1:
            # Each of the two stores alone says something true.
            words[record] = start
            words[record + 1] = stop
        elif low == high == words[at + COUNT] < INTERVALS:
            words[record], words[record + 1] = start, stop
            self._fence()
            words[at + COUNT] = low + 1
        else:
            self._rewrite()

    def _rewrite(self) -> None:
        """Write the table anew into the other bank, without what lies far below the floor."""
        horizon = self._floor - _REMEMBERED * self.capacity
        forgotten = bisect_right(self._present, horizon, key=lambda interval: interval[1])
        if len(self._present) - forgotten > INTERVALS // 2:
            forgotten = self._forgettable()
        if forgotten:
            self._known = max(self._known, self._present[forgotten - 1][1])
            del self._present[:forgotten]
        words = self._words
        at = bank(self._generation + 1)
        flat = array("Q", chain.from_iterable(self._present))
        words[at + RECORDS : at + RECORDS + len(flat)] = memoryview(flat)
        words[at + COUNT], words[at + KNOWN] = len(self._present), self._known
        self._fence()
        self._generation += 1
        words[GENERATION] = self._generation

    def _decide(self) -> None:
        """Raise ``final`` as far as no missing sample is still worth waiting for."""
        if self._final == FOREVER:
            return
        words = self._words
        ended = self._last != NONE
        # Nothing can come before the end once it is known, nor before a frame that waits for the readers.
        bound = self._last if ended else self._wanted or 0
        patience = max(bound or words[HEAD] - self.slack, self._floor)
        final, lost = self._final, 0
        at = bisect_right(self._present, final, key=lambda interval: interval[1])
        while at < len(self._present) and self._present[at][0] <= max(final, patience):
            here, there = self._present[at]
            lost += max(0, here - final)
            final = there
            at += 1
        bound = max(bound, self._floor)
        lost += max(0, bound - final)
        if self._first != NONE and lost:
            words[LOST] += lost
        self._final = words[FINAL] = FOREVER if ended else max(final, bound)
