"""A file format: the eight bytes ``EXAMPLE1``, the length of a header, the header of the stream as JSON, then samples.

The length is a little-endian unsigned integer of 32 bits.
"""

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgefilter.core.chunk import Gap
from edgefilter.core.errors import FormatError
from edgefilter.core.stream import Stream
from edgefilter.sources.base import FileFormat, FiniteSource
from edgefilter.sources.files.byte_file import ByteFile, opening

MAGIC = b"EXAMPLE1"
_LENGTH = struct.Struct("<I")
_MAX_HEADER_BYTES = 1 << 16


class Recording(FiniteSource):
    """The samples of a file."""

    def __init__(self, file: ByteFile) -> None:
        length = file.read(len(MAGIC), _LENGTH.size)
        if len(length) < _LENGTH.size or _LENGTH.unpack(length)[0] > _MAX_HEADER_BYTES:
            raise FormatError(file.path, f"has no header of up to {_MAX_HEADER_BYTES} bytes")
        start = len(MAGIC) + _LENGTH.size
        stream = Stream.from_json(file.read(start, _LENGTH.unpack(length)[0]))
        self._file, self._offset = file, start + _LENGTH.unpack(length)[0]
        samples, rest = divmod(max(file.size - self._offset, 0), stream.sample_bytes)
        if not samples:
            raise FormatError(file.path, f"holds no whole sample ({rest} bytes of {stream.sample_bytes})")
        warnings = (f"{file.path.name}: ends in the middle of a sample: {samples} whole samples are read",)
        super().__init__(stream, samples, warnings if rest else ())

    def _read_samples(self, start: int, stop: int, out: NDArray[np.uint8]) -> tuple[Gap, ...]:
        self._file.read_into(self._offset + start * self.stream.sample_bytes, out)
        return ()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def open_recording(path: Path) -> Recording:
    """Open a file; a file that cannot be read is a FormatError."""
    file = ByteFile(path)
    with opening(path, file):
        return Recording(file)


def write_recording(path: Path, stream: Stream, samples: bytes) -> None:
    """Write a file of raw samples."""
    header = stream.to_json().encode()
    path.write_bytes(MAGIC + _LENGTH.pack(len(header)) + header + samples)


FORMAT = FileFormat("example recording", (".example",), lambda _, head: head.startswith(MAGIC), open_recording)
