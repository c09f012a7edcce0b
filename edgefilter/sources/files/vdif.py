"""Reader of VDIF files (``.vdif``), VLBI Data Interchange Format 1.1.1 (https://vlbi.org/vlbi-standards/vdif/).

Frames of one or more threads, through ``baseband``. The header has no frequencies and no names. To use another field of
it, read it in :func:`open`.
"""

import struct
from pathlib import Path

import numpy as np

from edgefilter.sources.base import FileFormat
from edgefilter.sources.files.byte_file import ByteFile, fraction_from_float
from edgefilter.sources.files.voltages import (
    BasebandStreamSource,
    VoltageHeader,
    import_baseband,
    open_reader,
    tai_ns,
)


def matches(file: ByteFile) -> bool:
    """Say whether a file is VDIF, which has no magic number.

    Parameters
    ----------
    file
        The file.

    Returns
    -------
    bool
        Whether a plausible header begins it and another one follows its first frame.
    """
    first = _parse_header(file.read(0, 16))
    if first is None:
        return False
    length = first[0]
    if length >= file.size:
        return length == file.size
    second = _parse_header(file.read(length, 16))
    # The same length, version and channels; seconds that continue.
    return second is not None and first[:2] == second[:2] and 0 <= second[2] - first[2] <= 1


def open(path: Path) -> BasebandStreamSource:  # noqa: A001 - every format module has one
    """Open a VDIF file. Its header has no frequencies: the band begins at 0 MHz, with a warning.

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
        If the file is not VDIF, its sampling rate is unknown, or ``baseband`` is not installed.
    """
    module = import_baseband(path, "vdif")
    with open_reader(path, module, "is not a readable VDIF file", fill_value=np.nan, verify="fix") as reader:
        threads, thread_channels = (int(n) for n in reader.sample_shape)
        # Two threads, or one thread of two channels, are polarisations; more are channels.
        pols = 2 if threads == 2 or (threads, thread_channels) == (1, 2) else 1
        channels = threads * thread_channels // pols
        rate = fraction_from_float(float(reader.sample_rate.to_value("Hz")))
        width_mhz = float(rate) / 1e6 / (1 if reader.complex_data else 2) * channels
        warnings = [f"{path.name}: VDIF does not give frequencies, the band is assumed to begin at 0 MHz"]
        if path.stat().st_size % int(reader.header0.frame_nbytes):
            warnings.append(f"{path.name}: data end in the middle of a frame: read up to the cut")
        stream = VoltageHeader(
            rate=rate,
            epoch_tai_ns=tai_ns(reader.start_time),
            channels=channels,
            pols=pols,
            centre_mhz=width_mhz / 2,
            width_mhz=width_mhz,
            bits=32,
            complex_samples=bool(reader.complex_data),
        ).stream(path)
        return BasebandStreamSource(path, reader, stream, warnings)


FORMAT = FileFormat("VDIF", (".vdif",), lambda file, _: matches(file), open, weak=True)


def _parse_header(raw: bytes) -> tuple[int, int, int] | None:
    """Return frame length in bytes, version and channels as one number, and seconds; None if it cannot be VDIF."""
    if len(raw) < 16:
        return None
    seconds, epoch, size, coding = struct.unpack("<4I", raw)
    legacy, length = seconds >> 30 & 1, (size & 0xFFFFFF) * 8
    bits = (coding >> 26 & 31) + 1
    # The reserved bits of word 1 are 0; a payload is whole words of 8 bytes.
    if epoch >> 30 or not 16 * (2 - legacy) < length <= 1 << 27 or bits > 32:
        return None
    return length, size >> 24, seconds & 0x3FFFFFFF
