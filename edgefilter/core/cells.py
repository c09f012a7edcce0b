"""What flows between detection and the products: time-channel cells, and the rows they are integrated to."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import IntFlag
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray


class Flag(IntFlag):
    """Why a cell is not used. The lowest bit set is the one that the ledger books the cell under."""

    LOST = 1  # samples are missing: not interference
    MASK = 2  # a band that the configuration excludes
    ZERO_DM = 4  # a time at which the whole band rises or falls
    KURTOSIS = 8  # a run of low or high spectral kurtosis
    POWER = 16  # a run of power above the background
    CARRIER = 32  # a channel with a tone throughout the block
    CHANNEL = 64  # a channel that is more restless than its neighbours
    TAGGED = 128  # suspicious, but to be kept: a faint tone, or anything in a protected band


FLAGGERS = tuple(flag for flag in Flag if flag not in (Flag.LOST, Flag.TAGGED))
"""The flaggers in the order in which the ledger books."""


def flag_name(flag: Flag) -> str:
    """Name of one flag as tables show it, ``kurtosis``."""
    return str(flag.name).lower()


@dataclass(frozen=True, slots=True)
class FlagCost:
    """What one flagger, or all together, cost one kind of signal.

    Parameters
    ----------
    flagger
        Its name, or ``all``.
    signal
        ``pulse``, ``line`` or ``noise``.
    sigma
        Strength of the signal in a cell, in standard deviations; 0 for noise.
    lost
        Fraction of the signal-to-noise ratio that is lost; of noise, fraction of the cells that are flagged.
    cells
        Cells that were looked at.
    """

    flagger: str
    signal: str
    sigma: float
    lost: float
    cells: int


@dataclass(frozen=True, slots=True)
class NearThreshold:
    """Decisions of a card so near to their thresholds that the processor may have made them otherwise.

    Parameters
    ----------
    events
        Of the search: events found or not found.
    flags
        Cells whose flags may be others, of those that were looked at.
    cells
        Cells that were looked at.
    """

    events: int = 0
    flags: int = 0
    cells: int = 0


NONE_NEAR_THRESHOLD = NearThreshold()
"""None: where no card reduces."""


def median_accumulated(accumulated: NDArray[np.int32]) -> int:
    """Voltages in most cells, of those of each time; 0 if not known."""
    known = accumulated[accumulated > 0]
    return int(np.median(known)) if len(known) else 0


def n_polarisations(products: tuple[str, ...]) -> int:
    """Products that add up to the intensity."""
    return 2 if products[:2] in (("XX", "YY"), ("AA", "BB")) else 1


@dataclass(slots=True)
class Cells:
    r"""Detected power of one block.

    Parameters
    ----------
    start
        Number of the first cell, counted from the epoch.
    power
        float32 ``[time, channel, product]``, C-contiguous: mean of the accumulated spectra. Products are those of
        ``products``. 0 where LOST.
    flags
        uint16 ``[time, channel]`` of :class:`Flag` bits. A LOST cell has no other bit.
    products
        ``("XX",)``, ``("XX", "YY")`` or ``("XX", "YY", "CR", "CI")`` (real and imaginary part of the mean of X Y*) from
        voltages, otherwise the stream's own.
    accumulated
        int32 ``[time]``: spectra that were accumulated; 0 where nothing is known about it (power input).
    moment4
        float32 ``[time, channel, hand]``: mean of \|v\|⁴ for the hands XX and YY, or None for power input.
    tagged
        int64 ``[channel]``: cells that were tagged and are in use all the same; their bit is not in ``flags``. None
        before flagging.
    cost
        What flagging costs, where this block is one of those that it is measured on.
    near_threshold
        Flags that another device may have set otherwise, where this block is one of those that are looked at.
    """

    start: int
    power: NDArray[np.float32]
    flags: NDArray[np.uint16]
    products: tuple[str, ...]
    accumulated: NDArray[np.int32]
    moment4: NDArray[np.float32] | None = None
    tagged: NDArray[np.int64] | None = None
    cost: tuple[FlagCost, ...] = ()
    near_threshold: NearThreshold = NONE_NEAR_THRESHOLD

    def map_arrays(self, transform: Callable[[Any], Any]) -> Self:
        """Return them with each array of all cells where ``transform`` takes it."""
        fourth_moment = None if self.moment4 is None else transform(self.moment4)
        arrays = {
            "power": transform(self.power),
            "flags": transform(self.flags),
            "accumulated": transform(self.accumulated),
        }
        return replace(self, **arrays, moment4=fourth_moment)


@dataclass(slots=True)
class Rows:
    """Integrated power of a run of rows, what the search sees.

    Parameters
    ----------
    start
        Number of the first row, counted from the epoch.
    stokes
        float32 ``[stokes, time, channel]``, C-contiguous: mean over the cells that are neither lost nor flagged; 0
        where there is none. Stokes is first, so that plane 0, the intensity, is contiguous for the search.
    weight
        uint16 ``[time, channel]``: number of cells that the mean is made of.
    """

    start: int
    stokes: NDArray[np.float32]
    weight: NDArray[np.uint16]

    @property
    def stop(self) -> int:
        """One past the last row."""
        return self.start + len(self.weight)

    @classmethod
    def join(cls, parts: Sequence[Self | None], start: int, stop: int, like: Self) -> Self:
        """Rows ``[start, stop)`` out of consecutive parts; what no part holds has weight 0.

        ``like`` gives the number of Stokes planes and channels, and where arrays are.
        """
        # Of NumPy's or of a card's: where `like` is.
        stokes = np.zeros_like(like.stokes, order="C", shape=(len(like.stokes), stop - start, like.stokes.shape[2]))
        weight = np.zeros_like(like.weight, order="C", shape=(stop - start, like.weight.shape[1]))
        for part in parts:
            if part is None:
                continue
            first, last = max(start, part.start), min(stop, part.stop)
            if first < last:
                here, there = slice(first - start, last - start), slice(first - part.start, last - part.start)
                stokes[:, here] = part.stokes[:, there]
                weight[here] = part.weight[there]
        return cls(start, stokes, weight)
