"""Detected power: time-channel cells of one block, and the rows that they are integrated to."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import IntFlag
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray


class Flag(IntFlag):
    """Why a cell is not used. A cell with several bits counts in the ledger under its lowest bit."""

    LOST = 1  # samples are missing: not interference
    MASK = 2  # a band that the configuration excludes
    ZERO_DM = 4  # a time at which the whole band rises or falls
    KURTOSIS = 8  # a run of low or high spectral kurtosis
    POWER = 16  # a run of power above the background
    CARRIER = 32  # a channel with a tone throughout the block
    CHANNEL = 64  # a channel whose scatter exceeds that of its neighbours
    TAGGED = 128  # detected but kept: a faint tone, or anything in a protected band


FLAGGERS = tuple(flag for flag in Flag if flag not in (Flag.LOST, Flag.TAGGED))
"""The flaggers, in the order in which the ledger counts a cell that several of them flagged."""


def flag_name(flag: Flag) -> str:
    """Return the name of a flag as tables show it.

    Parameters
    ----------
    flag
        One flag.

    Returns
    -------
    str
        Its name in lower case, such as ``kurtosis``.
    """
    return str(flag.name).lower()


@dataclass(frozen=True, slots=True)
class FlagCost:
    """What one flagger, or all together, cost one kind of signal.

    Parameters
    ----------
    flagger
        Name of the flagger, or ``all``.
    signal
        ``pulse``, ``line`` or ``noise``.
    sigma
        Strength of the signal in a cell, in standard deviations of a cell; 0 for noise.
    lost
        Fraction of the signal-to-noise ratio that is lost; for noise, fraction of the cells that are flagged.
    cells
        Number of cells that were measured.
    """

    flagger: str
    signal: str
    sigma: float
    lost: float
    cells: int


@dataclass(frozen=True, slots=True)
class NearThreshold:
    """Number of decisions of a GPU that lie so near to a threshold that the processor may decide otherwise.

    Parameters
    ----------
    events
        Events of the search that were found, or not found.
    flags
        Cells whose flags may differ, among the cells that were checked.
    cells
        Cells that were checked.
    """

    events: int = 0
    flags: int = 0
    cells: int = 0


NONE_NEAR_THRESHOLD = NearThreshold()
"""For blocks that the processor reduces."""


def median_accumulated(accumulated: NDArray[np.int32]) -> int:
    """Return the usual number of spectra in a cell.

    Parameters
    ----------
    accumulated
        int32 ``[time]``: spectra accumulated in each cell; 0 where nothing is known.

    Returns
    -------
    int
        Median of the known numbers, 0 if none is known.
    """
    known = accumulated[accumulated > 0]
    return int(np.median(known)) if len(known) else 0


def n_polarisations(products: tuple[str, ...]) -> int:
    """Return how many polarisation products add up to the intensity.

    Parameters
    ----------
    products
        Names of the products, as :attr:`Cells.products`.

    Returns
    -------
    int
        2 for the two polarisations, 1 for intensity or a single polarisation.
    """
    return 2 if products[:2] in (("XX", "YY"), ("AA", "BB")) else 1


@dataclass(slots=True)
class Cells:
    r"""Detected power of one block.

    Parameters
    ----------
    start
        Number of the first cell, counted from the epoch.
    power
        float32 ``[time, channel, product]``, C-contiguous: mean of the accumulated spectra, 0 where LOST.
    flags
        uint16 ``[time, channel]``: :class:`Flag` bits. A LOST cell has no other bit.
    products
        Names of the products. From voltages: ``("XX",)``, ``("XX", "YY")`` or ``("XX", "YY", "CR", "CI")``, the last
        two being real and imaginary part of the mean of X Y*. Otherwise the stream's own.
    accumulated
        int32 ``[time]``: spectra that were accumulated; 0 where the number is not known (power input).
    moment4
        float32 ``[time, channel, polarisation]``: mean of \|v\|⁴ of the polarisations XX and YY; None for power input.
    tagged
        int64 ``[channel]``: cells that were tagged and stay in use; their bit is not in ``flags``. None before
        flagging.
    cost
        What flagging costs, if it was measured on this block.
    near_threshold
        Flags that the processor may set otherwise, if they were counted on this block.
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
        """Apply a function to each array of cells.

        Parameters
        ----------
        transform
            Takes an array and returns one of the same shape: a copy to or from a GPU, for example.

        Returns
        -------
        Cells
            With the new arrays.
        """
        fourth_moment = None if self.moment4 is None else transform(self.moment4)
        arrays = {
            "power": transform(self.power),
            "flags": transform(self.flags),
            "accumulated": transform(self.accumulated),
        }
        return replace(self, **arrays, moment4=fourth_moment)


@dataclass(slots=True)
class Rows:
    """Integrated power of consecutive rows: the input of the search.

    Parameters
    ----------
    start
        Number of the first row, counted from the epoch.
    stokes
        float32 ``[stokes, time, channel]``, C-contiguous: mean over the cells that are neither lost nor flagged; 0
        where there are none. Stokes is the first axis, so that the intensity is contiguous.
    weight
        uint16 ``[time, channel]``: number of cells in the mean.
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
        """Join consecutive parts.

        Parameters
        ----------
        parts
            Rows in ascending order; None where there is no part.
        start, stop
            Rows ``[start, stop)`` that are wanted.
        like
            Gives the number of Stokes planes and channels, and whether arrays are on the host or on a GPU.

        Returns
        -------
        Rows
            Rows ``[start, stop)``; those that no part holds have weight 0.
        """
        # zeros_like makes arrays of NumPy or of CuPy, as `like` is.
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
