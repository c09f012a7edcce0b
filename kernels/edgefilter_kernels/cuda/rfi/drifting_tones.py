"""CUDA version of :mod:`edgefilter_kernels.rfi.drifting_tones`, with equal results."""

from typing import Any

import numpy as np

from edgefilter_kernels.cuda.cells import THREADS, cell_blocks
from edgefilter_kernels.cuda.raw import array_namespace, launch
from edgefilter_kernels.rfi.cell_statistics import GROUP_TIMES
from edgefilter_kernels.rfi.drifting_tones import check_drifting_marks, check_drifting_tones

_SOURCE = "rfi/drifting_tones.cu"


def find_drifting_tones(groups: Any, live: Any, hits: Any, start: int, stop: int) -> None:
    """As :func:`edgefilter_kernels.rfi.drifting_tones.find_drifting_tones`, for arrays on the device."""
    layout = check_drifting_tones(groups, live, hits)
    if start < stop and layout.lines:
        channels = groups.shape[1]
        levels = array_namespace(groups).empty((layout.steps, channels), np.uint8)
        size = np.int32(channels), np.int32(layout.groups_per_step), np.int32(layout.steps)
        launch(_SOURCE, "level_steps", cell_blocks(levels.size), (THREADS,), (groups, live, *size, levels))
        numbers = (np.int32(n) for n in (channels, *layout[1:]))
        grid = (*cell_blocks(layout.lines), stop - start)
        launch(_SOURCE, "find_drifting_tones", grid, (THREADS,), (levels, live, *numbers, hits, np.int32(start)))


def mark_drifting_tones(hits: Any, marks: Any, start: int, stop: int) -> None:
    """As :func:`edgefilter_kernels.rfi.drifting_tones.mark_drifting_tones`, for arrays on the device."""
    layout = check_drifting_marks(hits, marks)
    if start < stop and layout.lines:
        numbers = (np.int32(n) for n in (GROUP_TIMES, *layout))
        arguments = (hits, *numbers, marks, np.int32(marks.shape[1]), np.int32(start), np.int32(stop))
        launch(_SOURCE, "mark_drifting_tones", (*cell_blocks(layout.lines), len(hits)), (THREADS,), arguments)
