"""CUDA version of :mod:`edgefilter_kernels.rfi.combine`, with equal results."""

from typing import Any

import numpy as np

from edgefilter_kernels.cuda.cells import THREADS, cell_blocks
from edgefilter_kernels.cuda.raw import launch
from edgefilter_kernels.rfi.combine import FlagRules, check_combine


def combine(marks: Any, rules: FlagRules, flags: Any, start: int, stop: int) -> None:
    """As :func:`edgefilter_kernels.rfi.combine.combine`, for arrays on the device."""
    check_combine(marks, rules, flags)
    channels = flags.shape[1]
    cells = max(stop - start, 0) * channels
    if cells:
        size = np.int32(channels), np.int32(rules.lost), flags, np.int64(start * channels), np.int64(cells)
        arguments = (marks, rules.tables, rules.table_index, rules.channel_flags, *size)
        launch("rfi/combine.cu", "combine", cell_blocks(cells), (THREADS,), arguments)
