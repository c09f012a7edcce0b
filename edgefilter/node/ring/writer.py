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

from edgefilter.core.chunk import Loss, gaps_between
from edgefilter.core.errors import InputError, WireError
from edgefilter.core.stream import Stream
from edgefilter.node.ring.layout import (
    COMPLETE_FROM,
    COUNT,
    CURSORS,
    FINAL,
    FIRST,
    FLOOR,
    FOREVER,
    GENERATION,
    HEAD,
    INTERVALS,
    LAST,
    LAST_WRITER,
    LOST,
    READERS,
    RECORDS,
    UNSET,
    Policy,
    RingFile,
    bank,
    clip_intervals,
    make_ring,
)

_POLL_SECONDS = 0.001
_HISTORY_CAPACITIES = 4  # capacities behind the floor of which the table still tells what had come


class WriteResult(NamedTuple):
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
    max_gap_samples
        Most samples by which a frame may lie ahead of the newest: see :meth:`write`.

    Both are attributes too, and may be changed between two frames.

    Raises
    ------
    InputError
        If there is no ring there.
    """

    def __init__(self, path: Path, slack: int = 0, max_gap_samples: int = FOREVER) -> None:
        super().__init__(path, data_writable=True, words_writable=True)
        self.slack = slack
        self.max_gap_samples = max_gap_samples
        self._writer_id = secrets.randbits(63)
        self._last = UNSET
        self._held_from: int | None = None
        with self._exclusive():
            pass  # takes over from the writer that was last

    @classmethod
    def create(
        cls,
        path: str | Path,
        stream: Stream,
        capacity_samples: int,
        policy: Policy | str = Policy.HOLD,
        slack: int = 0,
        max_gap_samples: int = FOREVER,
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
        slack, max_gap_samples
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
        ring = cls(Path(path), slack, max_gap_samples)
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
    def attach(cls, path: str | Path, slack: int = 0, max_gap_samples: int = FOREVER) -> Self:
        """Go on with a ring that is there.

        Raises
        ------
        InputError
            If there is none.
        """
        return cls(Path(path), slack, max_gap_samples)

    def write(self, start: int, payload: bytes | memoryview) -> WriteResult:
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
            Of kind ``far`` if the frame lies more than ``max_gap_samples`` ahead of the newest sample, of kind
            ``fragments`` if the ring has more separate gaps than its table can hold. Nothing was changed then.
        ValueError
            If the payload does not end on a sample.
        """
        if len(payload) % self._sample_bytes:
            raise ValueError(f"{len(payload)} bytes are not samples of {self._sample_bytes} bytes")
        data = np.frombuffer(payload, np.uint8)
        with self._exclusive():
            return self._write(start, start + len(payload) // self._sample_bytes, data)

    def wait_for_room(self, timeout: float) -> bool:
        """Wait until the held samples of the last frame can be placed at least in part; False if not within s."""
        deadline = time.monotonic() + timeout
        while (
            self._held_from is not None and self._writable_stop(self._held_from, self._held_from + 1) <= self._held_from
        ):
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
            Of kind ``far`` if it lies more than ``max_gap_samples`` ahead of the newest sample.
        """
        with self._exclusive():
            if self._last != UNSET:
                return
            head = self._words[HEAD]
            sample = head if sample is None else sample
            self._check_max_gap(sample)
            self._last = self._words[LAST] = max(sample, head, self._final)
            self._fence()
            self._advance_final()

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Keep other writers out; what they have changed meanwhile is known inside."""
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        try:
            if self._words[LAST_WRITER] != self._writer_id:
                self._load_state()
                self._repair()
                self._words[LAST_WRITER] = self._writer_id
            yield
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def _load_state(self) -> None:
        """Learn what the writer that was last has written."""
        words = self._words
        self._generation: int = words[GENERATION]
        table = self.snapshot()
        self._complete_from, self._intervals = table.complete_from, table.intervals
        self._floor: int = words[FLOOR]
        self._final: int = words[FINAL]
        self._first: int = words[FIRST]
        self._last = words[LAST]

    def _repair(self) -> None:
        """Finish what that writer left undone if it died in the middle; else this changes nothing."""
        if self._intervals:
            self._words[HEAD] = max(self._words[HEAD], self._intervals[-1][1])
        if self._last != UNSET:
            self._advance_final()
        elif self._final < self._floor:
            self._final = self._words[FINAL] = self._floor

    # --- all below within a turn

    def _write(self, start: int, stop: int, data: NDArray[np.uint8]) -> WriteResult:
        if (
            self._intervals
            and start == self._final == self._intervals[-1][1]
            and self._writable_stop(start, stop) == stop
        ):
            self._append(start, stop, data)
            return WriteResult(stop - start, 0, 0, 0)
        if self._first == UNSET and self._last == UNSET:
            self._start_run(start)
        self._check_max_gap(start)
        write_stop = max(start, self._writable_stop(start, stop))
        low = max(start, self._final)
        repeated = sum(
            interval_stop - interval_start
            for interval_start, interval_stop in clip_intervals(self._intervals, start, write_stop)
        )
        written = 0
        if low < write_stop:
            assert self._last == UNSET, "after the end everything is late"
            span = self._overlapping(low, write_stop)
            self._raise_floor(write_stop - self.capacity)
            self._fence()
            for gap in gaps_between(clip_intervals(self._intervals, low, write_stop), low, write_stop, Loss.MISSING):
                at, size = self._offset(gap.start), (gap.stop - gap.start) * self._sample_bytes
                origin = (gap.start - start) * self._sample_bytes
                self._data[at : at + size] = data[origin : origin + size]
                written += gap.stop - gap.start
            self._fence()
            self._insert_interval(low, write_stop, *span)
            self._fence()
            self._words[HEAD] = max(self._words[HEAD], write_stop)
        self._held_from = write_stop if write_stop < stop else None
        self._advance_final()
        return WriteResult(written, repeated, write_stop - start - repeated - written, stop - write_stop)

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
        self._intervals[-1] = (self._intervals[-1][0], stop)
        words[bank(self._generation) + RECORDS + 2 * len(self._intervals) - 1] = stop
        self._fence()
        words[HEAD] = stop
        self._final = words[FINAL] = stop
        self._held_from = None

    def _start_run(self, start: int) -> None:
        """Let the run begin with its first frame."""
        words = self._words
        self._floor = self._final = self._complete_from = start
        words[bank(self._generation) + COMPLETE_FROM] = words[FLOOR] = words[HEAD] = start
        self._fence()
        words[FINAL] = start
        self._first = words[FIRST] = start

    def _check_max_gap(self, sample: int) -> None:
        if self._first != UNSET and sample - self._words[HEAD] > self.max_gap_samples:
            ahead = self.stream.seconds(sample - self._words[HEAD])
            raise WireError(
                "far", f"sample {sample} lies {ahead:.6g} s ahead, at most {self.max_gap_samples} samples may be lost"
            )

    def _writable_stop(self, start: int, stop: int) -> int:
        """One past the last sample of the frame ``[start, stop)`` that can be dealt with now: placed or dropped."""
        if self._last != UNSET:
            return stop  # all of it is late
        if self.policy is Policy.DROP_OLDEST:
            return min(stop, start + self.capacity)
        oldest_cursor: int = min(self._words[CURSORS : CURSORS + READERS])
        # Without readers nothing is let go: the first one is still to come.
        return min(stop, (self._floor if oldest_cursor == UNSET else max(oldest_cursor, self._floor)) + self.capacity)

    def _raise_floor(self, floor: int) -> None:
        if floor > self._floor:
            self._floor = self._words[FLOOR] = floor

    def _overlapping(self, start: int, stop: int) -> tuple[int, int]:
        """Range of the intervals that ``[start, stop)`` overlaps or touches."""
        low = bisect_left(self._intervals, start, key=lambda interval: interval[1])
        high = bisect_right(self._intervals, stop, key=lambda interval: interval[0])
        if low == high and len(self._intervals) - self._intervals_below_floor() >= INTERVALS:
            raise WireError("fragments", f"more than {INTERVALS} separate gaps in the ring")
        return low, high

    def _intervals_below_floor(self) -> int:
        """Intervals at the beginning of the table that lie below the floor."""
        return bisect_right(self._intervals, self._floor, key=lambda interval: interval[1])

    def _insert_interval(self, start: int, stop: int, low: int, high: int) -> None:
        """Put ``[start, stop)`` in the place of the intervals ``[low, high)``, which it overlaps or touches."""
        if low < high:
            start = min(start, self._intervals[low][0])
            stop = max(stop, self._intervals[high - 1][1])
        self._intervals[low:high] = [(start, stop)]
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
            self._rewrite_table()

    def _rewrite_table(self) -> None:
        """Write the table anew into the other bank, without what lies far below the floor."""
        horizon = self._floor - _HISTORY_CAPACITIES * self.capacity
        n_dropped = bisect_right(self._intervals, horizon, key=lambda interval: interval[1])
        if len(self._intervals) - n_dropped > INTERVALS // 2:
            n_dropped = self._intervals_below_floor()
        if n_dropped:
            self._complete_from = max(self._complete_from, self._intervals[n_dropped - 1][1])
            del self._intervals[:n_dropped]
        words = self._words
        at = bank(self._generation + 1)
        flat = array("Q", chain.from_iterable(self._intervals))
        words[at + RECORDS : at + RECORDS + len(flat)] = memoryview(flat)
        words[at + COUNT], words[at + COMPLETE_FROM] = len(self._intervals), self._complete_from
        self._fence()
        self._generation += 1
        words[GENERATION] = self._generation

    def _advance_final(self) -> None:
        """Raise ``final`` as far as no missing sample is still worth waiting for."""
        if self._final == FOREVER:
            return
        words = self._words
        ended = self._last != UNSET
        # Nothing can come before the end once it is known, nor before a frame that waits for the readers.
        bound = self._last if ended else self._held_from or 0
        given_up_before = max(bound or words[HEAD] - self.slack, self._floor)
        final, lost = self._final, 0
        at = bisect_right(self._intervals, final, key=lambda interval: interval[1])
        while at < len(self._intervals) and self._intervals[at][0] <= max(final, given_up_before):
            interval_start, interval_stop = self._intervals[at]
            lost += max(0, interval_start - final)
            final = interval_stop
            at += 1
        bound = max(bound, self._floor)
        lost += max(0, bound - final)
        if self._first != UNSET and lost:
            words[LOST] += lost
        self._final = words[FINAL] = FOREVER if ended else max(final, bound)
