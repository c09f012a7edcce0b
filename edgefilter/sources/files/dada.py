"""Reader of PSRDADA files (``.dada``).

A text header (http://psrdada.sourceforge.net, DADA header) and voltages ``[time, pol, channel]``, through ``baseband``.
To add a keyword, read it in :func:`open`.
"""

from pathlib import Path
from types import ModuleType

from edgefilter.sources.base import FileFormat
from edgefilter.sources.files.byte_file import fraction_from_float, sampling_rate
from edgefilter.sources.files.voltages import (
    BasebandStreamSource,
    VoltageHeader,
    import_baseband,
    open_reader,
    tai_ns,
)


def matches(head: bytes) -> bool:
    """Say whether a file is PSRDADA.

    Parameters
    ----------
    head
        First bytes of the file, 4096 or more if it has them.

    Returns
    -------
    bool
        Whether it begins with text in which a line gives HDR_SIZE.
    """
    text = head[:4096].split(b"\0")[0]
    return text.isascii() and any(line.split()[:1] == [b"HDR_SIZE"] for line in text.splitlines())


def open(path: Path) -> BasebandStreamSource:  # noqa: A001 - every format module has one
    """Open a PSRDADA file.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    BasebandStreamSource
        Its voltages.

    Raises
    ------
    FormatError
        If the file is not PSRDADA, or ``baseband`` is not installed.
    """
    module = import_baseband(path, "dada")
    with open_reader(path, module, "is not a readable PSRDADA file") as reader:
        header = reader.header0
        pols, channels = (int(n) for n in reader.sample_shape)
        microseconds = fraction_from_float(float(header["TSAMP"]))
        stream = VoltageHeader(
            rate=sampling_rate(path, float(microseconds / 1_000_000), "TSAMP"),
            epoch_tai_ns=tai_ns(reader.start_time),
            channels=channels,
            pols=pols,
            centre_mhz=float(header["FREQ"]),
            width_mhz=float(header["BW"]),
            bits=int(header["NBIT"]),
            complex_samples=bool(reader.complex_data),
            telescope=str(header.get("TELESCOPE", "")),
            source=str(header.get("SOURCE", "")),
        ).stream(path)
        return BasebandStreamSource(path, reader, stream, _truncation_warnings(path, module))


FORMAT = FileFormat("PSRDADA", (".dada",), lambda _, head: matches(head), open)


def _truncation_warnings(path: Path, module: ModuleType) -> list[str]:
    # Read again: the stream reader lowers FILE_SIZE in its copy of the header to the size of a truncated file.
    with path.open("rb") as file:
        header = module.header.DADAHeader.fromfile(file)
    expected_bytes = header.get("FILE_SIZE")
    data_bytes = path.stat().st_size - int(header.nbytes)
    if isinstance(expected_bytes, int) and data_bytes < expected_bytes:
        return [f"{path.name}: {data_bytes} bytes of data, but its header says {expected_bytes}: read up to the cut"]
    return []
