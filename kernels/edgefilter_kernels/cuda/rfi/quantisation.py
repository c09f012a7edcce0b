"""Fourth moments of clipped voltages: the twin of :mod:`edgefilter_kernels.rfi.quantisation`, equal to rounding."""

from typing import Any

import numpy as np

from edgefilter_kernels.cuda.cells import THREADS, blocks_over
from edgefilter_kernels.cuda.raw import launch
from edgefilter_kernels.rfi.quantisation import check


def unclip(power: Any, moment4: Any, steps: Any, table: Any, out: Any, start: int, stop: int) -> None:
    """As :func:`edgefilter_kernels.rfi.quantisation.unclip`: arrays on the device."""
    check(power, moment4, steps, table, out)
    _, channels, hands = moment4.shape
    cells = max(stop - start, 0) * channels * hands
    if cells:
        size = (np.int32(n) for n in (len(table), channels, power.shape[2], hands))
        arguments = (power, moment4, steps, table, *size, out, np.int64(start * channels * hands), np.int64(cells))
        launch("rfi/quantisation.cu", "unclip", blocks_over(cells), (THREADS,), arguments)
