"""Dispersion tracks that the guard asks for: what comes from the sky arrives later at lower frequencies."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgefilter.compute.threads import ThreadBackend
from edgefilter.core.plan import dispersion_delay
from edgefilter_kernels.rfi.cell_statistics import EVENT, GROUP_TIMES, IN_RUN
from edgefilter_kernels.rfi.dispersion_tracks import count_tracks, drop_tones, find_tracks, mark_short_runs, mark_tracks
from edgefilter_kernels.rfi.edge_tracks import mark_edge_tracks

_SEGMENTS = 16  # of the band; a track must fill two neighbouring ones, an eighth of the band
_MIN_SEGMENT_CHANNELS = 8  # of a segment; fewer are filled by chance
_MIN_FILL = 0.75  # of a segment's channels that must have an event: a chirp that crosses half of it is no sweep
_MIN_FILL_WIDE = 0.67  # of a wider segment's, which neither chance nor a transmitter fills so easily
_WIDE_SEGMENT_CHANNELS = 64  # of such a segment
_WINDOW_STEPS = 2  # steps about a track in which an event counts; wider ones would be filled by chance
_MAX_CHANNEL_DELAY_STEPS = (
    2.0  # steps from channel to channel up to which single cells are asked; then the pulse is that wide itself
)
_MAX_CROSSING_STEPS = 1024  # steps that the slowest track takes to cross two segments: blocks are seldom longer
_MIN_CROSSING_WINDOWS = (
    1.5  # windows that a track of groups must take to cross two segments: else it could be at dispersion measure 0
)
_CHANCE_BASELINE_STEPS = 128  # steps to either side from which follows how much is filled by chance
_TYPICAL_DM = 750.0  # up to which tracks must be seen within half a block; else short runs are kept, to do no harm
_CUT_TOLERANCE_CELLS = 6  # cells by which runs may be off a track that the block's end cuts, or a step
_CUT_SLACK_CELLS = 24  # cells before the cut in which a faint one may have no run yet
_CUT_SEGMENTS = 3  # through which such a track is followed: then it fills two
_MAX_PULSE_SECONDS = 0.1  # of the longest pulse that is kept where tracks cannot be seen
CELLS_PER_STEP = 2
"""Cells to a step where single cells are events."""

RangeTask = Callable[[int, int], None]


class TrackTables(NamedTuple):
    """What kernels look up of the tracks of a band, where they can; made once.

    Parameters
    ----------
    edges, delays, log2_window, log2_smeared_window, first
        As of :class:`DispersionTracks`.
    """

    edges: Any
    delays: Any
    log2_window: Any
    log2_smeared_window: Any
    first: Any


@dataclass(frozen=True, slots=True)
class DispersionTracks:
    """The tracks of a band.

    Parameters
    ----------
    edges
        int64 ``[segment + 1]``: channels.
    delays
        int32 ``[track, channel]``, in steps.
    log2_window
        int64 ``[track]``: of the window about it.
    log2_smeared_window
        int64 ``[track]``: of the window that is marked: from channel to channel a track smears what is on it.
    first
        int32 ``[track, segment]``: least delay.
    step
        Cells of a step.
    """

    edges: NDArray[np.int64]
    delays: NDArray[np.int32]
    log2_window: NDArray[np.int64]
    log2_smeared_window: NDArray[np.int64]
    first: NDArray[np.int32]
    step: int

    @classmethod
    def lay_out(
        cls,
        frequencies_mhz: NDArray[np.float64],
        cell_seconds: float,
        dm: tuple[float, float],
        step: int = CELLS_PER_STEP,
    ) -> "DispersionTracks":
        """Lay out the tracks of dispersion measures ``[dm[0], dm[1]]`` pc cm⁻³ whose sweep can be told from none."""
        return _lay_out(frequencies_mhz.tobytes(), cell_seconds, dm, step)

    def tables(self, backend: ThreadBackend) -> TrackTables:
        """Return the tables as kernels take them."""
        return TrackTables(
            *map(backend.to_device, (self.edges, self.delays, self.log2_window, self.log2_smeared_window, self.first))
        )

    def mark_tasks(
        self,
        tables: TrackTables,
        events: NDArray[np.uint8],
        bits: int,
        step: int,
        live: NDArray[np.bool_],
        marks: NDArray[np.uint8],
        backend: ThreadBackend,
    ) -> tuple[RangeTask, ...]:
        """Return what marks all on a filled track as DISPERSED, one after another.

        See :mod:`edgefilter_kernels.rfi.dispersion_tracks`. Each works on a range of segments, when what is before
        it is done for all of them.

        Parameters
        ----------
        tables
            Of :meth:`tables`, of the same backend.
        events, bits, step
            uint8 ``[time, channel]``, what of it is an event, and how many of its times make a step.
        live
            bool ``[channel]``.
        marks
            uint8 ``[cell, channel]``, changed in place; may be ``events``.
        backend
            What the arrays are of.
        """
        tracks, segments = len(self.delays), len(self.edges) - 1
        if not tracks:
            return ()
        shape = (tracks, -(-len(events) // step))
        counts = backend.empty((segments, *shape), np.uint8)
        hits = backend.empty((segments - 1, *shape), np.uint8)
        number = backend.to_device(np.add.reduceat(live, self.edges[:-1]).astype(np.int64))
        live_channels, kernel = backend.to_device(live), backend.kernel
        edges, delays, log2_window, log2_smeared_window, first = tables
        fill = _MIN_FILL if np.diff(self.edges).min() < _WIDE_SEGMENT_CHANNELS else _MIN_FILL_WIDE
        baseline_steps = max(_CHANCE_BASELINE_STEPS * CELLS_PER_STEP // self.step, 8)

        def count(start: int, stop: int) -> None:
            kernel(count_tracks)(
                events, bits, step, live_channels, edges, delays, first, log2_window, counts, start, stop
            )

        def find(start: int, stop: int) -> None:
            pairs = start, min(stop, segments - 1)
            kernel(find_tracks)(counts, first, number, fill, baseline_steps, hits, *pairs)
            kernel(drop_tones)(hits, self.step, edges, delays, first, log2_window, live_channels, marks, *pairs)

        def mark(start: int, stop: int) -> None:
            kernel(mark_tracks)(hits, self.step, edges, delays, first, log2_smeared_window, marks, start, stop)

        return count, find, mark

    def cut_track_task(
        self,
        tables: TrackTables,
        live: NDArray[np.bool_],
        max_run_cells: NDArray[np.int64],
        marks: NDArray[np.uint8],
        backend: ThreadBackend,
    ) -> RangeTask:
        """Return what marks runs on a track that an end of the data cuts as DISPERSED, up to ``max_run_cells`` long.

        It works on a range of channels: those in which the data end. Other arguments are those of :meth:`mark_tasks`.
        """
        most = _CUT_SEGMENTS * int(np.diff(self.edges).max())
        kernel, given = (
            backend.kernel(mark_edge_tracks),
            (backend.to_device(live), backend.to_device(max_run_cells), tables.delays),
        )

        def cut(start: int, stop: int) -> None:
            kernel(marks, self.step, max(_CUT_TOLERANCE_CELLS, self.step), _CUT_SLACK_CELLS, most, *given, start, stop)

        return cut


@lru_cache(maxsize=4)
def _lay_out(frequencies: bytes, cell_seconds: float, dm: tuple[float, float], step: int) -> DispersionTracks:
    """Lay tracks out; those of the bands that were asked for last are kept."""
    frequencies_mhz = np.frombuffer(frequencies)
    channels = len(frequencies_mhz)
    segments = max(min(_SEGMENTS, channels // _MIN_SEGMENT_CHANNELS), -(-channels // 255), 1)
    edges = np.array([g * channels // segments for g in range(segments + 1)], np.int64)
    number = np.zeros(0, np.int64)
    none = DispersionTracks(
        edges, np.zeros((0, channels), np.int32), number, number, np.zeros((0, segments), np.int32), step
    )
    if segments < 2 or frequencies_mhz.min() <= 0 or cell_seconds > _MAX_PULSE_SECONDS:
        return none
    top = float(frequencies_mhz.max())
    delay = np.array([dispersion_delay(1.0, f, top) for f in frequencies_mhz.tolist()]) / (cell_seconds * step)
    pair = 2 * delay.max() / segments  # steps per DM that a track takes to cross two segments
    # Where the lowest cannot be told from 0, what comes at once in two segments is kept, too: it may be a pulse.
    first, last = dm[0], min(dm[1], _MAX_CHANNEL_DELAY_STEPS / (delay.max() / channels))
    if step == GROUP_TIMES:
        first, last = max(first, _MIN_CROSSING_WINDOWS * _WINDOW_STEPS / pair), min(dm[1], _MAX_CROSSING_STEPS / pair)
    if first > last:
        return none
    tracks = first + np.arange(int((last - first) * pair / _WINDOW_STEPS) + 1) * _WINDOW_STEPS / pair
    delays = np.rint(np.outer(tracks, delay)).astype(np.int32)
    smear, log2_window = np.abs(np.diff(delays, axis=1)).max(axis=1), np.ones(len(tracks), np.int64)
    log2_smeared_window = np.maximum(log2_window, np.ceil(np.log2(smear + 2)) - 1).astype(np.int64)
    return DispersionTracks(
        edges, delays, log2_window, log2_smeared_window, np.minimum.reduceat(delays, edges[:-1], axis=1), step
    )


class DispersionGuard:
    """Keeps what comes from the sky: bright pulses by their single cells, faint wide ones by groups of 16.

    Parameters
    ----------
    frequencies_mhz
        float64 ``[channel]``.
    cell_seconds
        Duration of a cell, s.
    dm
        Lowest and highest dispersion measure, pc cm⁻³.
    backend
        Threads.
    """

    def __init__(
        self, frequencies_mhz: NDArray[np.float64], cell_seconds: float, dm: tuple[float, float], backend: ThreadBackend
    ) -> None:
        self._bright = DispersionTracks.lay_out(frequencies_mhz, cell_seconds, dm)
        self._faint = DispersionTracks.lay_out(frequencies_mhz, cell_seconds, dm, GROUP_TIMES)
        self._tracks_unresolved = cell_seconds <= _MAX_PULSE_SECONDS and not len(self._bright.delays) + len(
            self._faint.delays
        )
        self._pair_sweep_cells = (
            _pair_sweep_seconds(frequencies_mhz, self._bright.edges, min(dm[1], _TYPICAL_DM)) / cell_seconds
        )
        # A pulse is smeared within a channel, too.
        smear = self._pair_sweep_cells / (2 * np.diff(self._bright.edges))
        self._max_run_cells = np.maximum(np.rint(_MAX_PULSE_SECONDS / cell_seconds + smear), 1).astype(np.int64)
        self._max_run_cells_of_channel = np.repeat(self._max_run_cells, np.diff(self._bright.edges))
        self._tables = self._bright.tables(backend), self._faint.tables(backend)
        self._keep_short = backend.kernel(mark_short_runs)
        self._backend = backend

    def mark(self, marks: NDArray[np.uint8], groups: NDArray[np.uint8], live: NDArray[np.bool_], times: int) -> None:
        """Set DISPERSED in ``marks``: IN_RUN and EVENT are events there, EVENT in ``groups``; ``times`` have data."""
        bright, faint = self._tables
        sets = (
            self._bright.mark_tasks(bright, marks, IN_RUN | EVENT, CELLS_PER_STEP, live, marks, self._backend),
            self._faint.mark_tasks(faint, groups, EVENT, 1, live, marks, self._backend),
        )
        # No step sees what another of the other set has marked.
        for mark_tasks in zip(*(some for some in sets if some), strict=True):

            def run(start: int, stop: int, mark_tasks: tuple[RangeTask, ...] = mark_tasks) -> None:
                for step in mark_tasks:
                    step(start, stop)

            self._backend.parallel_for(len(self._bright.edges) - 1, run, ranges_per_thread=4)
        cuts = [
            tracks.cut_track_task(tables, live, self._max_run_cells_of_channel, marks, self._backend)
            for tracks, tables in ((self._bright, bright), (self._faint, faint))
        ]

        def follow(start: int, stop: int) -> None:
            for cut in cuts:
                cut(start, stop)

        self._backend.parallel_for(len(live), follow, ranges_per_thread=8)
        # Runs in segments that the slowest sweep does not cross in half the data cannot be told from it.
        for segment in np.flatnonzero(self._tracks_unresolved | (self._pair_sweep_cells > times / 2)):
            first, stop = self._bright.edges[segment : segment + 2].tolist()
            self._keep_short(marks, int(self._max_run_cells[segment]), first, stop)


def _pair_sweep_seconds(
    frequencies_mhz: NDArray[np.float64], edges: NDArray[np.int64], dm: float
) -> NDArray[np.float64]:
    """Seconds in which a sweep crosses twice the width of each segment."""
    if frequencies_mhz.min() <= 0:
        return np.zeros(len(edges) - 1)
    ends = frequencies_mhz[edges[:-1]], frequencies_mhz[edges[1:] - 1]
    low, high = np.minimum(*ends), np.maximum(*ends)
    return np.array([2 * dispersion_delay(dm, one, two) for one, two in zip(low, high, strict=True)])
