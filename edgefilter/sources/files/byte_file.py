"""Tools shared by the file readers: reading bytes, errors of one line, exact numbers from headers."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgefilter.core import clock
from edgefilter.core.closing import Closing
from edgefilter.core.errors import EdgefilterError, FormatError, InputError

SAMPLING_INTERVAL_BOUNDS = (1e-12, 1e5)
"""Shortest and longest sampling interval that a header may state, s."""

MJD_BOUNDS = (-66000, 147000)
"""First and last MJD that a header may state: nanoseconds since 1970 must fit in 64 bits."""


class ByteFile(Closing):
    """A file that any thread can read at any offset.

    It uses ``pread`` and not a memory map, because reading a map of a file that was truncated crashes the process.

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
        """Read bytes.

        Parameters
        ----------
        offset
            First byte.
        count
            Number of bytes.

        Returns
        -------
        bytes
            ``count`` bytes, or fewer at the end of the file.
        """
        buffer = bytearray(max(0, min(count, self.size - offset)))
        got = self._pread_into(memoryview(buffer), offset)
        return bytes(buffer[:got])

    def read_into(self, offset: int, out: NDArray[np.uint8]) -> None:
        """Fill an array with bytes.

        Parameters
        ----------
        offset
            First byte.
        out
            uint8, any shape, C-contiguous.

        Raises
        ------
        FormatError
            If the file ends before the array is full: it became shorter since it was opened.
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


class Closable(Protocol):
    """An object with a method ``close``."""

    def close(self) -> None:
        """Release what the object holds."""


@contextmanager
def opening(path: Path, resource: Closable | None = None) -> Iterator[None]:
    """Run the steps that open a recording; if one fails, close the file and name it in the error.

    Parameters
    ----------
    path
        The file.
    resource
        What to close after a failure.

    Yields
    ------
    None

    Raises
    ------
    FormatError
        In place of any :class:`~edgefilter.core.errors.InputError`, for example of a stream that cannot exist.
    """
    try:
        yield
    except BaseException as error:
        if resource is not None:
            resource.close()
        if isinstance(error, InputError) and not isinstance(error, FormatError):
            raise FormatError(path, str(error)) from None
        raise


@contextmanager
def os_error_as_format_error(path: Path) -> Iterator[None]:
    """Convert errors of the operating system to a FormatError in plain words.

    Parameters
    ----------
    path
        The file.

    Yields
    ------
    None

    Raises
    ------
    FormatError
        In place of any OSError.
    """
    try:
        yield
    except FileNotFoundError:
        raise FormatError(path, "no such file") from None
    except IsADirectoryError:
        raise FormatError(path, "is a directory, expected a file") from None
    except PermissionError:
        raise FormatError(path, "cannot be read: permission denied") from None
    except OSError as error:
        raise FormatError(path, f"cannot be read: {error.strerror or error}") from None


@contextmanager
def as_format_error(path: Path, what: str) -> Iterator[None]:
    """Run a library's parser without its warnings, and convert its exceptions to a FormatError of one line.

    Parsers of damaged files raise anything from ``KeyError`` to ``AssertionError``, so every Exception is caught.

    Parameters
    ----------
    path
        The file.
    what
        Start of the message.

    Yields
    ------
    None

    Raises
    ------
    FormatError
        In place of any Exception except EdgefilterError and MemoryError.
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
    """Return the number that a header means by a double: a short decimal if one fits, else a small fraction.

    ``0.00126646875`` is 126646875 × 10⁻¹¹ exactly; ``1.4316557653333333`` is 536870912 / 375000000, not 17 digits.

    Parameters
    ----------
    value
        A finite number.

    Returns
    -------
    Fraction
        Equal to ``value`` when converted to a float.
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
    """Return the sampling rate of a sampling interval.

    Parameters
    ----------
    path
        The file.
    interval
        Time between samples, s.
    what
        Keyword of the header, for the message.

    Returns
    -------
    Fraction
        Samples a second, Hz.

    Raises
    ------
    FormatError
        If the interval is outside :data:`SAMPLING_INTERVAL_BOUNDS`.
    """
    low, high = SAMPLING_INTERVAL_BOUNDS
    if not low <= interval <= high:
        raise FormatError(path, f"{what} is {interval} s, must be {low} to {high} s")
    return 1 / fraction_from_float(interval)


def epoch_from_mjd(mjd: float) -> tuple[int, tuple[str, ...]]:
    """Return the epoch of a header's start date.

    Parameters
    ----------
    mjd
        UTC as MJD; any float, since some writers leave it empty.

    Returns
    -------
    epoch_tai_ns
        TAI, ns since 1970; that of 1970-01-01 UTC if ``mjd`` is outside :data:`MJD_BOUNDS`.
    warnings
        One line in that case.
    """
    low, high = MJD_BOUNDS
    if not low <= mjd <= high:
        return clock.tai_ns_from_utc_mjd(40587), (f"start date MJD {mjd} is not a date: 1970-01-01 is used",)
    return clock.tai_ns_from_mjd(mjd), ()


def uniform_spacing(path: Path, frequencies: NDArray[np.float64], what: str) -> tuple[float, float]:
    """Return the first value and the step of equally spaced frequencies.

    Parameters
    ----------
    path
        The file.
    frequencies
        float64 ``[channel]``, any unit.
    what
        Where they are in the file, for the message.

    Returns
    -------
    first, step
        In the unit of ``frequencies``.

    Raises
    ------
    FormatError
        If there are fewer than 2, one is not finite, or one deviates by more than a hundredth of a channel.
    """
    if len(frequencies) < 2 or not np.isfinite(frequencies).all():
        raise FormatError(path, f"{what} has {len(frequencies)} frequencies, must have 2 or more, all finite")
    step = float(frequencies[-1] - frequencies[0]) / (len(frequencies) - 1)
    expected = frequencies[0] + step * np.arange(len(frequencies))
    if step == 0 or np.abs(frequencies - expected).max() > abs(step) / 100:
        raise FormatError(path, f"{what} is not equally spaced: such channels cannot be dedispersed as one band")
    return float(frequencies[0]), step
