"""Reader of GUPPI RAW files (``.raw``).

Blocks of a FITS-like header (80-character records up to ``END``) and voltages, through ``baseband``. ``PKTIDX`` places
a block in the stream. To add a keyword, read it in :func:`open`, or in ``_walk_blocks`` if it may change from block to
block.
"""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefilter.core import clock
from edgefilter.core.chunk import Gap, Loss, gaps_between
from edgefilter.core.errors import FormatError
from edgefilter.core.stream import Stream
from edgefilter.sources.base import FileFormat, FiniteSource
from edgefilter.sources.files.byte_file import as_format_error, opening, os_error_as_format_error, sampling_rate
from edgefilter.sources.files.voltages import VoltageHeader, import_baseband, tai_ns, write_samples

_DIRECT_IO_BYTES = 512  # with DIRECTIO a header is padded to a multiple of this, as O_DIRECT demands
_MAX_GAP_SECONDS = 3600  # a longer gap between blocks is a damaged packet number


@dataclass(frozen=True)
class _Block:
    """A block: first sample of the stream, usable samples, byte offset of the payload, header."""

    start: int
    samples: int
    offset: int
    header: Any


class GuppiSource(FiniteSource):
    """Voltages of a GUPPI RAW file; packet numbers place the blocks, and dropped blocks are gaps."""

    def __init__(
        self, path: Path, guppi: ModuleType, stream: Stream, blocks: list[_Block], warnings: list[str]
    ) -> None:
        self._path = path
        self._guppi = guppi
        self._blocks = blocks
        super().__init__(stream, blocks[-1].start + blocks[-1].samples, tuple(warnings))

    def _read_samples(self, start: int, stop: int, out: NDArray[np.uint8]) -> tuple[Gap, ...]:
        present = []
        with (
            os_error_as_format_error(self._path),
            self._path.open("rb") as file,
            as_format_error(self._path, "blocks cannot be read"),
        ):
            for block in self._blocks:
                first, last = max(start, block.start), min(stop, block.start + block.samples)
                if first >= last:
                    continue
                file.seek(block.offset)
                payload = self._guppi.payload.GUPPIPayload.fromfile(file, header=block.header, memmap=True)
                voltages = payload[first - block.start : last - block.start]
                write_samples(voltages.transpose(0, 2, 1), self.stream, out[first - start : last - start])
                present.append((first, last))
        return gaps_between(present, start, stop, Loss.MISSING)

    def close(self) -> None:
        """Do nothing: the file is open only while it is read."""


def matches(head: bytes) -> bool:
    """Say whether a file is GUPPI RAW.

    Parameters
    ----------
    head
        First bytes of the file, with its first header.

    Returns
    -------
    bool
        Whether header records of 80 characters begin it, BLOCSIZE among them.
    """
    records = [head[at : at + 80] for at in range(0, len(head), 80)]
    if records[0][8:9] != b"=":
        return False
    for record in records:
        if record.startswith(b"BLOCSIZE="):
            return True
        if record.startswith(b"END ") or not record.isascii():
            return False
    return False


def open(path: Path) -> GuppiSource:  # noqa: A001 - every format module has one
    """Open a GUPPI RAW file.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    GuppiSource
        Its voltages.

    Raises
    ------
    FormatError
        If the file is not GUPPI RAW or holds no whole block, or ``baseband`` is not installed.
    """
    guppi = import_baseband(path, "guppi")
    with opening(path), as_format_error(path, "is not a readable GUPPI RAW file"):
        blocks, warnings = _walk_blocks(path, guppi)
        header = blocks[0].header
        rate = _rate(path, header)
        stream = VoltageHeader(
            rate=rate,
            # STT is the start of the observation; the first packet number is the start of this file of it.
            epoch_tai_ns=tai_ns(header.start_time) + round(Fraction(_packet_start(header) or 0) * clock.NS / rate),
            channels=int(header.nchan),
            pols=int(header.npol),
            centre_mhz=float(header["OBSFREQ"]),
            width_mhz=float(header["OBSBW"]),
            bits=8,
            complex_samples=True,
            telescope=str(header.get("TELESCOP", "")),
            source=str(header.get("SRC_NAME", "")),
        ).stream(path)
        return GuppiSource(path, guppi, stream, blocks, warnings)


FORMAT = FileFormat("GUPPI RAW", (".raw",), lambda _, head: matches(head), open)


def _rate(path: Path, header: Any) -> Fraction:
    return sampling_rate(path, float(header["TBIN"]), "TBIN")


def _packet_start(header: Any) -> int | None:
    """Return the sample that a block's packet number refers to, or None if the header does not count packets."""
    packet, size = header.get("PKTIDX"), header.get("PKTSIZE")
    if not isinstance(packet, int) or not isinstance(size, int) or packet < 0 or size <= 0:
        return None
    return packet * size * 8 // (int(header.nchan) * int(header.npol) * 2 * int(header.bps))


def _walk_blocks(path: Path, guppi: ModuleType) -> tuple[list[_Block], list[str]]:
    """Read all headers, and return the blocks and warnings about a cut.

    The OVERLAP at the end of a block is left out, because the next block repeats it; in the last block too, because the
    next file repeats it.
    """
    blocks: list[_Block] = []
    warnings: list[str] = []
    with os_error_as_format_error(path), path.open("rb") as file:
        size = path.stat().st_size
        while file.tell() < size:
            header = _read_header(file, guppi)
            offset = file.tell()
            if header is None or not _same_layout(header, blocks) or offset + int(header.payload_nbytes) > size:
                warnings.append(f"{path.name}: data end in the middle of block {len(blocks)}: read up to the cut")
                break
            start = _block_start(path, header, blocks)
            if start is None:
                warnings.append(f"{path.name}: block {len(blocks)} has an impossible packet number: read up to it")
                break
            samples, overlap = int(header.samples_per_frame), int(header.overlap)
            if not 0 <= overlap < samples:
                raise FormatError(path, f"block {len(blocks)} has OVERLAP = {overlap}, must be 0 to {samples - 1}")
            blocks.append(_Block(start, samples - overlap, offset, header))
            file.seek(offset + int(header.payload_nbytes))
    if not blocks:
        raise FormatError(path, "holds no whole GUPPI RAW block, only headers or a part of one")
    return blocks, warnings


def _read_header(file: Any, guppi: ModuleType) -> Any | None:
    """Read a header and move behind it; None if it is damaged."""
    try:
        begin = file.tell()
        with as_format_error(Path(file.name), "header"):
            header = guppi.header.GUPPIHeader.fromfile(file)
            if int(header.get("DIRECTIO", 0)) == 1:
                file.seek(begin + -(-(file.tell() - begin) // _DIRECT_IO_BYTES) * _DIRECT_IO_BYTES)
            if int(header.payload_nbytes) < 1 or int(header.samples_per_frame) < 1:
                return None
            return header
    except FormatError:
        return None


def _same_layout(header: Any, blocks: list[_Block]) -> bool:
    if not blocks:
        return True
    first = blocks[0].header
    same = ("nchan", "npol", "bps", "channels_first")
    return all(getattr(header, name) == getattr(first, name) for name in same)


def _block_start(path: Path, header: Any, blocks: list[_Block]) -> int | None:
    """Return the first sample of a block, or None if its packet number is impossible."""
    if not blocks:
        return 0
    end = blocks[-1].start + blocks[-1].samples
    origin, position = _packet_start(blocks[0].header), _packet_start(header)
    if origin is None or position is None:
        return end
    start = position - origin
    return start if end <= start < end + _MAX_GAP_SECONDS * _rate(path, header) else None
