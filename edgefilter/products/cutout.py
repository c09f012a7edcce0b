"""Cut-outs: the power around one pulse. :mod:`edgefilter.products.cutout_file` writes and reads their files."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefilter.core.clock import mjd, tai_ns
from edgefilter.core.plan import cutout_margin_rows, dispersion_delay
from edgefilter.products.base import BlockInputs, Provenance
from edgefilter.products.pulses import PulseRow, pulse_row

# Numbers that SIGPROC and PRESTO (sigproc_fb.c) agree on; 0 is what they write for any other.
_TELESCOPE_IDS = {
    "arecibo": 1,
    "parkes": 4,
    "jodrell": 5,
    "gbt": 6,
    "gmrt": 7,
    "effelsberg": 8,
    "srt": 10,
    "lofar": 11,
    "vla": 12,
    "chime": 20,
    "fast": 21,
    "meerkat": 64,
}


@dataclass(frozen=True, eq=False)
class Cutout:
    """Integrated power around a pulse: the rectangle of its band and sweep, of which rows along the sweep are kept.

    Parameters
    ----------
    data
        float32 ``[time, stokes, channel]``: the rows' mean power, 0 where a row has no good cell.
    mask
        uint8 ``[time, channel]``: 1 where ``data`` is not used, because all was lost or flagged, or was not kept.
    stokes
        Names of the planes, ``("I",)`` or ``("I", "Q", "U", "V")``.
    first_sample
        Number of the first sample of the first row.
    tai_ns
        Start of the first row, TAI in ns since 1970 TAI.
    rate
        Samples of the stream a second, Hz.
    samples_per_row
        Samples of the stream in a row.
    first_channel_mhz, channel_mhz
        Centre of channel 0 and the signed step to the next, MHz.
    pulse
        What was found, of several the strongest. Its ``cutout`` is not stored: the name follows from the bytes.
    provenance, block
        What it was made from.
    telescope, source
        As the stream's header gives them, or empty.
    first
        int64 ``[channel]``: ``data`` and ``mask`` begin at this row of the cut-out in each channel, as
        :func:`make_cutouts` makes them; rows before 0 do not exist. None in a cut-out that was read: all begin at row
        0, and what was not kept is masked.
    level, scatter
        float32 ``[stokes, channel]``: mean and standard deviation of the rows beside the pulse, more of them than were
        kept; 0 where they are not known. None if they were not stored.

    Raises
    ------
    ValueError
        If types or shapes are not these.
    """

    data: NDArray[np.float32]
    mask: NDArray[np.uint8]
    stokes: tuple[str, ...]
    first_sample: int
    tai_ns: int
    rate: Fraction
    samples_per_row: int
    first_channel_mhz: float
    channel_mhz: float
    pulse: PulseRow
    provenance: Provenance
    block: int
    telescope: str = ""
    source: str = ""
    first: NDArray[np.int64] | None = None
    level: NDArray[np.float32] | None = None
    scatter: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        if self.data.dtype != np.float32 or self.data.ndim != 3 or not self.data.size:
            raise ValueError(f"data is {self.data.dtype} {self.data.shape}, must be float32 [time, stokes, channel]")
        if self.mask.dtype != np.uint8 or self.mask.shape != (self.data.shape[0], self.data.shape[2]):
            raise ValueError(f"mask is {self.mask.dtype} {self.mask.shape}, must be uint8 [time, channel] of the data")
        if len(self.stokes) != self.data.shape[1]:
            raise ValueError(f"{len(self.stokes)} names for {self.data.shape[1]} Stokes planes")

    @property
    def row_seconds(self) -> float:
        """Duration of a row, s."""
        return float(self.samples_per_row / self.rate)

    @property
    def seconds(self) -> NDArray[np.float64]:
        """Starts of the rows, s since the stream's first sample, float64 ``[time]``."""
        first = float(self.first_sample / self.rate)
        return first + np.arange(len(self.data), dtype=np.float64) * self.row_seconds

    @property
    def frequencies_mhz(self) -> NDArray[np.float64]:
        """Centre frequencies of the channels, MHz, float64 ``[channel]``."""
        return self.first_channel_mhz + np.arange(self.data.shape[2], dtype=np.float64) * self.channel_mhz

    def around(self, pulse: PulseRow) -> "Cutout":
        """Cut out the part that belongs to one of its pulses: from before its arrival to after its sweep.

        Parameters
        ----------
        pulse
            One of the pulses.

        Returns
        -------
        Cutout
            Views of the arrays; ``pulse`` is this pulse.
        """
        low, high = float(self.frequencies_mhz.min()), float(self.frequencies_mhz.max())
        sweep = dispersion_delay(pulse.dm, low, high) / self.row_seconds if low > 0 else 0.0
        margin = cutout_margin_rows(pulse.width / self.row_seconds)
        at = (pulse.sample - self.first_sample) / self.samples_per_row
        first = min(max(math.floor(at - margin), 0), len(self.data) - 1)
        stop = max(math.ceil(at + sweep + margin), first + 1)
        before = first * self.samples_per_row
        return replace(
            self,
            data=self.data[first:stop],
            mask=self.mask[first:stop],
            first_sample=self.first_sample + before,
            tai_ns=tai_ns(self.tai_ns, self.rate, before),
            pulse=pulse,
        )

    def rectangle(self) -> "Cutout":
        """Return the cut-out with all channels from row 0 on; cells that were not kept are masked."""
        if self.first is None:
            return self
        length, channels = self.mask.shape
        time = max(int(self.first.max()) + length, 1)
        data = np.zeros((time, self.data.shape[1], channels), np.float32)
        mask = np.ones((time, channels), np.uint8)
        rows = self.first + np.arange(length)[:, None]
        row, channel = np.nonzero((rows >= 0) & (self.mask == 0))
        data[rows[row, channel], :, channel] = self.data[row, :, channel]
        mask[rows[row, channel], channel] = 0
        return replace(self, data=data, mask=mask, first=None)

    @property
    def masked(self) -> "np.ma.MaskedArray[Any, np.dtype[np.float32]]":
        """``data`` with the unused cells masked, ``[time, stokes, channel]``."""
        return np.ma.MaskedArray(self.data, np.broadcast_to(self.mask[:, None, :] != 0, self.data.shape))


def make_cutouts(inputs: BlockInputs) -> Iterator[tuple[int, Cutout]]:
    """Make the cut-outs of a block's pulses; pulses that share one are described by the strongest.

    Parameters
    ----------
    inputs
        The block.

    Yields
    ------
    int, Cutout
        Number of the cut-out in the block, and the cut-out.
    """
    plan, made = inputs.plan, set()
    for kept in inputs.reduced.pulses:
        rows = kept.cutout
        if rows is None or rows.number in made:
            continue
        made.add(rows.number)
        start = max(int(rows.first.min()), 0)
        sample = start * plan.samples_per_row
        yield (
            rows.number,
            Cutout(
                data=rows.stokes.swapaxes(0, 1),
                mask=(rows.weight == 0).astype(np.uint8),
                stokes=tuple(plan.settings.detect.stokes),
                first_sample=sample,
                tai_ns=tai_ns(plan.stream.epoch_tai_ns, plan.stream.rate, sample),
                rate=plan.stream.rate,
                samples_per_row=plan.samples_per_row,
                first_channel_mhz=float(plan.frequencies_mhz[0]),
                channel_mhz=plan.channel_mhz,
                pulse=pulse_row(plan, kept),
                provenance=inputs.provenance,
                block=inputs.block.number,
                telescope=plan.stream.telescope,
                source=plan.stream.source,
                first=rows.first - start,
                level=rows.level,
                scatter=rows.scatter,
            ),
        )


def filterbank_header(cutout: Cutout) -> dict[str, Any]:
    """Make the SIGPROC header of a cut-out.

    Parameters
    ----------
    cutout
        The cut-out.

    Returns
    -------
    dict
        Keywords of SIGPROC; where the telescope points is not known and 0.
    """
    return {
        "machine_id": 0,
        "telescope_id": _TELESCOPE_IDS.get(cutout.telescope.lower(), 0),
        "source_name": cutout.source or "unknown",
        "data_type": 1,
        "fch1": cutout.first_channel_mhz,
        "foff": cutout.channel_mhz,
        "nchans": cutout.data.shape[2],
        "nifs": cutout.data.shape[1],
        "nbits": 32,
        "tsamp": cutout.row_seconds,
        "tstart": mjd(cutout.tai_ns),
        "src_raj": 0.0,
        "src_dej": 0.0,
        "az_start": 0.0,
        "za_start": 0.0,
    }
