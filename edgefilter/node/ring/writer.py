"""The writing side of a ring: copies frames to their places by sample number and decides which samples are lost.

A frame takes these steps, with a fence (see ``memory``) between each and the next:

1. Raise the floor if the frame needs room: samples below it are not valid any more.
2. Copy the samples to their places.
3. Change the table of intervals: from here on the samples are in the ring.
4. Raise ``head`` and ``final``.

A writer that dies at any point leaves a valid ring: samples that are only partly copied are in no interval.

Writers take turns by ``flock`` on the file, one frame each; two write at the same time only while one receiver replaces
another. Readers never use this lock. It ends with its process.
"""

import fcntl
import secrets
import time
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from edgefilter.core.chunk import Loss, gaps_between
from edgefilter.core.errors import InputError, WireError
from edgefilter.core.stream import Stream
from edgefilter.node.ring.interval_table import IntervalTable
from edgefilter.node.ring.layout import (
    CURSORS,
    FINAL,
    FIRST,
    FLOOR,
    FOREVER,
    HEAD,
    LAST,
    LAST_WRITER,
    LOST,
    READERS,
    UNSET,
    Policy,
    RingFile,
    clip_intervals,
    make_ring,
)

_POLL_SECONDS = 0.001


class WriteResult(NamedTuple):
    """How many samples of a frame were written or not, and why; the sum is the number of its samples.

    Parameters
    ----------
    written
        Samples that are new in the ring.
    repeated
        Samples that were in the ring already; the ring keeps the first.
    late
        Samples that count as lost already, or lie past the end of the run.
    held
        Samples at the end of the frame for which the ring has no room yet: write them again after
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
        The file of the ring.
    slack
        Number of samples that must follow a gap before its samples count as lost.
    max_gap_samples
        Maximum number of samples between the newest sample and a later frame: see :meth:`write`.

    ``slack`` and ``max_gap_samples`` are attributes too and may be changed between two frames.

    Raises
    ------
    InputError
        If the file is not a ring.
    """

    def __init__(self, path: Path, slack: int = 0, max_gap_samples: int = FOREVER) -> None:
        super().__init__(path, data_writable=True, words_writable=True)
        self.slack = slack
        self.max_gap_samples = max_gap_samples
        self._writer_id = secrets.randbits(63)
        self._last = UNSET
        self._held_from: int | None = None
        self._table = IntervalTable(self._words, self.capacity)
        with self._exclusive():
            pass  # takes over from the previous writer

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
        """Make a ring, or attach to an existing one of the same stream and policy and at least this size.

        Parameters
        ----------
        path
            The file, in a file system that is memory.
        stream
            Description of the samples.
        capacity_samples
            Number of samples in the ring, at least the longest window of a reader. Rounded up to whole pages.
        policy
            What happens when the ring is full.
        slack, max_gap_samples
            See the class.

        Raises
        ------
        InputError
            If the ring cannot be made, or the file is another ring.
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
                raise InputError(f"{path}: the file is another ring, of {problem}: remove it first")
        return ring

    @classmethod
    def attach(cls, path: str | Path, slack: int = 0, max_gap_samples: int = FOREVER) -> Self:
        """Attach to an existing ring and continue its run.

        Parameters
        ----------
        path
            The file of the ring.
        slack, max_gap_samples
            See the class.

        Raises
        ------
        InputError
            If the file is not a ring.
        """
        return cls(Path(path), slack, max_gap_samples)

    def write(self, start: int, payload: bytes | memoryview) -> WriteResult:
        """Write the samples of a frame, as far as there is room; never wait for a reader.

        Parameters
        ----------
        start
            Number of the frame's first sample.
        payload
            Raw bytes of whole samples.

        Returns
        -------
        WriteResult
            How many samples were written or not, and why.

        Raises
        ------
        WireError
            Of kind ``far`` if the frame lies more than ``max_gap_samples`` ahead of the newest sample, of kind
            ``fragments`` if the ring has more separate gaps than its table can hold. The ring is unchanged then.
        ValueError
            If the payload is not a whole number of samples.
        """
        if len(payload) % self._sample_bytes:
            raise ValueError(
                f"payload of {len(payload)} bytes is not a whole number of samples of {self._sample_bytes} bytes"
            )
        data = np.frombuffer(payload, np.uint8)
        with self._exclusive():
            return self._write(start, start + len(payload) // self._sample_bytes, data)

    def wait_for_room(self, timeout: float) -> bool:
        """Wait until the ring has room for at least one of the held samples of the last frame.

        Parameters
        ----------
        timeout
            Maximum time to wait, s.

        Returns
        -------
        bool
            Whether there is room.
        """
        deadline = time.monotonic() + timeout
        held_from = self._held_from
        while held_from is not None and self._writable_stop(held_from, held_from + 1) <= held_from:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def end(self, sample: int | None = None) -> None:
        """Mark the end of the run. A second call changes nothing.

        Parameters
        ----------
        sample
            One past the last sample; None is the head. The end never lies before samples that arrived or count as lost.

        Raises
        ------
        WireError
            Of kind ``far`` if the end lies more than ``max_gap_samples`` ahead of the newest sample.
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
        """Exclude other writers, and load what they have changed since the last turn."""
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
        words = self._words
        self._table.load(self.snapshot())
        self._floor: int = words[FLOOR]
        self._final: int = words[FINAL]
        self._first: int = words[FIRST]
        self._last = words[LAST]

    def _repair(self) -> None:
        """Finish the last step of a writer that died within a frame."""
        if intervals := self._table.intervals:
            self._words[HEAD] = max(self._words[HEAD], intervals[-1][1])
        if self._last != UNSET:
            self._advance_final()
        elif self._final < self._floor:
            self._final = self._words[FINAL] = self._floor

    # --- the methods below run inside _exclusive

    def _write(self, start: int, stop: int, data: NDArray[np.uint8]) -> WriteResult:
        intervals = self._table.intervals
        if intervals and start == self._final == intervals[-1][1] and self._writable_stop(start, stop) == stop:
            self._append(start, stop, data)
            return WriteResult(stop - start, 0, 0, 0)
        if self._first == UNSET and self._last == UNSET:
            self._start_run(start)
        self._check_max_gap(start)
        write_stop = max(start, self._writable_stop(start, stop))
        low = max(start, self._final)
        repeated = sum(
            interval_stop - interval_start
            for interval_start, interval_stop in clip_intervals(intervals, start, write_stop)
        )
        written = 0
        if low < write_stop:
            assert self._last == UNSET, "after the end everything is late"
            touched = self._table.find(low, write_stop, self._floor)
            self._raise_floor(write_stop - self.capacity)
            self._fence()
            for gap in gaps_between(clip_intervals(intervals, low, write_stop), low, write_stop, Loss.MISSING):
                at, size = self._offset(gap.start), (gap.stop - gap.start) * self._sample_bytes
                origin = (gap.start - start) * self._sample_bytes
                self._data[at : at + size] = data[origin : origin + size]
                written += gap.stop - gap.start
            self._fence()
            self._table.insert((low, write_stop), *touched, self._floor, self._fence)
            self._fence()
            self._words[HEAD] = max(self._words[HEAD], write_stop)
        self._held_from = write_stop if write_stop < stop else None
        self._advance_final()
        return WriteResult(written, repeated, write_stop - start - repeated - written, stop - write_stop)

    def _append(self, start: int, stop: int, data: NDArray[np.uint8]) -> None:
        """Write a frame that begins where the newest sample ends while no gap is open, as nearly all frames do.

        The result is that of the general case, at a fraction of its cost.
        """
        words = self._words
        self._raise_floor(stop - self.capacity)
        self._fence()
        at = self._offset(start)
        self._data[at : at + len(data)] = data
        self._fence()
        self._table.extend_last(stop)
        self._fence()
        words[HEAD] = stop
        self._final = words[FINAL] = stop
        self._held_from = None

    def _start_run(self, start: int) -> None:
        words = self._words
        self._floor = self._final = start
        self._table.start(start)
        words[FLOOR] = words[HEAD] = start
        self._fence()
        words[FINAL] = start
        self._first = words[FIRST] = start

    def _check_max_gap(self, sample: int) -> None:
        if self._first != UNSET and sample - self._words[HEAD] > self.max_gap_samples:
            ahead = self.stream.seconds(sample - self._words[HEAD])
            raise WireError(
                "far",
                f"sample {sample} lies {ahead:.6g} s ahead of the newest sample; "
                f"the maximum is {self.max_gap_samples} samples",
            )

    def _writable_stop(self, start: int, stop: int) -> int:
        """Return one past the last sample of the frame ``[start, stop)`` that can be written or dropped now."""
        if self._last != UNSET:
            return stop  # the whole frame is late
        if self.policy is Policy.DROP_OLDEST:
            return min(stop, start + self.capacity)
        oldest_cursor: int = min(self._words[CURSORS : CURSORS + READERS])
        # Without a reader nothing is overwritten: the first reader is still to come.
        return min(stop, (self._floor if oldest_cursor == UNSET else max(oldest_cursor, self._floor)) + self.capacity)

    def _raise_floor(self, floor: int) -> None:
        if floor > self._floor:
            self._floor = self._words[FLOOR] = floor

    def _advance_final(self) -> None:
        """Raise ``final`` past all samples that have arrived, and past those that are not waited for any more."""
        if self._final == FOREVER:
            return
        words, intervals = self._words, self._table.intervals
        ended = self._last != UNSET
        # No sample arrives before a known end of the run, nor before a frame that waits for the readers.
        bound = self._last if ended else self._held_from or 0
        lost_before = max(bound or words[HEAD] - self.slack, self._floor)
        final, lost = self._final, 0
        at = bisect_right(intervals, final, key=lambda interval: interval[1])
        while at < len(intervals) and intervals[at][0] <= max(final, lost_before):
            interval_start, interval_stop = intervals[at]
            lost += max(0, interval_start - final)
            final = interval_stop
            at += 1
        bound = max(bound, self._floor)
        lost += max(0, bound - final)
        if self._first != UNSET and lost:
            words[LOST] += lost
        self._final = words[FINAL] = FOREVER if ended else max(final, bound)
