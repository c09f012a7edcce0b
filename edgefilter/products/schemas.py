"""Schemas of the tables: columns, types, units.

Every reader must accept them (Spark, DuckDB, Polars, pandas), so there is no ``timestamp[ns]`` and no ``float16``: an
instant is both ``tai_ns`` (int64, exact) and ``time`` (UTC, microseconds). A column's unit and meaning stand in its
field metadata (``unit``, ``description``), the version of the schema in the table's metadata (``edgefilter.schema``).
A change of names, types or meanings raises :data:`edgefilter.products.base.SCHEMA_VERSION`; a new column does not.
"""

from types import MappingProxyType

import numpy as np
import pyarrow as pa

from edgefilter.core.cells import FLAGGERS, flag_name
from edgefilter.core.chunk import Loss
from edgefilter.core.errors import StoreError
from edgefilter.products.base import SCHEMA_VERSION

LOSSES = tuple(reason for reason in Loss if reason is not Loss.OUTSIDE)
"""The reasons of loss that the ledger books: nobody expected what lies outside the stream."""


def _field(name: str, kind: pa.DataType, unit: str, description: str) -> pa.Field:
    return pa.field(name, kind, metadata={"unit": unit, "description": description})


def _schema(*fields: pa.Field) -> pa.Schema:
    return pa.schema([*_COMMON, *fields], metadata={"edgefilter.schema": str(SCHEMA_VERSION)})


_COMMON = (
    _field("stream", pa.string(), "", "stream that it was made from: name and head of the header's digest"),
    _field("block", pa.int64(), "", "number of the block, counted from the stream's first sample"),
    _field("config", pa.string(), "", "digest of the settings of the reduction"),
    _field("code", pa.string(), "", "version of edgefilter"),
)

_START = (
    _field("time", pa.timestamp("us", "UTC"), "UTC", "start of the block"),
    _field("tai_ns", pa.int64(), "ns", "start of the block, TAI since 1970-01-01T00:00:00 TAI"),
    _field("seconds", pa.float64(), "s", "duration of the block"),
)

_FREQUENCIES = _field("frequencies", pa.list_(pa.float64()), "MHz", "centre frequencies of the channels")

PULSES = _schema(
    _field("sample", pa.uint64(), "", "sample of the stream at which it arrives at the top of the stream's band"),
    _field("seconds", pa.float64(), "s", "arrival at the top of the stream's band, since the stream's first sample"),
    _field("seconds_inf", pa.float64(), "s", "arrival at infinite frequency, since the stream's first sample"),
    _field("time", pa.timestamp("us", "UTC"), "UTC", "arrival at the top of the stream's band"),
    _field("tai_ns", pa.int64(), "ns", "arrival at the top of the stream's band, TAI since 1970-01-01T00:00:00 TAI"),
    _field("dm", pa.float64(), "pc cm-3", "dispersion measure of the strongest trial"),
    _field("dm_error", pa.float64(), "pc cm-3", "uncertainty of dm"),
    _field("width", pa.float64(), "s", "width of the boxcar that matched best"),
    _field("snr", pa.float64(), "", "signal-to-noise ratio of the strongest trial"),
    _field("freq_low", pa.float64(), "MHz", "lower edge of the sub-band it was found in"),
    _field("freq_high", pa.float64(), "MHz", "upper edge of the sub-band it was found in"),
    _field("members", pa.int32(), "", "trials in the cluster"),
    _field("flagged", pa.float64(), "", "fraction of the cells under its sweep that are lost or flagged"),
    _field("cutout", pa.string(), "", "name of its cut-out in the store, empty if none was kept"),
)
"""One row a pulse candidate."""

SPECTRA = _schema(
    *_START,
    _field("stokes", pa.string(), "", "Stokes parameter or polarisation product"),
    _FREQUENCIES,
    _field("power", pa.list_(pa.float32()), "", "mean power a channel, in the stream's own units; 0 where cells is 0"),
    _field("cells", pa.list_(pa.int64()), "", "cells a channel that the mean is made of: neither lost nor flagged"),
)
"""One row a block and Stokes parameter: the integrated bandpass."""

FLAGS = _schema(
    *_START,
    _field("flagger", pa.string(), "", "lost (samples are missing), or who flagged"),
    _FREQUENCIES,
    _field("first", pa.list_(pa.int64()), "", "cells a channel that the ledger books under it"),
    _field("raised", pa.list_(pa.int64()), "", "cells a channel that it flagged, whoever else did"),
)
"""One row a block and flagger: occupancy of the channels."""

FLAG_COST = _schema(
    *_START,
    _field("flagger", pa.string(), "", "who flagged, or all together"),
    _field("signal", pa.string(), "", "what was put in: pulse, line; or noise alone"),
    _field("sigma", pa.float64(), "", "strength of it in a cell, in standard deviations of a cell; 0 for noise"),
    _field("lost", pa.float64(), "", "fraction of its signal-to-noise ratio that is lost; of noise, cells flagged"),
    _field("cells", pa.int64(), "", "cells that it was measured on"),
)
"""One row a flagger, signal and strength, of one block in 16: what flagging costs."""

LEDGER = _schema(
    *_START,
    _field("sample_start", pa.uint64(), "", "number of the block's first sample"),
    _field("samples_expected", pa.int64(), "", "samples that should have come"),
    _field("samples_received", pa.int64(), "", "samples that came"),
    *(_field(f"lost_{reason}", pa.int64(), "", f"samples lost, reason: {reason}") for reason in LOSSES),
    _field("cells", pa.int64(), "", "time-channel cells after detection"),
    _field("cells_lost", pa.int64(), "", "cells that lack samples"),
    *(
        _field(f"flagged_{flag_name(flag)}", pa.int64(), "", f"cells whose first flagger is {flag_name(flag)}")
        for flag in FLAGGERS
    ),
    _field("cells_discarded", pa.int64(), "", "cells that were integrated and discarded"),
    _field("cells_kept", pa.int64(), "", "cells that were kept in cut-outs"),
    _field("bytes_in", pa.int64(), "B", "raw bytes of the samples that came"),
    _field("bytes_out", pa.int64(), "B", "bytes of the block's other products"),
    _field("candidates", pa.int64(), "", "pulse candidates in the table"),
    _field("candidates_overflow", pa.int64(), "", "pulse trials that did not fit into the candidate buffer"),
    _field("backend", pa.string(), "", "what reduced it, cpu or gpu; null, as in older files, is cpu"),
)
"""One row a block: the account of what came and what became of it."""

DROPPED = pa.schema(
    [
        _COMMON[0],
        _field("block", pa.int64(), "", "number of the first block that the object held rows of"),
        _field("last_block", pa.int64(), "", "number of the last one"),
        _field("object", pa.string(), "", "name that the object would have in the store"),
        _field("bytes", pa.int64(), "B", "its size"),
        _field("reason", pa.string(), "", "why the node gave it up: budget, disk full, damaged"),
    ],
    metadata={"edgefilter.schema": str(SCHEMA_VERSION)},
)
"""One row an object that a node had no room for: what the ledger says was made and the store will never hold."""

SCHEMAS = MappingProxyType(
    {
        "pulses": PULSES,
        "spectra": SPECTRA,
        "flags": FLAGS,
        "flag_cost": FLAG_COST,
        "ledger": LEDGER,
        "dropped": DROPPED,
    }
)
"""Schema of each table, as its files hold it."""

PATH_COLUMNS = (
    _field("node", pa.string(), "", "node that made it, from the path of the file"),
    _field("date", pa.string(), "", "UTC date of the block's start, from the path of the file"),
)
"""Columns that a store's reader adds behind those of a table."""


def check_balance(ledger: pa.Table) -> None:
    """Check that both balances of the ledger hold exactly in every row.

    Samples: ``expected = received + lost (by reason)``. Cells: ``cells = lost + flagged (by the first flagger) +
    integrated and discarded + kept in cut-outs``.

    Parameters
    ----------
    ledger
        Rows of :data:`LEDGER`; more columns do not matter.

    Raises
    ------
    StoreError
        If a count is negative, or a balance does not hold; the message names stream, block and both sides.
    """
    losses = [f"lost_{reason}" for reason in LOSSES]
    flagged = [f"flagged_{flag_name(flag)}" for flag in FLAGGERS]
    _check_sum(ledger, "samples_expected", ["samples_received", *losses])
    _check_sum(ledger, "cells", ["cells_lost", *flagged, "cells_discarded", "cells_kept"])


def _check_sum(ledger: pa.Table, whole: str, parts: list[str]) -> None:
    left = ledger.column(whole).to_numpy()
    columns = np.stack([ledger.column(part).to_numpy() for part in parts])
    right = columns.sum(axis=0)
    wrong = np.flatnonzero((left != right) | (columns < 0).any(axis=0))
    if not len(wrong):
        return
    row = int(wrong[0])
    terms = " + ".join(f"{part} {count}" for part, count in zip(parts, columns[:, row].tolist(), strict=True))
    stream, block = ledger.column("stream")[row], ledger.column("block")[row]
    raise StoreError(f"ledger of {stream}, block {block}: {whole} {left[row]} does not balance {terms}")
