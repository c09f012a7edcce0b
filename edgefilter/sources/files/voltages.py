"""Raw voltages: GUPPI RAW, PSRDADA and VDIF, through the ``baseband`` package.

``baseband`` (https://baseband.readthedocs.io) is GPL and so an optional extra: it is imported when a file is opened.
Raw samples are ``[channel, product, component]``, signed 8-bit where the file holds 8-bit integers, float32 otherwise.
"""

import threading
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefilter.core import clock
from edgefilter.core.chunk import Gap, Loss, gaps_between
from edgefilter.core.errors import FormatError, InputError
from edgefilter.core.stream import Encoding, SampleKind, Stream, stream_name
from edgefilter.sources.files.byte_file import (
    RecordedSource,
    as_format_error,
    fraction_from_float,
    os_error_as_format_error,
    sampling_rate,
)

_PRODUCTS: dict[int, tuple[str, ...]] = {1: ("X",), 2: ("X", "Y")}
_DIRECT_IO = 512  # DIRECTIO pads a GUPPI header to a multiple of this, as O_DIRECT writing demands
_MAX_GAP_SECONDS = 3600  # s; a block further ahead has a damaged packet number


def open_guppi(path: Path) -> "GuppiSource":
    """Open a GUPPI RAW file.

    Raises
    ------
    FormatError
        If the file is not one or holds no block, or ``baseband`` is not installed.
    """
    guppi = _import_baseband(path, "guppi")
    try:
        with as_format_error(path, "is not a readable GUPPI RAW file"):
            blocks, warnings = _blocks(path, guppi)
            header = blocks[0].header
            rate = _guppi_rate(path, header)
            stream = _stream(
                path,
                rate,
                # STT is when the observation began; a later file of it begins at its first packet's number.
                _tai_ns(header.start_time) + round(Fraction(_packet_start(header) or 0) * clock.NS / rate),
                (int(header.nchan), int(header.npol)),
                (float(header["OBSFREQ"]), float(header["OBSBW"])),
                (8, True),
                (str(header.get("TELESCOP", "")), str(header.get("SRC_NAME", ""))),
            )
            return GuppiSource(path, guppi, stream, blocks, warnings)
    except InputError as error:
        raise error if isinstance(error, FormatError) else FormatError(path, str(error)) from None


def open_dada(path: Path) -> "BasebandStreamSource":
    """Open a PSRDADA file.

    Raises
    ------
    FormatError
        If the file is not one, or ``baseband`` is not installed.
    """
    dada = _import_baseband(path, "dada")
    with as_format_error(path, "is not a readable PSRDADA file"):
        reader = dada.open(str(path), "rs", squeeze=False)
    try:
        with as_format_error(path, "is not a readable PSRDADA file"):
            header = reader.header0
            pols, channels = (int(n) for n in reader.sample_shape)
            stream = _stream(
                path,
                sampling_rate(path, float(fraction_from_float(float(header["TSAMP"])) / 1_000_000), "TSAMP"),
                _tai_ns(reader.start_time),
                (channels, pols),
                (float(header["FREQ"]), float(header["BW"])),
                (int(header["NBIT"]), bool(reader.complex_data)),
                (str(header.get("TELESCOPE", "")), str(header.get("SOURCE", ""))),
            )
            return BasebandStreamSource(path, reader, stream, _dada_notes(path, dada))
    except InputError as error:
        reader.close()
        raise error if isinstance(error, FormatError) else FormatError(path, str(error)) from None


def open_vdif(path: Path) -> "BasebandStreamSource":
    """Open a VDIF file. Its header has no frequencies: the band is put at 0 MHz upwards, with a warning.

    Raises
    ------
    FormatError
        If the file is not one, its sample rate cannot be told, or ``baseband`` is not installed.
    """
    what = "is not a readable VDIF file"
    with as_format_error(path, what):
        reader = _import_baseband(path, "vdif").open(str(path), "rs", squeeze=False, fill_value=np.nan, verify="fix")
    try:
        with as_format_error(path, what):
            threads, channels = (int(n) for n in reader.sample_shape)
            if threads == 2 or (threads, channels) == (1, 2):
                shape = (threads * channels // 2, 2)
            else:
                shape = (threads * channels, 1)
            rate = fraction_from_float(float(reader.sample_rate.to_value("Hz")))
            width = float(rate) / 1e6 / (1 if reader.complex_data else 2)
            band = width * shape[0]
            warnings = [f"{path.name}: VDIF does not give frequencies, the band is taken to begin at 0 MHz"]
            if path.stat().st_size % int(reader.header0.frame_nbytes):
                warnings.append(f"{path.name}: data end in the middle of a frame, read up to there")
            stream = _stream(
                path,
                rate,
                _tai_ns(reader.start_time),
                shape,
                (band / 2, band),
                (32, bool(reader.complex_data)),
                ("", ""),
            )
            return BasebandStreamSource(path, reader, stream, warnings)
    except InputError as error:
        reader.close()
        raise error if isinstance(error, FormatError) else FormatError(path, str(error)) from None


@dataclass(frozen=True)
class GuppiBlock:
    """A block of a GUPPI RAW file: first sample of the stream, usable samples, payload's byte offset, header."""

    start: int
    samples: int
    offset: int
    header: Any


class GuppiSource(RecordedSource):
    """Voltages of a GUPPI RAW file; blocks lie where their packet numbers say, dropped ones are gaps."""

    def __init__(
        self, path: Path, guppi: ModuleType, stream: Stream, blocks: list[GuppiBlock], warnings: list[str]
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
                here, end = max(start, block.start), min(stop, block.start + block.samples)
                if here >= end:
                    continue
                file.seek(block.offset)
                payload = self._guppi.payload.GUPPIPayload.fromfile(file, header=block.header, memmap=True)
                voltages = payload[here - block.start : end - block.start]
                _write_samples(voltages.transpose(0, 2, 1), self.stream, out[here - start : end - start])
                present.append((here, end))
        return gaps_between(present, start, stop, Loss.MISSING)

    def close(self) -> None:
        """Do nothing: the file is open only while it is read."""


class BasebandStreamSource(RecordedSource):
    """Voltages from a stream reader of ``baseband``; a sample that has a bad or missing frame in it is a gap."""

    def __init__(self, path: Path, reader: Any, stream: Stream, warnings: list[str]) -> None:
        self._path = path
        self._reader = reader
        self._lock = threading.Lock()  # the reader has one position
        samples = int(reader.shape[0])
        if samples < 1:
            raise FormatError(path, "holds no whole sample")
        super().__init__(stream, samples, tuple(warnings))

    def _read_samples(self, start: int, stop: int, out: NDArray[np.uint8]) -> tuple[Gap, ...]:
        with self._lock:
            try:
                with as_format_error(self._path, "frames cannot be read"):
                    return self._read_frames(start, stop, out)
            except FormatError:
                return self._read_frame_by_frame(start, stop, out)

    def _read_frames(self, start: int, stop: int, out: NDArray[np.uint8]) -> tuple[Gap, ...]:
        self._reader.seek(start)
        voltages = np.asarray(self._reader.read(stop - start))
        bad = np.isnan(voltages).any(axis=(1, 2))
        if self._reader.sample_shape._fields[0] == "nthread":
            shaped = voltages.reshape(len(out), -1)
            if len(self.stream.products) == 2 and voltages.shape[1] == 2:
                shaped = voltages.transpose(0, 2, 1)
        else:
            shaped = voltages.transpose(0, 2, 1)
        shaped = np.ascontiguousarray(shaped)
        shaped[bad] = 0
        _write_samples(shaped, self.stream, out)
        edges = np.flatnonzero(np.diff(np.concatenate(([False], bad, [False])).astype(np.int8)))
        return tuple(Gap(start + int(a), start + int(b), Loss.DAMAGED) for a, b in edges.reshape(-1, 2))

    def _read_frame_by_frame(self, start: int, stop: int, out: NDArray[np.uint8]) -> tuple[Gap, ...]:
        """Read what can be read; a frame that cannot is damaged, and its samples are no data."""
        step = int(self._reader.samples_per_frame)
        gaps: list[Gap] = []
        position = start
        while position < stop:
            end = min(stop, (position // step + 1) * step)
            here = out[position - start : end - start]
            try:
                with as_format_error(self._path, "frame cannot be read"):
                    gaps.extend(self._read_frames(position, end, here))
            except FormatError:
                here[:] = 0
                gaps.append(Gap(position, end, Loss.DAMAGED))
            position = end
        return tuple(gaps)

    def close(self) -> None:
        """Close the file."""
        self._reader.close()


def _write_samples(voltages: NDArray[Any], stream: Stream, out: NDArray[np.uint8]) -> None:
    """Write voltages ``[time, channel, product]``, real or complex floats, as the stream's raw samples."""
    contiguous = np.ascontiguousarray(voltages)
    numbers = contiguous.view(np.float32).reshape(len(out), -1)
    if stream.bits == 8:
        out.view(np.int8)[:] = numbers.astype(np.int8)
    else:
        out.view("<f4")[:] = numbers


def _import_baseband(path: Path, module: str) -> ModuleType:
    try:
        with as_format_error(path, "baseband cannot be imported"):
            from importlib import import_module

            return import_module(f"baseband.{module}")
    except FormatError as error:
        if "No module named" not in str(error):
            raise
        raise FormatError(path, "raw voltages need baseband: pip install 'edgefilter[voltages]'") from None


def _stream(
    path: Path,
    rate: Fraction,
    epoch: int,
    shape: tuple[int, int],
    band_mhz: tuple[float, float],
    sample_format: tuple[int, bool],
    names: tuple[str, str],
) -> Stream:
    """Describe a stream of ``shape`` channels and polarisations, over a band of centre and signed width in MHz."""
    channels, n_pols = shape
    if n_pols not in _PRODUCTS:
        raise FormatError(path, f"has {n_pols} polarisations, must be 1 or 2")
    bits, is_complex = sample_format
    centre, width = band_mhz
    step = width / channels
    telescope, source = (name.strip() for name in names)
    return Stream(
        name=stream_name(source or path.stem),
        kind=SampleKind.VOLTAGE,
        epoch_tai_ns=epoch,
        rate=rate,
        channels=channels,
        first_channel_hz=(centre - width / 2 + step / 2) * 1e6,
        channel_step_hz=step * 1e6,
        products=_PRODUCTS[n_pols],
        bits=8 if bits == 8 else 32,
        encoding=Encoding.SIGNED if bits == 8 else Encoding.FLOAT,
        complex_samples=is_complex,
        telescope=telescope,
        source=source,
    )


def _tai_ns(time: Any) -> int:
    text = time.utc.copy()
    text.precision = 9
    return clock.tai_ns_from_iso(str(text.isot))


def _guppi_rate(path: Path, header: Any) -> Fraction:
    return sampling_rate(path, float(header["TBIN"]), "TBIN")


def _packet_start(header: Any) -> int | None:
    """Return the sample that a block's packet number stands for, or None where the header does not count packets."""
    packet, size = header.get("PKTIDX"), header.get("PKTSIZE")
    if not isinstance(packet, int) or not isinstance(size, int) or packet < 0 or size <= 0:
        return None
    return packet * size * 8 // (int(header.nchan) * int(header.npol) * 2 * int(header.bps))


def _blocks(path: Path, guppi: ModuleType) -> tuple[list[GuppiBlock], list[str]]:
    """Walk the headers.

    Every block gives up its overlap, which the next one repeats: the last one too, because that is the next file's.
    """
    blocks: list[GuppiBlock] = []
    warnings: list[str] = []
    with os_error_as_format_error(path), path.open("rb") as file:
        size = path.stat().st_size
        while file.tell() < size:
            header = _guppi_header(file, guppi)
            offset = file.tell()
            whole = header is not None and _same_layout(header, blocks)
            if header is None or not whole or offset + int(header.payload_nbytes) > size:
                warnings.append(f"{path.name}: data end in the middle of block {len(blocks)}, read up to there")
                break
            start = _block_start(path, header, blocks)
            if start is None:
                warnings.append(f"{path.name}: block {len(blocks)} has an impossible packet number, read up to there")
                break
            samples, overlap = int(header.samples_per_frame), int(header.overlap)
            if not 0 <= overlap < samples:
                raise FormatError(path, f"block {len(blocks)} has OVERLAP = {overlap} of {samples} samples")
            blocks.append(GuppiBlock(start, samples - overlap, offset, header))
            file.seek(offset + int(header.payload_nbytes))
    if not blocks:
        raise FormatError(path, "holds no whole GUPPI RAW block, only headers or a part of one")
    return blocks, warnings


def _guppi_header(file: Any, guppi: ModuleType) -> Any | None:
    try:
        begin = file.tell()
        with as_format_error(Path(file.name), "header"):
            header = guppi.header.GUPPIHeader.fromfile(file)
            if int(header.get("DIRECTIO", 0)) == 1:
                file.seek(begin + -(-(file.tell() - begin) // _DIRECT_IO) * _DIRECT_IO)
            if int(header.payload_nbytes) < 1 or int(header.samples_per_frame) < 1:
                return None
            return header
    except FormatError:
        return None


def _same_layout(header: Any, blocks: list[GuppiBlock]) -> bool:
    if not blocks:
        return True
    first = blocks[0].header
    same = ("nchan", "npol", "bps", "channels_first")
    return all(getattr(header, name) == getattr(first, name) for name in same)


def _block_start(path: Path, header: Any, blocks: list[GuppiBlock]) -> int | None:
    if not blocks:
        return 0
    end = blocks[-1].start + blocks[-1].samples
    origin, here = _packet_start(blocks[0].header), _packet_start(header)
    if origin is None or here is None:
        return end
    start = here - origin
    return start if end <= start < end + _MAX_GAP_SECONDS * _guppi_rate(path, header) else None


def _dada_notes(path: Path, dada: ModuleType) -> list[str]:
    # Read afresh: the stream reader lowers FILE_SIZE in its own copy to what a cut file holds.
    with path.open("rb") as file:
        header = dada.header.DADAHeader.fromfile(file)
    expected_bytes = header.get("FILE_SIZE")
    data_bytes = path.stat().st_size - int(header.nbytes)
    if isinstance(expected_bytes, int) and data_bytes < expected_bytes:
        return [f"{path.name}: {data_bytes} bytes of data, its header promises {expected_bytes}: read up to there"]
    return []
