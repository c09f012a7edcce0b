"""Mean spectra of the blocks of a stream, with the cells that were lost or flagged, and the bandpass made from them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from edgefilter.analysis.export.atomic_file import atomic_write
from edgefilter.analysis.tables import column_to_numpy, first_rows
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
    """Spectra and flags of the blocks of one stream, in order of time, without the blocks that the store lacks.

    Parameters
    ----------
    number
        int64 ``[block]``: numbers of the blocks.
    tai_ns
        int64 ``[block]``: start of the blocks, TAI in ns since 1970-01-01 TAI.
    seconds
        float64 ``[block]``: start of the blocks, s since the stream's first sample.
    duration
        Duration of a block, s.
    frequencies_mhz
        float64 ``[channel]``: centre frequencies.
    power
        float32 ``[block, channel]``: mean over the good cells, 0 where there are none.
    cells
        int64 ``[block, channel]``: number of good cells.
    cells_by_flagger
        int64 ``[block, channel]`` by flagger: cells that this flagger flagged first; under ``lost``, lost cells.
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
        """Return the spectra and flags in rows of the tables.

        Parameters
        ----------
        spectra
            Rows of the table ``spectra`` of one stream, one Stokes parameter and the same settings.
        flags
            Rows of the table ``flags`` of the same stream and settings.

        Returns
        -------
        BlockSpectra
            A block that several nodes reduced is taken from the first of them.

        Raises
        ------
        StoreError
            If ``spectra`` has no rows, or the channels are not the same in all blocks.
        """
        spectra = _deduplicated(spectra, [])
        if not spectra.num_rows:
            raise StoreError("there are no blocks in this time range")
        number = column_to_numpy(spectra, "block")
        duration = float(spectra.column("seconds")[0].as_py())
        power, cells, frequencies = (column_to_numpy(spectra, name) for name in ("power", "cells", "frequencies"))
        if power.ndim != 2 or (frequencies != frequencies[0]).any():
            raise StoreError("blocks of this stream have different channels: choose one of its settings with config=")
        cells_by_flagger = {}
        flags = _deduplicated(flags, ["flagger"])
        order = {flag_name(flag): flag for flag in Flag}  # of the columns of the ledger
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
        """Number of all cells, int64 ``[block, channel]``."""
        return np.asarray(sum(self.cells_by_flagger.values(), self.cells), np.int64)

    def averaged(self, axis: int) -> tuple[Floats, dict[str, Floats]]:
        """Return averages over blocks or channels.

        Parameters
        ----------
        axis
            0 to average over blocks, 1 to average over channels.

        Returns
        -------
        power, shares
            float64: mean power over the good cells, NaN where there are none; by flagger, share of the cells that it
            flagged first, 0 to 1.
        """
        good = self.cells.sum(axis=axis)
        power = _divide((self.power.astype(np.float64) * self.cells).sum(axis=axis), good)
        total = self.total.sum(axis=axis)
        return power, {name: _divide(count.sum(axis=axis), total) for name, count in self.cells_by_flagger.items()}

    def waterfall(self, rows: int | None = None, channels: int | None = None) -> "xr.Dataset":
        """Return power and flags over time and frequency.

        Parameters
        ----------
        rows, channels
            Highest number of rows and of channels; neighbours are averaged. All if None.

        Returns
        -------
        xr.Dataset
            ``power`` (mean over the good cells), ``flagged`` and ``lost`` (shares of the cells, 0 to 1), each
            float32 ``[time, frequency]``, NaN for blocks that the store lacks; coordinates ``time`` (centre, s since
            the stream's first sample), ``utc`` and ``frequency`` (centre, MHz).
        """
        import xarray as xr

        span = int(self.number[-1] - self.number[0]) + 1
        # If only evenly spaced blocks were read, a row is as long as their spacing.
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
    """A bandpass; attributes have the names of those of specutils' ``Spectrum`` where it has them too.

    Parameters
    ----------
    frequencies_mhz
        float64 ``[channel]``: centre frequencies, rising.
    power
        float64 ``[channel]``: mean over the good cells, in the units of the stream; NaN where there are none.
    cells
        int64 ``[channel]``: number of good cells.
    share
        float64 ``[channel]`` by flagger: share of the cells that it flagged first, 0 to 1; under ``lost``, lost cells.
    meta
        ``stream``, ``stokes``, and the times ``start_s`` and ``stop_s`` in s since the stream's first sample.
    """

    frequencies_mhz: Floats
    power: Floats
    cells: NDArray[np.int64]
    share: dict[str, Floats]
    meta: dict[str, Any]

    @classmethod
    def from_blocks(cls, blocks: BlockSpectra, meta: dict[str, Any]) -> "Spectrum":
        """Return the average of blocks over time.

        Parameters
        ----------
        blocks
            The blocks.
        meta
            As that of the class.

        Returns
        -------
        Spectrum
            The bandpass.
        """
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
        """Mean power as ``astropy.units.count``, because headers do not contain the unit of the stream."""
        from astropy import units

        return self.power * units.count

    @property
    def mask(self) -> NDArray[np.bool_]:
        """True where there are no good cells, bool ``[channel]``."""
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
        """Return an astropy table with ``spectral_axis``, ``flux``, ``cells`` and ``share_FLAGGER`` of each flagger."""
        from astropy.table import QTable

        table = QTable({"spectral_axis": self.spectral_axis, "flux": self.flux, "cells": self.cells})
        for name, value in self.share.items():
            table[f"share_{name}"] = value
        table.meta.update(self.meta)
        return table

    def to_fits(self, path: str | Path) -> Path:
        """Write a FITS table that specutils reads as ``tabular-fits``.

        Parameters
        ----------
        path
            The file; an existing one is replaced.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        StoreError
            If the file cannot be written.
        """
        with atomic_write(path) as part:
            self.to_qtable().write(part, format="fits", overwrite=True)
        return Path(path)


def evenly_spaced(blocks: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return at most ``count`` blocks, evenly spaced, with the first and the last.

    Parameters
    ----------
    blocks
        int64 ``[block]``: numbers of the blocks, ascending.
    count
        Highest number of blocks.

    Returns
    -------
    NDArray
        int64 ``[block]``: all blocks if there are no more than ``count``.
    """
    if len(blocks) <= count:
        return blocks
    return blocks[np.linspace(0, len(blocks) - 1, count).round().astype(np.int64)]


def _deduplicated(table: pa.Table, keys: list[str]) -> pa.Table:
    """Sort by block, and keep one of the rows that several nodes made from the same block."""
    return first_rows(table.sort_by([(name, "ascending") for name in ("block", *keys, "node")]), ["block", *keys])


def _divide(total: NDArray[Any], count: NDArray[Any]) -> Floats:
    good = np.asarray(count) > 0
    return np.where(good, total / np.where(good, count, 1), np.nan)
