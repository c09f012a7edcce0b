"""The dispersion guard: the twin of :mod:`edgefilter_kernels.rfi.dispersion_tracks`, equal to it.

Tables of segments and tracks are on the device, too, and what is in them is not checked: it would wait for the device.
"""

from typing import Any

import numpy as np

from edgefilter_kernels.cuda.cells import BLOCK, THREADS, cell_blocks, channel_blocks
from edgefilter_kernels.cuda.raw import array_namespace, launch


def _steps(hits: Any, step: int, edges: Any, delays: Any, marks: Any) -> int:
    """Return the steps of hits, if they go with the rest."""
    times, channels = marks.shape
    if hits.shape != (len(edges) - 2, len(delays), -(-times // step)) or delays.shape[1] != channels:
        raise ValueError(f"hits {hits.shape} do not go with {len(edges) - 1} segments of marks {marks.shape}")
    return int(hits.shape[2])


def count_tracks(
    marks: Any, bits: int, step: int, live: Any, edges: Any, delays: Any, first: Any, log2_window: Any, counts: Any,
    start: int, stop: int,
) -> None:  # fmt: skip
    """As :func:`edgefilter_kernels.rfi.dispersion_tracks.count_tracks`: arrays on the device."""
    times, channels = marks.shape
    segments, tracks, steps = len(edges) - 1, len(delays), -(-times // step)
    if live.shape != (channels,) or delays.shape[1:] != (channels,) or log2_window.shape != delays.shape[:1]:
        raise ValueError(f"tracks {delays.shape} and live {live.shape} do not go with marks {marks.shape}")
    if counts.shape != (segments, tracks, steps):
        raise ValueError(f"counts {counts.shape} do not go with {segments} segments of marks {marks.shape}")
    if first.shape != (tracks, segments):
        raise ValueError(f"first {first.shape} must be {(tracks, segments)}")
    if start >= stop or not tracks or not steps:
        return
    last = array_namespace(marks).empty((channels, steps), np.int32)
    size = (np.int32(n) for n in (times, channels, bits, step, steps))
    launch("rfi/dispersion_tracks.cu", "find_last_event", channel_blocks(channels), BLOCK, (marks, *size, last))
    arguments = (
        last, np.int32(steps), np.int32(channels), live, edges, delays, first, log2_window, np.int32(segments), counts,
        np.int32(start),
    )  # fmt: skip
    launch(
        "rfi/dispersion_tracks.cu", "count_tracks", (*cell_blocks(steps), tracks, stop - start), (THREADS,), arguments
    )


def find_tracks(
    counts: Any, first: Any, n_live: Any, fill: float, half_window: int, hits: Any, start: int, stop: int
) -> None:  # fmt: skip
    """As :func:`edgefilter_kernels.rfi.dispersion_tracks.find_tracks`: arrays on the device."""
    segments, tracks, steps = counts.shape
    if n_live.shape != (segments,) or hits.shape != (segments - 1, tracks, steps):
        raise ValueError(f"hits {hits.shape} and number {n_live.shape} do not go with counts {counts.shape}")
    if start < stop and tracks and steps:
        arguments = (
            counts, first, n_live, np.int32(segments), np.int32(steps), np.float64(fill), np.int32(half_window), hits,
            np.int32(start),
        )  # fmt: skip
        launch(
            "rfi/dispersion_tracks.cu",
            "find_tracks",
            (*cell_blocks(steps), tracks, stop - start),
            (THREADS,),
            arguments,
        )


def drop_tones(
    hits: Any, step: int, edges: Any, delays: Any, first: Any, log2_window: Any, live: Any, marks: Any, start: int,
    stop: int,
) -> None:  # fmt: skip
    """As :func:`edgefilter_kernels.rfi.dispersion_tracks.drop_tones`: arrays on the device."""
    steps = _steps(hits, step, edges, delays, marks)
    times, channels = marks.shape
    if start < stop and len(delays) and steps:
        size = (np.int32(n) for n in (steps, times, channels, step))
        arguments = (
            hits, *size, edges, delays, first, log2_window, np.int32(len(edges) - 1), live, marks, np.int32(start)
        )  # fmt: skip
        launch("rfi/dispersion_tracks.cu", "drop_tones", (len(delays), stop - start), (THREADS,), arguments)


def mark_tracks(
    hits: Any, step: int, edges: Any, delays: Any, first: Any, log2_window: Any, marks: Any, start: int, stop: int
) -> None:
    """As :func:`edgefilter_kernels.rfi.dispersion_tracks.mark_tracks`: arrays on the device."""
    steps = _steps(hits, step, edges, delays, marks)
    (times, channels), pairs, tracks = marks.shape, len(hits), len(delays)
    first_pair, stop_pair = max(start - 2, 0), min(stop + 1, pairs)
    if start >= stop or first_pair >= stop_pair or not tracks or not steps:
        return
    on_track = array_namespace(marks).zeros((steps, channels), np.uint8)
    arguments = (
        hits, np.int32(steps), np.int32(channels), edges, delays, first, log2_window, np.int32(pairs + 1),
        np.int32(first_pair), np.int32(start), np.int32(stop), on_track,
    )  # fmt: skip
    launch("rfi/dispersion_tracks.cu", "follow_tracks", (tracks, stop_pair - first_pair), (THREADS,), arguments)
    size = (np.int32(n) for n in (times, channels, step, steps))
    launch(
        "rfi/dispersion_tracks.cu", "drop_crossings", cell_blocks(on_track.size), (THREADS,), (marks, *size, on_track)
    )
    cells = np.int64(marks.size), np.int32(channels), np.int32(step)
    launch("rfi/dispersion_tracks.cu", "set_dispersed", cell_blocks(marks.size), (THREADS,), (on_track, *cells, marks))


def mark_short_runs(marks: Any, longest: int, start: int, stop: int) -> None:
    """As :func:`edgefilter_kernels.rfi.dispersion_tracks.mark_short_runs`: arrays on the device."""
    if marks.ndim != 2 or marks.dtype != np.uint8:
        raise ValueError(f"marks are {marks.dtype} {marks.shape}, must be uint8 [time, channel]")
    times, channels = marks.shape
    cells = times * max(stop - start, 0)
    if cells:
        size = (np.int32(times), np.int32(channels), np.int64(longest), np.int32(start), np.int32(stop - start))
        launch("rfi/dispersion_tracks.cu", "mark_short_runs", cell_blocks(cells), (THREADS,), (marks, *size))
