"""The reading side of a ring: named cursors, windows without copies, and a reason for every missing sample."""

import time
from pathlib import Path
from typing import Self

from edgefilter.core.chunk import Chunk, Gap, Loss, clip_gaps, gaps_between
from edgefilter.core.errors import InputError
from edgefilter.node.ring.layout import (
    CURSORS,
    NAME_BYTES,
    READERS,
    REGISTRY_BYTE,
    UNSET,
    RingFile,
    Snapshot,
    wait_for_file,
)
from edgefilter.node.ring.memory import lock_byte, unlock_byte

_MIN_SLEEP, _MAX_SLEEP = 0.0005, 0.01  # between two reads of a word that the writer changes, s


class RingReader(RingFile):
    """Reads a ring; attach with :meth:`attach`. Any thread may use its properties and :meth:`still_valid`.

    Under the policy *hold*, samples from the reader's cursor on are never overwritten, even after its process has died:
    the next reader of the same name continues there. Below the cursor, and under the policy *drop-oldest*, the writer
    may overwrite a view while it is in use: results are valid only if :meth:`still_valid` is true afterwards.
    """

    def __init__(self, path: Path, name: str | None, start: int | None, hold: bool) -> None:
        super().__init__(path, data_writable=False, words_writable=name is not None)
        self.name = name
        if name is not None:
            try:
                self._register(name, start, hold)
            except BaseException:
                self.close()
                raise

    @classmethod
    def attach(
        cls,
        path: str | Path,
        name: str | None,
        start: int | None = None,
        timeout: float = 0.0,
        hold: bool = True,
    ) -> Self:
        """Attach to a ring.

        Parameters
        ----------
        path
            The file of the ring.
        name
            Name of the cursor, 1 to 64 bytes. If a dead process left a cursor of this name, the reader takes it over.
            None is a passive reader: it has no cursor and writes nothing.
        start
            Initial cursor, sample number; None continues at the cursor that was left, or at the oldest sample.
        timeout
            Maximum time to wait for the file, s.
        hold
            Whether the cursor holds the writer back under the policy *hold*.

        Raises
        ------
        InputError
            If there is no ring, another process reads under this name, or there are too many readers.
        """
        wait_for_file(Path(path), timeout)
        return cls(Path(path), name, start, hold)

    def _register(self, name: str, start: int | None, hold: bool) -> None:
        if not 1 <= len(name.encode()) <= NAME_BYTES:
            raise ValueError(f"reader name {name!r}, must be 1 to {NAME_BYTES} bytes")
        lock_byte(self._descriptor, REGISTRY_BYTE, wait=True)
        try:
            names = [self._name(slot) for slot in range(READERS)]
            if name not in names and "" not in names:
                raise InputError(
                    f"{self.path}: the ring has {READERS} readers, the maximum, already: {', '.join(names)}"
                )
            slot = names.index(name if name in names else "")
            if not lock_byte(self._descriptor, 1 + slot):
                raise InputError(f"{self.path}: another process reads as {name!r}")
            self._slot = slot
            previous_cursor = self._words[CURSORS + slot]
            self._set_name(slot, name)
            oldest = 0 if self.first is None else self.tail
            self._cursor = start if start is not None else oldest if previous_cursor == UNSET else previous_cursor
            self._words[CURSORS + slot] = self._cursor if hold else UNSET
            self._holds_writer = hold
            self._fence()
        finally:
            unlock_byte(self._descriptor, REGISTRY_BYTE)

    @property
    def cursor(self) -> int:
        """The oldest sample that this reader still needs."""
        return self._cursor

    def wait_for_first_sample(self, timeout: float) -> int | None:
        """Wait for the first sample of the run.

        Parameters
        ----------
        timeout
            Maximum time to wait, s.

        Returns
        -------
        int or None
            Number of the sample; None if none arrives within the time or before the run ends.
        """
        deadline = time.monotonic() + timeout
        while (first := self.first) is None and self.last is None and time.monotonic() < deadline:
            time.sleep(_MAX_SLEEP)
        return first

    def wait_until_ready(self, stop: int, timeout: float) -> bool:
        """Wait until all samples before ``stop`` have arrived or are lost.

        Parameters
        ----------
        stop
            One past the last sample to wait for.
        timeout
            Maximum time to wait, s.

        Returns
        -------
        bool
            Whether they are ready.

        Raises
        ------
        ValueError
            If the ring is too small for the samples from the cursor to ``stop``.
        """
        deadline = time.monotonic() + timeout
        while self.final < stop:
            exceeds_capacity = self._holds_writer and stop - self._cursor > self.capacity and self._cursor >= self.tail
            if exceeds_capacity and self.first is not None:
                raise ValueError(
                    f"samples [{self._cursor}, {stop}) are more than the {self.capacity} samples of the ring"
                )
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return False
            due = self.stream.seconds(max(0, stop - self.head)) if self.first is not None else _MAX_SLEEP
            time.sleep(min(remaining, max(_MIN_SLEEP, min(due / 2, _MAX_SLEEP))))
        return True

    def read(self, start: int, stop: int) -> Chunk:
        """Read samples that are ready.

        Parameters
        ----------
        start, stop
            The samples ``[start, stop)``.

        Returns
        -------
        Chunk
            A read-only view of the ring, never a copy; uint8, shape ``[stop - start, sample_bytes]``. Its gaps have the
            reason OUTSIDE before the first and after the last sample of the run, MISSING for samples that never
            arrived, OVERRUN for samples that arrived and were overwritten.

        Raises
        ------
        ValueError
            If the samples are not ready, or are more than the ring can hold.
        """
        if stop > self.final:
            raise ValueError(
                f"samples [{start}, {stop}) are not ready: the ring is final up to sample {self.final} only"
            )
        if stop - start > self.capacity:
            raise ValueError(f"samples [{start}, {stop}) are more than the {self.capacity} samples of the ring")
        gaps = self._gaps(start, stop)
        at = self._offset(start)
        view = self._data[at : at + (stop - start) * self._sample_bytes]
        return Chunk(start, view.reshape(-1, self._sample_bytes), gaps)

    def still_valid(self, chunk: Chunk) -> bool:
        """Return whether all samples of a chunk are still in the ring; call it after the last use of the data.

        Parameters
        ----------
        chunk
            A chunk that :meth:`read` returned.

        Returns
        -------
        bool
            If False, the writer overwrote samples since the chunk was read, and results made from it are invalid: read
            it again, and the overwritten samples are gaps of reason OVERRUN.
        """
        overwritten = min(self.tail, chunk.stop)
        gap_samples = sum(gap.stop - gap.start for gap in clip_gaps(chunk.gaps, chunk.start, overwritten))
        return gap_samples >= overwritten - chunk.start

    def release(self, sample: int) -> None:
        """Move the cursor forward: the reader needs no sample before it any more.

        Parameters
        ----------
        sample
            New cursor, sample number. A smaller one than the cursor changes nothing.
        """
        if sample > self._cursor:
            self._cursor = sample
            if self._holds_writer and self._slot is not None:
                self._words[CURSORS + self._slot] = sample

    def detach(self) -> None:
        """Close the ring and delete the cursor, which then does not hold the writer back any more."""
        if self._slot is not None:
            lock_byte(self._descriptor, REGISTRY_BYTE, wait=True)
            try:
                self._words[CURSORS + self._slot] = UNSET
                self._set_name(self._slot, "")
                self._release_slot()
            finally:
                unlock_byte(self._descriptor, REGISTRY_BYTE)
        self.close()

    def close(self) -> None:
        """Close the ring; the cursor stays for the next reader of the same name."""
        self._release_slot()
        super().close()

    def _release_slot(self) -> None:
        if self._slot is not None:
            unlock_byte(self._descriptor, 1 + self._slot)  # the mapping keeps the open file, and its locks, alive
            self._slot = None

    def _gaps(self, start: int, stop: int) -> tuple[Gap, ...]:
        table = self.snapshot()
        first, last, tail = self.first, self.last, self.tail
        run_start = stop if first is None else min(max(first, start), stop)
        run_stop = stop if last is None else min(max(last, run_start), stop)
        held = min(max(tail, run_start), run_stop)
        return (
            *gaps_between([], start, run_start, Loss.OUTSIDE),
            *_overwritten_gaps(table, run_start, held),
            *gaps_between(table.clip_intervals(held, run_stop), held, run_stop, Loss.MISSING),
            *gaps_between([], run_stop, stop, Loss.OUTSIDE),
        )


def _overwritten_gaps(table: Snapshot, start: int, stop: int) -> list[Gap]:
    """Return the gaps below the floor: overwritten (OVERRUN) or never received (MISSING).

    Samples before those that the table covers count as overwritten.
    """
    known_from = min(max(table.complete_from, start), stop)
    arrived = table.clip_intervals(known_from, stop)
    gaps = [Gap(start, known_from, Loss.OVERRUN)] if start < known_from else []
    gaps += [Gap(interval_start, interval_stop, Loss.OVERRUN) for interval_start, interval_stop in arrived]
    gaps += gaps_between(arrived, known_from, stop, Loss.MISSING)
    return _merge_gaps(sorted(gaps))


def _merge_gaps(gaps: list[Gap]) -> list[Gap]:
    """Join gaps that touch and have the same reason."""
    merged: list[Gap] = []
    for gap in gaps:
        if merged and merged[-1].stop == gap.start and merged[-1].reason is gap.reason:
            merged[-1] = Gap(merged[-1].start, gap.stop, gap.reason)
        else:
            merged.append(gap)
    return merged
