"""Consecutive recorded files, read as one stream."""

import bisect
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgefilter.core.chunk import Gap, Loss
from edgefilter.core.clock import NS
from edgefilter.core.errors import SequenceError
from edgefilter.core.stream import SampleKind, Stream
from edgefilter.sources.base import FiniteSource, Source

MAX_GAP_SECONDS = 3600.0
"""Longest time between two files of one stream, s; files further apart belong to two observations."""

_COMMON_FIELDS = (
    "kind",
    "rate",
    "channels",
    "first_channel_hz",
    "channel_step_hz",
    "products",
    "bits",
    "encoding",
    "complex_samples",
)


class FileSequence(FiniteSource):
    """Recorded files of one observation, in order of their starts.

    Sample 0, name and epoch are those of the first file. A later file begins at the whole sample nearest to its start;
    the samples between two files are a gap of reason FILE_GAP.

    Parameters
    ----------
    sources
        One or more, in any order. The sequence closes them, also if it raises.
    labels
        Their names in messages; by default those of the streams.

    Raises
    ------
    SequenceError
        If there is none, or they do not belong to one stream: a field of their headers differs, they overlap by more
        than half a sample, or are more than :data:`MAX_GAP_SECONDS` apart.
    """

    def __init__(self, sources: Sequence[Source], labels: Sequence[str] | None = None) -> None:
        if not sources:
            raise SequenceError("no files given, expected one or more")
        names = labels if labels is not None else [source.stream.name for source in sources]
        pairs = sorted(zip(sources, names, strict=True), key=lambda pair: pair[0].stream.epoch_tai_ns)
        self._sources = [source for source, _ in pairs]
        self._labels = [name for _, name in pairs]
        try:
            for source, label in pairs[1:]:
                _check_same_stream(self._sources[0].stream, self._labels[0], source.stream, label)
            self._starts, warnings = self._locate_files()
        except SequenceError:
            self.close()
            raise
        samples = self._starts[-1] + self._sources[-1].samples
        file_warnings = [line for source in self._sources for line in source.warnings]
        super().__init__(self._sources[0].stream, samples, (*file_warnings, *warnings))
        self.packages = tuple(dict.fromkeys(name for source in self._sources for name in source.packages))

    def _locate_files(self) -> tuple[list[int], list[str]]:
        """Return the first sample of each file, and a warning about each gap."""
        first = self._sources[0].stream
        starts, warnings = [0], []
        end = self._sources[0].samples
        for i in range(1, len(self._sources)):
            source, label, before = self._sources[i], self._labels[i], self._labels[i - 1]
            # Not yet rounded: the rounding of epochs to 1 ns must not decide on a start halfway between two samples.
            exact_start = (source.stream.epoch_tai_ns - first.epoch_tai_ns) * first.rate / NS
            start = round(exact_start)
            seconds = float((exact_start - end) / first.rate)
            if abs(end - exact_start) <= _start_tolerance(first):
                start = end
            if start < end:
                raise SequenceError(f"{label}: begins {-seconds:.6g} s before {before} ends, files must not overlap")
            if seconds > MAX_GAP_SECONDS:
                raise SequenceError(
                    f"{label}: begins {seconds:.6g} s after {before} ends,"
                    f" but files of one stream are at most {MAX_GAP_SECONDS:g} s apart"
                )
            if start > end:
                warnings.append(f"{label}: begins {seconds:.6g} s after {before} ends, a gap of {start - end} samples")
            starts.append(start)
            end = start + source.samples
        return starts, warnings

    def _read_samples(self, start: int, stop: int, out: NDArray[np.uint8]) -> tuple[Gap, ...]:
        gaps: list[Gap] = []
        position = start
        for i in range(bisect.bisect_right(self._starts, start) - 1, len(self._sources)):
            offset = self._starts[i]
            here, end = max(start, offset), min(stop, offset + self._sources[i].samples)
            if offset >= stop:
                break
            if here > position:
                gaps.append(Gap(position, here, Loss.FILE_GAP))
                position = here
            if end <= here:
                continue
            chunk = self._sources[i].read(here - offset, end - offset)
            out[here - start : end - start] = chunk.data
            gaps.extend(Gap(gap.start + offset, gap.stop + offset, gap.reason) for gap in chunk.gaps)
            position = end
        if position < stop:
            gaps.append(Gap(position, stop, Loss.FILE_GAP))
        return tuple(gaps)

    def close(self) -> None:
        """Close all files."""
        for source in self._sources:
            source.close()


def _check_same_stream(first: Stream, first_label: str, other: Stream, label: str) -> None:
    for name in _COMMON_FIELDS:
        expected, found = getattr(first, name), getattr(other, name)
        if expected != found:
            raise SequenceError(f"{label}: {name} is {found}, but {expected} in {first_label}: not one stream")


def _start_tolerance(stream: Stream) -> float:
    """Return the samples by which the start of a contiguous file may differ from the end of the previous one.

    Half a sample; for power also 2 µs, the rounding of the float MJD in a SIGPROC or FBH5 header.
    """
    return max(0.5, float(stream.rate) * 2e-6) if stream.kind is SampleKind.POWER else 0.5
