"""Drifting tones: the twin of :mod:`edgefilter_kernels.rfi.drifting_tones`, equal to it."""

from typing import Any

import numpy as np

from edgefilter_kernels.cuda.cells import THREADS, cell_blocks
from edgefilter_kernels.cuda.raw import array_namespace, launch
from edgefilter_kernels.rfi.cell_statistics import GROUP_TIMES
from edgefilter_kernels.rfi.drifting_tones import line_layout, step_layout


def find_drifting_tones(groups: Any, live: Any, hits: Any, start: int, stop: int) -> None:
    """As :func:`edgefilter_kernels.rfi.drifting_tones.find_drifting_tones`: arrays on the device."""
    max_drift, margin_channels, lines = line_layout(*groups.shape)
    if groups.dtype != np.uint8 or live.shape != groups.shape[1:] or hits.shape != (1 + 2 * max_drift, lines):
        raise ValueError(f"hits {hits.shape} and live {live.shape} do not go with {groups.dtype} groups {groups.shape}")
    channels, (size, steps) = groups.shape[1], step_layout(len(groups))
    if start < stop and lines:
        levels = array_namespace(groups).empty((steps, channels), np.uint8)
        arguments = (groups, live, np.int32(channels), np.int32(size), np.int32(steps), levels)
        launch("rfi/drifting_tones.cu", "level_steps", cell_blocks(levels.size), (THREADS,), arguments)
        numbers = (np.int32(n) for n in (channels, steps, max_drift, margin_channels, lines))
        grid = (*cell_blocks(lines), stop - start)
        arguments = (levels, live, *numbers, hits, np.int32(start))
        launch("rfi/drifting_tones.cu", "find_drifting_tones", grid, (THREADS,), arguments)


def mark_drifting_tones(hits: Any, marks: Any, start: int, stop: int) -> None:
    """As :func:`edgefilter_kernels.rfi.drifting_tones.mark_drifting_tones`: arrays on the device."""
    if marks.ndim != 2 or marks.dtype != np.uint8:
        raise ValueError(f"marks are {marks.dtype} {marks.shape}, must be uint8 [time, channel]")
    groups, channels = -(-len(marks) // GROUP_TIMES), marks.shape[1]
    max_drift, margin_channels, lines = line_layout(groups, channels)
    if hits.shape != (1 + 2 * max_drift, lines):
        raise ValueError(f"hits {hits.shape} do not go with marks {marks.shape}")
    if start < stop and lines:
        numbers = (np.int32(n) for n in (GROUP_TIMES, *step_layout(groups), max_drift, margin_channels, lines))
        arguments = (hits, *numbers, marks, np.int32(channels), np.int32(start), np.int32(stop))
        launch("rfi/drifting_tones.cu", "mark_drifting_tones", (*cell_blocks(lines), len(hits)), (THREADS,), arguments)
