"""The table ``spectra``: the integrated bandpass, one row per block and Stokes parameter."""

from typing import Any

import numpy as np
import pyarrow as pa

from edgefilter.products.base import FREQUENCIES, START, BlockInputs, Priority, Table, block_schema, column, make_table

SCHEMA = block_schema(
    *START,
    column("stokes", pa.string(), "", "Stokes parameter or polarisation product"),
    FREQUENCIES,
    column("power", pa.list_(pa.float32()), "", "mean power a channel, in the stream's own units; 0 where cells is 0"),
    column("cells", pa.list_(pa.int64()), "", "cells a channel that the mean is made of: neither lost nor flagged"),
)


def _build(inputs: BlockInputs) -> pa.Table:
    integrated = inputs.reduced.integrated
    power = np.where(integrated.good > 0, integrated.spectrum, 0).astype(np.float32)
    columns: dict[str, Any] = {
        "stokes": list(inputs.plan.settings.detect.stokes),
        "frequencies": [inputs.plan.frequencies_mhz] * len(power),
        "power": list(power),
        "cells": [integrated.good] * len(power),
    }
    return make_table(SCHEMA, inputs.provenance, inputs.block, columns)


SPECTRA = Table("spectra", SCHEMA, Priority.SPECTRA, _build)
