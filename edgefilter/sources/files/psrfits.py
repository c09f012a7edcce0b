"""PSRFITS search-mode files (``.fits``, ``.sf``).

A binary table ``SUBINT`` whose rows hold ``NSBLK`` samples each, ``[time, pol, channel]``, packed most significant bits
first, with scales, offsets and weights a row (PSRFITS definition 5.4, Hotan, van Straten & Manchester 2004):
``value = (raw - ZERO_OFF) · DAT_SCL + DAT_OFFS``; a weight of 0 says that the channel was taken out. astropy parses
headers and columns; rows are read one by one, never the table.
"""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefilter.core import clock
from edgefilter.core.chunk import Gap, Loss, gaps_between
from edgefilter.core.errors import FormatError, InputError
from edgefilter.core.stream import Encoding, SampleKind, Stream, stream_name
from edgefilter.sources.files.byte_file import ByteFile, RecordedSource, as_format_error, sampling_rate, uniform_spacing

MAGIC = b"SIMPLE  ="

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
_SAMPLE_DTYPES = {8: "u1", 16: ">u2", 32: ">f4"}
_MJD_BOUNDS = (-66000, 147000)


@dataclass(frozen=True)
class SubintTable:
    """Where the rows of a SUBINT table lie and how they are packed.

    Parameters
    ----------
    dtype
        One row; field DATA is ``uint8 [bytes]`` whatever its TDIM says, since writers disagree about it.
    offset, rows
        First byte of the table, and rows that are in the file (the last one perhaps in part).
    samples_per_row, pols, channels, bits
        NSBLK, NPOL, NCHAN, NBITS.
    signed
        SIGNINT: numbers are two's complement.
    zero_offset
        ZERO_OFF.
    """

    dtype: np.dtype[np.void]
    offset: int
    rows: int
    samples_per_row: int
    pols: int
    channels: int
    bits: int
    signed: bool
    zero_offset: float

    @property
    def sample_bytes(self) -> int:
        """Packed bytes of one sample."""
        return self.pols * self.channels * self.bits // 8

    @property
    def data_offset(self) -> int:
        """First byte of DATA in a row."""
        fields = self.dtype.fields
        assert fields is not None
        return int(fields["DATA"][1])


class PsrfitsSource(RecordedSource):
    """Samples of a PSRFITS search-mode file as float32, NaN where a weight is 0.

    Sample 0 is the first sample of the first row, rows lie where their OFFS_SUB says.
    """

    def __init__(
        self, file: ByteFile, stream: Stream, table: SubintTable, rows: list[tuple[int, int, int]], warnings: list[str]
    ) -> None:
        self._file = file
        self._table = table
        self._rows = rows
        super().__init__(stream, rows[-1][1], tuple(warnings))

    def _read_samples(self, start: int, stop: int, out: NDArray[np.uint8]) -> tuple[Gap, ...]:
        values = out.view("<f4").reshape(len(out), self._table.channels, self._table.pols)
        present = []
        for first, last, row in self._rows:
            here, end = max(first, start), min(last, stop)
            if here < end:
                values[here - start : end - start] = self._row(row, here - first, end - first)
                present.append((here, end))
        return gaps_between(present, start, stop, Loss.MISSING)

    def _row(self, row: int, start: int, stop: int) -> NDArray[np.float32]:
        """Scaled samples ``[start, stop)`` of a row, float32 ``[time, channel, pol]``."""
        table = self._table
        at = table.offset + row * table.dtype.itemsize
        head = np.zeros(1, table.dtype)
        head_bytes = head.view(np.uint8).reshape(-1)
        self._file.read_into(at, head_bytes[: table.data_offset])
        packed = np.empty((stop - start, table.sample_bytes), np.uint8)
        self._file.read_into(at + table.data_offset + start * table.sample_bytes, packed)
        numbers = _unpack_samples(packed, table.bits, table.signed).reshape(-1, table.pols, table.channels)
        shape = (table.pols, table.channels)
        scale = _column(head, "DAT_SCL", 1.0).reshape(shape)
        offset = _column(head, "DAT_OFFS", 0.0).reshape(shape)
        weight = _column(head, "DAT_WTS", 1.0)
        scaled = (numbers - np.float32(table.zero_offset)) * scale + offset
        scaled[:, :, weight == 0] = np.nan
        return np.ascontiguousarray(scaled.transpose(0, 2, 1))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def open(path: Path) -> PsrfitsSource:  # noqa: A001 - every format module has one
    """Open a PSRFITS search-mode file.

    Raises
    ------
    FormatError
        If the file is not one, or its headers are cut or absurd.
    """
    file = ByteFile(path)
    try:
        with as_format_error(path, "its FITS headers cannot be read"):
            primary, header, columns, offset = _headers(path)
        table, warnings = _table(file, header, columns, offset)
        return _source(file, primary, header, table, warnings)
    except InputError as error:
        file.close()
        raise error if isinstance(error, FormatError) else FormatError(path, str(error)) from None


def _headers(path: Path) -> tuple[dict[str, Any], dict[str, Any], np.dtype[np.void], int]:
    """Read primary header, SUBINT header, the dtype of a row and where the table begins."""
    from astropy.io import fits

    with fits.open(path, memmap=True, lazy_load_hdus=True) as file:
        if "SUBINT" not in file:
            raise FormatError(path, "FITS, but without a SUBINT table: expected PSRFITS search mode")
        table = file["SUBINT"]
        return (
            dict(file[0].header),
            dict(table.header),
            table.columns.dtype.newbyteorder(">"),
            int(table.fileinfo()["datLoc"]),
        )


def _table(
    file: ByteFile, header: dict[str, Any], dtype: np.dtype[np.void], offset: int
) -> tuple[SubintTable, list[str]]:
    path = file.path
    rows, samples, channels = (_integer(path, header, name, 0, 1 << 40) for name in ("NAXIS2", "NSBLK", "NCHAN"))
    pols, bits = _integer(path, header, "NPOL", 1, 4), _integer(path, header, "NBITS", 1, 32)
    if not 1 <= channels <= 1 << 20:
        raise FormatError(path, f"SUBINT has NCHAN = {channels}, must be 1 to {1 << 20}")
    if bits not in (1, 2, 4, 8, 16, 32):
        raise FormatError(path, f"SUBINT has NBITS = {bits}, must be one of 1, 2, 4, 8, 16, 32 (search mode)")
    if pols * channels * bits % 8:
        raise FormatError(path, f"a sample of {pols * channels} numbers of {bits} bits does not end on a byte")
    if "DATA" not in (dtype.names or ()):
        raise FormatError(path, "SUBINT has no DATA column")
    if dtype.itemsize != header.get("NAXIS1"):
        raise FormatError(path, f"SUBINT rows are {dtype.itemsize} bytes by their columns, {header.get('NAXIS1')} said")
    zero_offset = header.get("ZERO_OFF", 0.0)
    table = SubintTable(
        dtype=_flat_data(dtype),
        offset=offset,
        rows=min(rows, -(-(file.size - offset) // dtype.itemsize)),
        samples_per_row=samples,
        pols=pols,
        channels=channels,
        bits=bits,
        signed=header.get("SIGNINT", 0) == 1,
        zero_offset=float(zero_offset) if isinstance(zero_offset, int | float) else 0.0,
    )
    row_data_bytes = table.dtype["DATA"].itemsize
    if samples < 1 or table.sample_bytes * samples > row_data_bytes:
        raise FormatError(
            path, f"SUBINT has NSBLK = {samples}, {table.sample_bytes} bytes each, in a DATA of {row_data_bytes}"
        )
    _check_columns(path, table)
    warnings = []
    if file.size < offset + rows * dtype.itemsize:
        warnings.append(f"{path.name}: its table is cut short, read up to there")
    return table, warnings


def _flat_data(dtype: np.dtype[np.void]) -> np.dtype[np.void]:
    fields = dtype.fields
    assert fields is not None
    names = list(fields)
    formats: list[Any] = [(np.uint8, (fields[n][0].itemsize,)) if n == "DATA" else fields[n][0] for n in names]
    offsets = [fields[name][1] for name in names]
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": dtype.itemsize})


def _check_columns(path: Path, table: SubintTable) -> None:
    """Demand the sizes that rows are read with, and that DATA comes last: then a cut row still has its scales."""
    numbers = {
        "DAT_SCL": table.channels * table.pols,
        "DAT_OFFS": table.channels * table.pols,
        "DAT_WTS": table.channels,
        "DAT_FREQ": table.channels,
        "OFFS_SUB": 1,
        "TSUBINT": 1,
    }
    fields = table.dtype.fields
    assert fields is not None
    for name, count in numbers.items():
        if name not in fields:
            continue
        column = fields[name][0]
        if column.base.kind not in "fiu" or int(np.prod(column.shape)) != count:
            raise FormatError(path, f"column {name} is {column}, must hold {count} numbers")
        if fields[name][1] > table.data_offset:
            raise FormatError(path, f"column {name} comes after DATA, must come before")


def _source(
    file: ByteFile, primary: dict[str, Any], header: dict[str, Any], table: SubintTable, warnings: list[str]
) -> PsrfitsSource:
    path = file.path
    interval = header.get("TBIN")
    rate = sampling_rate(path, float(interval) if isinstance(interval, int | float) else 0.0, "TBIN")
    rows, origin = _row_starts(file, table, rate)
    if not rows:
        raise FormatError(path, "SUBINT holds no whole sample")
    epoch = _epoch(path, primary, origin)
    first, step = _frequencies(file, header, table)
    source = str(primary.get("SRC_NAME", "")).strip()
    kind = str(header.get("POL_TYPE", "")).strip().upper()
    products = _PRODUCTS.get((table.pols, kind))
    if products is None:
        products = {1: ("I",), 2: ("AA", "BB"), 4: ("AA", "BB", "CR", "CI")}.get(table.pols)
        if products is None:
            raise FormatError(path, f"SUBINT has NPOL = {table.pols}, must be 1, 2 or 4")
        warnings.append(f"{path.name}: POL_TYPE {kind!r} with NPOL {table.pols} is unknown, {' '.join(products)} taken")
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
    return PsrfitsSource(file, stream, table, rows, warnings)


def _row_starts(file: ByteFile, table: SubintTable, rate: Fraction) -> tuple[list[tuple[int, int, int]], float]:
    """First and last sample and number of each row, in time; and the first row's start in s after STT.

    OFFS_SUB is the centre of a row, so a row starts half its NSBLK samples before it. Rows that overlap by more than
    the rounding of OFFS_SUB are refused.
    """
    centres = []
    length = float(table.samples_per_row / rate)
    for row in range(table.rows):
        head = np.zeros(1, table.dtype)
        available = file.size - table.offset - row * table.dtype.itemsize - table.data_offset
        samples = min(table.samples_per_row, available // table.sample_bytes)
        if samples < 1:
            break
        flat = head.view(np.uint8).reshape(-1)
        file.read_into(table.offset + row * table.dtype.itemsize, flat[: table.data_offset])
        centre = float(_column(head, "OFFS_SUB", (row + 0.5) * length, np.float64)[0])
        if not abs(centre) < 1e9:
            raise FormatError(file.path, f"row {row} has OFFS_SUB = {centre} s, must be a time in the observation")
        centres.append((centre, row, samples))
    if len(centres) > 1 and all(centre == 0 for centre, _, _ in centres):
        # Some writers leave the column empty: rows then follow one another.
        centres = [((row + 0.5) * length, row, samples) for _, row, samples in centres]
    if not centres:
        return [], 0.0
    centres.sort()
    origin = centres[0][0] - length / 2
    rows = []
    end = 0
    for centre, row, samples in centres:
        start = round(Fraction(centre - length / 2 - origin) * rate)
        if start >= end:
            rows.append((start, start + samples, row))
            end = start + samples
        elif end - start > 1:
            raise FormatError(file.path, f"row {row} begins {end - start} samples before the row before it ends")
        else:
            # OFFS_SUB is a rounded double in some writers: one sample of overlap is rounding.
            rows.append((end, end + samples, row))
            end += samples
    return rows, origin


def _epoch(path: Path, primary: dict[str, Any], origin: float) -> int:
    day, second, fraction = (primary.get(name, 0) for name in ("STT_IMJD", "STT_SMJD", "STT_OFFS"))
    low, high = _MJD_BOUNDS
    if not (isinstance(day, int) and low <= day <= high and isinstance(second, int) and 0 <= second < 200000):
        raise FormatError(path, f"starts at STT_IMJD = {day}, STT_SMJD = {second}, expected a date")
    if not (isinstance(fraction, int | float) and abs(fraction) < 1e6):
        raise FormatError(path, f"has STT_OFFS = {fraction}, must be a fraction of a second")
    return clock.tai_ns_from_utc_mjd(day, Fraction(second) + Fraction(fraction) + Fraction(origin))


def _frequencies(file: ByteFile, header: dict[str, Any], table: SubintTable) -> tuple[float, float]:
    if table.dtype.fields is None or "DAT_FREQ" not in table.dtype.fields:
        raise FormatError(file.path, "SUBINT has no DAT_FREQ column: the frequencies are unknown")
    head = np.zeros(1, table.dtype)
    file.read_into(table.offset, head.view(np.uint8).reshape(-1)[: table.data_offset])
    frequencies = np.asarray(_column(head, "DAT_FREQ", 0.0, np.float64), np.float64)
    if len(frequencies) == 1:
        return float(frequencies[0]), float(header.get("CHAN_BW", 0.0))
    return uniform_spacing(file.path, frequencies, "DAT_FREQ")


def _column(
    row: NDArray[np.void], name: str, default: float, dtype: type[np.floating[Any]] = np.float32
) -> NDArray[np.floating[Any]]:
    """Return a column of a row as floats, flat; the default, one number, where the table lacks it."""
    if name not in (row.dtype.names or ()):
        return np.full(1, default, dtype)
    return np.asarray(row[name][0], dtype).reshape(-1)


def _unpack_samples(packed: NDArray[np.uint8], bits: int, signed: bool) -> NDArray[np.float32]:
    """Unpack ``[time, byte]`` to float32 ``[time, number]``, most significant bits first."""
    if bits < 8:
        shifts = np.arange(8 - bits, -1, -bits, dtype=np.uint8)
        raw = ((packed[..., None] >> shifts) & np.uint8((1 << bits) - 1)).reshape(len(packed), -1)
        numbers = raw.astype(np.float32)
        if signed:
            numbers[raw >= 1 << (bits - 1)] -= 1 << bits
        return numbers
    number_dtype = np.dtype(_SAMPLE_DTYPES[bits])
    if signed and bits < 32:
        number_dtype = np.dtype(number_dtype.str.replace("u", "i"))
    return packed.view(number_dtype).astype(np.float32)


def _integer(path: Path, header: dict[str, Any], name: str, low: int, high: int) -> int:
    value = header.get(name)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or not low <= value <= high:
        raise FormatError(path, f"SUBINT has {name} = {value!r}, must be an integer from {low} to {high}")
    return value
