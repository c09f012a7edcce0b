"""A run at screen resolution: power, flags and loss over time and frequency, and their averages by channel."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from edgefilter.analysis.spectra import evenly_spaced
from edgefilter.report.data import RUN_KEYS, Run
from edgefilter.store.reader import StoreReader

COLUMNS = 1024
"""Number of columns of a waterfall."""
MAX_ROWS = 256
"""Highest number of rows of a waterfall; neighbouring channels are averaged."""
BLOCKS_READ = 2048
"""Highest number of blocks of a run whose spectra and flags are read, evenly spaced."""

_MAX_READ_BYTES = 512 << 20  # of spectra and flags in memory at a time


@dataclass(frozen=True, eq=False)
class Waterfall:
    """Power and flags of a run over time and frequency; frequencies rise.

    Parameters
    ----------
    frequencies_mhz
        float64 ``[channel]``: centre frequencies.
    spectrum
        float64 ``[channel]``: mean power of the good cells, NaN where there are none.
    occupancy
        float64 ``[channel]`` by flagger: share of the cells that it flagged first, 0 to 1; under ``lost``, lost cells.
    power
        float32 ``[row, column]``: mean power of the good cells, NaN where there are none. Columns have equal durations.
    fractions
        float32 ``[row, column]`` by flagger, as ``occupancy``.
    blocks_read
        Number of blocks that were read.
    """

    frequencies_mhz: NDArray[np.float64]
    spectrum: NDArray[np.float64]
    occupancy: dict[str, NDArray[np.float64]]
    power: NDArray[np.float32]
    fractions: dict[str, NDArray[np.float32]]
    blocks_read: int

    @property
    def change(self) -> NDArray[np.float32]:
        """Power relative to its median in time, float32 ``[row, column]``; NaN where there are no good cells."""
        power = np.ma.masked_invalid(self.power)
        change = power / np.ma.median(power, axis=1, keepdims=True)  # type: ignore[no-untyped-call]
        return np.asarray(change.filled(np.nan), np.float32)


class TimeGrid:
    """Columns of equal duration over a run, in which a gap between blocks has its true width.

    A block covers several columns if there are few blocks; several blocks share a column if there are many. Sums are
    computed in *slots*: the blocks, or the columns, whichever are fewer.

    Parameters
    ----------
    run
        The run.
    columns
        Number of columns.
    """

    def __init__(self, run: Run, columns: int = COLUMNS) -> None:
        first, stop = int(run.start_ns[0]), int(run.stop_ns.max())
        edges = first + np.round(np.linspace(0, stop - first, columns + 1)).astype(np.int64)
        self.edges_percent = np.linspace(0, 100, columns + 1)
        self._slot_of_column: NDArray[np.int64]
        if len(run.blocks) <= columns:
            self.slot_of_block = np.arange(len(run.blocks))
            self.n_slots = len(run.blocks)
            middle = (edges[:-1] + edges[1:]) // 2
            at = np.searchsorted(run.start_ns, middle, side="right") - 1
            self._slot_of_column = np.where(middle < run.stop_ns[at], at, -1)
        else:
            middle = (run.start_ns + run.stop_ns) // 2
            self.slot_of_block = np.clip(np.searchsorted(edges, middle, side="right") - 1, 0, columns - 1)
            self.n_slots = columns
            self._slot_of_column = np.arange(columns)

    def slots_to_columns(self, sums: NDArray[np.float64], fill: float) -> NDArray[np.float64]:
        """Return the values of the columns.

        Parameters
        ----------
        sums
            float64 ``[…, slot]``: values of the slots.
        fill
            Value of columns without a block.

        Returns
        -------
        NDArray
            float64 ``[…, column]``.
        """
        return np.where(self._slot_of_column >= 0, sums[..., np.maximum(self._slot_of_column, 0)], fill)


class _WaterfallBuilder:
    """Sums of blocks, from which a waterfall is made."""

    def __init__(self, run: Run, blocks: NDArray[np.int64], frequencies_mhz: NDArray[np.float64]) -> None:
        self._order = np.argsort(frequencies_mhz)
        self._frequencies = frequencies_mhz[self._order]
        self._grid = TimeGrid(run)
        wanted = np.isin(run.blocks, blocks)
        self._slot_of_block = dict(
            zip(run.blocks[wanted].tolist(), self._grid.slot_of_block[wanted].tolist(), strict=True)
        )
        channels = len(frequencies_mhz)
        self._row = np.arange(channels) * min(MAX_ROWS, channels) // channels
        self._shape = (int(self._row[-1]) + 1, self._grid.n_slots)
        self._blocks = 0
        self._spectrum = np.zeros((2, channels))
        self._power = np.zeros((2, *self._shape))
        self._first_flagged: dict[str, NDArray[np.float64]] = {}
        self._fractions: dict[str, NDArray[np.float64]] = {}
        self._cells = np.zeros(channels)
        self._total_cells = np.zeros(self._shape)

    def add_spectrum(self, block: int, power: NDArray[np.float32], cells: NDArray[np.int64]) -> None:
        if block not in self._slot_of_block:
            return
        good = cells[self._order].astype(np.float64)
        both = np.stack([power[self._order] * good, good])
        self._blocks += 1
        self._spectrum += both
        for plane, sums in zip(self._power, both, strict=True):
            plane[:, self._slot_of_block[block]] += self._bin_channels(sums)
        self._add_cells(block, good)

    def add_flags(self, block: int, flagger: str, first: NDArray[np.int64]) -> None:
        if block not in self._slot_of_block:
            return
        first_flagged = first[self._order].astype(np.float64)
        self._first_flagged[flagger] = self._first_flagged.get(flagger, 0) + first_flagged
        plane = self._fractions.setdefault(flagger, np.zeros(self._shape))
        plane[:, self._slot_of_block[block]] += self._bin_channels(first_flagged)
        self._add_cells(block, first_flagged)

    def _add_cells(self, block: int, cells: NDArray[np.float64]) -> None:
        self._cells += cells
        self._total_cells[:, self._slot_of_block[block]] += self._bin_channels(cells)

    def _bin_channels(self, channels: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.bincount(self._row, channels, self._shape[0]), np.float64)

    def waterfall(self) -> Waterfall:
        with np.errstate(invalid="ignore", divide="ignore"):
            return Waterfall(
                frequencies_mhz=self._frequencies,
                spectrum=self._spectrum[0] / self._spectrum[1],
                occupancy={name: first_flagged / self._cells for name, first_flagged in self._first_flagged.items()},
                power=self._grid.slots_to_columns(self._power[0] / self._power[1], np.nan).astype(np.float32),
                fractions={
                    name: self._grid.slots_to_columns(sums / self._total_cells, 0.0).astype(np.float32)
                    for name, sums in self._fractions.items()
                },
                blocks_read=self._blocks,
            )


def read_waterfalls(reader: StoreReader, runs: Sequence[Run]) -> list[Waterfall | None]:
    """Read the spectra and flags of runs in one pass over the store.

    Parameters
    ----------
    reader
        The store.
    runs
        The runs.

    Returns
    -------
    list
        A waterfall for each run, None for a run without spectra.
    """
    chosen = [evenly_spaced(run.blocks, BLOCKS_READ) for run in runs]
    # Each block of a run has the same frequencies. Three are read, because a full spool may have dropped spectra.
    some = {int(blocks[at]) for blocks in chosen for at in (0, len(blocks) // 2, -1)}
    heads = reader.table("spectra", [*RUN_KEYS, "frequencies"], blocks=some)
    frequencies = {
        tuple(row[key] for key in RUN_KEYS): np.array(row["frequencies"], np.float64) for row in heads.to_pylist()
    }
    sums = {
        run.key: _WaterfallBuilder(run, blocks, frequencies[run.key])
        for run, blocks in zip(runs, chosen, strict=True)
        if run.key in frequencies
    }
    max_channels = max((len(row) for row in frequencies.values()), default=1)
    for blocks in _block_groups(np.unique(np.concatenate(chosen)), max(1, _MAX_READ_BYTES // (max_channels * 8 * 8))):
        spectra = reader.table("spectra", [*RUN_KEYS, "block", "stokes", "power", "cells"], blocks=blocks)
        for key, row in _iter_rows(spectra, ("block", "stokes", "power", "cells")):
            if key in sums and row[1] == "I":
                sums[key].add_spectrum(row[0], row[2], row[3])
        flags = reader.table("flags", [*RUN_KEYS, "block", "flagger", "first"], blocks=blocks)
        for key, row in _iter_rows(flags, ("block", "flagger", "first")):
            if key in sums:
                sums[key].add_flags(*row)
    return [sums[run.key].waterfall() if run.key in sums else None for run in runs]


def _block_groups(blocks: NDArray[np.int64], span: int) -> Iterator[set[int]]:
    """Yield the blocks in groups of neighbours: a file of many blocks may be read completely to get a few of them."""
    portion = (blocks - blocks[0]) // span
    for number in np.unique(portion):
        yield set(blocks[portion == number].tolist())


def _iter_rows(table: pa.Table, columns: Sequence[str]) -> Iterator[tuple[tuple[str, ...], list[Any]]]:
    """Yield the key of the run and the values of each row; lists are arrays, without a copy."""
    for batch in table.to_batches():
        keys = zip(*(batch.column(name).to_pylist() for name in RUN_KEYS), strict=True)
        values = [_values(batch.column(name)) for name in columns]
        for at, key in enumerate(keys):
            yield key, [value[at] for value in values]


def _values(column: pa.Array) -> list[Any]:
    if not pa.types.is_list(column.type):
        values: list[Any] = column.to_pylist()
        return values
    return [item.values.to_numpy() for item in column]
