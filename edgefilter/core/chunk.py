"""A run of samples and which of them are there.

Intervals are half-open, ``[start, stop)``, in sample numbers of the stream.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray


class Loss(StrEnum):
    """Why a sample is not there. Values are the words of the ledger."""

    MISSING = "missing"  # never arrived
    OVERRUN = "overrun"  # arrived, but was overwritten before it was reduced
    DAMAGED = "damaged"  # arrived, but cannot be trusted
    FILE_GAP = "file_gap"  # lies between two recorded files
    OUTSIDE = "outside"  # before the first or after the last sample of the stream: nobody expected it


@dataclass(frozen=True, slots=True, order=True)
class Gap:
    """Samples ``[start, stop)`` that are not there, and why."""

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
        Number of the first sample. May be negative where a window reaches back before sample 0; such samples are
        always in a gap of reason OUTSIDE.
    data
        uint8 ``[time, sample_bytes]``, C-contiguous. What lies under a gap is unspecified and must not reach a product.
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
        """Say of each run of ``step`` samples whether all of them are there, shape ``[len(data) // step]``.

        Raises
        ------
        ValueError
            If ``step`` does not divide the chunk.
        """
        if len(self.data) % step:
            raise ValueError(f"{len(self.data)} samples are not a multiple of {step}")
        valid = np.ones(len(self.data) // step, dtype=np.bool_)
        for gap in self.gaps:
            valid[(gap.start - self.start) // step : -((self.start - gap.stop) // step)] = False
        return valid

    def account(self, start: int, stop: int) -> SampleAccount:
        """Balance the samples ``[start, stop)``, which must lie in the chunk."""
        lost: dict[Loss, int] = {}
        for gap in clip_gaps(self.gaps, start, stop):
            lost[gap.reason] = lost.get(gap.reason, 0) + gap.stop - gap.start
        expected = stop - start - lost.pop(Loss.OUTSIDE, 0)
        return SampleAccount(expected, expected - sum(lost.values()), lost)


def clip_gaps(gaps: Iterable[Gap], start: int, stop: int) -> tuple[Gap, ...]:
    """Return the parts of gaps that lie in ``[start, stop)``."""
    return tuple(
        Gap(max(gap.start, start), min(gap.stop, stop), gap.reason)
        for gap in gaps
        if max(gap.start, start) < min(gap.stop, stop)
    )


def gaps_between(present: Sequence[tuple[int, int]], start: int, stop: int, reason: Loss) -> tuple[Gap, ...]:
    """Return the gaps that sorted, disjoint ``present`` intervals leave in ``[start, stop)``."""
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
