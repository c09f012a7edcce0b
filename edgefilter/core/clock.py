"""Time as integers, and all conversions of it.

A sample is named by its number. The stream's epoch is an integer number of nanoseconds of TAI since
1970-01-01T00:00:00 TAI, its rate a :class:`~fractions.Fraction`. Floats, MJD and UTC appear only in this module, for
what is shown, exported or read from a header.

astropy supplies the leap seconds. It is imported inside the functions because the receiver imports this module and must
start without astropy.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from astropy.time import Time

NS = 1_000_000_000
"""Nanoseconds in a second."""

_UNIX_MJD = 40587
_DAY_NS = 86400 * NS


def tai_ns(epoch_tai_ns: int, rate: Fraction, sample: int | Fraction) -> int:
    """Return the time of a sample.

    Parameters
    ----------
    epoch_tai_ns
        TAI of sample 0, ns since 1970 TAI.
    rate
        Sample rate, Hz.
    sample
        Sample number; a Fraction names an instant between samples.

    Returns
    -------
    int
        TAI, ns since 1970 TAI, rounded to the nearest nanosecond.
    """
    return epoch_tai_ns + round(Fraction(sample) * NS / rate)


def sample_at(epoch_tai_ns: int, rate: Fraction, instant_tai_ns: int) -> int:
    """Return the number of the sample nearest to an instant.

    Parameters
    ----------
    epoch_tai_ns
        TAI of sample 0, ns since 1970 TAI.
    rate
        Sample rate, Hz.
    instant_tai_ns
        The instant, TAI in ns since 1970 TAI.

    Returns
    -------
    int
        Sample number; it may be negative.
    """
    return round(Fraction(instant_tai_ns - epoch_tai_ns) * rate / NS)


def tai_ns_from_utc_mjd(day: int, seconds: Fraction | float = 0) -> int:
    """Convert a UTC date, given as whole MJD and seconds of that day.

    Parameters
    ----------
    day
        Whole Modified Julian Day, UTC.
    seconds
        Seconds since the start of that day; exact if a Fraction.

    Returns
    -------
    int
        TAI, ns since 1970 TAI.
    """
    from astropy.time import Time

    with _ignore_dubious_year():
        midnight = Time(day, 0.0, format="mjd", scale="utc").tai
    return _from_tai_time(midnight) + round(Fraction(seconds) * NS)


def tai_ns_from_mjd(mjd: float) -> int:
    """Convert a UTC date, given as one float as in SIGPROC headers.

    Parameters
    ----------
    mjd
        Modified Julian Date, UTC, days; its resolution is about 1 µs.

    Returns
    -------
    int
        TAI, ns since 1970 TAI.
    """
    day = int(mjd // 1)
    return tai_ns_from_utc_mjd(day, Fraction(mjd - day) * 86400)


def tai_ns_from_iso(utc: str) -> int:
    """Convert a UTC date, given as text.

    Parameters
    ----------
    utc
        ISO 8601, such as ``2026-11-23T12:00:00.5``.

    Returns
    -------
    int
        TAI, ns since 1970 TAI.

    Raises
    ------
    ValueError
        If the text is not an ISO 8601 date.
    """
    from astropy.time import Time

    with _ignore_dubious_year():
        return _from_tai_time(Time(utc, format="isot", scale="utc").tai)


def to_time(instant_tai_ns: int | NDArray[np.int64]) -> "Time":
    """Convert instants to astropy.

    Parameters
    ----------
    instant_tai_ns
        One instant or int64 ``[n]``, TAI in ns since 1970 TAI.

    Returns
    -------
    astropy.time.Time
        Of scale UTC, exact to well below 1 ns.
    """
    from astropy.time import Time

    day, rest = np.divmod(np.asarray(instant_tai_ns, dtype=np.int64), _DAY_NS)
    with _ignore_dubious_year():
        return Time(day + float(_UNIX_MJD), rest / _DAY_NS, format="mjd", scale="tai").utc


def utc_us(instant_tai_ns: NDArray[np.int64]) -> NDArray[np.int64]:
    """Convert instants to the integers of an Arrow ``timestamp[us, UTC]``.

    Parameters
    ----------
    instant_tai_ns
        int64 ``[n]``: TAI, ns since 1970 TAI.

    Returns
    -------
    numpy.ndarray
        int64 ``[n]``: UTC, µs since 1970-01-01 UTC.
    """
    if len(instant_tai_ns) == 0:
        return np.zeros(0, np.int64)
    utc = to_time(instant_tai_ns)
    days = np.floor(utc.jd1 - 2400000.5 - _UNIX_MJD)
    rest = (utc.jd1 - 2400000.5 - _UNIX_MJD - days) + utc.jd2
    micros = days.astype(np.int64) * 86_400_000_000 + np.rint(rest * 86_400_000_000).astype(np.int64)
    return np.asarray(micros, dtype=np.int64)


def utc_iso(instant_tai_ns: int) -> str:
    """Format an instant as UTC with microseconds.

    Parameters
    ----------
    instant_tai_ns
        TAI, ns since 1970 TAI.

    Returns
    -------
    str
        Such as ``2026-11-23T12:00:00.500000``.
    """
    utc = to_time(instant_tai_ns)
    utc.precision = 6
    with _ignore_dubious_year():
        return str(utc.isot)


def utc_date(instant_tai_ns: int) -> str:
    """Return the UTC date of an instant.

    Parameters
    ----------
    instant_tai_ns
        TAI, ns since 1970 TAI.

    Returns
    -------
    str
        Such as ``2026-11-23``.
    """
    return utc_iso(instant_tai_ns)[:10]


def mjd(instant_tai_ns: int) -> float:
    """Convert an instant to MJD, for headers that need one.

    Parameters
    ----------
    instant_tai_ns
        TAI, ns since 1970 TAI.

    Returns
    -------
    float
        Modified Julian Date, UTC, days; its resolution is about 1 µs.
    """
    return float(to_time(instant_tai_ns).mjd)


@contextmanager
def _ignore_dubious_year() -> Iterator[None]:
    """Silence "dubious year": headers hold arbitrary dates, and one before 1960 or far ahead is no reason to fail."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*dubious year")
        yield


def _from_tai_time(time: "Time") -> int:
    # jd1 and jd2 are doubles whose sum is exact to far below 1 ns; Fractions keep it so.
    days = Fraction(float(time.jd1)) + Fraction(float(time.jd2)) - Fraction(4800001, 2) - _UNIX_MJD
    return round(days * _DAY_NS)
