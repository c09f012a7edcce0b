"""What all readers of recorded files share: clipping to the file, exact numbers from headers, errors in one line."""

import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgefilter.core import clock
from edgefilter.core.chunk import Chunk, Gap, Loss
from edgefilter.core.errors import EdgefilterError, FormatError
from edgefilter.core.stream import Stream

SAMPLING_INTERVAL_BOUNDS = (1e-12, 1e5)
"""Shortest and longest sampling interval that a header may state, s."""

_MJD_BOUNDS = (-66000, 147000)  # nanoseconds since 1970 must fit 64 bits


class RecordedSource(ABC):
    """A source over a file: a subclass fills what lies inside the file, this class adds what lies outside.

    Parameters
    ----------
    stream, samples, warnings
        As in :class:`edgefilter.sources.base.Source`.
    """

    def __init__(self, stream: Stream, samples: int, warnings: tuple[str, ...]) -> None:
        self._stream = stream
        self._samples = samples
        self._warnings = warnings

    @property
    def stream(self) -> Stream:
        """The header."""
        return self._stream

    @property
    def samples(self) -> int:
        """One past the last sample."""
        return self._samples

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user should know about these samples, a line each."""
        return self._warnings

    def read(self, start: int, stop: int) -> Chunk:
        """Read samples ``[start, stop)``; memory follows the range, never the file.

        Raises
        ------
        ValueError
            If ``stop`` lies before ``start``.
        FormatError
            If the file cannot be read there.
        """
        if stop < start:
            raise ValueError(f"samples [{start}, {stop}) run backwards")
        data = np.zeros((stop - start, self._stream.sample_bytes), np.uint8)
        first, last = min(max(start, 0), stop), max(min(stop, self._samples), start)
        if last <= first:
            return Chunk(start, data, (Gap(start, stop, Loss.OUTSIDE),) if stop > start else ())
        gaps = list(self._read_samples(first, last, data[first - start : last - start]))
        if first > start:
            gaps.insert(0, Gap(start, first, Loss.OUTSIDE))
        if last < stop:
            gaps.append(Gap(last, stop, Loss.OUTSIDE))
        return Chunk(start, data, tuple(gaps))

    @abstractmethod
    def _read_samples(self, start: int, stop: int, out: NDArray[np.uint8]) -> tuple[Gap, ...]:
        """Write samples ``[start, stop)``, all inside the file, to ``out`` and return the gaps among them."""

    @abstractmethod
    def close(self) -> None:
        """Give back files and memory."""


class ByteFile:
    """A file read at byte offsets, from any thread, without a mapping that a shrinking file would turn into a crash.

    Raises
    ------
    FormatError
        If the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with os_error_as_format_error(path):
            self._handle = path.open("rb", buffering=0)
            self.size = os.fstat(self._handle.fileno()).st_size

    def read(self, offset: int, count: int) -> bytes:
        """Up to ``count`` bytes from ``offset``; fewer only at the end of the file."""
        buffer = bytearray(max(0, min(count, self.size - offset)))
        got = self._pread_into(memoryview(buffer), offset)
        return bytes(buffer[:got])

    def read_into(self, offset: int, out: NDArray[np.uint8]) -> None:
        """Fill a C-contiguous array from ``offset``.

        Raises
        ------
        FormatError
            If the file ends before the array is full: it shrank since it was opened.
        """
        view = memoryview(out.reshape(-1).data)
        if self._pread_into(view, offset) < len(view):
            raise FormatError(self.path, f"ends within {len(view)} bytes at {offset}: it shrank while being read")

    def close(self) -> None:
        """Close the file."""
        self._handle.close()

    def _pread_into(self, view: memoryview, offset: int) -> int:
        done = 0
        with os_error_as_format_error(self.path):
            while done < len(view):
                got = os.preadv(self._handle.fileno(), [view[done : done + (1 << 30)]], offset + done)
                if got == 0:
                    break
                done += got
        return done


@contextmanager
def os_error_as_format_error(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals into a FormatError that says in plain words what is wrong."""
    try:
        yield
    except FileNotFoundError:
        raise FormatError(path, "no such file") from None
    except IsADirectoryError:
        raise FormatError(path, "is a directory, expected a file") from None
    except PermissionError:
        raise FormatError(path, "may not be read (permission denied)") from None
    except OSError as error:
        raise FormatError(path, f"cannot be read: {error.strerror or error}") from None


@contextmanager
def as_format_error(path: Path, what: str) -> Iterator[None]:
    """Run a library's parser: whatever it raises becomes a FormatError of one line, and its warnings are silent.

    Parsers of damaged files raise anything from ``KeyError`` to ``AssertionError``, so every Exception is taken.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except (EdgefilterError, MemoryError):
            raise
        except Exception as error:
            detail = " ".join(str(error).split())[:200]
            raise FormatError(path, f"{what}: {detail or f'a check failed ({type(error).__name__})'}") from None


def fraction_from_float(value: float) -> Fraction:
    """Return the number that a header meant by a double: a short decimal where one fits, else a small fraction.

    ``0.00126646875`` is 126646875 × 10⁻¹¹ exactly; ``1.4316557653333333`` is 536870912 / 375000000, not 17 digits.
    """
    decimal = Fraction(repr(float(value)))
    if len(repr(float(value)).replace(".", "").strip("0-").split("e")[0]) <= 15:
        return decimal
    for digits in range(3, 10):
        small = decimal.limit_denominator(10**digits)
        if float(small) == value:
            return small
    return decimal


def sampling_rate(path: Path, interval: float, what: str) -> Fraction:
    """Return the sampling rate, Hz, of a sampling interval in seconds.

    Raises
    ------
    FormatError
        If the interval is not a plausible time.
    """
    low, high = SAMPLING_INTERVAL_BOUNDS
    if not low <= interval <= high:
        raise FormatError(path, f"{what} is {interval} s, must be {low} to {high} s")
    return 1 / fraction_from_float(interval)


def epoch_from_mjd(mjd: float) -> tuple[int, tuple[str, ...]]:
    """TAI in ns of a header's float MJD, and a warning if it is not a date (1970 stands in for it then)."""
    low, high = _MJD_BOUNDS
    if not low <= mjd <= high:
        return clock.tai_ns_from_utc_mjd(40587), (f"start date MJD {mjd} is not a date: 1970-01-01 taken",)
    return clock.tai_ns_from_mjd(mjd), ()


def uniform_spacing(path: Path, frequencies: NDArray[np.float64], what: str) -> tuple[float, float]:
    """First value and step of equally spaced frequencies, shape ``[channel]``.

    Raises
    ------
    FormatError
        If they are not equally spaced to a hundredth of a channel.
    """
    if len(frequencies) < 2 or not np.isfinite(frequencies).all():
        raise FormatError(path, f"{what} has {len(frequencies)} usable frequencies, must have 2 or more")
    step = float(frequencies[-1] - frequencies[0]) / (len(frequencies) - 1)
    expected = frequencies[0] + step * np.arange(len(frequencies))
    if step == 0 or np.abs(frequencies - expected).max() > abs(step) / 100:
        raise FormatError(path, f"{what} is not equally spaced: such channels cannot be dedispersed as one band")
    return float(frequencies[0]), step
