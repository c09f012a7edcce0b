"""A stage: how much the gain of the receiver has drifted, from the power of the whole band."""

from collections.abc import Mapping
from typing import Annotated

import numpy as np
import pyarrow as pa
from pydantic import Field

from edgefilter.compute.threads import ThreadBackend
from edgefilter.core.cells import Rows
from edgefilter.core.plan import Plan
from edgefilter.core.stage_settings import ReductionSection
from edgefilter.products.base import column
from edgefilter.stages.base import StagePlugin


class Settings(ReductionSection):
    """Drift of the gain: the power of each block relative to that of the time before it."""

    seconds: Annotated[float, Field(gt=0, le=60)] = 1.0
    """Time before a block that it is compared with, s."""


class GainDrift:
    """Compare the mean power of a block with that of the rows before it.

    Parameters
    ----------
    plan
        Layout of the reduction.
    settings
        Section ``[stages.gain_drift]``.
    backend
        Not used: a mean of a block is fast enough on one thread.

    Attributes
    ----------
    history, lookahead
        Rows before and after a block that are needed.
    """

    def __init__(self, plan: Plan, settings: Settings, backend: ThreadBackend) -> None:
        self.history = round(settings.seconds / plan.row_seconds)
        self.lookahead = 0

    def reduce(self, rows: Rows) -> Mapping[str, list[float | None]] | None:
        """Return one row per block, None if all samples of the block are lost."""
        before, power = _mean_power(rows, 0, self.history), _mean_power(rows, self.history, len(rows.weight))
        if power is None:
            return None
        drift = float(10 * np.log10(power / before)) if before and power > 0 else None
        return {"power": [power], "drift": [drift]}


def _mean_power(rows: Rows, start: int, stop: int) -> float | None:
    """Return the mean intensity of the cells that hold data, None if there are none."""
    weight = rows.weight[start:stop].astype(np.float64)
    if not weight.any():
        return None
    return float(np.sum(rows.stokes[0, start:stop] * weight) / np.sum(weight))


PLUGIN = StagePlugin(
    settings=Settings,
    make=GainDrift,
    columns=(
        column("power", pa.float64(), "", "mean intensity of the block, in units of the input"),
        column("drift", pa.float64(), "dB", "its ratio to the mean intensity of the time before the block"),
    ),
)
