"""Parts shared by the readers of raw voltages: GUPPI RAW, PSRDADA and VDIF.

They use the ``baseband`` package (https://baseband.readthedocs.io), which is GPL and so an optional extra: it is
imported when a file is opened. Raw samples are ``[channel, product, component]``, signed 8-bit if the file holds 8-bit
integers, float32 otherwise.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefilter.core import clock
from edgefilter.core.chunk import Gap, Loss
from edgefilter.core.errors import FormatError
from edgefilter.core.stream import Encoding, SampleKind, Stream, stream_name
from edgefilter.sources.base import FiniteSource
from edgefilter.sources.files.byte_file import as_format_error, opening

_PRODUCTS: dict[int, tuple[str, ...]] = {1: ("X",), 2: ("X", "Y")}


@dataclass(frozen=True)
class VoltageHeader:
    """Keywords that the three formats have in common.

    Parameters
    ----------
    rate
        Samples a second, Hz.
    epoch_tai_ns
        TAI of sample 0, ns since 1970.
    channels, pols
        Shape of a sample.
    centre_mhz, width_mhz
        Centre and signed width of the band, MHz.
    bits
        Bits of one component.
    complex_samples
        Whether voltages are complex.
    telescope, source
        As the header gives them, or empty.
    """

    rate: Fraction
    epoch_tai_ns: int
    channels: int
    pols: int
    centre_mhz: float
    width_mhz: float
    bits: int
    complex_samples: bool
    telescope: str = ""
    source: str = ""

    def stream(self, path: Path) -> Stream:
        """Describe the stream of a file.

        Parameters
        ----------
        path
            The file.

        Returns
        -------
        Stream
            Named by its source, or else by the file.

        Raises
        ------
        FormatError
            If there are neither 1 nor 2 polarisations.
        """
        if self.pols not in _PRODUCTS:
            raise FormatError(path, f"has {self.pols} polarisations, must have 1 or 2")
        step = self.width_mhz / self.channels
        source = self.source.strip()
        return Stream(
            name=stream_name(source or path.stem),
            kind=SampleKind.VOLTAGE,
            epoch_tai_ns=self.epoch_tai_ns,
            rate=self.rate,
            channels=self.channels,
            first_channel_hz=(self.centre_mhz - self.width_mhz / 2 + step / 2) * 1e6,
            channel_step_hz=step * 1e6,
            products=_PRODUCTS[self.pols],
            bits=8 if self.bits == 8 else 32,
            encoding=Encoding.SIGNED if self.bits == 8 else Encoding.FLOAT,
            complex_samples=self.complex_samples,
            telescope=self.telescope.strip(),
            source=source,
        )


class BasebandStreamSource(FiniteSource):
    """Voltages from a stream reader of ``baseband``; a sample of a bad or missing frame is a gap of reason DAMAGED."""

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
                return self._read_frames(start, stop, out)
            except FormatError:
                return self._read_frame_by_frame(start, stop, out)

    def _read_frames(self, start: int, stop: int, out: NDArray[np.uint8]) -> tuple[Gap, ...]:
        with as_format_error(self._path, "frames cannot be read"):
            self._reader.seek(start)
            voltages = np.asarray(self._reader.read(stop - start))
            bad = np.isnan(voltages).any(axis=(1, 2))
            # VDIF may hold its channels in threads: [time, thread, channel].
            in_threads = self._reader.sample_shape._fields[0] == "nthread"
            if in_threads and not (len(self.stream.products) == 2 and voltages.shape[1] == 2):
                shaped = voltages.reshape(len(out), -1)
            else:
                shaped = voltages.transpose(0, 2, 1)
            shaped = np.ascontiguousarray(shaped)
            shaped[bad] = 0
            write_samples(shaped, self.stream, out)
        edges = np.flatnonzero(np.diff(np.concatenate(([False], bad, [False])).astype(np.int8)))
        return tuple(Gap(start + int(a), start + int(b), Loss.DAMAGED) for a, b in edges.reshape(-1, 2))

    def _read_frame_by_frame(self, start: int, stop: int, out: NDArray[np.uint8]) -> tuple[Gap, ...]:
        """Read all readable frames; the samples of each other frame are a gap."""
        step = int(self._reader.samples_per_frame)
        gaps: list[Gap] = []
        position = start
        while position < stop:
            end = min(stop, (position // step + 1) * step)
            frame = out[position - start : end - start]
            try:
                gaps.extend(self._read_frames(position, end, frame))
            except FormatError:
                frame[:] = 0
                gaps.append(Gap(position, end, Loss.DAMAGED))
            position = end
        return tuple(gaps)

    def close(self) -> None:
        """Close the file."""
        self._reader.close()
        self._reader._frame = None  # of PSRDADA a memory map, which keeps the file open


def write_samples(voltages: NDArray[Any], stream: Stream, out: NDArray[np.uint8]) -> None:
    """Write voltages as the raw samples of a stream.

    Parameters
    ----------
    voltages
        float32 or complex64 ``[time, channel, product]``.
    stream
        The stream.
    out
        uint8 ``[time, sample_bytes]``.
    """
    numbers = np.ascontiguousarray(voltages).view(np.float32).reshape(len(out), -1)
    if stream.bits == 8:
        out.view(np.int8)[:] = numbers.astype(np.int8)
    else:
        out.view("<f4")[:] = numbers


def import_baseband(path: Path, module: str) -> ModuleType:
    """Import a module of ``baseband``.

    Parameters
    ----------
    path
        The file that needs it, for the message.
    module
        Its name, such as ``vdif``.

    Returns
    -------
    ModuleType
        The module.

    Raises
    ------
    FormatError
        If it is not installed or cannot be imported.
    """
    try:
        with as_format_error(path, "baseband cannot be imported"):
            return import_module(f"baseband.{module}")
    except FormatError as error:
        if "No module named" not in str(error):
            raise
        raise FormatError(path, "raw voltages need baseband: pip install 'edgefilter[voltages]'") from None


@contextmanager
def open_reader(path: Path, module: ModuleType, what: str, **options: Any) -> Iterator[Any]:
    """Open a stream reader of ``baseband``, and close it if the ``with`` block fails.

    Parameters
    ----------
    path
        The file.
    module
        ``baseband.dada`` or ``baseband.vdif``.
    what
        Start of the message of an error.
    **options
        For ``module.open``.

    Yields
    ------
    reader
        Its samples have shape ``[time, ...]`` with no axis dropped.
    """
    with as_format_error(path, what):
        reader = module.open(str(path), "rs", squeeze=False, **options)
    with opening(path, reader), as_format_error(path, what):
        yield reader


def tai_ns(time: Any) -> int:
    """Convert an instant of ``baseband``.

    Parameters
    ----------
    time
        An ``astropy.time.Time``.

    Returns
    -------
    int
        TAI, ns since 1970.
    """
    utc = time.utc.copy()
    utc.precision = 9
    return clock.tai_ns_from_iso(str(utc.isot))
