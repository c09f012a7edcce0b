"""The table ``flag_cost``: how much signal the flaggers remove, measured on every 16th block.

One row per flagger, signal and strength; :mod:`edgefilter.stages.rfi.signal_loss` measures it.
"""

from dataclasses import fields

import pyarrow as pa

from edgefilter.core.cells import FlagCost
from edgefilter.products.base import START, BlockInputs, Priority, Table, block_schema, column, make_table

SCHEMA = block_schema(
    *START,
    column("flagger", pa.string(), "", "who flagged, or all together"),
    column("signal", pa.string(), "", "what was put in: pulse, line; or noise alone"),
    column("sigma", pa.float64(), "", "strength of it in a cell, in standard deviations of a cell; 0 for noise"),
    column("lost", pa.float64(), "", "fraction of its signal-to-noise ratio that is lost; of noise, cells flagged"),
    column("cells", pa.int64(), "", "cells that it was measured on"),
)


def _build(inputs: BlockInputs) -> pa.Table | None:
    costs = inputs.reduced.integrated.cost
    columns = {field.name: [getattr(cost, field.name) for cost in costs] for field in fields(FlagCost)}
    return make_table(SCHEMA, inputs.provenance, inputs.block, columns) if costs else None


FLAG_COST = Table("flag_cost", SCHEMA, Priority.EXTRA, _build)
