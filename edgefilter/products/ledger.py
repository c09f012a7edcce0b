"""The table ``ledger``: the account of what was received and what became of it, one row per block.

Two balances hold exactly in every row, or it is not written:

- samples: ``expected = received + lost (by reason)``
- cells: ``cells = lost + flagged (by the first flagger) + integrated and discarded + kept in cut-outs``
"""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from edgefilter.core.cells import FLAGGERS, Flag, flag_name
from edgefilter.core.chunk import Loss
from edgefilter.core.errors import StoreError
from edgefilter.core.reduced_block import Rejection
from edgefilter.products.base import (
    START,
    BlockInfo,
    BlockInputs,
    Priority,
    Provenance,
    Table,
    block_schema,
    column,
    make_table,
)

LOSSES = tuple(reason for reason in Loss if reason is not Loss.OUTSIDE)
"""The reasons of loss that the ledger counts; samples outside the stream were never expected."""

LOST_COLUMNS = {reason: f"lost_{reason}" for reason in LOSSES}
FLAGGED_COLUMNS = {flag: f"flagged_{flag_name(flag)}" for flag in FLAGGERS}
REJECTED_COLUMNS = {
    Rejection.DOUBLE: ("rejected_double", "events of the pulse search that a stronger event explains"),
    Rejection.ZERO_DM: (
        "rejected_zero_dm",
        "pulses whose sweep is shorter than their width: not to be told from DM 0",
    ),
    Rejection.NARROW_BAND: ("rejected_narrow_band", "events of the pulse search that fill too little of their band"),
}
"""Name and meaning of the column that counts what each reason rejects; null in older files."""

SCHEMA = block_schema(
    *START,
    column("sample_start", pa.uint64(), "", "number of the block's first sample"),
    column("samples_expected", pa.int64(), "", "samples that should have come"),
    column("samples_received", pa.int64(), "", "samples that came"),
    *(column(name, pa.int64(), "", f"samples lost, reason: {reason}") for reason, name in LOST_COLUMNS.items()),
    column("cells", pa.int64(), "", "time-channel cells after detection"),
    column("cells_lost", pa.int64(), "", "cells that lack samples"),
    *(
        column(name, pa.int64(), "", f"cells whose first flagger is {flag_name(flag)}")
        for flag, name in FLAGGED_COLUMNS.items()
    ),
    column("cells_discarded", pa.int64(), "", "cells that were integrated and discarded"),
    column("cells_kept", pa.int64(), "", "cells that were kept in cut-outs"),
    column("bytes_in", pa.int64(), "B", "raw bytes of the samples that came"),
    column("bytes_out", pa.int64(), "B", "bytes of the block's other products"),
    column("candidates", pa.int64(), "", "pulse candidates in the table"),
    column("candidates_overflow", pa.int64(), "", "pulse trials that did not fit into the candidate buffer"),
    *(column(name, pa.int64(), "", meaning) for name, meaning in REJECTED_COLUMNS.values()),
    column("backend", pa.string(), "", "what reduced it, cpu or gpu; null, as in older files, is cpu"),
)

ADDITIVE = ("seconds", *(name for name in SCHEMA.names[SCHEMA.names.index("samples_expected") :] if name != "backend"))
"""Columns whose sum over blocks means something: the duration and all counts."""

LedgerRow = Mapping[str, int | str]
"""Values of one row by the names of :data:`SCHEMA`; the columns of provenance and time are not among them."""


def ledger_row(inputs: BlockInputs) -> dict[str, int | str]:
    """Make the account of a block.

    Parameters
    ----------
    inputs
        The block; ``bytes_out`` counts all its other products.

    Returns
    -------
    dict
        See :data:`LedgerRow`.
    """
    plan, reduced = inputs.plan, inputs.reduced
    cells = dict(zip(Flag, reduced.integrated.occupancy.sum(axis=1).tolist(), strict=True))
    del cells[Flag.TAGGED]  # tagged cells are in use
    good = int(reduced.integrated.good.sum())
    return {
        "sample_start": inputs.block.number * plan.samples_per_block,
        "samples_expected": reduced.samples.expected,
        "samples_received": reduced.samples.received,
        **{name: reduced.samples.lost.get(reason, 0) for reason, name in LOST_COLUMNS.items()},
        "cells": good + sum(cells.values()),
        "cells_lost": cells[Flag.LOST],
        **{name: cells[flag] for flag, name in FLAGGED_COLUMNS.items()},
        "cells_discarded": good - reduced.cutout_cells,
        "cells_kept": reduced.cutout_cells,
        "bytes_in": reduced.samples.received * plan.stream.sample_bytes,
        "bytes_out": inputs.bytes_out,
        "candidates": len(reduced.pulses),
        "candidates_overflow": reduced.overflow,
        **{name: reduced.rejected.get(reason, 0) for reason, (name, _) in REJECTED_COLUMNS.items()},
        "backend": reduced.backend,
    }


def ledger_table(provenance: Provenance, block: BlockInfo, row: LedgerRow) -> pa.Table:
    """Make the ledger of a block.

    Parameters
    ----------
    provenance, block
        What it is the account of.
    row
        Its values; counts of losses, flags and rejections that are not given are 0, ``backend`` is ``cpu``.

    Returns
    -------
    pa.Table
        Of :data:`SCHEMA`, one row.

    Raises
    ------
    StoreError
        If it does not balance: such a row is never written.
    """
    rejected = (name for name, _ in REJECTED_COLUMNS.values())
    optional = dict.fromkeys((*LOST_COLUMNS.values(), *FLAGGED_COLUMNS.values(), *rejected), 0) | {"backend": "cpu"}
    table = make_table(SCHEMA, provenance, block, {name: [value] for name, value in (optional | dict(row)).items()})
    check_balance(table)
    return table


def check_balance(ledger: pa.Table) -> None:
    """Check that both balances of the ledger hold exactly in every row.

    Parameters
    ----------
    ledger
        Rows of :data:`SCHEMA`; further columns do not matter.

    Raises
    ------
    StoreError
        If a count is negative, or a balance does not hold; the message names stream, block and both sides.
    """
    _check_sum(ledger, "samples_expected", ["samples_received", *LOST_COLUMNS.values()])
    _check_sum(ledger, "cells", ["cells_lost", *FLAGGED_COLUMNS.values(), "cells_discarded", "cells_kept"])


def _check_sum(ledger: pa.Table, whole: str, parts: list[str]) -> None:
    left = ledger.column(whole).to_numpy()
    # A column that an older file lacks is null: it counted nothing.
    columns = np.stack([pc.fill_null(ledger.column(part), 0).to_numpy() for part in parts])
    right = columns.sum(axis=0)
    wrong = np.flatnonzero((left != right) | (columns < 0).any(axis=0))
    if not len(wrong):
        return
    row = int(wrong[0])
    terms = " + ".join(f"{part} {count}" for part, count in zip(parts, columns[:, row].tolist(), strict=True))
    stream, block = ledger.column("stream")[row], ledger.column("block")[row]
    raise StoreError(f"ledger of {stream}, block {block}: {whole} {left[row]} does not balance {terms}")


def _build(inputs: BlockInputs) -> pa.Table:
    return ledger_table(inputs.provenance, inputs.block, ledger_row(inputs))


LEDGER = Table("ledger", SCHEMA, Priority.LEDGER, _build)
