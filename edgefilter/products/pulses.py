"""The table ``pulses``: one row per pulse candidate.

A new column is three lines here: in :data:`SCHEMA`, in :class:`PulseRow` and in :func:`pulse_row`. ``time`` is added
in :func:`pulses_table`.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from edgefilter.core.clock import tai_ns, utc_us
from edgefilter.core.plan import Plan, dispersion_delay
from edgefilter.core.reduced_block import KeptPulse
from edgefilter.products.base import (
    BlockInfo,
    BlockInputs,
    Priority,
    Provenance,
    Table,
    block_schema,
    column,
    make_table,
)

SCHEMA = block_schema(
    column("sample", pa.uint64(), "", "sample of the stream at which it arrives at the top of the stream's band"),
    column("seconds", pa.float64(), "s", "arrival at the top of the stream's band, since the stream's first sample"),
    column("seconds_inf", pa.float64(), "s", "arrival at infinite frequency, since the stream's first sample"),
    column("time", pa.timestamp("us", "UTC"), "UTC", "arrival at the top of the stream's band"),
    column("tai_ns", pa.int64(), "ns", "arrival at the top of the stream's band, TAI since 1970-01-01T00:00:00 TAI"),
    column("dm", pa.float64(), "pc cm-3", "dispersion measure, measured again around the strongest trial"),
    column("dm_error", pa.float64(), "pc cm-3", "uncertainty of dm"),
    column("width", pa.float64(), "s", "width of the boxcar that matched best"),
    column(
        "snr", pa.float64(), "", "signal-to-noise ratio, measured again in unclipped power; snr_search if it was not"
    ),
    column("freq_low", pa.float64(), "MHz", "lower edge of the sub-band it was found in"),
    column("freq_high", pa.float64(), "MHz", "upper edge of the sub-band it was found in"),
    column("members", pa.int32(), "", "trials in the cluster"),
    column("flagged", pa.float64(), "", "fraction of the cells under its sweep that are lost or flagged"),
    column("cutout", pa.string(), "", "name of its cut-out in the store, empty if none was kept"),
    column(
        "snr_search", pa.float64(), "", "signal-to-noise ratio of the strongest trial of the search: the threshold's"
    ),
)


@dataclass(frozen=True, slots=True)
class PulseRow:
    """A pulse candidate, in the units of :data:`SCHEMA`. A new field needs a default, for cut-outs that lack it."""

    sample: int
    seconds: float
    seconds_inf: float
    tai_ns: int
    dm: float
    dm_error: float
    width: float
    snr: float
    freq_low: float
    freq_high: float
    members: int
    flagged: float
    cutout: str = ""
    snr_search: float | None = None


def pulse_row(plan: Plan, kept: KeptPulse, cutout: str = "") -> PulseRow:
    """Describe a pulse in the units of the table.

    Parameters
    ----------
    plan
        Layout of the reduction.
    kept
        The pulse.
    cutout
        Name of its cut-out in the store, empty if it has none.

    Returns
    -------
    PulseRow
        Its row.
    """
    pulse = kept.pulse
    sample = plan.sample_of_row(pulse.row)
    seconds = plan.stream.seconds(sample)
    top = float(plan.frequencies_mhz.max())
    return PulseRow(
        sample=sample,
        seconds=seconds,
        seconds_inf=seconds - dispersion_delay(pulse.dm, top, np.inf) if top > 0 else seconds,
        tai_ns=tai_ns(plan.stream.epoch_tai_ns, plan.stream.rate, sample),
        dm=pulse.dm,
        dm_error=pulse.dm_error,
        width=pulse.width_rows * plan.row_seconds,
        snr=pulse.snr,
        freq_low=pulse.freq_low,
        freq_high=pulse.freq_high,
        members=pulse.members,
        flagged=kept.flagged_fraction,
        cutout=cutout,
        snr_search=pulse.snr if kept.snr_search is None else kept.snr_search,
    )


def pulse_rows(inputs: BlockInputs) -> list[PulseRow]:
    """Describe the pulses of a block, in the order of the search.

    Parameters
    ----------
    inputs
        The block; its cut-outs have their names.

    Returns
    -------
    list of PulseRow
        Their rows.
    """
    return [
        pulse_row(inputs.plan, kept, "" if kept.cutout is None else inputs.cutouts[kept.cutout.number])
        for kept in inputs.reduced.pulses
    ]


def pulses_table(provenance: Provenance, block: BlockInfo, rows: Sequence[PulseRow]) -> pa.Table:
    """Make the table of a block's pulses.

    Parameters
    ----------
    provenance, block
        What they were found in.
    rows
        The pulses, in the order of the table.

    Returns
    -------
    pa.Table
        Of :data:`SCHEMA`.
    """
    values = [asdict(row) for row in rows]
    columns: dict[str, Any] = {name: [value[name] for value in values] for name in PulseRow.__dataclass_fields__}
    columns["time"] = utc_us(np.array(columns["tai_ns"], np.int64))
    return make_table(SCHEMA, provenance, block, columns)


def _build(inputs: BlockInputs) -> pa.Table | None:
    rows = pulse_rows(inputs)
    return pulses_table(inputs.provenance, inputs.block, rows) if rows else None


PULSES = Table("pulses", SCHEMA, Priority.CANDIDATES, _build)
