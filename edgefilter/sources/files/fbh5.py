"""Reader of FBH5 files (``.h5``): filterbanks in HDF5, as Breakthrough Listen writes them.

``CLASS=FILTERBANK``, one dataset ``/data [time, IF, channel]`` with the SIGPROC header's keywords as its attributes
(Lebofsky et al. 2019, PASP 131:124505, section 4), usually compressed with bitshuffle, which hdf5plugin provides.

To add a keyword, read it in ``_stream``.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefilter.core.chunk import Gap
from edgefilter.core.errors import FormatError
from edgefilter.core.stream import Encoding, SampleKind, Stream, stream_name
from edgefilter.sources.base import FileFormat, FiniteSource
from edgefilter.sources.files.byte_file import (
    ByteFile,
    as_format_error,
    epoch_from_mjd,
    opening,
    os_error_as_format_error,
    sampling_rate,
)

MAGIC = b"\x89HDF\r\n\x1a\n"

_CLASS = "FILTERBANK"
_ENCODINGS = {
    "u1": (8, Encoding.UNSIGNED),
    "i1": (8, Encoding.SIGNED),
    "u2": (16, Encoding.UNSIGNED),
    "i2": (16, Encoding.SIGNED),
    "f4": (32, Encoding.FLOAT),
}
_PRODUCTS = {1: ("I",), 2: ("AA", "BB"), 4: ("I", "Q", "U", "V")}


class Fbh5Source(FiniteSource):
    """Spectra of an FBH5 file, raw samples ``[channel, IF]`` in the dataset's own type."""

    def __init__(self, path: Path, file: Any, stream: Stream, warnings: list[str]) -> None:
        self._path = path
        self._file = file
        self._data = file["data"]
        self._dtype = self._data.dtype.newbyteorder("<")
        super().__init__(stream, int(self._data.shape[0]), tuple(warnings))

    def _read_samples(self, start: int, stop: int, out: NDArray[np.uint8]) -> tuple[Gap, ...]:
        with as_format_error(self._path, f"spectra {start} to {stop} cannot be read"):
            spectra = np.asarray(self._data[start:stop], self._dtype)
        _, ifs, channels = spectra.shape
        out.view(self._dtype).reshape(len(out), channels, ifs)[:] = spectra.transpose(0, 2, 1)
        return ()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def matches(file: ByteFile, head: bytes) -> bool:
    """Say whether a file is FBH5.

    Parameters
    ----------
    file
        The file.
    head
        Its first bytes.

    Returns
    -------
    bool
        Whether it is HDF5 of ``CLASS=FILTERBANK``. HDF5 that cannot be read counts too: the reader says what is wrong.
    """
    if not head.startswith(MAGIC):
        return False
    try:
        with _open_hdf5(file.path) as content, as_format_error(file.path, ""):
            return _text(content.attrs.get("CLASS", b"")) == _CLASS
    except FormatError:
        return True


def open(path: Path) -> Fbh5Source:  # noqa: A001 - every format module has one
    """Open an FBH5 file.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    Fbh5Source
        Its spectra.

    Raises
    ------
    FormatError
        If the file is not FBH5 or is truncated, or an attribute is out of range.
    """
    with os_error_as_format_error(path), path.open("rb"):
        pass
    file = _open_hdf5(path)
    with opening(path, file), as_format_error(path, "is HDF5, but not a readable FBH5 filterbank"):
        stream, warnings = _stream(path, file)
        return Fbh5Source(path, file, stream, warnings)


FORMAT = FileFormat("FBH5", (".h5",), matches, open)


def _open_hdf5(path: Path) -> Any:
    with as_format_error(path, "is HDF5 that cannot be opened"):
        # Importing it registers the compression filters.
        import hdf5plugin  # noqa: F401
        import h5py  # isort: skip

        return h5py.File(path, "r")


def _stream(path: Path, file: Any) -> tuple[Stream, list[str]]:
    """Describe the stream, and return warnings about what the header leaves open."""
    kind = _text(file.attrs.get("CLASS", b""))
    if kind != _CLASS:
        raise FormatError(path, f"is HDF5 with CLASS {kind!r}, expected CLASS {_CLASS!r}")
    data = file.get("data")
    if data is None or getattr(data, "ndim", 0) != 3:
        raise FormatError(path, "has no dataset /data [time, IF, channel]")
    samples, ifs, channels = data.shape
    if ifs not in _PRODUCTS:
        raise FormatError(path, f"/data has {ifs} IFs, must have 1, 2 or 4")
    if data.dtype.str[1:] not in _ENCODINGS:
        raise FormatError(path, f"/data holds {data.dtype}, must be one of uint8, int8, uint16, int16, float32")
    if samples == 0:
        raise FormatError(path, "/data holds no spectrum")
    header = data.attrs
    if int(header.get("nchans", channels)) != channels or int(header.get("nifs", ifs)) != ifs:
        raise FormatError(
            path,
            f"has nifs {header.get('nifs')}, nchans {header.get('nchans')}, must be {ifs}, {channels} as in /data",
        )
    epoch, epoch_warnings = epoch_from_mjd(_number(path, header, "tstart", float("nan")))
    warnings = [f"{path.name}: {warning}" for warning in epoch_warnings]
    if ifs == 4:
        warnings.append(f"{path.name}: FBH5 does not say what 4 IFs are, Stokes I, Q, U, V are assumed")
    bits, encoding = _ENCODINGS[data.dtype.str[1:]]
    source = _text(header.get("source_name", b""))
    stream = Stream(
        name=stream_name(source or path.stem),
        kind=SampleKind.POWER,
        epoch_tai_ns=epoch,
        rate=sampling_rate(path, _number(path, header, "tsamp"), "tsamp"),
        channels=channels,
        first_channel_hz=_number(path, header, "fch1") * 1e6,
        channel_step_hz=_number(path, header, "foff") * 1e6,
        products=_PRODUCTS[ifs],
        bits=bits,
        encoding=encoding,
        source=source,
    )
    return stream, warnings


def _number(path: Path, header: Mapping[str, Any], name: str, default: float | None = None) -> float:
    """Return an attribute of ``/data`` as a number; without a default it must be there."""
    value = header.get(name, default)
    if value is None:
        raise FormatError(path, f"/data has no attribute {name}")
    return float(np.asarray(value).reshape(-1)[0])


def _text(value: object) -> str:
    """Return the text of an attribute, which writers store as bytes, text or an array of one."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
