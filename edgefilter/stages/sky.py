"""Dispersion tracks that the guard asks for: what comes from the sky arrives later at lower frequencies."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgefilter.plan import dispersion_delay
from edgefilter.workers import Workers
from edgefilter_kernels.evidence import ABOVE, GROUP, RUN
from edgefilter_kernels.guard import count_tracks, drop_tones, find_tracks, keep_short, mark_tracks

_SEGMENTS = 16  # of the band; a track must fill two neighbouring ones, an eighth of the band
_LEAST_CHANNELS = 8  # of a segment; fewer are filled by chance
_FILL = 0.75  # of a segment's channels that must have an event: a chirp that crosses half of it is no sweep
_WINDOW = 2  # steps about a track in which an event counts; wider ones would be filled by chance
_FINEST = 2.0  # steps from channel to channel up to which single cells are asked; then the pulse is that wide itself
_LONGEST = 1024  # steps that the slowest track takes to cross two segments: blocks are seldom longer
_APART = 1.5  # windows that a track of groups must take to cross two segments: else it could be at dispersion measure 0
_AROUND = 128  # steps to either side from which follows how much is filled by chance
_USUAL_DM = 750.0  # up to which tracks must be seen; where the block is too short for it, short runs are kept
_PULSE_SECONDS = 0.1  # of the longest pulse that is kept where tracks cannot be seen
STEP = 2
"""Cells to a step where single cells are events."""


class Tables(NamedTuple):
    """What kernels look up of the tracks of a band, where they can; made once.

    Parameters
    ----------
    edges, delays, doublings, smeared
        As of :class:`Tracks`.
    first
        int32 ``[track, segment]``: least delay.
    """

    edges: Any
    delays: Any
    doublings: Any
    smeared: Any
    first: Any


@dataclass(frozen=True, slots=True)
class Tracks:
    """The tracks of a band.

    Parameters
    ----------
    edges
        int64 ``[segment + 1]``: channels.
    delays
        int32 ``[track, channel]``, in steps.
    doublings
        int64 ``[track]``: of the window about it.
    step
        Cells of a step.
    """

    edges: NDArray[np.int64]
    delays: NDArray[np.int32]
    doublings: NDArray[np.int64]
    step: int

    @property
    def smeared(self) -> NDArray[np.int64]:
        """Doublings of the window that is marked: from a channel to the next a track smears what is on it."""
        if not len(self.delays):
            return self.doublings
        smear = np.abs(np.diff(self.delays, axis=1)).max(axis=1)
        return np.asarray(np.maximum(self.doublings, np.ceil(np.log2(smear + 2)) - 1), np.int64)

    @classmethod
    def of(
        cls, frequencies_mhz: NDArray[np.float64], cell_seconds: float, dm: tuple[float, float], step: int = STEP
    ) -> "Tracks":
        """Lay out the tracks of dispersion measures ``[dm[0], dm[1]]`` pc cm⁻³ whose sweep can be told from none."""
        channels = len(frequencies_mhz)
        segments = max(min(_SEGMENTS, channels // _LEAST_CHANNELS), -(-channels // 255), 1)
        edges = np.array([g * channels // segments for g in range(segments + 1)], np.int64)
        none = cls(edges, np.zeros((0, channels), np.int32), np.zeros(0, np.int64), step)
        if segments < 2 or frequencies_mhz.min() <= 0 or cell_seconds > _PULSE_SECONDS:
            return none
        top = float(frequencies_mhz.max())
        delay = np.array([dispersion_delay(1.0, f, top) for f in frequencies_mhz]) / (cell_seconds * step)
        pair = 2 * delay.max() / segments  # steps per DM that a track takes to cross two segments
        # Where the lowest cannot be told from 0, what comes at once in two segments is kept, too: it may be a pulse.
        first, last = dm[0], min(dm[1], _FINEST / (delay.max() / channels))
        if step == GROUP:
            first, last = max(first, _APART * _WINDOW / pair), min(dm[1], _LONGEST / pair)
        if first > last:
            return none
        tracks = first + np.arange(int((last - first) * pair / _WINDOW) + 1) * _WINDOW / pair
        return cls(edges, np.rint(np.outer(tracks, delay)).astype(np.int32), np.ones(len(tracks), np.int64), step)

    def tables(self, workers: Workers) -> Tables:
        """Return the tables as kernels take them."""
        first = np.minimum.reduceat(self.delays, self.edges[:-1], axis=1)
        return Tables(*map(workers.put, (self.edges, self.delays, self.doublings, self.smeared, first)))

    def mark(
        self,
        tables: Tables,
        events: NDArray[np.uint8],
        bits: int,
        step: int,
        live: NDArray[np.bool_],
        marks: NDArray[np.uint8],
        workers: Workers,
    ) -> None:
        """Mark what lies on a filled track as SKY; see :mod:`edgefilter_kernels.guard`.

        Parameters
        ----------
        tables
            Of :meth:`tables`, of the same workers.
        events, bits, step
            uint8 ``[time, channel]``, what of it is an event, and how many of its times make a step.
        live
            bool ``[channel]``.
        marks
            uint8 ``[cell, channel]``, changed in place; may be ``events``.
        workers
            Threads over segments.
        """
        tracks, segments = len(self.delays), len(self.edges) - 1
        if not tracks:
            return
        shape = (tracks, -(-len(events) // step))
        counts = workers.empty((segments, *shape), np.uint8)
        hits = workers.empty((segments - 1, *shape), np.uint8)
        number = workers.put(np.add.reduceat(live, self.edges[:-1]).astype(np.int64))
        alive, kernel = workers.put(live), workers.kernel
        edges, delays, doublings, smeared, first = tables
        around = max(_AROUND * STEP // self.step, 8)

        def count(start: int, stop: int) -> None:
            kernel(count_tracks)(events, bits, step, alive, edges, delays, first, doublings, counts, start, stop)

        def find(start: int, stop: int) -> None:
            kernel(find_tracks)(counts, first, number, _FILL, around, hits, start, stop)
            kernel(drop_tones)(hits, self.step, edges, delays, first, doublings, alive, marks, start, stop)

        def mark(start: int, stop: int) -> None:
            kernel(mark_tracks)(hits, self.step, edges, delays, first, smeared, marks, start, stop)

        workers.over(segments, count, pieces=4)
        workers.over(segments - 1, find, pieces=4)
        workers.over(segments, mark, pieces=4)


class Guard:
    """Keeps what comes from the sky: bright pulses by their single cells, faint wide ones by groups of 16.

    Parameters
    ----------
    frequencies_mhz
        float64 ``[channel]``.
    cell_seconds
        Duration of a cell, s.
    dm
        Lowest and highest dispersion measure, pc cm⁻³.
    workers
        Threads.
    """

    def __init__(
        self, frequencies_mhz: NDArray[np.float64], cell_seconds: float, dm: tuple[float, float], workers: Workers
    ) -> None:
        self._bright = Tracks.of(frequencies_mhz, cell_seconds, dm)
        self._faint = Tracks.of(frequencies_mhz, cell_seconds, dm, GROUP)
        self._blind = cell_seconds <= _PULSE_SECONDS and not len(self._bright.delays) + len(self._faint.delays)
        edges, usual = self._bright.edges, min(dm[1], _USUAL_DM)
        delay = _delays(frequencies_mhz, usual) / cell_seconds
        self._slow = _pair_sweeps(delay, edges)
        # A pulse is smeared within a channel, too.
        smear = self._slow / (2 * np.diff(edges))
        longest = np.maximum(np.rint(_PULSE_SECONDS / cell_seconds + smear), 1).astype(np.int64)
        self._longest = np.repeat(longest, np.diff(edges))
        self._since, self._until = _cut_sweeps(delay, edges)
        self._tables = self._bright.tables(workers), self._faint.tables(workers)
        self._keep_short = workers.kernel(keep_short)
        self._workers = workers

    def mark(self, marks: NDArray[np.uint8], groups: NDArray[np.uint8], live: NDArray[np.bool_], times: int) -> None:
        """Set SKY in ``marks``, of which RUN and ABOVE are events, as ABOVE is of ``groups``; ``times`` have data."""
        bright, faint = self._tables
        self._bright.mark(bright, marks, RUN | ABOVE, STEP, live, marks, self._workers)
        self._faint.mark(faint, groups, ABOVE, 1, live, marks, self._workers)
        # Runs in segments that the slowest sweep does not cross in half the data cannot be told from it.
        slow = np.repeat(self._blind | (self._slow > times / 2), np.diff(self._bright.edges))
        early = np.where(slow, len(marks), 0)
        late = np.full(len(early), len(marks))
        if len(marks) > max(self._since.max(), self._until.max()):
            early = np.maximum(early, self._filled(marks, RUN, self._since, live))
            late -= self._filled(marks[::-1], RUN, self._until, live)
        tables = [self._workers.put(table) for table in (self._longest, early, late)]
        kept = np.flatnonzero((early > 0) | (late < len(marks)))
        for some in np.split(kept, np.flatnonzero(np.diff(kept) > 1) + 1):
            if len(some):
                self._keep_short(marks, *tables, int(some[0]), int(some[-1]) + 1)

    def _filled(
        self, marks: NDArray[np.uint8], bits: int, until: NDArray[np.int64], live: NDArray[np.bool_]
    ) -> NDArray[np.int64]:
        """Return ``until`` where most of the channels from the band's edge on have events by then, else 0."""
        near = np.flatnonzero(until)
        if not len(near):
            return until
        part = marks[: until.max(), near[0] : near[-1] + 1] & np.uint8(bits) != 0
        in_time = np.arange(len(part))[:, None] < until[near[0] : near[-1] + 1]
        seen = self._workers.get((part & self._workers.put(in_time)).any(axis=0))
        inward = near[np.argsort(-until[near], kind="stable")]
        count, of = np.cumsum([seen[inward - near[0]] & live[inward], live[inward]], axis=1)
        kept = np.zeros_like(until)
        kept[inward] = np.where(count >= _FILL * of, until[inward], 0)
        return kept


def _delays(frequencies_mhz: NDArray[np.float64], dm: float) -> NDArray[np.float64]:
    """Seconds by which channels are later than the highest."""
    if frequencies_mhz.min() <= 0:
        return np.zeros(len(frequencies_mhz))
    top = float(frequencies_mhz.max())
    return np.array([dispersion_delay(dm, f, top) for f in frequencies_mhz])


def _pair_sweeps(delay: NDArray[np.float64], edges: NDArray[np.int64]) -> NDArray[np.float64]:
    """Twice the time that a sweep takes from the first to the last channel of each segment."""
    return 2 * np.abs(delay[edges[1:] - 1] - delay[edges[:-1]])


def _cut_sweeps(delay: NDArray[np.float64], edges: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Times from the beginning of the data, and before its end, up to which a sweep is seen in less than two segments.

    They are int64 ``[channel]``; 0 but in the two segments at which it leaves the band, and enters it.
    """
    since, until = np.zeros((2, len(delay)), np.int64)
    if len(edges) > 2:
        pairs = slice(edges[0], edges[2]), slice(edges[-3], edges[-1])
        top, bottom = sorted(pairs, key=lambda pair: float(delay[pair].min()))
        since[bottom] = np.rint(delay[bottom] - delay[bottom].min())
        until[top] = np.rint(delay[top].max() - delay[top])
    return since, until
