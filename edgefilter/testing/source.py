"""Conformance suite for a file format: its files can be read anywhere, what is missing is a gap, damage is reported.

::

    from edgefilter.testing.source import Recording, SourceSuite

    class TestNote(SourceSuite):
        def make_recording(self, folder):
            data = ...                              # uint8 [time, sample_bytes]
            path = write_note(folder / "a.note", data)
            return Recording(path, data)

The suite opens the files as ``edgefilter replay`` does, so it also shows that the format is registered and recognised.
The recording should be of some 10 MB: in a smaller one, a reader that reads the whole file each time is not noticed.
"""

import os
import shutil
import tracemalloc
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgefilter.core.chunk import Gap, Loss
from edgefilter.core.errors import InputError
from edgefilter.sources.base import FiniteSource
from edgefilter.sources.files.recognise import open_files

_REASONS = ("", *Loss)
_PARTS = 40
_PART_SAMPLES = 3000
_CUTS = 24
_DAMAGED_COPIES = 96
_FIRST_BYTES = 32  # each of them is changed once
_HEADER_BYTES = 4096
_SLACK_BYTES = 4 << 20


@dataclass(frozen=True)
class Recording:
    """A recorded file that a test has written.

    Parameters
    ----------
    path
        The file.
    data
        Its raw samples, uint8 ``[time, sample_bytes]``, with any bytes in gaps; None if they are not known.
    gaps
        The samples that it lacks, if ``data`` is given.
    """

    path: Path
    data: NDArray[np.uint8] | None = None
    gaps: tuple[Gap, ...] = ()


class _Samples(NamedTuple):
    """Samples that were read: bytes ``[time, sample_bytes]``, and for each the index of its loss in ``_REASONS``."""

    data: NDArray[np.uint8]
    loss: NDArray[np.uint8]


class SourceSuite(ABC):
    """Tests of one file format; make a subclass with a name that begins with ``Test``.

    Attributes
    ----------
    states_length
        Whether a file says how many samples it holds. If not, a file that is cut between two samples looks
        like a shorter recording, and need not give a warning.
    """

    states_length: ClassVar[bool] = True

    @abstractmethod
    def make_recording(self, folder: Path) -> Recording:
        """Write a recording; a subclass must do this.

        Parameters
        ----------
        folder
            An empty folder.

        Returns
        -------
        Recording
            The file, and what it holds. It should have a gap if the format can mark one.
        """

    def open(self, path: Path) -> FiniteSource:
        """Open a file; a subclass may do it in another way.

        Parameters
        ----------
        path
            The file.

        Returns
        -------
        FiniteSource
            Its samples.
        """
        return open_files([path])

    def test_the_samples_are_those_that_were_written(self, tmp_path: Path) -> None:
        """Every sample and every gap of the recording is there."""
        recording = self.make_recording(tmp_path)
        with self.open(recording.path) as source:
            assert source.samples > 0, "the recording holds no sample, so the suite proves nothing"
            found = _read(source, 0, source.samples)
        if recording.data is not None:
            assert len(found.data) == len(recording.data), f"{len(found.data)} samples, {len(recording.data)} written"
            loss = np.zeros(len(recording.data), np.uint8)
            for gap in recording.gaps:
                loss[gap.start : gap.stop] = _REASONS.index(gap.reason)
            _compare(_Samples(recording.data, loss), found, 0, "the whole recording", "in what was written")

    def test_any_part_is_read_as_in_the_whole(self, tmp_path: Path) -> None:
        """A reducer starts anywhere and reads again: the same bytes, the same gaps; a gap is never filled in."""
        with self.open(self.make_recording(tmp_path).path) as source:
            whole = _read(source, 0, source.samples)
            for start, stop in _parts(whole.loss):
                part = _Samples(whole.data[start:stop], whole.loss[start:stop])
                _compare(part, _read(source, start, stop), start, f"read({start}, {stop})", "in the whole recording")

    def test_what_lies_outside_the_recording_is_a_gap(self, tmp_path: Path) -> None:
        """Samples before the first and after the last are missing, for the reason OUTSIDE."""
        with self.open(self.make_recording(tmp_path).path) as source:
            count = source.samples
            whole = _read(source, 0, count)
            for start, stop in ((-5, 3), (-5, count + 5), (count - 3, count + 5), (count, count + 4), (-9, -2), (0, 0)):
                outside = _Samples(
                    np.zeros((stop - start, whole.data.shape[1]), np.uint8),
                    np.full(stop - start, _REASONS.index(Loss.OUTSIDE), np.uint8),
                )
                first, last = min(max(start, 0), stop), max(min(stop, count), start)
                if first < last:
                    outside.data[first - start : last - start] = whole.data[first:last]
                    outside.loss[first - start : last - start] = whole.loss[first:last]
                what = f"read({start}, {stop}) of {count} samples"
                _compare(outside, _read(source, start, stop), start, what, "expected")

    def test_a_range_that_ends_before_it_starts_is_refused(self, tmp_path: Path) -> None:
        """Such a call is a mistake of the caller."""
        with self.open(self.make_recording(tmp_path).path) as source:
            try:
                source.read(5, 3)
            except ValueError:
                return
        raise AssertionError("read(5, 3) returns, must raise ValueError")

    def test_the_header_is_constant(self, tmp_path: Path) -> None:
        """Reading changes neither the header nor the length; a second look at the file finds the same."""
        path = self.make_recording(tmp_path).path
        with self.open(path) as source:
            before = source.stream, source.samples, source.warnings
            _read(source, 0, min(source.samples, _PART_SAMPLES))
            assert before == (source.stream, source.samples, source.warnings), "header, length or warnings have changed"
            for line in source.warnings:
                assert len(line.splitlines()) == 1, f"a warning must be one line: {line!r}"
        with self.open(path) as again:
            assert before == (again.stream, again.samples, again.warnings), "opened again, the header is another one"

    def test_a_file_can_be_opened_twice(self, tmp_path: Path) -> None:
        """Two sources of a file do not move each other, and closing one leaves the other open."""
        path = self.make_recording(tmp_path).path
        with self.open(path) as one:
            whole = _read(one, 0, one.samples)
            with self.open(path) as two:
                for start, stop in _parts(whole.loss)[:8]:
                    part = _Samples(whole.data[start:stop], whole.loss[start:stop])
                    for source in (two, one):
                        _compare(part, _read(source, start, stop), start, f"read({start}, {stop})", "in the other one")
            _compare(whole, _read(one, 0, one.samples), 0, "after the other one was closed, the whole", "before")

    def test_threads_read_at_once(self, tmp_path: Path) -> None:
        """The next window is read while this one is reduced."""
        with self.open(self.make_recording(tmp_path).path) as source, ThreadPoolExecutor(4) as pool:
            whole = _read(source, 0, source.samples)
            parts = _parts(whole.loss)
            for (start, stop), found in zip(parts, pool.map(lambda part: _read(source, *part), parts), strict=True):
                part = _Samples(whole.data[start:stop], whole.loss[start:stop])
                _compare(part, found, start, f"read({start}, {stop}) beside other threads", "in the whole recording")

    def test_closing_releases_the_file(self, tmp_path: Path) -> None:
        """No handle of the file stays open; closing twice is allowed."""
        path = self.make_recording(tmp_path).path
        source = self.open(path)
        _read(source, 0, min(source.samples, _PART_SAMPLES))
        source.close()
        source.close()
        assert not _is_open(path), "after close() the file is still open"

    def test_memory_grows_with_the_range(self, tmp_path: Path) -> None:
        """A recording may be larger than the memory."""
        path = self.make_recording(tmp_path).path
        with self.open(path) as source:  # imports what the reader needs
            whole_bytes = source.samples * source.stream.sample_bytes
        limit = _SLACK_BYTES + whole_bytes // 4
        tracemalloc.start()
        try:
            with self.open(path) as source:
                _read(source, source.samples // 2, source.samples // 2 + 1)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak <= limit, f"one sample of a recording of {whole_bytes} B takes {peak} B of memory, limit {limit} B"

    def test_a_truncated_copy_is_reported(self, tmp_path: Path) -> None:
        """A file that is cut short is refused in one line, or read up to the cut with a warning."""
        path = self.make_recording(tmp_path).path
        length = path.stat().st_size
        with self.open(path) as source:
            stream, warnings = source.stream, source.warnings
            whole = _read(source, 0, source.samples)
        copy = _copy(path)
        for size in sorted({0, 1, length - 1, *np.linspace(2, length - 2, _CUTS, dtype=int).tolist()}, reverse=True):
            os.truncate(copy, size)
            what = f"a copy cut to {size} of {length} B"
            opened = self._open_copy(copy, what)
            if opened is None:
                continue
            with opened as cut:
                assert cut.samples <= len(whole.data), f"{what} holds {cut.samples} samples, more than the file itself"
                reported = set(cut.warnings) - set(warnings) or (size < length - 1 and not self.states_length)
                same = (cut.stream, cut.samples) == (stream, len(whole.data))
                assert same or reported, f"{what} has another length or header, but gives no warning"
                found = _read_or_refuse(cut, 0, cut.samples, what) if cut.stream == stream else None
            if found is not None:
                valid = np.flatnonzero(found.loss == 0)
                part = _Samples(whole.data[valid], whole.loss[valid])
                _compare(
                    part, _Samples(found.data[valid], found.loss[valid]), 0, f"{what}: of its samples", "in the file"
                )

    def test_a_damaged_copy_is_no_traceback(self, tmp_path: Path) -> None:
        """Whatever bytes a file holds, it is refused in one line or read."""
        path = self.make_recording(tmp_path).path
        content = path.read_bytes()
        copy = _copy(path)
        rng = np.random.default_rng(2)
        for number in range(_DAMAGED_COPIES):
            within = min(len(content), _HEADER_BYTES) if number % 4 else len(content)
            offsets = [number] if number < _FIRST_BYTES else rng.integers(within, size=1 + number % 3).tolist()
            with copy.open("r+b") as file:
                for offset in offsets:
                    file.seek(offset)
                    file.write(rng.bytes(1))
            self._read_anything(copy, f"a copy with other bytes at {', '.join(map(str, offsets))}")
            with copy.open("r+b") as file:
                for offset in offsets:
                    file.seek(offset)
                    file.write(content[offset : offset + 1])

    def test_a_file_of_another_kind_is_refused(self, tmp_path: Path) -> None:
        """Nothing is made of an empty file, of a text or of random bytes."""
        path = self.make_recording(tmp_path).path
        noise = np.random.default_rng(3).integers(0, 256, 100_000, np.uint8).tobytes()
        for content, what in ((b"", "an empty file"), (b"A text.\n" * 999, "a text"), (noise, "random bytes")):
            path.write_bytes(content)
            assert self._open_copy(path, what) is None, f"{what}: is read as a recording, must be refused"

    def _open_copy(self, path: Path, what: str) -> FiniteSource | None:
        """Open a file; None if it is refused as it must be."""
        try:
            return self.open(path)
        except InputError as error:
            _check_line(error, what)
        except Exception as error:
            raise AssertionError(
                f"{what}: opening raises {type(error).__name__}, must be FormatError: {error}"
            ) from error
        return None

    def _read_anything(self, path: Path, what: str) -> None:
        source = self._open_copy(path, what)
        if source is not None:
            with source:
                count = min(_PART_SAMPLES, source.samples, max(1, (1 << 24) // source.stream.sample_bytes))
                for start in (0, source.samples - count):
                    _read_or_refuse(source, start, start + count, what)


def _read_or_refuse(source: FiniteSource, start: int, stop: int, what: str) -> _Samples | None:
    """Read a part of a damaged file; None if that is refused as it must be."""
    try:
        return _read(source, start, stop)
    except InputError as error:
        _check_line(error, what)
    except AssertionError:
        raise
    except Exception as error:
        raise AssertionError(f"{what}: reading raises {type(error).__name__}, must be FormatError: {error}") from error
    return None


def _check_line(error: InputError, what: str) -> None:
    assert len(str(error).splitlines()) == 1, f"{what}: the error must be one line: {error}"


def _read(source: FiniteSource, start: int, stop: int) -> _Samples:
    """Read samples, and check the form of what is returned."""
    what = f"read({start}, {stop})"
    chunk = source.read(start, stop)
    shape = (stop - start, source.stream.sample_bytes)
    assert chunk.start == start, f"{what} returns samples from {chunk.start}"
    assert chunk.data.dtype == np.uint8, f"{what} returns {chunk.data.dtype}, must be uint8"
    assert chunk.data.shape == shape, f"{what} returns an array {chunk.data.shape}, must be {shape}"
    assert chunk.data.flags.c_contiguous, f"{what} returns an array that is not C-contiguous"
    loss = np.zeros(stop - start, np.uint8)
    position = start
    for gap in chunk.gaps:
        assert position <= gap.start < gap.stop <= stop, (
            f"{what}: gaps are not sorted, disjoint and inside: {chunk.gaps}"
        )
        loss[gap.start - start : gap.stop - start] = _REASONS.index(gap.reason)
        position = gap.stop
    return _Samples(chunk.data, loss)


def _compare(expected: _Samples, found: _Samples, start: int, what: str, where: str) -> None:
    """Compare samples; bytes inside of gaps are unspecified."""
    wrong = np.flatnonzero(expected.loss != found.loss)
    if len(wrong):
        first = int(wrong[0])
        before, after = (_REASONS[int(each.loss[first])] or "there" for each in (expected, found))
        raise AssertionError(f"{what}: sample {start + first} is {after}, but {before} {where} (missing if not there)")
    differ = np.flatnonzero((expected.data != found.data).any(axis=1) & (expected.loss == 0))
    assert not len(differ), f"{what}: sample {start + int(differ[0])} has other bytes than {where}"


def _parts(loss: NDArray[np.uint8]) -> list[tuple[int, int]]:
    """Return ranges of a recording: at its ends, at the edges of gaps, and random ones."""
    count = len(loss)
    edges = (np.flatnonzero(np.diff(loss)) + 1).tolist()
    edges = [0, *edges[:20], count]
    ranges = [(edge + a, edge + b) for edge in edges for a, b in ((-1, 1), (0, 1), (-1, 0), (0, 100), (-100, 0))]
    ranges += [(a, b) for a, b in pairwise(edges) if b - a <= 1 << 16]
    rng = np.random.default_rng(1)
    for start in rng.integers(count, size=_PARTS).tolist():
        ranges.append((start, start + int(rng.integers(_PART_SAMPLES))))
    inside = [(max(0, start), min(count, stop)) for start, stop in ranges]
    return [(start, stop) for start, stop in inside if start < stop]


def _copy(path: Path) -> Path:
    """Copy a file to another folder; some formats need its name."""
    copy = path.parent / "copy" / path.name
    copy.parent.mkdir()
    return Path(shutil.copyfile(path, copy))


def _is_open(path: Path) -> bool:
    """Say whether this process holds a file open; False where the system cannot say."""
    handles = Path("/proc/self/fd")
    return handles.is_dir() and any(handle.resolve() == path.resolve() for handle in list(handles.iterdir()))
