"""A run of raw samples, and which of them are missing.

Intervals are half-open, ``[start, stop)``, in sample numbers of the stream.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray


class Loss(StrEnum):
    """Why a sample is missing. The values are the words of the ledger."""

    MISSING = "missing"  # never arrived
    OVERRUN = "overrun"  # arrived, but was overwritten before it was reduced
    DAMAGED = "damaged"  # arrived, but cannot be trusted
    FILE_GAP = "file_gap"  # lies between two recorded files
    FILLED = "filled"  # a recorder wrote zeros or repeats in its place
    OUTSIDE = "outside"  # before the first or after the last sample of the stream: never expected


@dataclass(frozen=True, slots=True, order=True)
class Gap:
    """Samples ``[start, stop)`` that are missing, and why."""

    start: int
    stop: int
    reason: Loss


@dataclass(frozen=True, slots=True)
class SampleAccount:
    """The balance of samples: ``expected == received + sum(lost.values())``, always."""

    expected: int
    received: int
    lost: dict[Loss, int]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Raw samples ``[start, stop)`` of a stream.

    Parameters
    ----------
    start
        Number of the first sample. It is negative where a window begins before sample 0; such samples lie in a gap of
        reason OUTSIDE.
    data
        uint8 ``[time, sample_bytes]``, C-contiguous. Bytes inside a gap are unspecified and must not reach a product.
    gaps
        Sorted, disjoint, inside the chunk.
    """

    start: int
    data: NDArray[np.uint8]
    gaps: tuple[Gap, ...] = ()

    @property
    def stop(self) -> int:
        """One past the last sample."""
        return self.start + len(self.data)

    def valid(self, step: int = 1) -> NDArray[np.bool_]:
        """Tell which runs of ``step`` samples are complete.

        Parameters
        ----------
        step
            Samples in a run.

        Returns
        -------
        numpy.ndarray
            bool ``[len(data) // step]``: True where no sample of the run is missing.

        Raises
        ------
        ValueError
            If ``step`` does not divide the length of the chunk.
        """
        if len(self.data) % step:
            raise ValueError(f"{len(self.data)} samples are not a multiple of {step}")
        valid = np.ones(len(self.data) // step, dtype=np.bool_)
        for gap in self.gaps:
            valid[(gap.start - self.start) // step : -((self.start - gap.stop) // step)] = False
        return valid

    def account(self, start: int, stop: int) -> SampleAccount:
        """Count the samples of an interval.

        Parameters
        ----------
        start, stop
            Samples ``[start, stop)``, inside the chunk.

        Returns
        -------
        SampleAccount
            Their balance.
        """
        lost: dict[Loss, int] = {}
        for gap in clip_gaps(self.gaps, start, stop):
            lost[gap.reason] = lost.get(gap.reason, 0) + gap.stop - gap.start
        expected = stop - start - lost.pop(Loss.OUTSIDE, 0)
        return SampleAccount(expected, expected - sum(lost.values()), lost)


def clip_gaps(gaps: Iterable[Gap], start: int, stop: int) -> tuple[Gap, ...]:
    """Cut gaps to an interval.

    Parameters
    ----------
    gaps
        Any gaps.
    start, stop
        The interval ``[start, stop)``.

    Returns
    -------
    tuple of Gap
        The parts of the gaps inside it.
    """
    return tuple(
        Gap(max(gap.start, start), min(gap.stop, stop), gap.reason)
        for gap in gaps
        if max(gap.start, start) < min(gap.stop, stop)
    )


def gaps_between(present: Sequence[tuple[int, int]], start: int, stop: int, reason: Loss) -> tuple[Gap, ...]:
    """Return the gaps between intervals that are present.

    Parameters
    ----------
    present
        Intervals ``[start, stop)`` that are there, sorted and disjoint.
    start, stop
        The interval ``[start, stop)`` that is searched for gaps.
    reason
        Why the samples between are missing.

    Returns
    -------
    tuple of Gap
        The gaps, sorted.
    """
    gaps = []
    position = start
    for here, end in present:
        if here > position:
            gaps.append(Gap(position, min(here, stop), reason))
        position = max(position, end)
        if position >= stop:
            break
    if position < stop:
        gaps.append(Gap(position, stop, reason))
    return tuple(gap for gap in gaps if gap.stop > gap.start)
