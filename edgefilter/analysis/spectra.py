"""What the store keeps of all the band at all times: block spectra, and how much of them was lost or flagged."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from edgefilter.analysis.export.atomic_file import atomic_write
from edgefilter.analysis.tables import column_to_numpy
from edgefilter.core.cells import Flag, flag_name
from edgefilter.core.clock import utc_us
from edgefilter.core.errors import StoreError

if TYPE_CHECKING:
    import xarray as xr
    from astropy.table import QTable
    from astropy.units import Quantity

Floats = NDArray[np.float64]
_LOST = flag_name(Flag.LOST)


@dataclass(frozen=True, eq=False)
class BlockSpectra:
    """Spectra and occupancy of the blocks of one stream, in order of time; blocks that the store lacks are left out.

    Parameters
    ----------
    number
        int64 ``[block]``: numbers of the blocks.
    tai_ns
        int64 ``[block]``: their starts, TAI in ns since 1970 TAI.
    seconds
        float64 ``[block]``: their starts, s since the stream's first sample.
    duration
        Of a block, s.
    frequencies_mhz
        float64 ``[channel]``.
    power
        float32 ``[block, channel]``: mean over the good cells, 0 where there is none.
    cells
        int64 ``[block, channel]``: good cells.
    cells_by_flagger
        Cells ``[block, channel]`` that the ledger books under each flagger, ``lost`` among them.
    """

    number: NDArray[np.int64]
    tai_ns: NDArray[np.int64]
    seconds: Floats
    duration: float
    frequencies_mhz: Floats
    power: NDArray[np.float32]
    cells: NDArray[np.int64]
    cells_by_flagger: dict[str, NDArray[np.int64]] = field(default_factory=dict)

    @classmethod
    def from_tables(cls, spectra: pa.Table, flags: pa.Table) -> "BlockSpectra":
        """Build from rows of the tables ``spectra`` and ``flags`` of one stream, settings and Stokes parameter.

        Raises
        ------
        StoreError
            If there are none, or their channels are not the same in all blocks.
        """
        spectra = _deduplicated(spectra, [])
        if not spectra.num_rows:
            raise StoreError("no block lies in that span of time")
        number = column_to_numpy(spectra, "block")
        duration = float(spectra.column("seconds")[0].as_py())
        power, cells, frequencies = (column_to_numpy(spectra, name) for name in ("power", "cells", "frequencies"))
        if power.ndim != 2 or (frequencies != frequencies[0]).any():
            raise StoreError("blocks of this stream have different channels: name one of its settings with config=")
        cells_by_flagger = {}
        flags = _deduplicated(flags, ["flagger"])
        order = {flag_name(flag): flag for flag in Flag}  # in which the ledger books
        stored = flags.column("flagger").unique().to_pylist()
        for name in sorted(stored, key=lambda name: order.get(name, max(Flag) + 1)):
            of_flagger = flags.filter(pc.equal(flags.column("flagger"), name))
            at = np.searchsorted(number, column_to_numpy(of_flagger, "block"))
            known = number[np.minimum(at, len(number) - 1)] == column_to_numpy(of_flagger, "block")
            cells_by_flagger[name] = np.zeros(cells.shape, np.int64)
            cells_by_flagger[name][at[known]] = column_to_numpy(of_flagger, "first")[known]
        return cls(
            number,
            column_to_numpy(spectra, "tai_ns"),
            number * duration,
            duration,
            frequencies[0],
            power,
            cells,
            cells_by_flagger,
        )

    @property
    def total(self) -> NDArray[np.int64]:
        """All cells, int64 ``[block, channel]``."""
        return np.asarray(sum(self.cells_by_flagger.values(), self.cells), np.int64)

    def averaged(self, axis: int) -> tuple[Floats, dict[str, Floats]]:
        """Reduce blocks (axis 0) or channels (axis 1).

        Returns
        -------
        power, share
            Mean power over the good cells, NaN where there is none; share of the cells booked under each flagger.
        """
        good = self.cells.sum(axis=axis)
        power = _divide((self.power.astype(np.float64) * self.cells).sum(axis=axis), good)
        total = self.total.sum(axis=axis)
        return power, {name: _divide(count.sum(axis=axis), total) for name, count in self.cells_by_flagger.items()}

    def waterfall(self, rows: int | None = None, channels: int | None = None) -> "xr.Dataset":
        """Return power and occupancy over time and frequency, at most ``rows`` by ``channels`` of them.

        Blocks that the store lacks are rows of NaN.

        Returns
        -------
        xr.Dataset
            ``power`` (mean over the good cells), ``flagged`` and ``lost`` (shares of the cells, 0 to 1), each
            float32 ``[time, frequency]``; coordinates ``time`` (middle, s since the stream's first sample), ``utc`` and
            ``frequency`` (middle, MHz).
        """
        import xarray as xr

        span = int(self.number[-1] - self.number[0]) + 1
        # Where blocks were left out evenly, a row is as long as their distance.
        spacing = int(np.diff(self.number).min()) if len(self.number) > 1 else 1
        step = max(-(-span // rows) if rows else spacing, spacing)
        row = (self.number - self.number[0]) // step
        count = int(row[-1]) + 1
        width = self.cells.shape[1]
        edges = np.linspace(0, width, min(channels or width, width) + 1).astype(np.int64)

        present, starts = np.unique(row, return_index=True)

        def rebinned(values: NDArray[Any]) -> Floats:
            out = np.zeros((count, len(edges) - 1))
            out[present] = np.add.reduceat(np.add.reduceat(values, edges[:-1], axis=1), starts, axis=0)
            return out

        total, lost = rebinned(self.total), rebinned(self.cells_by_flagger.get(_LOST, np.zeros_like(self.cells)))
        good = rebinned(self.cells)
        fields = {
            "power": _divide(rebinned(self.power.astype(np.float64) * self.cells), good),
            "flagged": _divide(total - lost - good, total),
            "lost": _divide(lost, total),
        }
        seconds = (self.number[0] + (np.arange(count) + 0.5) * step) * self.duration
        first = int(self.tai_ns[0])
        tai = first + np.rint((seconds - self.seconds[0]) * 1e9).astype(np.int64)
        middles = np.add.reduceat(self.frequencies_mhz, edges[:-1]) / np.diff(edges)
        notes = {"power": "mean power", "flagged": "share of cells flagged", "lost": "share of cells lost"}
        return xr.Dataset(
            {
                name: (("time", "frequency"), value.astype(np.float32), {"long_name": notes[name]})
                for name, value in fields.items()
            },
            coords={
                "time": ("time", seconds, {"units": "s", "long_name": "time since the stream's first sample"}),
                "utc": ("time", utc_us(tai).astype("datetime64[us]")),
                "frequency": ("frequency", middles, {"units": "MHz", "long_name": "frequency"}),
            },
            attrs={"row_seconds": step * self.duration},
        )


@dataclass(frozen=True, eq=False)
class Spectrum:
    """A bandpass, with the names that specutils' ``Spectrum`` has for the same things.

    Parameters
    ----------
    frequencies_mhz
        float64 ``[channel]``, rising.
    power
        float64 ``[channel]``: mean over the good cells, in the stream's own units; NaN where there is none.
    cells
        int64 ``[channel]``: good cells.
    share
        float64 ``[channel]`` by flagger, ``lost`` among them: share of the cells that the ledger books under it.
    meta
        What it was made from.
    """

    frequencies_mhz: Floats
    power: Floats
    cells: NDArray[np.int64]
    share: dict[str, Floats]
    meta: dict[str, Any]

    @classmethod
    def from_blocks(cls, blocks: BlockSpectra, meta: dict[str, Any]) -> "Spectrum":
        """Average blocks over time."""
        power, share = blocks.averaged(axis=0)
        ascending = np.argsort(blocks.frequencies_mhz)
        return cls(
            blocks.frequencies_mhz[ascending],
            power[ascending],
            blocks.cells.sum(axis=0)[ascending],
            {name: value[ascending] for name, value in share.items()},
            meta,
        )

    @property
    def spectral_axis(self) -> "Quantity":
        """Centre frequencies, MHz, rising."""
        from astropy import units

        return self.frequencies_mhz * units.MHz

    @property
    def flux(self) -> "Quantity":
        """Mean power, in the stream's own units, which no header names: ``astropy.units.count`` stands for them."""
        from astropy import units

        return self.power * units.count

    @property
    def mask(self) -> NDArray[np.bool_]:
        """True where no cell was good."""
        return np.asarray(self.cells == 0, np.bool_)

    def to_specutils(self) -> Any:
        """Return a specutils ``Spectrum``.

        Raises
        ------
        StoreError
            If specutils is not installed.
        """
        try:
            from specutils import Spectrum as Target
        except ImportError:
            raise StoreError("specutils is not installed: pip install specutils") from None
        return Target(flux=self.flux, spectral_axis=self.spectral_axis, mask=self.mask, meta=dict(self.meta))

    def to_qtable(self) -> "QTable":
        """Return columns ``spectral_axis``, ``flux``, ``cells`` and the shares of the flaggers."""
        from astropy.table import QTable

        table = QTable({"spectral_axis": self.spectral_axis, "flux": self.flux, "cells": self.cells})
        for name, value in self.share.items():
            table[f"share_{name}"] = value
        table.meta.update(self.meta)
        return table

    def to_fits(self, path: str | Path) -> Path:
        """Write a FITS table that specutils reads as ``tabular-fits``.

        Raises
        ------
        StoreError
            If it cannot be written.
        """
        with atomic_write(path) as part:
            self.to_qtable().write(part, format="fits", overwrite=True)
        return Path(path)


def _deduplicated(table: pa.Table, keys: list[str]) -> pa.Table:
    """Sort by block; keep one of the rows that several nodes made of the same block."""
    table = table.sort_by([(name, "ascending") for name in ("block", *keys, "node")])
    names = ["block", *keys]
    first = table.select(names).append_column("at", pa.array(np.arange(table.num_rows)))
    first_rows = first.group_by(names, use_threads=False).aggregate([("at", "min")]).column("at_min")
    return table.take(first_rows)


def _divide(total: NDArray[Any], count: NDArray[Any]) -> Floats:
    good = np.asarray(count) > 0
    return np.where(good, total / np.where(good, count, 1), np.nan)
