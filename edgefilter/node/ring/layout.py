"""The file format of the ring, and what writer and readers have in common. docs/ring.md describes it in prose."""

import mmap
import os
import struct
import time
import weakref
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgefilter.core.closing import Closing
from edgefilter.core.errors import InputError
from edgefilter.core.stream import Stream
from edgefilter.node.ring.memory import MirroredMapping, byte_is_locked, make_fence, make_file

MAGIC = b"EDGFRING"
VERSION = 1
DATA_OFFSET = 1 << 18
"""Byte at which the samples begin: a multiple of every page size in use."""
READERS = 16
"""Maximum number of named readers."""
NAME_BYTES = 64
INTERVALS = 4096
"""Maximum number of intervals in a bank of the table."""
UNSET = (1 << 64) - 1
"""A word without a value; a cursor with this value does not hold the writer back."""
FOREVER = 1 << 63
"""Value of ``final`` after the end of the run: no more samples will arrive."""

_HEADER = struct.Struct("<8sQQQQQQ")  # magic, version, data offset, data bytes, sample bytes, policy, stream bytes
# Word numbers (offset in the file / 8). Each word has a cache line of its own.
GENERATION, FLOOR, HEAD, FINAL, FIRST, LAST, LOST, LAST_WRITER = (64 + 8 * line for line in range(8))
CURSORS = 128
_NAMES = 2048  # bytes
_STREAM = 4096  # bytes
_BANKS = (_STREAM + (1 << 16)) // 8
_BANK = 8 + 2 * INTERVALS
COUNT, COMPLETE_FROM, RECORDS = 0, 1, 8  # words in a bank
REGISTRY_BYTE = 0
"""Byte of the file that a reader locks while it takes a slot; the reader in slot i holds a lock on byte 1 + i."""

_RETRY_SECONDS = 0.01


class Policy(StrEnum):
    """What happens to a frame when the ring is full of samples that a reader still needs."""

    HOLD = "hold"  # the frame and its sender wait
    DROP_OLDEST = "drop-oldest"  # the frame overwrites the oldest samples


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The received samples at one instant: sorted, disjoint intervals, complete from ``complete_from`` on."""

    complete_from: int
    intervals: list[tuple[int, int]]

    def clip_intervals(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Return the received parts of an interval.

        Parameters
        ----------
        start, stop
            The interval ``[start, stop)``, sample numbers.

        Returns
        -------
        list of (int, int)
            Sorted, disjoint intervals.
        """
        return clip_intervals(self.intervals, start, stop)


@dataclass(frozen=True, slots=True)
class ReaderSlot:
    """A named reader: its cursor (None if it does not hold the writer back), and whether its process is alive."""

    name: str
    cursor: int | None
    alive: bool


def bank(generation: int) -> int:
    """Return the first word of a bank of the table.

    Parameters
    ----------
    generation
        Generation of the table; even and odd ones alternate between two banks.

    Returns
    -------
    int
        Word number (offset in the file / 8).
    """
    return _BANKS + _BANK * (generation & 1)


def clip_intervals(intervals: list[tuple[int, int]], start: int, stop: int) -> list[tuple[int, int]]:
    """Return the parts of ``[start, stop)`` that intervals cover.

    Parameters
    ----------
    intervals
        Sorted, disjoint intervals ``[start, stop)`` of sample numbers.
    start, stop
        The part of the stream that is of interest, sample numbers.

    Returns
    -------
    list of (int, int)
        Sorted, disjoint intervals.
    """
    found: list[tuple[int, int]] = []
    at = bisect_right(intervals, start, key=lambda interval: interval[1])
    while start < stop and at < len(intervals) and intervals[at][0] < stop:
        interval_start, interval_stop = intervals[at]
        found.append((max(interval_start, start), min(interval_stop, stop)))
        at += 1
    return found


class RingFile(Closing):
    """The file of a ring, mapped into this process: what the writer and the readers have in common.

    Parameters
    ----------
    path
        The file.
    data_writable, words_writable
        Whether this process may write the samples, and the words before them.

    Raises
    ------
    InputError
        If the file is not a ring, or a ring of another version.
    """

    def __init__(self, path: Path, data_writable: bool, words_writable: bool) -> None:
        self.path = path
        self._data_writable = data_writable
        self._slot: int | None = None  # of a named reader
        try:
            self._descriptor = os.open(path, os.O_RDWR if words_writable else os.O_RDONLY)
        except OSError as error:
            raise InputError(f"{path}: cannot be opened as a ring: {error.strerror}") from None
        self._release = weakref.finalize(self, os.close, self._descriptor)
        self._map(words_writable)
        if words_writable:
            _ = self._data  # map the samples before the first frame

    def _map(self, words_writable: bool) -> None:
        size = os.fstat(self._descriptor).st_size
        start = os.pread(self._descriptor, _HEADER.size, 0)
        if size < DATA_OFFSET or not start.startswith(MAGIC):
            raise InputError(f"{self.path}: not a ring")
        _, version, offset, data_bytes, sample_bytes, policy, stream_bytes = _HEADER.unpack(start)
        if version != VERSION:
            raise InputError(f"{self.path}: a ring of version {version}, expected {VERSION}")
        self.stream = Stream.from_json(os.pread(self._descriptor, stream_bytes, _STREAM))
        if sample_bytes != self.stream.sample_bytes or (offset, size) != (DATA_OFFSET, DATA_OFFSET + data_bytes):
            raise InputError(
                f"{self.path}: the ring's header does not match its size ({size} bytes) or its stream "
                f"({self.stream.sample_bytes} bytes per sample)"
            )
        self.policy = list(Policy)[policy]
        self.capacity: int = data_bytes // sample_bytes
        """Maximum number of samples in the ring."""
        self._sample_bytes: int = sample_bytes
        self._data_bytes: int = data_bytes
        access = mmap.ACCESS_WRITE if words_writable else mmap.ACCESS_READ
        self._control = mmap.mmap(self._descriptor, offset, access=access)
        # Elements of 8 bytes: one instruction reads or writes each, so no process sees a half-written word.
        self._words: memoryview[int] = memoryview(self._control).cast("Q")
        self._fence: Callable[[], None] = make_fence()

    @cached_property
    def _data(self) -> NDArray[np.uint8]:
        """All samples, twice in a row. Mapped at the first use, because mapping some GB takes a second."""
        return MirroredMapping(self._descriptor, DATA_OFFSET, self._data_bytes, self._data_writable).array()

    @property
    def first(self) -> int | None:
        """The first sample of the run; None before the first frame."""
        return self._word_or_none(FIRST)

    @property
    def last(self) -> int | None:
        """One past the last sample of the run; None while it continues."""
        return self._word_or_none(LAST)

    @property
    def tail(self) -> int:
        """The oldest sample in the ring; earlier ones were overwritten."""
        return self._words[FLOOR]

    @property
    def head(self) -> int:
        """One past the newest sample; 0 before the first frame."""
        return self._words[HEAD]

    @property
    def final(self) -> int:
        """All samples before this one have arrived or are lost; 2^63 after the end of the run."""
        return self._words[FINAL]

    @property
    def lost(self) -> int:
        """Number of samples of the run that never arrived and count as lost."""
        return self._words[LOST]

    def readers(self) -> list[ReaderSlot]:
        """Return the named readers."""
        found = []
        for slot in range(READERS):
            if name := self._name(slot):
                cursor = self._words[CURSORS + slot]
                # The system does not report a lock of the same open file.
                alive = slot == self._slot or byte_is_locked(self._descriptor, 1 + slot)
                found.append(ReaderSlot(name, None if cursor == UNSET else cursor, alive))
        return found

    def snapshot(self) -> Snapshot:
        """Return which samples have arrived, as the table was at one instant."""
        words = self._words
        while True:
            generation = words[GENERATION]
            at = bank(generation)
            count, complete_from = words[at + COUNT], words[at + COMPLETE_FROM]
            records = words[at + RECORDS : at + RECORDS + 2 * min(count, INTERVALS)].tolist()
            if words[GENERATION] == generation:
                return Snapshot(complete_from, list(zip(records[::2], records[1::2], strict=True)))

    def _word_or_none(self, word: int) -> int | None:
        value = self._words[word]
        return None if value == UNSET else value

    def _name(self, slot: int) -> str:
        at = _NAMES + slot * NAME_BYTES
        return self._control[at : at + NAME_BYTES].rstrip(b"\0").decode("utf-8", "replace")

    def _set_name(self, slot: int, name: str) -> None:
        at = _NAMES + slot * NAME_BYTES
        self._control[at : at + NAME_BYTES] = name.encode().ljust(NAME_BYTES, b"\0")

    def _offset(self, sample: int) -> int:
        """Return the byte of the data at which a sample lies."""
        return sample * self._sample_bytes % self._data_bytes

    def close(self) -> None:
        """Close the file. Arrays that were returned stay valid, and so do the properties."""
        self._release()


def make_ring(path: Path, stream: Stream, capacity_samples: int, policy: Policy) -> bool:
    """Make the file of a ring, without attaching to it.

    Parameters
    ----------
    path
        The file, in a file system that is memory.
    stream
        Description of the samples.
    capacity_samples
        Minimum number of samples in the ring; rounded up to whole pages.
    policy
        What happens when the ring is full.

    Returns
    -------
    bool
        False if the file exists already.

    Raises
    ------
    InputError
        If the file cannot be made.
    ValueError
        If the capacity is not positive.
    """
    if capacity_samples < 1:
        raise ValueError(f"capacity of the ring is {capacity_samples} samples, must be at least 1")
    data_bytes = -(-capacity_samples * stream.sample_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
    text = stream.to_json().encode()

    def fill(view: memoryview) -> None:
        _HEADER.pack_into(
            view, 0, MAGIC, VERSION, DATA_OFFSET, data_bytes, stream.sample_bytes, list(Policy).index(policy), len(text)
        )
        view[_STREAM : _STREAM + len(text)] = text
        words = view[:DATA_OFFSET].cast("Q")
        for word in (FIRST, LAST, *range(CURSORS, CURSORS + READERS)):
            words[word] = UNSET
        words.release()

    return make_file(path, DATA_OFFSET + data_bytes, fill)


def wait_for_file(path: Path, timeout: float) -> bool:
    """Wait until a file exists.

    Parameters
    ----------
    path
        The file.
    timeout
        Maximum time to wait, s.

    Returns
    -------
    bool
        Whether the file exists.
    """
    deadline = time.monotonic() + timeout
    while not path.exists():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_RETRY_SECONDS)
    return True
