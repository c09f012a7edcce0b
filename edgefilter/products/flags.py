"""The table ``flags``: how many cells each flagger flagged, as counts per channel; one row per block and flagger."""

from typing import Any

import pyarrow as pa

from edgefilter.core.cells import Flag, flag_name
from edgefilter.products.base import FREQUENCIES, START, BlockInputs, Priority, Table, block_schema, column, make_table

SCHEMA = block_schema(
    *START,
    column("flagger", pa.string(), "", "lost (samples are missing), or who flagged"),
    FREQUENCIES,
    column("first", pa.list_(pa.int64()), "", "cells a channel that the ledger books under it"),
    column("raised", pa.list_(pa.int64()), "", "cells a channel that it flagged, whoever else did"),
)


def _build(inputs: BlockInputs) -> pa.Table:
    integrated = inputs.reduced.integrated
    columns: dict[str, Any] = {
        "flagger": [flag_name(flag) for flag in Flag],
        "frequencies": [inputs.plan.frequencies_mhz] * len(Flag),
        "first": list(integrated.occupancy),
        "raised": list(integrated.raised),
    }
    return make_table(SCHEMA, inputs.provenance, inputs.block, columns)


FLAGS = Table("flags", SCHEMA, Priority.SPECTRA, _build)
