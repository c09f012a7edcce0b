"""Drifting tones: the twin of :mod:`edgefilter_kernels.rfi.drifting_tones`, equal to it."""

from typing import Any

import numpy as np

from edgefilter_kernels.cuda.cells import THREADS, blocks_over
from edgefilter_kernels.cuda.raw import launch, namespace
from edgefilter_kernels.rfi.cell_statistics import GROUP
from edgefilter_kernels.rfi.drifting_tones import lines_of, steps_of


def find_drifts(groups: Any, live: Any, hits: Any, start: int, stop: int) -> None:
    """As :func:`edgefilter_kernels.rfi.drifting_tones.find_drifts`: arrays on the device."""
    steepest, outside, lines = lines_of(*groups.shape)
    if groups.dtype != np.uint8 or live.shape != groups.shape[1:] or hits.shape != (1 + 2 * steepest, lines):
        raise ValueError(f"hits {hits.shape} and live {live.shape} do not go with {groups.dtype} groups {groups.shape}")
    channels, (size, steps) = groups.shape[1], steps_of(len(groups))
    if start < stop and lines:
        levels = namespace(groups).empty((steps, channels), np.uint8)
        arguments = (groups, live, np.int32(channels), np.int32(size), np.int32(steps), levels)
        launch("rfi/drifting_tones.cu", "level_steps", blocks_over(levels.size), (THREADS,), arguments)
        numbers = (np.int32(n) for n in (channels, steps, steepest, outside, lines))
        grid = (*blocks_over(lines), stop - start)
        launch(
            "rfi/drifting_tones.cu", "find_drifts", grid, (THREADS,), (levels, live, *numbers, hits, np.int32(start))
        )


def mark_drifts(hits: Any, marks: Any, start: int, stop: int) -> None:
    """As :func:`edgefilter_kernels.rfi.drifting_tones.mark_drifts`: arrays on the device."""
    if marks.ndim != 2 or marks.dtype != np.uint8:
        raise ValueError(f"marks are {marks.dtype} {marks.shape}, must be uint8 [time, channel]")
    groups, channels = -(-len(marks) // GROUP), marks.shape[1]
    steepest, outside, lines = lines_of(groups, channels)
    if hits.shape != (1 + 2 * steepest, lines):
        raise ValueError(f"hits {hits.shape} do not go with marks {marks.shape}")
    if start < stop and lines:
        numbers = (np.int32(n) for n in (GROUP, *steps_of(groups), steepest, outside, lines))
        arguments = (hits, *numbers, marks, np.int32(channels), np.int32(start), np.int32(stop))
        launch("rfi/drifting_tones.cu", "mark_drifts", (*blocks_over(lines), len(hits)), (THREADS,), arguments)
