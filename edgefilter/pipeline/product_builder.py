"""From what the reducer leaves of a block to the products that are stored: numbers become rows, rows become bytes."""

from dataclasses import dataclass, replace

import numpy as np

from edgefilter.core.cells import Flag, Rows
from edgefilter.core.clock import tai_ns, utc_date
from edgefilter.core.plan import Plan, dispersion_delay
from edgefilter.pipeline.reducer import Kept, ReducedBlock
from edgefilter.products.base import Product, Provenance
from edgefilter.products.cutout import Cutout, encode
from edgefilter.products.naming import Namer
from edgefilter.products.tables import (
    Block,
    FlagRow,
    LedgerRow,
    PulseRow,
    SpectrumRow,
    flag_cost_table,
    flags_table,
    ledger_table,
    pulses_table,
    spectra_table,
    to_parquet,
)


@dataclass(frozen=True, slots=True)
class Harvest:
    """The products of a block, the ledger last, and the rows that went into them."""

    products: tuple[Product, ...]
    pulses: tuple[PulseRow, ...]
    ledger: LedgerRow


class Harvester:
    """Makes the products of a stream's blocks.

    Parameters
    ----------
    plan
        Layout of the reduction.
    node
        Name of the node.
    code
        Version of the code.
    """

    def __init__(self, plan: Plan, node: str, code: str) -> None:
        self._plan = plan
        self._provenance = Provenance(plan.stream.id, plan.settings.digest(), code)
        self._namer = Namer(node, self._provenance)

    def harvest(self, done: ReducedBlock) -> Harvest:
        """Make the products of a block: a pure function of what the reducer left of it.

        Raises
        ------
        StoreError
            If the account of the block does not balance, which would be a bug.
        """
        plan = self._plan
        start = done.block * plan.samples_per_block
        block = Block(done.block, self._tai(start), plan.block_seconds)
        date = utc_date(block.tai_ns)
        products: list[Product] = []
        pulses: list[PulseRow] = []
        names: dict[int, str] = {}  # of the cut-outs, by their first rows
        for kept in done.pulses:
            row = self._pulse(kept)
            if kept.rows is not None and kept.rows.start not in names:
                cutout = self._namer.cutout(done.block, date, encode(self._cutout(row, kept.rows, done.block)))
                products.append(cutout)
                names[kept.rows.start] = cutout.name
            pulses.append(replace(row, cutout=names[kept.rows.start]) if kept.rows is not None else row)
        tables = {
            "pulses": pulses_table(self._provenance, block, pulses) if pulses else None,
            "spectra": spectra_table(self._provenance, block, plan.frequencies_mhz, self._spectra(done)),
            "flags": flags_table(self._provenance, block, plan.frequencies_mhz, self._flags(done)),
            "flag_cost": flag_cost_table(self._provenance, block, done.reduced.cost) if done.reduced.cost else None,
        }
        products += [
            self._namer.table(name, done.block, date, to_parquet(table))
            for name, table in tables.items()
            if table is not None
        ]
        ledger = self._ledger(done, start, sum(len(product.content) for product in products))
        table = ledger_table(self._provenance, block, ledger)
        products.append(self._namer.table("ledger", done.block, date, to_parquet(table)))
        return Harvest(tuple(products), tuple(pulses), ledger)

    def _tai(self, sample: int) -> int:
        return tai_ns(self._plan.stream.epoch_tai_ns, self._plan.stream.rate, sample)

    def _pulse(self, kept: Kept) -> PulseRow:
        plan, pulse = self._plan, kept.pulse
        sample = plan.sample_of_row(pulse.row)
        seconds = plan.stream.seconds(sample)
        top = float(plan.frequencies_mhz.max())
        return PulseRow(
            sample=sample,
            seconds=seconds,
            seconds_inf=seconds - dispersion_delay(pulse.dm, top, np.inf) if top > 0 else seconds,
            tai_ns=self._tai(sample),
            dm=pulse.dm,
            dm_error=pulse.dm_error,
            width=pulse.width_rows * plan.row_seconds,
            snr=pulse.snr,
            freq_low=pulse.freq_low,
            freq_high=pulse.freq_high,
            members=pulse.members,
            flagged=kept.unused,
        )

    def _cutout(self, row: PulseRow, rows: Rows, block: int) -> Cutout:
        plan = self._plan
        sample = rows.start * plan.samples_per_row
        return Cutout(
            data=np.ascontiguousarray(rows.stokes.swapaxes(0, 1)),
            mask=(rows.weight == 0).astype(np.uint8),
            stokes=tuple(plan.settings.detect.stokes),
            first_sample=sample,
            tai_ns=self._tai(sample),
            rate=plan.stream.rate,
            samples_per_row=plan.samples_per_row,
            first_channel_mhz=float(plan.frequencies_mhz[0]),
            channel_mhz=plan.channel_mhz,
            pulse=row,
            provenance=self._provenance,
            block=block,
            telescope=plan.stream.telescope,
            source=plan.stream.source,
        )

    def _spectra(self, done: ReducedBlock) -> list[SpectrumRow]:
        reduced = done.reduced
        power = np.where(reduced.good > 0, reduced.spectrum, 0).astype(np.float32)
        return [
            SpectrumRow(stokes, power[number], reduced.good)
            for number, stokes in enumerate(self._plan.settings.detect.stokes)
        ]

    @staticmethod
    def _flags(done: ReducedBlock) -> list[FlagRow]:
        reduced = done.reduced
        return [FlagRow(flag, reduced.occupancy[at], reduced.raised[at]) for at, flag in enumerate(Flag)]

    def _ledger(self, done: ReducedBlock, start: int, bytes_out: int) -> LedgerRow:
        reduced = done.reduced
        booked = dict(zip(Flag, reduced.occupancy.sum(axis=1).tolist(), strict=True))
        good = int(reduced.good.sum())
        lost = booked.pop(Flag.LOST)
        del booked[Flag.TAGGED]  # such cells are in use
        return LedgerRow(
            sample_start=start,
            samples=done.samples,
            cells=good + lost + sum(booked.values()),
            cells_lost=lost,
            cells_flagged=booked,
            cells_discarded=good - done.kept_cells,
            cells_kept=done.kept_cells,
            bytes_in=done.samples.received * self._plan.stream.sample_bytes,
            bytes_out=bytes_out,
            candidates=len(done.pulses),
            candidates_overflow=done.overflow,
            backend=done.backend,
        )
