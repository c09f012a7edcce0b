"""The table SUBINT of a PSRFITS search-mode file: how its rows are packed, and their numbers.

A row holds ``NSBLK`` samples ``[time, pol, channel]``, packed with the most significant bits first, and their scales,
offsets and weights: ``value = (raw - ZERO_OFF) · DAT_SCL + DAT_OFFS``, and a weight of 0 marks a removed channel
(PSRFITS definition 5.4; Hotan, van Straten & Manchester 2004, PASA 21:302). astropy parses the columns; rows are read
one by one, never the whole table.

To add a keyword that changes the packing, read it in :func:`read_table`; to add a column, put its size into
``_check_columns`` and read it with :meth:`SubintTable.column`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefilter.core.errors import FormatError
from edgefilter.sources.files.byte_file import ByteFile

Header = Mapping[str, Any]
"""Keywords of a FITS header."""

_SAMPLE_DTYPES = {8: "u1", 16: ">u2", 32: ">f4"}


@dataclass(frozen=True)
class SubintTable:
    """Position and packing of the rows of a SUBINT table.

    Parameters
    ----------
    file
        The file.
    dtype
        One row; field DATA is ``uint8 [bytes]`` whatever its TDIM says, because writers disagree about it.
    offset, rows
        First byte of the table; rows in the file, of which the last may be incomplete.
    samples_per_row, pols, channels, bits
        NSBLK, NPOL, NCHAN, NBITS.
    signed
        SIGNINT: numbers are two's complement.
    zero_offset
        ZERO_OFF.
    """

    file: ByteFile
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
    def _data_offset(self) -> int:
        """First byte of DATA in a row."""
        return int(_fields(self.dtype)["DATA"][1])

    def _row_offset(self, row: int) -> int:
        """Return the first byte of a row in the file."""
        return self.offset + row * self.dtype.itemsize

    def _read_row_header(self, row: int) -> NDArray[np.void]:
        """Read the columns of a row that precede DATA: ``dtype [1]``, DATA is zeros."""
        header = np.zeros(1, self.dtype)
        self.file.read_into(self._row_offset(row), header.view(np.uint8).reshape(-1)[: self._data_offset])
        return header

    def has_column(self, name: str) -> bool:
        """Say whether the table has a column.

        Parameters
        ----------
        name
            TTYPE of the column.

        Returns
        -------
        bool
            Whether it is there.
        """
        return name in _fields(self.dtype)

    def column(self, row: int, name: str, default: float) -> NDArray[np.float64]:
        """Read a column of a row.

        Parameters
        ----------
        row
            Row number.
        name
            TTYPE of a column that precedes DATA.
        default
            Its value if the table lacks it.

        Returns
        -------
        NDArray
            float64 ``[number]``, in the unit of the file.
        """
        return _numbers(self._read_row_header(row), name, default, np.float64)

    def whole_samples(self, row: int) -> int:
        """Return the samples of a row that the file holds completely.

        Parameters
        ----------
        row
            Row number.

        Returns
        -------
        int
            At most NSBLK; 0 or less in a truncated file.
        """
        available = self.file.size - self._row_offset(row) - self._data_offset
        return min(self.samples_per_row, available // self.sample_bytes)

    def read_samples(self, row: int, start: int, stop: int) -> NDArray[np.float32]:
        """Read and scale samples of a row.

        Parameters
        ----------
        row
            Row number.
        start, stop
            First sample of the row, and one past the last.

        Returns
        -------
        NDArray
            float32 ``[time, channel, pol]``, in the unit of the file, NaN where the weight is 0.
        """
        header = self._read_row_header(row)
        packed = np.empty((stop - start, self.sample_bytes), np.uint8)
        self.file.read_into(self._row_offset(row) + self._data_offset + start * self.sample_bytes, packed)
        shape = (self.pols, self.channels)
        numbers = _unpack_samples(packed, self.bits, self.signed).reshape(-1, *shape)
        scale, offset = (
            np.broadcast_to(_numbers(header, name, default), self.pols * self.channels).reshape(shape)
            for name, default in (("DAT_SCL", 1.0), ("DAT_OFFS", 0.0))
        )
        weight = np.broadcast_to(_numbers(header, "DAT_WTS", 1.0), self.channels)
        scaled = (numbers - np.float32(self.zero_offset)) * scale + offset
        scaled[:, :, weight == 0] = np.nan
        return np.ascontiguousarray(scaled.transpose(0, 2, 1))


def read_table(file: ByteFile, header: Header, dtype: np.dtype[np.void], offset: int) -> SubintTable:
    """Check the keywords and columns of a SUBINT table.

    Parameters
    ----------
    file
        The file.
    header
        Header of the table.
    dtype
        One row as its columns declare it.
    offset
        First byte of the table.

    Returns
    -------
    SubintTable
        The table, with the rows that are in the file.

    Raises
    ------
    FormatError
        If a keyword or the size of a column is out of range.
    """
    path = file.path
    rows, samples, channels = (_integer(path, header, name, 0, 1 << 40) for name in ("NAXIS2", "NSBLK", "NCHAN"))
    pols, bits = _integer(path, header, "NPOL", 1, 4), _integer(path, header, "NBITS", 1, 32)
    if not 1 <= channels <= 1 << 20:
        raise FormatError(path, f"SUBINT has NCHAN = {channels}, must be 1 to {1 << 20}")
    if bits not in (1, 2, 4, 8, 16, 32):
        raise FormatError(path, f"SUBINT has NBITS = {bits}, must be one of 1, 2, 4, 8, 16, 32 (search mode)")
    if pols * channels * bits % 8:
        raise FormatError(path, f"a sample of {pols * channels} numbers of {bits} bits does not end on a byte")
    if "DATA" not in _fields(dtype):
        raise FormatError(path, "SUBINT has no DATA column")
    if dtype.itemsize != header.get("NAXIS1"):
        raise FormatError(path, f"SUBINT has NAXIS1 = {header.get('NAXIS1')}, but columns of {dtype.itemsize} bytes")
    zero_offset = header.get("ZERO_OFF", 0.0)
    table = SubintTable(
        file=file,
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
    data_bytes = table.dtype["DATA"].itemsize
    if not 1 <= samples <= data_bytes // table.sample_bytes:
        raise FormatError(
            path,
            f"SUBINT has NSBLK = {samples}, must be 1 to {data_bytes // table.sample_bytes}:"
            f" DATA has {data_bytes} bytes, a sample {table.sample_bytes}",
        )
    _check_columns(path, table)
    return table


def _fields(dtype: np.dtype[np.void]) -> Mapping[str, Any]:
    """Return type and byte offset of each column of a row."""
    return dtype.fields or {}


def _flat_data(dtype: np.dtype[np.void]) -> np.dtype[np.void]:
    """Return the type of a row with DATA as plain bytes."""
    fields = _fields(dtype)
    formats: list[Any] = [(np.uint8, (f[0].itemsize,)) if name == "DATA" else f[0] for name, f in fields.items()]
    offsets = [field[1] for field in fields.values()]
    return np.dtype({"names": list(fields), "formats": formats, "offsets": offsets, "itemsize": dtype.itemsize})


def _check_columns(path: Path, table: SubintTable) -> None:
    """Check the sizes of the columns that are read, and that they precede DATA, so that a truncated row has them."""
    sizes = {
        "DAT_SCL": table.channels * table.pols,
        "DAT_OFFS": table.channels * table.pols,
        "DAT_WTS": table.channels,
        "DAT_FREQ": table.channels,
        "OFFS_SUB": 1,
        "TSUBINT": 1,
    }
    fields = _fields(table.dtype)
    for name in (name for name in sizes if name in fields):
        column, offset = fields[name][:2]
        if column.base.kind not in "fiu" or int(np.prod(column.shape)) != sizes[name]:
            raise FormatError(path, f"column {name} is {column}, must hold {sizes[name]} numbers")
        if offset > fields["DATA"][1]:
            raise FormatError(path, f"column {name} comes after DATA, must come before")


def _numbers(
    row: NDArray[np.void], name: str, default: float, dtype: type[np.floating[Any]] = np.float32
) -> NDArray[Any]:
    """Return a column of a row ``[1]`` as floats ``[number]``; if the table lacks it, the default, ``[1]``."""
    if name not in _fields(row.dtype):
        return np.full(1, default, dtype)
    return np.asarray(row[name][0], dtype).reshape(-1)


def _unpack_samples(packed: NDArray[np.uint8], bits: int, signed: bool) -> NDArray[np.float32]:
    """Unpack bytes ``[time, byte]`` to float32 ``[time, number]``, the most significant bits first."""
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


def _integer(path: Path, header: Header, name: str, low: int, high: int) -> int:
    value = header.get(name)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or not low <= value <= high:
        raise FormatError(path, f"SUBINT has {name} = {value!r}, must be an integer from {low} to {high}")
    return value
