"""What the reducer finds in one block: sums of its cells, its pulses and the sample counts; input of the products."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefilter.core.cells import NONE_NEAR_THRESHOLD, FlagCost, NearThreshold, Rows
from edgefilter.core.chunk import SampleAccount


@dataclass(slots=True)
class IntegratedBlock:
    """What remains of a block's cells.

    The balance ``good + occupancy.sum(axis=0) == cells in the extent`` holds exactly in every channel.

    Parameters
    ----------
    rows
        Integrated cells, what the search sees.
    spectrum
        float64 ``[stokes, channel]``: mean over all good cells of the extent, NaN where there is none.
    good
        int64 ``[channel]``: good cells of the extent.
    occupancy
        int64 ``[flag, channel]``, flags in the order of :class:`~edgefilter.core.cells.Flag`: cells of the extent,
        each counted once, under its lowest flag bit.
    raised
        int64 ``[flag, channel]``: cells of the extent in which this bit is set, whatever other bits are.
    cost
        What flagging costs, where it was measured.
    near_threshold
        Flags that another device may have set otherwise, where they were looked at.
    """

    rows: Rows
    spectrum: NDArray[np.float64]
    good: NDArray[np.int64]
    occupancy: NDArray[np.int64]
    raised: NDArray[np.int64]
    cost: tuple[FlagCost, ...] = ()
    near_threshold: NearThreshold = NONE_NEAR_THRESHOLD


class Rejection(StrEnum):
    """Why an event of the pulse search is no candidate. The values are the words of the ledger."""

    DOUBLE = "double"  # a stronger event explains it
    ZERO_DM = "zero_dm"  # its sweep is narrower than its width
    NARROW_BAND = "narrow_band"  # it fills too little of its band


@dataclass(frozen=True, slots=True)
class PulseCandidate:
    """One candidate.

    Parameters
    ----------
    row
        Arrival at the centre of the whole band's highest channel, rows since the epoch, middle of the boxcar.
    dm, dm_error
        Dispersion measure and its uncertainty, pc cm⁻³.
    width_rows
        Width of the best boxcar.
    snr
        Signal to noise ratio.
    freq_low, freq_high
        Edges of the band in which it is strongest, MHz.
    members
        Events that it explains, itself included.
    """

    row: float
    dm: float
    dm_error: float
    width_rows: int
    snr: float
    freq_low: float
    freq_high: float
    members: int


@dataclass(frozen=True, slots=True, eq=False)
class CutoutRows:
    """Rows that are kept around a pulse: the same number of each channel, from the delay of the pulse in it on.

    Parameters
    ----------
    number
        Distinguishes the cut-outs of a block: the rank of the strongest pulse in it, from 0.
    first
        int64 ``[channel]``: first row, counted from the epoch. Rows before 0 do not exist.
    stokes
        float32 ``[stokes, row, channel]``: mean power, 0 where there is none.
    weight
        uint16 ``[row, channel]``: number of cells in the mean.
    level, scatter
        float32 ``[stokes, channel]``: mean and standard deviation of rows near the pulse but not in it; 0 where there
        are none.
    """

    number: int
    first: NDArray[np.int64]
    stokes: NDArray[np.float32]
    weight: NDArray[np.uint16]
    level: NDArray[np.float32]
    scatter: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class KeptPulse:
    """A pulse, and its cut-out if it has one.

    Parameters
    ----------
    pulse
        The pulse, as it was measured again in rows that are not clipped; as the search found it if it was not.
    flagged_fraction
        Fraction of the cells under its track that were lost or flagged.
    cutout
        Rows around it. A pulse that lies in the cut-out of a stronger one has that.
    snr_search
        S/N that the search found; None for that of ``pulse``.
    """

    pulse: PulseCandidate
    flagged_fraction: float
    cutout: CutoutRows | None
    snr_search: float | None = None


@dataclass(frozen=True, slots=True)
class ReducedBlock:
    """All that is left of a block.

    Parameters
    ----------
    block
        Its number.
    samples
        The balance of its samples.
    integrated
        Spectrum, good cells and flag occupancy. Its rows are kept only as long as a stage needs them.
    cutout_cells
        Good cells that lie in cut-outs, of this block's pulses or another's.
    pulses
        Pulses that arrive at the top of the band in this block, in the order of the S/N that the search found.
    overflow
        Candidates that the bounded buffers could not take.
    rejected
        Events of the block that are no candidates, by reason.
    backend
        What reduced it, as :class:`~edgefilter.compute.threads.ThreadBackend` calls it.
    near_threshold
        Decisions that another device may have made otherwise.
    stage_results
        What the stages of plug-ins found: columns of a table by the name of the stage.
    """

    block: int
    samples: SampleAccount
    integrated: IntegratedBlock
    cutout_cells: int
    pulses: tuple[KeptPulse, ...]
    overflow: int
    rejected: Mapping[Rejection, int] = field(default_factory=dict)
    backend: str = "cpu"
    near_threshold: NearThreshold = NONE_NEAR_THRESHOLD
    stage_results: Mapping[str, Mapping[str, Sequence[Any]]] = field(default_factory=dict)
