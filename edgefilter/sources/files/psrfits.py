"""Reader of PSRFITS search-mode files (``.fits``, ``.sf``).

PSRFITS definition 5.4 (Hotan, van Straten & Manchester 2004, PASA 21:302). astropy parses the headers; the samples are
in the rows of the table SUBINT, see :mod:`~edgefilter.sources.files.psrfits_table`.

To add a keyword, read it from ``primary`` (the primary header) or ``header`` (the header of SUBINT) in

* ``_stream`` if it describes the stream (``TBIN``, ``POL_TYPE``, ``TELESCOP``, ``SRC_NAME``),
* ``_epoch`` or ``_frequencies`` if it gives times or frequencies (``STT_IMJD``, ``CHAN_BW``),
* :func:`.psrfits_table.read_table` if it says how samples are packed (``NBITS``, ``SIGNINT``, ``ZERO_OFF``).

A keyword that is not a field of :class:`~edgefilter.core.stream.Stream` needs a new field there.
"""

from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgefilter.core import clock
from edgefilter.core.chunk import Gap, Loss, gaps_between
from edgefilter.core.errors import FormatError
from edgefilter.core.stream import Encoding, SampleKind, Stream, stream_name
from edgefilter.sources.base import FileFormat, FiniteSource
from edgefilter.sources.files.byte_file import (
    MJD_BOUNDS,
    ByteFile,
    as_format_error,
    opening,
    sampling_rate,
    uniform_spacing,
)
from edgefilter.sources.files.psrfits_table import Header, SubintTable, read_table

MAGIC = b"SIMPLE  ="

_TABLE = "SUBINT"
_PRODUCTS: dict[tuple[int, str], tuple[str, ...]] = {
    (1, "AA+BB"): ("I",),
    (1, "INTEN"): ("I",),
    (1, "AABB"): ("I",),
    (1, "I"): ("I",),
    (2, "AABB"): ("AA", "BB"),
    (4, "AABBCRCI"): ("AA", "BB", "CR", "CI"),
    (4, "IQUV"): ("I", "Q", "U", "V"),
    (4, "STOKE"): ("I", "Q", "U", "V"),
    (4, "STOKES"): ("I", "Q", "U", "V"),
}
_PRODUCTS_OF_UNKNOWN_TYPE: dict[int, tuple[str, ...]] = {1: ("I",), 2: ("AA", "BB"), 4: ("AA", "BB", "CR", "CI")}


class _RowSamples(NamedTuple):
    """Samples ``[start, stop)`` of the stream are in a row of the table."""

    start: int
    stop: int
    row: int


class PsrfitsSource(FiniteSource):
    """Samples of a PSRFITS search-mode file as float32 ``[channel, pol]``, NaN where a weight is 0.

    Sample 0 is the first sample of the earliest row; OFFS_SUB places the other rows.
    """

    def __init__(self, stream: Stream, table: SubintTable, rows: list[_RowSamples], warnings: list[str]) -> None:
        self._table = table
        self._rows = rows
        super().__init__(stream, rows[-1].stop, tuple(warnings))

    def _read_samples(self, start: int, stop: int, out: NDArray[np.uint8]) -> tuple[Gap, ...]:
        values = out.view("<f4").reshape(len(out), self._table.channels, self._table.pols)
        present = []
        for row_start, row_stop, row in self._rows:
            first, last = max(row_start, start), min(row_stop, stop)
            if first < last:
                values[first - start : last - start] = self._table.read_samples(
                    row, first - row_start, last - row_start
                )
                present.append((first, last))
        return gaps_between(present, start, stop, Loss.MISSING)

    def close(self) -> None:
        """Close the file."""
        self._table.file.close()


def matches(file: ByteFile, head: bytes) -> bool:
    """Say whether a file is PSRFITS.

    Parameters
    ----------
    file
        The file.
    head
        Its first bytes.

    Returns
    -------
    bool
        Whether it is FITS with a SUBINT table. FITS that cannot be read counts too: the reader says what is wrong.
    """
    if not head.startswith(MAGIC):
        return False
    from astropy.io import fits

    try:
        with as_format_error(file.path, ""), fits.open(file.path, memmap=True, lazy_load_hdus=True) as content:
            return _TABLE in content
    except FormatError:
        return True


def open(path: Path) -> PsrfitsSource:  # noqa: A001 - every format module has one
    """Open a PSRFITS search-mode file.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    PsrfitsSource
        Its samples.

    Raises
    ------
    FormatError
        If the file is not PSRFITS search mode, or its headers are truncated or out of range.
    """
    file = ByteFile(path)
    with opening(path, file):
        with as_format_error(path, "its FITS headers cannot be read"):
            primary, header, dtype, offset = _read_headers(path)
        table = read_table(file, header, dtype, offset)
        warnings = []
        if file.size < offset + int(header["NAXIS2"]) * dtype.itemsize:
            warnings.append(f"{path.name}: its table is cut short, read up to the cut")
        rate = _rate(path, header)
        rows, first_row_seconds = _locate_rows(table, rate)
        epoch = _epoch(path, primary, first_row_seconds)
        stream, stream_warnings = _stream(primary, header, table, rate, epoch)
        return PsrfitsSource(stream, table, rows, warnings + stream_warnings)


FORMAT = FileFormat("PSRFITS search mode", (".fits", ".sf"), matches, open)


def _read_headers(path: Path) -> tuple[Header, Header, np.dtype[np.void], int]:
    """Return primary header, SUBINT header, dtype of a row, and first byte of the table."""
    from astropy.io import fits

    with fits.open(path, memmap=True, lazy_load_hdus=True) as file:
        if _TABLE not in file:
            raise FormatError(path, f"FITS, but without a {_TABLE} table: expected PSRFITS search mode")
        table = file[_TABLE]
        return (
            dict(file[0].header),
            dict(table.header),
            table.columns.dtype.newbyteorder(">"),
            int(table.fileinfo()["datLoc"]),
        )


def _rate(path: Path, header: Header) -> Fraction:
    interval = header.get("TBIN")
    return sampling_rate(path, float(interval) if isinstance(interval, int | float) else 0.0, "TBIN")


def _locate_rows(table: SubintTable, rate: Fraction) -> tuple[list[_RowSamples], float]:
    """Return the samples of each row, in time order, and the start of the earliest row in s after STT.

    OFFS_SUB is the time of a row's centre, so a row starts half of its NSBLK samples earlier. Rows that overlap by more
    than the rounding of OFFS_SUB are refused.
    """
    path = table.file.path
    centres = []
    length = float(table.samples_per_row / rate)
    for row in range(table.rows):
        samples = table.whole_samples(row)
        if samples < 1:
            break
        centre = float(table.column(row, "OFFS_SUB", (row + 0.5) * length)[0])
        if not abs(centre) < 1e9:
            raise FormatError(path, f"row {row} has OFFS_SUB = {centre} s, must be a time in the observation")
        centres.append((centre, row, samples))
    if not centres:
        raise FormatError(path, "SUBINT holds no whole sample")
    if len(centres) > 1 and all(centre == 0 for centre, _, _ in centres):
        # Some writers leave OFFS_SUB empty: their rows are contiguous.
        centres = [((row + 0.5) * length, row, samples) for _, row, samples in centres]
    centres.sort()
    origin = centres[0][0] - length / 2
    rows = []
    end = 0
    for centre, row, samples in centres:
        start = round(Fraction(centre - length / 2 - origin) * rate)
        # Some writers round OFFS_SUB: an overlap of one sample is rounding.
        if end - start > 1:
            raise FormatError(path, f"row {row} begins {end - start} samples before the previous row ends")
        start = max(start, end)
        end = start + samples
        rows.append(_RowSamples(start, end, row))
    return rows, origin


def _epoch(path: Path, primary: Header, first_row_seconds: float) -> int:
    """Return TAI of the earliest row in ns, from the start time STT of the observation."""
    day, second, fraction = (primary.get(name, 0) for name in ("STT_IMJD", "STT_SMJD", "STT_OFFS"))
    low, high = MJD_BOUNDS
    if not (isinstance(day, int) and low <= day <= high and isinstance(second, int) and 0 <= second < 200000):
        raise FormatError(path, f"starts at STT_IMJD = {day}, STT_SMJD = {second}, expected a date")
    if not (isinstance(fraction, int | float) and abs(fraction) < 1e6):
        raise FormatError(path, f"has STT_OFFS = {fraction}, must be a fraction of a second")
    return clock.tai_ns_from_utc_mjd(day, Fraction(second) + Fraction(fraction) + Fraction(first_row_seconds))


def _stream(
    primary: Header, header: Header, table: SubintTable, rate: Fraction, epoch: int
) -> tuple[Stream, list[str]]:
    """Describe the stream, and return warnings about keywords that have no known meaning."""
    path = table.file.path
    warnings = []
    first, step = _frequencies(header, table)
    pol_type = str(header.get("POL_TYPE", "")).strip().upper()
    products = _PRODUCTS.get((table.pols, pol_type))
    if products is None:
        products = _PRODUCTS_OF_UNKNOWN_TYPE.get(table.pols)
        if products is None:
            raise FormatError(path, f"SUBINT has NPOL = {table.pols}, must be 1, 2 or 4")
        text = " ".join(products)
        warnings.append(f"{path.name}: POL_TYPE {pol_type!r} with NPOL {table.pols} is unknown, {text} is assumed")
    source = str(primary.get("SRC_NAME", "")).strip()
    stream = Stream(
        name=stream_name(source or path.stem),
        kind=SampleKind.POWER,
        epoch_tai_ns=epoch,
        rate=rate,
        channels=table.channels,
        first_channel_hz=first * 1e6,
        channel_step_hz=step * 1e6,
        products=products,
        bits=32,
        encoding=Encoding.FLOAT,
        telescope=str(primary.get("TELESCOP", "")).strip(),
        source=source,
    )
    return stream, warnings


def _frequencies(header: Header, table: SubintTable) -> tuple[float, float]:
    """Return the centre of channel 0 and the step to the next one, MHz."""
    path = table.file.path
    if not table.has_column("DAT_FREQ"):
        raise FormatError(path, "SUBINT has no DAT_FREQ column: the frequencies are unknown")
    frequencies = table.column(0, "DAT_FREQ", 0.0)
    if len(frequencies) == 1:
        return float(frequencies[0]), float(header.get("CHAN_BW", 0.0))
    return uniform_spacing(path, frequencies, "DAT_FREQ")
