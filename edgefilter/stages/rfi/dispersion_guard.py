"""Dispersion guard: a pulse from the sky arrives later at lower frequencies, and is not flagged for its power."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edgefilter.compute.threads import ThreadBackend
from edgefilter.core.plan import dispersion_delay
from edgefilter.stages.rfi.block import tuple_to_device
from edgefilter_kernels.rfi.cell_statistics import GROUP_TIMES
from edgefilter_kernels.rfi.dispersed_marks import drop_tones, mark_short_runs, mark_tracks
from edgefilter_kernels.rfi.dispersion_tracks import DispersionTracks, count_tracks, find_tracks
from edgefilter_kernels.rfi.edge_tracks import EdgeLimits, mark_edge_tracks

CELLS_PER_STEP = 2
"""Cells of a step of tracks where single cells are events; where groups are, a step is GROUP_TIMES."""

_SEGMENTS = 16  # of the band; a track must fill two neighbouring ones, an eighth of the band
_MIN_SEGMENT_CHANNELS = 8  # fewer are filled by chance
_MIN_FILL = 0.75  # fraction of a segment's channels with an event: a chirp that crosses half of a segment is no sweep
_MIN_FILL_WIDE = 0.67  # the same in wide segments, which neither chance nor a transmitter fills so easily
_WIDE_SEGMENT_CHANNELS = 64
_WINDOW_STEPS = 2  # steps about a track in which an event counts; wider windows would be filled by chance
_MAX_CHANNEL_DELAY_STEPS = 2.0  # from channel to channel, for single cells as events: slower pulses are wider than that
_MAX_CROSSING_STEPS = 1024  # in which the slowest track crosses two segments: blocks are seldom longer
_MIN_CROSSING_WINDOWS = 1.5  # in which a track of groups crosses two segments: faster ones could have DM 0
_CHANCE_BASELINE_STEPS = 128  # to either side, over which events on a track by chance are averaged
_MIN_BASELINE_STEPS = 8
_TYPICAL_DM = 750.0  # pc cm⁻³ up to which tracks must cross two segments in half a block; otherwise short runs are kept
_CUT_TOLERANCE_CELLS = 6  # cells, or a step, by which runs may be off a track that the end of the block cuts
_CUT_SLACK_CELLS = 24  # cells before the cut in which a faint sweep may have no run yet
_CUT_SEGMENTS = 3  # segments through which such a track is followed: then it fills two
_MAX_PULSE_SECONDS = 0.1  # longest pulse that is kept where tracks cannot be seen


def lay_out_tracks(
    frequencies_mhz: NDArray[np.float64], cell_seconds: float, dm: tuple[float, float], step: int = CELLS_PER_STEP
) -> DispersionTracks:
    """Lay out the tracks of the dispersion measures whose sweep differs from that of DM 0.

    Parameters
    ----------
    frequencies_mhz
        float64 ``[channel]``: centres, MHz.
    cell_seconds
        Duration of a cell, s.
    dm
        Lowest and highest dispersion measure, pc cm⁻³.
    step
        Cells of a step.

    Returns
    -------
    DispersionTracks
        The tracks, on the host; without tracks if none can be seen.
    """
    return _lay_out_tracks(frequencies_mhz.tobytes(), cell_seconds, dm, step)


@lru_cache(maxsize=4)
def _lay_out_tracks(frequencies: bytes, cell_seconds: float, dm: tuple[float, float], step: int) -> DispersionTracks:
    frequencies_mhz = np.frombuffer(frequencies)
    channels = len(frequencies_mhz)
    segments = max(min(_SEGMENTS, channels // _MIN_SEGMENT_CHANNELS), -(-channels // 255), 1)
    edges = np.array([g * channels // segments for g in range(segments + 1)], np.int64)
    fill = _MIN_FILL if np.diff(edges).min() < _WIDE_SEGMENT_CHANNELS else _MIN_FILL_WIDE
    baseline_steps = max(_CHANCE_BASELINE_STEPS * CELLS_PER_STEP // step, _MIN_BASELINE_STEPS)
    delays = _track_delays(frequencies_mhz, cell_seconds * step, dm, step, segments)
    if cell_seconds > _MAX_PULSE_SECONDS:
        delays = delays[:0]
    smear = np.abs(np.diff(delays, axis=1)).max(axis=1, initial=0)
    log2_window = np.ones(len(delays), np.int64)
    log2_smeared_window = np.maximum(log2_window, np.ceil(np.log2(smear + 2)) - 1).astype(np.int64)
    first = np.minimum.reduceat(delays, edges[:-1], axis=1)
    return DispersionTracks(edges, delays, first, log2_window, log2_smeared_window, step, fill, baseline_steps)


def _track_delays(
    frequencies_mhz: NDArray[np.float64], step_seconds: float, dm: tuple[float, float], step: int, segments: int
) -> NDArray[np.int32]:
    """Return the delays of all tracks in steps, int32 ``[track, channel]``."""
    channels = len(frequencies_mhz)
    none = np.zeros((0, channels), np.int32)
    if segments < 2 or frequencies_mhz.min() <= 0:
        return none
    top = float(frequencies_mhz.max())
    delay = np.array([dispersion_delay(1.0, f, top) for f in frequencies_mhz.tolist()]) / step_seconds
    pair = 2 * delay.max() / segments  # steps per DM in which a track crosses two segments
    # Where the lowest DM cannot be told from 0, events at one time in two segments are kept: they may be a pulse.
    first, last = dm[0], min(dm[1], _MAX_CHANNEL_DELAY_STEPS / (delay.max() / channels))
    if step == GROUP_TIMES:
        first, last = max(first, _MIN_CROSSING_WINDOWS * _WINDOW_STEPS / pair), min(dm[1], _MAX_CROSSING_STEPS / pair)
    if first > last:
        return none
    dms = first + np.arange(int((last - first) * pair / _WINDOW_STEPS) + 1) * _WINDOW_STEPS / pair
    return np.rint(np.outer(dms, delay)).astype(np.int32)


class _TrackSearch:
    """Search of one block along one set of tracks: each step needs all ranges of the step before.

    Parameters
    ----------
    tracks
        The tracks, on the device.
    events, step
        uint8 ``[time, channel]``, and how many of its times make a step.
    live, n_live
        bool ``[channel]`` and int64 ``[segment]``: channels that can have events, and their number.
    marks
        uint8 ``[cell, channel]``, changed in place; may be ``events``.
    backend
        Threads, or the GPU that the arrays are on.
    """

    def __init__(
        self,
        tracks: DispersionTracks,
        events: tuple[NDArray[np.uint8], int],
        live: tuple[NDArray[np.bool_], NDArray[np.int64]],
        marks: NDArray[np.uint8],
        backend: ThreadBackend,
    ) -> None:
        self._tracks, self._marks, self._kernel = tracks, marks, backend.kernel
        self._events, self._step = events
        self._live, self._n_live = live
        segments, shape = len(self._n_live), (len(tracks.delays), -(-len(self._events) // self._step))
        self._counts = backend.empty((segments, *shape), np.uint8)
        self._hits = backend.empty((segments - 1, *shape), np.uint8)

    def count(self, start: int, stop: int) -> None:
        self._kernel(count_tracks)(self._events, self._step, self._live, self._tracks, self._counts, start, stop)

    def find(self, start: int, stop: int) -> None:
        pairs = start, min(stop, len(self._hits))
        self._kernel(find_tracks)(self._counts, self._tracks, self._n_live, self._hits, *pairs)
        self._kernel(drop_tones)(self._hits, self._tracks, self._live, self._marks, *pairs)

    def mark(self, start: int, stop: int) -> None:
        self._kernel(mark_tracks)(self._hits, self._tracks, self._marks, start, stop)


class DispersionGuard:
    """Protects dispersed pulses: bright ones by their single cells, faint wide ones by groups of 16 cells.

    Parameters
    ----------
    frequencies_mhz
        float64 ``[channel]``: centres, MHz.
    cell_seconds
        Duration of a cell, s.
    dm
        Lowest and highest dispersion measure, pc cm⁻³.
    backend
        Threads, or a GPU.
    """

    def __init__(
        self, frequencies_mhz: NDArray[np.float64], cell_seconds: float, dm: tuple[float, float], backend: ThreadBackend
    ) -> None:
        bright = lay_out_tracks(frequencies_mhz, cell_seconds, dm)
        faint = lay_out_tracks(frequencies_mhz, cell_seconds, dm, GROUP_TIMES)
        self._edges = bright.edges
        widths = np.diff(bright.edges)
        self._tracks_unresolved = cell_seconds <= _MAX_PULSE_SECONDS and not len(bright.delays) + len(faint.delays)
        sweep_seconds = _pair_sweep_seconds(frequencies_mhz, bright.edges, min(dm[1], _TYPICAL_DM))
        self._pair_sweep_cells = sweep_seconds / cell_seconds
        smear = self._pair_sweep_cells / (2 * widths)  # of a pulse within a channel
        self._max_run_cells = np.maximum(np.rint(_MAX_PULSE_SECONDS / cell_seconds + smear), 1).astype(np.int64)
        self._max_run_cells_of_channel = backend.to_device(np.repeat(self._max_run_cells, widths))
        self._max_followed_channels = _CUT_SEGMENTS * int(widths.max())
        self._bright, self._faint = tuple_to_device(bright, backend), tuple_to_device(faint, backend)
        self._backend = backend

    def mark(self, marks: NDArray[np.uint8], groups: NDArray[np.uint8], live: NDArray[np.bool_], times: int) -> None:
        """Set DISPERSED in the marks of pulses.

        Parameters
        ----------
        marks
            uint8 ``[cell, channel]``, changed in place; IN_RUN and EVENT are events.
        groups
            uint8 ``[group, channel]``; EVENT is an event.
        live
            bool ``[channel]``: channels with a known background, on the host.
        times
            Cells of the block that have data.
        """
        n_live = self._backend.to_device(np.add.reduceat(live, self._edges[:-1]).astype(np.int64))
        live_channels = self._backend.to_device(live)
        searches = [
            _TrackSearch(tracks, events, (live_channels, n_live), marks, self._backend)
            for tracks, events in ((self._bright, (marks, CELLS_PER_STEP)), (self._faint, (groups, 1)))
            if len(tracks.delays)
        ]
        # All searches finish a step before the next, so that none sees the marks of another.
        for step in (_TrackSearch.count, _TrackSearch.find, _TrackSearch.mark) if searches else ():

            def run(start: int, stop: int, step: Callable[[_TrackSearch, int, int], None] = step) -> None:
                for search in searches:
                    step(search, start, stop)

            self._backend.parallel_for(len(n_live), run, ranges_per_thread=4)
        self._mark_cut_sweeps(marks, live_channels)
        # In half of the data, the slowest sweep does not cross such segments: any of their runs may be part of it.
        for segment in np.flatnonzero(self._tracks_unresolved | (self._pair_sweep_cells > times / 2)):
            first, stop = self._edges[segment : segment + 2].tolist()
            self._backend.kernel(mark_short_runs)(marks, int(self._max_run_cells[segment]), first, stop)

    def _mark_cut_sweeps(self, marks: NDArray[np.uint8], live: NDArray[np.bool_]) -> None:
        kernel, longest = self._backend.kernel(mark_edge_tracks), self._max_run_cells_of_channel

        def run(start: int, stop: int) -> None:
            for tracks in (self._bright, self._faint):
                tolerance = max(_CUT_TOLERANCE_CELLS, tracks.step)
                limits = EdgeLimits(tolerance, _CUT_SLACK_CELLS, self._max_followed_channels)
                kernel(marks, tracks, live, longest, limits, start, stop)

        self._backend.parallel_for(len(live), run, ranges_per_thread=8)


def _pair_sweep_seconds(
    frequencies_mhz: NDArray[np.float64], edges: NDArray[np.int64], dm: float
) -> NDArray[np.float64]:
    """Return the seconds in which a sweep crosses twice the width of each segment."""
    if frequencies_mhz.min() <= 0:
        return np.zeros(len(edges) - 1)
    ends = frequencies_mhz[edges[:-1]], frequencies_mhz[edges[1:] - 1]
    low, high = np.minimum(*ends), np.maximum(*ends)
    return np.array([2 * dispersion_delay(dm, one, two) for one, two in zip(low, high, strict=True)])
