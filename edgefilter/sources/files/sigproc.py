"""Reader of SIGPROC filterbank files (``.fil``).

A header of length-prefixed keywords between ``HEADER_START`` and ``HEADER_END``, then spectra to the end of the file,
``[time, IF, channel]``: little-endian numbers, below 8 bits the first channel in the low bits (D. Lorimer, SIGPROC
documentation, chapter 2 and appendix; bit order as in ``sigproc/pack_unpack.c``).

To add a keyword, put its name into ``_INTEGERS``, ``_DOUBLES`` or ``_STRINGS`` and read it in ``_stream``.
"""

import struct
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgefilter.core.chunk import Gap
from edgefilter.core.errors import FormatError
from edgefilter.core.stream import Encoding, SampleKind, Stream, stream_name
from edgefilter.sources.base import FileFormat, FiniteSource
from edgefilter.sources.files.byte_file import ByteFile, epoch_from_mjd, opening, sampling_rate, uniform_spacing

MAGIC = b"\x0c\x00\x00\x00HEADER_START"

_INTEGERS = [
    "telescope_id",
    "machine_id",
    "data_type",
    "barycentric",
    "pulsarcentric",
    "nbits",
    "nsamples",
    "nchans",
    "nifs",
    "nbeams",
    "ibeam",
    "nbins",
]
_DOUBLES = [
    "az_start",
    "za_start",
    "src_raj",
    "src_dej",
    "tstart",
    "tsamp",
    "fch1",
    "foff",
    "refdm",
    "period",
    "fchannel",
]
_STRINGS = ["source_name", "rawdatafile"]
_FORMATS = (
    dict.fromkeys(_INTEGERS, "<i")
    | dict.fromkeys(_DOUBLES, "<d")
    | {"signed": "<b", "npuls": "<q"}
    | {"FREQUENCY_START": "", "FREQUENCY_END": "", "HEADER_END": ""}
)
_USUAL_HEADER_BYTES = 1 << 16
_MAX_HEADER_BYTES = 1 << 24  # room for a table of a million fchannel entries
_TELESCOPES = {
    1: "Arecibo",
    2: "Ooty",
    3: "Nancay",
    4: "Parkes",
    5: "Jodrell",
    6: "GBT",
    7: "GMRT",
    8: "Effelsberg",
    9: "ATA",
    10: "SRT",
    11: "LOFAR",
    12: "VLA",
    20: "CHIME",
    64: "MeerKAT",
    65: "KAT-7",
}
_PRODUCTS = {1: ("I",), 2: ("AA", "BB"), 4: ("I", "Q", "U", "V")}


@dataclass
class _Header:
    """Keywords of a SIGPROC header, its table of frequencies (MHz) and its length in bytes."""

    numbers: dict[str, float] = field(default_factory=dict)
    strings: dict[str, str] = field(default_factory=dict)
    frequencies: list[float] = field(default_factory=list)
    length: int = 0

    def integer(self, name: str, default: int) -> int:
        return int(self.numbers.get(name, default))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, IFs, and bits of a number."""
        return self.integer("nchans", 0), self.integer("nifs", 1), self.integer("nbits", 0)


class SigprocSource(FiniteSource):
    """Spectra of a SIGPROC filterbank file.

    Raw samples are the bytes of the file if it has one IF. Otherwise they are ``[channel, IF]``, and numbers below 8
    bits become unsigned bytes.
    """

    def __init__(self, file: ByteFile, header: _Header) -> None:
        channels, ifs, bits = header.shape
        self._file = file
        self._offset = header.length
        self._file_shape = (ifs, channels)
        self._file_bits = bits
        self._spectrum_bytes = ifs * channels * bits // 8
        samples, rest = divmod(file.size - header.length, self._spectrum_bytes)
        stream, warnings = _stream(file.path, header)
        if samples == 0:
            raise FormatError(file.path, f"holds no whole spectrum ({rest} bytes of {self._spectrum_bytes})")
        if rest:
            warnings.append(f"{file.path.name}: data end in the middle of a spectrum: {samples} whole spectra are read")
        if header.integer("nsamples", 0) > samples:
            warnings.append(f"{file.path.name}: {samples} spectra, but its header says {header.integer('nsamples', 0)}")
        super().__init__(stream, samples, tuple(warnings))

    def _read_samples(self, start: int, stop: int, out: NDArray[np.uint8]) -> tuple[Gap, ...]:
        offset = self._offset + start * self._spectrum_bytes
        if self._file_shape[0] == 1:
            self._file.read_into(offset, out)
            return ()
        packed = np.empty((stop - start, self._spectrum_bytes), np.uint8)
        self._file.read_into(offset, packed)
        numbers = unpack(packed, self._file_bits) if self._file_bits < 8 else packed
        width = max(1, self._file_bits // 8)
        by_if = numbers.reshape(len(out), *self._file_shape, width)
        out.reshape(len(out), *self._file_shape[::-1], width)[:] = by_if.transpose(0, 2, 1, 3)
        return ()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def open(path: Path) -> SigprocSource:  # noqa: A001 - every format module has one
    """Open a SIGPROC filterbank file.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    SigprocSource
        Its spectra.

    Raises
    ------
    FormatError
        If the file is not a SIGPROC filterbank, or its header is truncated or out of range.
    """
    file = ByteFile(path)
    with opening(path, file):
        header = _read_header(file)
        _check(path, header)
        return SigprocSource(file, header)


FORMAT = FileFormat("SIGPROC filterbank", (".fil",), lambda _, head: head.startswith(MAGIC), open)


def unpack(packed: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Unpack numbers of less than 8 bits, of which the first is in the low bits.

    Parameters
    ----------
    packed
        uint8 ``[..., byte]``.
    bits
        1, 2 or 4.

    Returns
    -------
    NDArray
        uint8 ``[..., number]``.
    """
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    numbers = (packed[..., None] >> shifts) & np.uint8((1 << bits) - 1)
    return np.ascontiguousarray(numbers.reshape(*packed.shape[:-1], -1))


def _read_header(file: ByteFile) -> _Header:
    try:
        return _parse_header(file.path, file.read(0, _USUAL_HEADER_BYTES))
    except FormatError:
        return _parse_header(file.path, file.read(0, _MAX_HEADER_BYTES))


def _parse_header(path: Path, raw: bytes) -> _Header:
    """Parse the header. A keyword of unknown type is an error: its length, and so the next keyword, is unknown."""
    if not raw.startswith(MAGIC):
        raise FormatError(path, "does not begin with HEADER_START, expected a SIGPROC header")
    header = _Header(length=len(MAGIC))
    while True:
        keyword = _text(path, raw, header)
        if keyword == "HEADER_END":
            return header
        if keyword in _STRINGS:
            header.strings[keyword] = _text(path, raw, header)
        elif keyword in _FORMATS:
            _number(path, raw, header, keyword)
        else:
            raise FormatError(path, f"header has an unknown keyword {keyword[:32]!r} at byte {header.length}")


def _text(path: Path, raw: bytes, header: _Header) -> str:
    """Read a keyword or a text, and move ``header.length`` behind it."""
    (length,) = struct.unpack("<i", _take(path, raw, header, 4))
    if not 0 <= length <= 255:
        raise FormatError(path, f"header has a text of {length} bytes at byte {header.length - 4}, must be 0 to 255")
    return _take(path, raw, header, length).decode("latin-1").rstrip("\0 ")


def _number(path: Path, raw: bytes, header: _Header, keyword: str) -> None:
    """Read the number of a keyword, if it has one, and move ``header.length`` behind it."""
    struct_format = _FORMATS[keyword]
    if not struct_format:
        return
    (value,) = struct.unpack(struct_format, _take(path, raw, header, struct.calcsize(struct_format)))
    if keyword == "fchannel":
        header.frequencies.append(value)
    else:
        header.numbers[keyword] = value


def _take(path: Path, raw: bytes, header: _Header, count: int) -> bytes:
    taken = raw[header.length : header.length + count]
    if len(taken) < count:
        raise FormatError(path, f"header is cut at byte {len(raw)}, must end with HEADER_END")
    header.length += count
    return taken


def _check(path: Path, header: _Header) -> None:
    channels, ifs, bits = header.shape
    if not 1 <= channels <= 1 << 20:
        raise FormatError(path, f"header has nchans = {channels}, must be 1 to {1 << 20}")
    if ifs not in _PRODUCTS:
        raise FormatError(path, f"header has nifs = {ifs}, must be one of 1, 2, 4")
    if bits not in (1, 2, 4, 8, 16, 32):
        raise FormatError(path, f"header has nbits = {bits}, must be one of 1, 2, 4, 8, 16, 32")
    if channels * ifs * bits % 8:
        raise FormatError(path, f"a spectrum of {channels * ifs} numbers of {bits} bits does not end on a byte")


def _stream(path: Path, header: _Header) -> tuple[Stream, list[str]]:
    """Describe the stream, and return warnings about what the header leaves open."""
    channels, ifs, bits = header.shape
    epoch, epoch_warnings = epoch_from_mjd(header.numbers.get("tstart", float("nan")))
    warnings = [f"{path.name}: {warning}" for warning in epoch_warnings]
    if ifs == 4:
        warnings.append(f"{path.name}: SIGPROC does not say what 4 IFs are, Stokes I, Q, U, V are assumed")
    if header.frequencies:
        if len(header.frequencies) != channels:
            raise FormatError(path, f"header has {len(header.frequencies)} frequencies, must be nchans = {channels}")
        first, step = uniform_spacing(path, np.array(header.frequencies), "its table of frequencies")
    else:
        first, step = header.numbers.get("fch1", float("nan")), header.numbers.get("foff", float("nan"))
    encoding = Encoding.UNSIGNED
    if bits == 32:
        encoding = Encoding.FLOAT
    elif bits == 8 and header.integer("signed", 0) == 1:
        encoding = Encoding.SIGNED
    source = header.strings.get("source_name", "")
    stream = Stream(
        name=stream_name(source or path.stem),
        kind=SampleKind.POWER,
        epoch_tai_ns=epoch,
        rate=sampling_rate(path, header.numbers.get("tsamp", 0.0), "tsamp"),
        channels=channels,
        first_channel_hz=first * 1e6,
        channel_step_hz=step * 1e6,
        products=_PRODUCTS[ifs],
        bits=8 if ifs > 1 and bits < 8 else bits,
        encoding=encoding,
        telescope=_TELESCOPES.get(header.integer("telescope_id", 0), ""),
        source=source,
    )
    return stream, warnings
