"""What lies where in a ring's file, and the few words that both sides share. docs/ring.md is the same in prose."""

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
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from edgefilter.core.errors import InputError
from edgefilter.core.stream import Stream
from edgefilter.node.ring.memory import MirroredMapping, byte_is_locked, make_fence, make_file

MAGIC = b"EDGFRING"
VERSION = 1
DATA_OFFSET = 1 << 18
"""Where the samples begin: a multiple of every page size in use."""
READERS = 16
"""Most named readers."""
NAME_BYTES = 64
INTERVALS = 4096
"""Most intervals of samples that a bank of the table can hold."""
UNSET = (1 << 64) - 1
"""A word that has no value yet; of a cursor: holds nothing back."""
FOREVER = 1 << 63
"""``final`` after the end of the run: no sample will come any more."""

_HEADER = struct.Struct("<8sQQQQQQ")  # magic, version, data offset, data bytes, sample bytes, policy, stream bytes
# Words, each in a line of the cache of its own: offset in the file / 8.
GENERATION, FLOOR, HEAD, FINAL, FIRST, LAST, LOST, LAST_WRITER = (64 + 8 * line for line in range(8))
CURSORS = 128
_NAMES = 2048  # bytes
_STREAM = 4096  # bytes
_BANKS = (_STREAM + (1 << 16)) // 8
_BANK = 8 + 2 * INTERVALS
COUNT, COMPLETE_FROM, RECORDS = 0, 1, 8  # words in a bank
REGISTRY_BYTE = 0
"""Byte of the file that is locked while a reader takes a slot; the reader of slot i then holds byte 1 + i."""

_RETRY_SECONDS = 0.01


class Policy(StrEnum):
    """What happens to a frame when the oldest sample that a reader still wants is in its place."""

    HOLD = "hold"  # it waits, and with it the sender
    DROP_OLDEST = "drop-oldest"  # it takes the place


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Which samples have come: sorted, disjoint intervals, complete from ``complete_from`` on."""

    complete_from: int
    intervals: list[tuple[int, int]]

    def clip_intervals(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Parts of ``[start, stop)`` that have come."""
        return clip_intervals(self.intervals, start, stop)


@dataclass(frozen=True, slots=True)
class ReaderSlot:
    """A named reader: its cursor (None if it holds nothing back) and whether a process is at work under the name."""

    name: str
    cursor: int | None
    alive: bool


def bank(generation: int) -> int:
    """First word of the bank that a generation of the table lies in."""
    return _BANKS + _BANK * (generation & 1)


def clip_intervals(intervals: list[tuple[int, int]], start: int, stop: int) -> list[tuple[int, int]]:
    """Parts of ``[start, stop)`` that sorted, disjoint intervals cover."""
    found: list[tuple[int, int]] = []
    at = bisect_right(intervals, start, key=lambda interval: interval[1])
    while start < stop and at < len(intervals) and intervals[at][0] < stop:
        interval_start, interval_stop = intervals[at]
        found.append((max(interval_start, start), min(interval_stop, stop)))
        at += 1
    return found


class RingFile:
    """A ring's file as one process has it mapped: what writer and readers have in common.

    Parameters
    ----------
    path
        The file.
    data_writable, words_writable
        What this process may write.

    Raises
    ------
    InputError
        If there is no ring there, or one of another version.
    """

    def __init__(self, path: Path, data_writable: bool, words_writable: bool) -> None:
        self.path = path
        self._data_writable = data_writable
        self._slot: int | None = None  # which a named reader has
        try:
            self._descriptor = os.open(path, os.O_RDWR if words_writable else os.O_RDONLY)
        except OSError as error:
            raise InputError(f"{path}: cannot be opened as a ring: {error.strerror}") from None
        self._release = weakref.finalize(self, os.close, self._descriptor)
        self._map(words_writable)
        if words_writable:
            _ = self._data  # who takes part has it mapped before the first frame

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
            raise InputError(f"{self.path}: a ring whose header does not go with its size or its stream")
        self.policy = list(Policy)[policy]
        self.capacity: int = data_bytes // sample_bytes
        """Samples that it holds."""
        self._sample_bytes: int = sample_bytes
        self._data_bytes: int = data_bytes
        access = mmap.ACCESS_WRITE if words_writable else mmap.ACCESS_READ
        self._control = mmap.mmap(self._descriptor, offset, access=access)
        # Eight-byte elements: each is read and written by one instruction, so nobody sees half of one.
        self._words: memoryview[int] = memoryview(self._control).cast("Q")
        self._fence: Callable[[], None] = make_fence()

    @cached_property
    def _data(self) -> NDArray[np.uint8]:
        """All samples twice in a row. Mapped when first used: who only looks at the words need not wait for it."""
        return MirroredMapping(self._descriptor, DATA_OFFSET, self._data_bytes, self._data_writable).array()

    @property
    def first(self) -> int | None:
        """The first sample of the run; None before the first frame."""
        return self._word_or_none(FIRST)

    @property
    def last(self) -> int | None:
        """One past the last sample of the run; None while it goes on."""
        return self._word_or_none(LAST)

    @property
    def tail(self) -> int:
        """The oldest sample that is held; what comes before was overwritten."""
        return self._words[FLOOR]

    @property
    def head(self) -> int:
        """One past the newest sample; 0 before the first frame."""
        return self._words[HEAD]

    @property
    def final(self) -> int:
        """All samples before this one are there or never will be; 2^63 after the end of the run."""
        return self._words[FINAL]

    @property
    def lost(self) -> int:
        """Samples of the run that never came and were given up."""
        return self._words[LOST]

    def readers(self) -> list[ReaderSlot]:
        """Return the named readers."""
        found = []
        for slot in range(READERS):
            if name := self._name(slot):
                cursor = self._words[CURSORS + slot]
                # One's own lock is no obstacle to oneself, so the system does not tell of it.
                alive = slot == self._slot or byte_is_locked(self._descriptor, 1 + slot)
                found.append(ReaderSlot(name, None if cursor == UNSET else cursor, alive))
        return found

    def snapshot(self) -> Snapshot:
        """Return which samples have come, as it was at one instant."""
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
        """Byte of the data at which a sample lies."""
        return sample * self._sample_bytes % self._data_bytes

    def close(self) -> None:
        """Let go of the file. Arrays that were given out stay good, and so do the properties."""
        self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def make_ring(path: Path, stream: Stream, capacity_samples: int, policy: Policy) -> bool:
    """Make a ring's file, without attaching to it; False if there is a file already.

    Raises
    ------
    InputError
        If it cannot be made there.
    ValueError
        If the capacity is not positive.
    """
    if capacity_samples < 1:
        raise ValueError(f"capacity of {capacity_samples} samples, must be at least 1")
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
    """Wait until there is a file; False if none appears within ``timeout``, s."""
    deadline = time.monotonic() + timeout
    while not path.exists():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_RETRY_SECONDS)
    return True
