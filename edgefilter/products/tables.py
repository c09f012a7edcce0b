"""Builds the tables from plain rows, and their Parquet bytes.

The bytes follow from the rows, the provenance and the versions of pyarrow's writer alone: there is no clock in them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from edgefilter.core.cells import FLAGGERS, Flag, FlagCost, flag_name
from edgefilter.core.chunk import SampleAccount
from edgefilter.core.clock import utc_us
from edgefilter.products.base import Provenance
from edgefilter.products.schemas import FLAG_COST, FLAGS, LEDGER, LOSSES, PULSES, SPECTRA, check_balance

_COMPRESSED_ROWS = 64


@dataclass(frozen=True, slots=True)
class BlockInfo:
    """The block that products are made from.

    Parameters
    ----------
    number
        Counted from the stream's first sample.
    tai_ns
        Its start, TAI in ns since 1970 TAI.
    seconds
        Its duration, s.
    """

    number: int
    tai_ns: int
    seconds: float


@dataclass(frozen=True, slots=True)
class PulseRow:
    """A pulse candidate. Units are those of :data:`edgefilter.products.schemas.PULSES`."""

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


@dataclass(frozen=True, slots=True)
class SpectrumRow:
    """The integrated bandpass of one Stokes parameter.

    Parameters
    ----------
    stokes
        Its name.
    power
        float32 ``[channel]``: mean over the good cells, 0 where there is none.
    cells
        int64 ``[channel]``: good cells.
    """

    stokes: str
    power: NDArray[np.float32]
    cells: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class FlagRow:
    """What one flagger did.

    Parameters
    ----------
    flagger
        The flag; LOST is one of the rows.
    first
        int64 ``[channel]``: cells that the ledger books under it.
    raised
        int64 ``[channel]``: cells that carry its bit.
    """

    flagger: Flag
    first: NDArray[np.int64]
    raised: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """The account of one block.

    Parameters
    ----------
    sample_start
        Number of its first sample.
    samples
        Balance of the samples.
    cells
        Time-channel cells after detection.
    cells_lost
        Those that lack samples.
    cells_flagged
        Flagged cells by first flagger; a flagger that is not named has none.
    cells_discarded, cells_kept
        Cells integrated and discarded; cells kept in cut-outs.
    bytes_in, bytes_out
        Raw bytes received; bytes of the block's other products.
    candidates, candidates_overflow
        Rows in ``pulses``; trials that the candidate buffer could not take.
    backend
        What reduced it: ``cpu`` or ``gpu``.
    """

    sample_start: int
    samples: SampleAccount
    cells: int
    cells_lost: int
    cells_flagged: Mapping[Flag, int]
    cells_discarded: int
    cells_kept: int
    bytes_in: int
    bytes_out: int
    candidates: int
    candidates_overflow: int
    backend: str = "cpu"


def pulses_table(provenance: Provenance, block: BlockInfo, rows: Sequence[PulseRow]) -> pa.Table:
    """Make the table of a block's pulse candidates, in the order given."""
    names = [name for name in PulseRow.__dataclass_fields__ if name in PULSES.names]
    columns: dict[str, Any] = {name: [getattr(row, name) for row in rows] for name in names}
    columns["time"] = utc_us(np.array([row.tai_ns for row in rows], np.int64))
    return _table(PULSES, provenance, block, len(rows), columns)


def spectra_table(
    provenance: Provenance, block: BlockInfo, frequencies_mhz: NDArray[np.float64], rows: Sequence[SpectrumRow]
) -> pa.Table:
    """Make the table of a block's bandpass; ``frequencies_mhz`` float64 ``[channel]`` are the channels' centres."""
    columns = {
        "stokes": [row.stokes for row in rows],
        "frequencies": [frequencies_mhz] * len(rows),
        "power": [row.power for row in rows],
        "cells": [row.cells for row in rows],
    }
    return _table(SPECTRA, provenance, block, len(rows), _start(block, len(rows)) | columns)


def flags_table(
    provenance: Provenance, block: BlockInfo, frequencies_mhz: NDArray[np.float64], rows: Sequence[FlagRow]
) -> pa.Table:
    """Make the table of a block's flags; ``frequencies_mhz`` float64 ``[channel]`` are the channels' centres."""
    columns = {
        "flagger": [flag_name(row.flagger) for row in rows],
        "frequencies": [frequencies_mhz] * len(rows),
        "first": [row.first for row in rows],
        "raised": [row.raised for row in rows],
    }
    return _table(FLAGS, provenance, block, len(rows), _start(block, len(rows)) | columns)


def flag_cost_table(provenance: Provenance, block: BlockInfo, rows: Sequence[FlagCost]) -> pa.Table:
    """Make the table of what flagging costs."""
    columns: dict[str, Any] = {name: [getattr(row, name) for row in rows] for name in FlagCost.__dataclass_fields__}
    return _table(FLAG_COST, provenance, block, len(rows), _start(block, len(rows)) | columns)


def ledger_table(provenance: Provenance, block: BlockInfo, row: LedgerRow) -> pa.Table:
    """Make the ledger's row of a block.

    Raises
    ------
    StoreError
        If it does not balance: such a row is never written.
    """
    columns = {
        "sample_start": [row.sample_start],
        "samples_expected": [row.samples.expected],
        "samples_received": [row.samples.received],
        **{f"lost_{reason}": [row.samples.lost.get(reason, 0)] for reason in LOSSES},
        "cells": [row.cells],
        "cells_lost": [row.cells_lost],
        **{f"flagged_{flag_name(flag)}": [row.cells_flagged.get(flag, 0)] for flag in FLAGGERS},
        "cells_discarded": [row.cells_discarded],
        "cells_kept": [row.cells_kept],
        "bytes_in": [row.bytes_in],
        "bytes_out": [row.bytes_out],
        "candidates": [row.candidates],
        "candidates_overflow": [row.candidates_overflow],
        "backend": [row.backend],
    }
    table = _table(LEDGER, provenance, block, 1, _start(block, 1) | columns)
    check_balance(table)
    return table


def to_parquet(table: pa.Table, group_rows: int | None = None) -> bytes:
    """Parquet bytes of a table: the same table always gives the same bytes; ``group_rows`` rows make a row group.

    The Arrow schema is kept, and every page carries a checksum that :mod:`edgefilter.store.reader` verifies.
    """
    sink = pa.BufferOutputStream()
    # A few plain rows do not become smaller, and setting the decoder up takes longer than reading them.
    plain = table.num_rows < _COMPRESSED_ROWS and not any(pa.types.is_nested(field.type) for field in table.schema)
    pq.write_table(
        table,
        sink,
        version="2.6",
        data_page_version="1.0",
        compression="none" if plain else "zstd",
        compression_level=None if plain else 3,
        use_dictionary=True,
        write_statistics=True,
        store_schema=True,
        write_page_checksum=True,
        row_group_size=group_rows,
    )
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _start(block: BlockInfo, rows: int) -> dict[str, Any]:
    return {
        "time": np.repeat(utc_us(np.array([block.tai_ns], np.int64)), rows),
        "tai_ns": [block.tai_ns] * rows,
        "seconds": [block.seconds] * rows,
    }


def _table(schema: pa.Schema, provenance: Provenance, block: BlockInfo, rows: int, columns: dict[str, Any]) -> pa.Table:
    common = {"stream": provenance.stream, "block": block.number, "config": provenance.config, "code": provenance.code}
    columns = {name: [value] * rows for name, value in common.items()} | columns
    arrays = [pa.array(columns[field.name], field.type) for field in schema]
    # A table without rows has nowhere else to say what it was made from.
    metadata = schema.metadata | {f"edgefilter.{name}".encode(): str(value).encode() for name, value in common.items()}
    return pa.Table.from_arrays(arrays, schema=schema.with_metadata(metadata))
