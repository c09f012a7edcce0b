"""From what the reducer leaves of a block to the products that are stored: numbers become rows, rows become bytes."""

from dataclasses import dataclass, replace

import numpy as np

from edgefilter.core.cells import Flag, Rows
from edgefilter.core.clock import tai_ns, utc_date
from edgefilter.core.plan import Plan, dispersion_delay
from edgefilter.core.reduced_block import KeptPulse, ReducedBlock
from edgefilter.products.base import Product, Provenance
from edgefilter.products.cutout import Cutout, encode
from edgefilter.products.naming import ProductNamer
from edgefilter.products.tables import (
    BlockInfo,
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
class BlockProducts:
    """The products of a block, the ledger last, and the rows that went into them."""

    products: tuple[Product, ...]
    pulses: tuple[PulseRow, ...]
    ledger: LedgerRow


class ProductBuilder:
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
        self._namer = ProductNamer(node, self._provenance)

    def build(self, reduced_block: ReducedBlock) -> BlockProducts:
        """Make the products of a block: a pure function of what the reducer left of it.

        Raises
        ------
        StoreError
            If the account of the block does not balance, which would be a bug.
        """
        plan = self._plan
        start = reduced_block.block * plan.samples_per_block
        block = BlockInfo(reduced_block.block, self._tai(start), plan.block_seconds)
        date = utc_date(block.tai_ns)
        products: list[Product] = []
        pulses: list[PulseRow] = []
        names: dict[int, str] = {}  # of the cut-outs, by their first rows
        for kept_pulse in reduced_block.pulses:
            row = self._pulse(kept_pulse)
            if kept_pulse.rows is not None and kept_pulse.rows.start not in names:
                cutout = self._namer.cutout(
                    reduced_block.block, date, encode(self._cutout(row, kept_pulse.rows, reduced_block.block))
                )
                products.append(cutout)
                names[kept_pulse.rows.start] = cutout.name
            pulses.append(replace(row, cutout=names[kept_pulse.rows.start]) if kept_pulse.rows is not None else row)
        tables = {
            "pulses": pulses_table(self._provenance, block, pulses) if pulses else None,
            "spectra": spectra_table(self._provenance, block, plan.frequencies_mhz, self._spectra(reduced_block)),
            "flags": flags_table(self._provenance, block, plan.frequencies_mhz, self._flags(reduced_block)),
            "flag_cost": flag_cost_table(self._provenance, block, reduced_block.integrated.cost)
            if reduced_block.integrated.cost
            else None,
        }
        products += [
            self._namer.table(name, reduced_block.block, date, to_parquet(table))
            for name, table in tables.items()
            if table is not None
        ]
        ledger = self._ledger(reduced_block, start, sum(len(product.content) for product in products))
        table = ledger_table(self._provenance, block, ledger)
        products.append(self._namer.table("ledger", reduced_block.block, date, to_parquet(table)))
        return BlockProducts(tuple(products), tuple(pulses), ledger)

    def _tai(self, sample: int) -> int:
        return tai_ns(self._plan.stream.epoch_tai_ns, self._plan.stream.rate, sample)

    def _pulse(self, kept_pulse: KeptPulse) -> PulseRow:
        plan, pulse = self._plan, kept_pulse.pulse
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
            flagged=kept_pulse.flagged_fraction,
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

    def _spectra(self, reduced_block: ReducedBlock) -> list[SpectrumRow]:
        reduced = reduced_block.integrated
        power = np.where(reduced.good > 0, reduced.spectrum, 0).astype(np.float32)
        return [
            SpectrumRow(stokes, power[number], reduced.good)
            for number, stokes in enumerate(self._plan.settings.detect.stokes)
        ]

    @staticmethod
    def _flags(reduced_block: ReducedBlock) -> list[FlagRow]:
        reduced = reduced_block.integrated
        return [FlagRow(flag, reduced.occupancy[at], reduced.raised[at]) for at, flag in enumerate(Flag)]

    def _ledger(self, reduced_block: ReducedBlock, start: int, bytes_out: int) -> LedgerRow:
        reduced = reduced_block.integrated
        cells_by_flag = dict(zip(Flag, reduced.occupancy.sum(axis=1).tolist(), strict=True))
        good = int(reduced.good.sum())
        lost = cells_by_flag.pop(Flag.LOST)
        del cells_by_flag[Flag.TAGGED]  # such cells are in use
        return LedgerRow(
            sample_start=start,
            samples=reduced_block.samples,
            cells=good + lost + sum(cells_by_flag.values()),
            cells_lost=lost,
            cells_flagged=cells_by_flag,
            cells_discarded=good - reduced_block.cutout_cells,
            cells_kept=reduced_block.cutout_cells,
            bytes_in=reduced_block.samples.received * self._plan.stream.sample_bytes,
            bytes_out=bytes_out,
            candidates=len(reduced_block.pulses),
            candidates_overflow=reduced_block.overflow,
            backend=reduced_block.backend,
        )
