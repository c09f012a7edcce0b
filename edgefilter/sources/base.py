"""Interface of all sources, the base class of those whose length is known, and the formats of recorded files.

A source can be read at any sample number, as often as needed: this lets a reducer start anywhere in a stream.
"""

from abc import abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from edgefilter.core.chunk import Chunk, Gap, Loss
from edgefilter.core.closing import Closing
from edgefilter.core.stream import Stream

if TYPE_CHECKING:
    from edgefilter.sources.files.byte_file import ByteFile


class Source(Protocol):
    """Samples that can be read at their numbers."""

    @property
    def stream(self) -> Stream:
        """Description of the samples."""

    @property
    def samples(self) -> int:
        """One past the last sample."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """Defects that do not prevent reading (a truncated file, unknown frequencies), one line each."""

    @property
    def packages(self) -> tuple[str, ...]:
        """Packages of other authors that read it, each ``package version``: products state them."""

    def read(self, start: int, stop: int) -> Chunk:
        """Read samples ``[start, stop)``.

        Parameters
        ----------
        start, stop
            First sample, and one past the last; any range is allowed.

        Returns
        -------
        Chunk
            Raw samples. The part before sample 0 or after the last sample is a gap of reason OUTSIDE; samples that the
            source lacks are gaps of another reason.
        """

    def close(self) -> None:
        """Release files and memory."""


class FiniteSource(Closing):
    """Base class of sources of known length: a subclass reads samples that exist, this class marks the rest as gaps.

    Parameters
    ----------
    stream, samples, warnings
        As in :class:`Source`.

    Attributes
    ----------
    warnings, packages
        As in :class:`Source`; :func:`~edgefilter.sources.files.recognise.open_files` sets the packages.
    """

    packages: tuple[str, ...] = ()
    errors_in_one_line: Callable[[], AbstractContextManager[None]] = nullcontext
    """Context in which samples are read; that of a plug-in names it if its reader fails."""

    def __init__(self, stream: Stream, samples: int, warnings: tuple[str, ...] = ()) -> None:
        self._stream = stream
        self._samples = samples
        self.warnings = warnings

    @property
    def stream(self) -> Stream:
        """Description of the samples."""
        return self._stream

    @property
    def samples(self) -> int:
        """One past the last sample."""
        return self._samples

    def read(self, start: int, stop: int) -> Chunk:
        """Read samples ``[start, stop)``; memory grows with the range, not with the source.

        Parameters
        ----------
        start, stop
            First sample, and one past the last.

        Returns
        -------
        Chunk
            As :meth:`Source.read`.

        Raises
        ------
        ValueError
            If ``stop`` lies before ``start``.
        FormatError
            If a file cannot be read there.
        """
        if stop < start:
            raise ValueError(f"samples [{start}, {stop}): stop must not lie before start")
        data = np.zeros((stop - start, self._stream.sample_bytes), np.uint8)
        first, last = min(max(start, 0), stop), max(min(stop, self._samples), start)
        if last <= first:
            return Chunk(start, data, (Gap(start, stop, Loss.OUTSIDE),) if stop > start else ())
        with self.errors_in_one_line():
            gaps = list(self._read_samples(first, last, data[first - start : last - start]))
        if first > start:
            gaps.insert(0, Gap(start, first, Loss.OUTSIDE))
        if last < stop:
            gaps.append(Gap(last, stop, Loss.OUTSIDE))
        return Chunk(start, data, tuple(gaps))

    @abstractmethod
    def _read_samples(self, start: int, stop: int, out: NDArray[np.uint8]) -> tuple[Gap, ...]:
        """Write samples ``[start, stop)``, which all lie in the source, to ``out`` and return the gaps among them.

        ``out`` is uint8 ``[time, sample_bytes]``, filled with zeros.
        """


@dataclass(frozen=True)
class FileFormat:
    """A format of recorded files: an entry point of the group ``edgefilter.sources`` names one.

    Parameters
    ----------
    name
        Its name in messages.
    suffixes
        Usual endings of its files, in lower case. They are only shown: the content of a file decides.
    matches
        Says whether a file is of this format, from the file and its first 64 KiB.
    open
        Opens a file. It raises :class:`~edgefilter.core.errors.FormatError` if the file cannot be read.
    weak
        Whether ``matches`` can be true by chance, because the format has no magic number. Such a format is asked after
        the others, and never about a text.
    """

    name: str
    suffixes: tuple[str, ...]
    matches: Callable[["ByteFile", bytes], bool]
    open: Callable[[Path], FiniteSource]
    weak: bool = False

    @property
    def summary(self) -> str:
        """The format in a few words."""
        return f"{self.name} ({', '.join(self.suffixes)})"
